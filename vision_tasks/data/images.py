"""Reading image files as people have them, and finding the missing ones before training does."""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from vision_tasks.data.band_images import file_bands, has_alpha, tiff_bands
from vision_tasks.data.decoding import PIXEL_LIMIT, TURNS, decode, exif_orientation, file_bytes, fitted, open_header
from vision_tasks.data.image_errors import ImageEmptyError as ImageEmptyError
from vision_tasks.data.image_errors import ImageError as ImageError
from vision_tasks.data.image_errors import ImageFormatError as ImageFormatError
from vision_tasks.data.image_errors import ImageMissingError as ImageMissingError
from vision_tasks.data.image_errors import ImageSizeError as ImageSizeError
from vision_tasks.data.image_errors import ImageTooLargeError as ImageTooLargeError
from vision_tasks.data.image_errors import ImageTruncatedError as ImageTruncatedError
from vision_tasks.data.records import Records, escapes
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size


def read_image(
    path: Path | str,
    expected_size: Size | None = None,
    channels: int = 3,
    pixel_limit: int = PIXEL_LIMIT,
    data: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes an image file to the channels that a model takes.

    Three: RGB. Greyscale is repeated, palettes are looked up, CMYK is converted, transparency is dropped (as PIL's
    `convert("RGB")` does). One: grey as stored, or colours by ITU-R 601's weights. Four: with transparency, or the
    file's four bands. Any other number: that of the file's bands (TIFF, or .npy of (height, width, channels)).
    16 bits stay 16 bits. Of animations and stacks the first picture is read.
    EXIF orientation is applied if there is no expected size (as viewers do), if the image is square, or if only the
    turned image has the expected size; else the pixels stay as stored, which is what the annotations were made on.

    Args:
        path: the file. expected_size: (height, width) the annotations state, None or (0, 0) if they do not.
        channels: what the model takes. pixel_limit: more pixels than this are refused.
        data: (bytes,) uint8, what the file holds, if it is to be found elsewhere than under its path.

    Returns:
        (H, W, channels) uint8 or uint16, contiguous.

    Raises:
        ImageError: one of its subclasses for each way in which a file is unusable; names the file.
    """
    path = Path(path)
    data = file_bytes(path) if data is None else data
    if (bands := file_bands(data, path, channels, pixel_limit)) is not None:
        _check_size(path, bands.shape[:2], expected_size)
        return np.ascontiguousarray(fitted(bands, channels, path))
    header = open_header(data, path)
    height, width = header.height, header.width
    if height * width > pixel_limit:
        raise ImageTooLargeError(
            f"{path}: {width} × {height} pixels are more than the limit of {pixel_limit:,}. Scale it down or tile it."
        )
    orientation = exif_orientation(header)
    if expected_size is not None and (not expected_size[0] or not expected_size[1]):
        expected_size = None
    turned = orientation is not None and _turn_wanted((height, width), orientation, expected_size)
    upright = (width, height) if turned and orientation in (5, 6, 7, 8) else (height, width)
    _check_size(path, upright, expected_size)
    image = decode(data, header, path, channels)
    if turned and orientation is not None:
        mirror, quarters = TURNS[orientation]
        image = np.rot90(image[:, ::-1] if mirror else image, quarters)
    return np.ascontiguousarray(image)


def displayed(image: np.ndarray) -> np.ndarray:
    """(H, W, C) as (H, W, 3) to be looked at: grey repeated, of more bands the first three."""
    return np.repeat(image[..., :1], 3, 2) if image.shape[2] < 3 else image[..., :3]


def read_bytes(records: Records, row: int) -> np.ndarray:
    """What the file of an image of a data set holds, (bytes,) uint8, wherever it lies.

    Raises:
        ImageError: the file is missing, empty or cannot be read.
    """
    data = records.image_data(row)
    return file_bytes(records.image_path(row)) if data is None else data


def _check_size(path: Path, found: Size, stated: Size | None) -> None:
    if stated is not None and all(stated) and found != tuple(stated):
        raise ImageSizeError(
            f"{path}: the file has {found[1]} × {found[0]} pixels, but the annotations state {stated[1]} × "
            f"{stated[0]}: boxes and maps would be misplaced. Correct width and height, or use the right file."
        )


def _turn_wanted(size: Size, orientation: int, expected: Size | None) -> bool:
    if expected is None or size[0] == size[1]:
        return True
    return orientation in (5, 6, 7, 8) and tuple(expected) == (size[1], size[0])


def dropped_bands(records: Records, channels: int) -> str:
    """What is said if the first images have more bands than a model takes, which reading leaves out; else ""."""
    for row in range(min(len(records), 3)):
        path = records.image_path(row)
        if channels < 3 or path.suffix.lower() not in (".tif", ".tiff"):
            continue
        try:
            tags = tiff_bands(file_bytes(path))
        except ImageError:  # is said when it is read
            continue
        if tags is not None and not has_alpha(tags) and (own := int(tags[277])) > channels:
            return (
                f"The images, such as {path}, have {own} channels, the model takes {channels}: the rest is left out. "
                f"Set model.in_channels={own} to use all."
            )
    return ""


def check_images(records: Records) -> Records:
    """Leaves out images whose file is not there, found by one listing per folder instead of a question per image.

    Returns:
        The records themselves if all files are there, else a subset whose `problems` name the missing.

    Raises:
        VisionTasksError: no file is there (names the folder and what it holds), or a file name leaves the folder.
    """
    if records.archive is not None:
        return records
    names = [records.file_name(row) for row in range(len(records))]
    folders: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        if escapes(name):
            records.image_path(row)  # raises, with the reason
        folders[str(PurePosixPath(name).parent)].append(row)
    there = np.zeros(len(names), bool)
    listed: dict[str, list[str]] = {}
    for folder, rows in folders.items():
        listed[folder] = _listing(records.root / folder)
        present = set(listed[folder])
        there[rows] = [PurePosixPath(names[r]).name in present for r in rows]
    if there.all():
        return records
    missing = np.flatnonzero(~there).tolist()
    if not there.any():
        raise VisionTasksError(_nothing_there(records, names, listed))
    found = records.subset(there)
    examples = (f"image {records.image_ids[r]} {names[r]}{_hint(names[r], listed)}" for r in missing)
    found.problems.add("image_file_missing", examples, len(missing))
    return found


def _listing(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries]
    except OSError:
        return []


def _hint(name: str, listed: dict[str, list[str]]) -> str:
    path = PurePosixPath(name)
    held = {other.lower(): other for other in listed[str(path.parent)][:5000]}
    near = difflib.get_close_matches(path.name.lower(), held, 1, 0.8)
    return f" (there is {held[near[0]]})" if near else ""


def _nothing_there(records: Records, names: list[str], listed: dict[str, list[str]]) -> str:
    path = PurePosixPath(names[0])
    folder = records.root / path.parent
    held = listed[str(path.parent)]
    if not folder.is_dir():
        state = "is no folder"
    elif not held:
        state = "is empty"
    else:
        near = difflib.get_close_matches(path.name, held[:2000], 3, 0.4) or sorted(held)[:3]
        state = f"holds {len(held):,} entries, such as {', '.join(near)}"
    return (
        f"{records.source}: not one of its {len(names):,} image files is there, such as {names[0]!r} "
        f"(image {records.image_ids[0]}). The folder {folder} {state}. Name the folder that holds the images."
    )
