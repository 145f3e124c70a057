"""Reading image files as people have them, and finding the missing ones before training does."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import threading
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from vision_tasks.data.records import Records, escapes
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size

PIXEL_LIMIT = 500_000_000
"""Larger images are refused before memory is taken for them; 500 megapixels are 1.5 GB as 8-bit RGB."""


class ImageError(VisionTasksError):
    """An image file that cannot be used. Training counts and skips it, prediction reports it."""


class ImageMissingError(ImageError):
    """There is no such file, or it may not be read."""


class ImageEmptyError(ImageError):
    """The file has no bytes."""


class ImageFormatError(ImageError):
    """No image, or of a kind that is not read (float pixels)."""


class ImageTruncatedError(ImageError):
    """The file is cut off or damaged."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed."""


class ImageSizeError(ImageError):
    """The image has another size than the annotations state."""


# What makes an image upright, by EXIF orientation: whether to mirror left-right first, quarter turns anticlockwise.
_TURNS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}

# PIL warns of odd metadata. Filters belong to the whole process, so two threads must not change them at once;
# a child forked meanwhile gets a lock of its own.
_quiet = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_quiet=threading.Lock()))


@contextlib.contextmanager
def _quiet_reading() -> Iterator[None]:
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_image(path: Path | str, expected_size: Size | None = None, pixel_limit: int = PIXEL_LIMIT) -> np.ndarray:
    """Decodes an image file to RGB.

    Greyscale is repeated in three channels, palettes are looked up, CMYK is converted, transparency is dropped (as
    PIL's `convert("RGB")` does), 16 bits stay 16 bits. Of animations and stacks the first picture is read.
    EXIF orientation is applied if there is no expected size (as viewers do), if the image is square, or if only the
    turned image has the expected size; else the pixels stay as stored, which is what the annotations were made on.

    Args:
        path: the file. expected_size: (height, width) the annotations state, None or (0, 0) if they do not.
        pixel_limit: more pixels than this are refused.

    Returns:
        (H, W, 3) uint8 or uint16, contiguous.

    Raises:
        ImageError: one of its subclasses for each way in which a file is unusable; names the file.
    """
    path = Path(path)
    data = _bytes_of(path)
    header = _header(data, path)
    height, width = header.height, header.width
    if height * width > pixel_limit:
        raise ImageTooLargeError(
            f"{path}: {width} × {height} pixels are more than the limit of {pixel_limit:,}. Scale it down or tile it."
        )
    orientation = _orientation(header)
    if expected_size is not None and (not expected_size[0] or not expected_size[1]):
        expected_size = None
    turned = orientation is not None and _turn_wanted((height, width), orientation, expected_size)
    upright = (width, height) if turned and orientation in (5, 6, 7, 8) else (height, width)
    if expected_size is not None and upright != tuple(expected_size):
        raise ImageSizeError(
            f"{path}: the file has {upright[1]} × {upright[0]} pixels, but the annotations state {expected_size[1]} × "
            f"{expected_size[0]}: boxes would be misplaced. Correct width and height, or use the right file."
        )
    image = _decode(data, header, path)
    if turned and orientation is not None:
        mirror, quarters = _TURNS[orientation]
        image = np.rot90(image[:, ::-1] if mirror else image, quarters)
    return np.ascontiguousarray(image)


def _bytes_of(path: Path) -> np.ndarray:
    try:
        data = np.fromfile(path, np.uint8)  # by Python's own open, so that any letters in the name will do
    except OSError as error:
        reason = "is a folder" if path.is_dir() else error.strerror or str(error)
        raise ImageMissingError(f"{path}: cannot be read ({reason}). Check the path.") from error
    if not len(data):
        raise ImageEmptyError(f"{path}: the file is empty. Copy it again.")
    return data


def _header(data: np.ndarray, path: Path) -> Image.Image:
    """PIL's view of the file, pixels not decoded."""
    with _quiet_reading():
        try:
            return Image.open(io.BytesIO(data.tobytes()))
        except Image.DecompressionBombError as error:
            raise ImageTooLargeError(f"{path}: {error}. Scale it down or tile it.") from error
        except Exception as error:  # PIL raises whatever a broken header leads to
            raise ImageFormatError(f"{path}: not an image, or of an unknown format. Remove or convert it.") from error


def _orientation(header: Image.Image) -> int | None:
    """EXIF orientation 2..8; None for upright, absent or nonsense."""
    if header.format not in ("JPEG", "MPO", "PNG", "WEBP", "TIFF"):
        return None
    with _quiet_reading():
        try:
            value = header.getexif().get(ExifTags.Base.Orientation)
        except Exception:  # damaged metadata must not cost an image
            return None
    return value if isinstance(value, int) and value in _TURNS else None


def _turn_wanted(size: Size, orientation: int, expected: Size | None) -> bool:
    if expected is None or size[0] == size[1]:
        return True
    return orientation in (5, 6, 7, 8) and tuple(expected) == (size[1], size[0])


def _decode(data: np.ndarray, header: Image.Image, path: Path) -> np.ndarray:
    """RGB pixels as stored.

    PIL decodes: it is as fast as OpenCV to a tenth (both on libjpeg-turbo, equal to the bit), but says what is cut
    off instead of filling up with grey, and prints nothing. OpenCV is used where PIL would cut 16 bits to 8.
    """
    # What decoders of rarer formats warn of is caught; holding the lock for all would let threads wait for each other.
    with _quiet_reading() if header.format not in ("JPEG", "PNG", "BMP", "WEBP") else contextlib.nullcontext():
        try:
            if header.format == "PNG":
                _check_png(data)
            header.load()
            if header.mode == "F":
                raise ImageFormatError(f"{path}: float pixels are not read. Convert it to 8 or 16 bits.")
            if header.mode.startswith("I"):
                return _grey16(np.asarray(header), path)
            if _depth(data, header) == 16:
                return _color16(data, path)
            if header.mode == "P" and "transparency" in header.info:
                header = header.convert("RGBA")  # straight to RGB warns
            return np.array(header if header.mode == "RGB" else header.convert("RGB"))
        except ImageError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error, ...
            raise ImageTruncatedError(f"{path}: cut off or damaged ({error}). Copy it again, or remove it.") from error


def _check_png(data: np.ndarray) -> None:
    """Raises ValueError where a checksum is wrong: PIL does not look, and libpng prints."""
    raw = memoryview(data.data)
    at = 8
    while at + 12 <= len(raw):
        size, kind = int.from_bytes(raw[at : at + 4], "big"), bytes(raw[at + 4 : at + 8])
        end = at + 8 + size
        critical = kind[:1].isupper()
        if critical and zlib.crc32(raw[at + 4 : end]) != int.from_bytes(raw[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of its part {kind!r} at byte {at:,}")
        if kind == b"IEND":
            return
        at = end + 4
    raise ValueError("its end is missing")


def _depth(data: np.ndarray, header: Image.Image) -> int:
    """Bits per channel, as far as it concerns images of several channels."""
    if header.format == "PNG":
        return int(data[24])  # in IHDR, which comes first
    if isinstance(header, TiffImagePlugin.TiffImageFile):
        bits = header.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 8)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _grey16(values: np.ndarray, path: Path) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageFormatError(f"{path}: 32-bit pixels are not read. Convert it to 8 or 16 bits.")
    return np.repeat(values.astype(np.uint16)[..., None], 3, 2)


def _color16(data: np.ndarray, path: Path) -> np.ndarray:
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        raise ImageFormatError(f"{path}: 16-bit pixels of this kind are not read. Convert it to PNG.")
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, 2)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def check_images(records: Records) -> Records:
    """Leaves out images whose file is not there, found by one listing per folder instead of a question per image.

    Returns:
        The records themselves if all files are there, else a subset whose `problems` name the missing.

    Raises:
        VisionTasksError: no file is there (names the folder and what it holds), or a file name leaves the folder.
    """
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
