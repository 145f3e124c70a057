"""LabelMe: a JSON file per image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import msgspec
import numpy as np

from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.collector import without_collector
from vision_tasks.data.formats.image_annotations import (
    ImageFiles,
    files_below,
    heads_match,
    in_split,
    labels_of,
    split_of_folders,
    splits_of,
    without_ending,
)
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.labelme_shapes import Allowance, Shape, geometry, objects_of, read_shape
from vision_tasks.data.problems import Problems
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.regular_files import read_regular
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Size

_MARK = re.compile(rb'"(shapes"\s*:\s*\[|imagePath"\s*:|imageData"\s*:)')
_COCO = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_LARGEST = 1 << 28
# What the writer says itself; the rest of a file's keys are kept.
OWN_OF_FILE = ("version", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth")
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _FileError(ValueError):
    """Why a file is not read."""


@dataclass(slots=True)
class _File:
    """One file: its image as stated, its shapes, and what is wrong with them (code -> how often)."""

    image_path: str
    size: Size
    shapes: list[Shape]
    flaws: dict[str, int]
    extras: dict[str, Any] = field(default_factory=dict)
    embedded: bool = False
    broken_letters: bool = False


def find_labelme(path: Path) -> dict[str, Found]:
    """Splits by folders called train, val, test anywhere in the paths of the JSON files, else one.

    Args:
        path: a folder, or one JSON file.
    """
    if path.is_file():
        is_labelme = path.suffix.lower() == ".json" and heads_match(path.parent, [path.name], _MARK)
        return {"train": Found("labelme", path)} if is_labelme else {}
    files = files_below(path, ["json"])
    if not heads_match(path, files, _MARK, _COCO):
        return {}
    return {split or "train": Found("labelme", path, None, split) for split in splits_of(files)}


@without_collector()
def read_labelme(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split (see `interface.Reader`).

    Shapes of one label and `group_id` are one object. Polygons and circles become polygons, masks run lengths;
    points and lines are no objects. `imagePath` counts from its own file; one that leads out of the data set is not
    followed. `imageData` is not read.

    Raises:
        VisionTasksError: no file of the split can be read.
    """
    place = found.annotations
    base = place.parent if place.is_file() else place
    everything = [place.name] if place.is_file() else files_below(base, ["json"])
    chosen = in_split(everything, found.part)
    images = ImageFiles(found.images or base)
    problems = Problems()
    parsed: list[tuple[str, _File]] = []
    unreadable: list[str] = []
    for name in counted(chosen, "reading annotations"):
        try:
            parsed.append((name, _read_file(base / name, extras)))
        except (_FileError, OSError) as error:
            unreadable.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
    if not parsed:
        raise VisionTasksError(
            f"{place}: none of the {len(chosen):,} JSON files{f' of {found.part}' if found.part else ''} can be read"
            f'{f" ({unreadable[0]})" if unreadable else ""}. A LabelMe file is an object with "shapes".'
        )
    problems.add("file_unreadable", unreadable)
    problems.add("text_not_utf8", [name for name, file in parsed if file.broken_letters])
    names = {shape.label for _, file in parsed for shape in file.shapes}
    labels = labels_of(names, (base, base.parent) if place.is_file() else (base,), categories)
    builder = RecordsBuilder(place, images.root, labels.categories, extras)
    builder.problems = problems
    used = {_add(builder, name, file, base, images, labels.label_of) for name, file in parsed}
    if not place.is_file():
        problems.add("image_not_annotated", images.others(used, found.part))
    return _below_split(builder.finish())


def _below_split(records: Records) -> Records:
    """The same records, with names that start below the split's folder: else each copy would lie one deeper."""
    names = [records.file_name(row) for row in range(len(records))]
    tops = {name.partition("/")[0] for name in names if "/" in name}
    if len(tops) != 1 or not all("/" in name for name in names) or split_of_folders(f"{min(tops)}/") is None:
        return records
    short = [name.partition("/")[2].encode("utf-8", "surrogateescape") for name in names]
    return replace(
        records,
        root=records.root / min(tops),
        names=np.frombuffer(b"".join(short), np.uint8),
        name_ends=np.cumsum([len(n) for n in short], dtype=np.int64),
    )


def _add(
    builder: RecordsBuilder, name: str, file: _File, base: Path, images: ImageFiles, label_of: dict[str, int]
) -> str:
    """Adds an image with its objects; its file name is returned."""
    image = _image_of(name, file, base, images, builder.problems)
    number = builder.add_image(image, *file.size, extras=file.extras)
    for code, count in file.flaws.items():
        builder.problems.add(code, [f"{name} (image {number})"], count)
    for parts in objects_of(file.shapes):
        box, entry, area = geometry(parts, file.size)
        others = {k: v for part in reversed(parts) for k, v in part.extras.items()}
        crowd = any(part.is_crowd for part in parts)
        builder.add_object(label_of[parts[0].label], box, shape=entry, area=area, is_crowd=crowd, extras=others)
    return image


def _image_of(name: str, file: _File, base: Path, images: ImageFiles, problems: Problems) -> str:
    """The image's path below the image folder: where `imagePath` leads, else that of the annotation's own name."""
    stated = file.image_path.replace("\\", "/")
    stem = without_ending(name)
    own = stated.rpartition("/")[2]
    if own in ("", ".", ".."):
        own = f"{stem.rpartition('/')[2]}.jpg"
    folder = PurePosixPath(name).parent
    inside: str | None = None
    if stated and not PurePosixPath(stated).is_absolute() and not PureWindowsPath(stated).drive and "\0" not in stated:
        place = os.path.normpath(base / folder / stated)
        root = os.path.normpath(images.root)
        inside = Path(place).relative_to(root).as_posix() if Path(place).is_relative_to(root) else None
    if inside == ".":
        inside = None
    if inside is not None and images.has(inside):
        return inside
    near = images.of(stem, own)
    if inside is None and stated:
        problems.add("image_path_outside", [f"{name}: {file.image_path[:80]!r}"])
    elif near is not None and stated and near.rpartition("/")[2] != own:
        problems.add("image_name_differs", [f"{name} names {own}, taken is {near}"])
    if near is None and file.embedded:
        problems.add("image_embedded", [name])
    return near or inside or (folder / own.replace("\0", "")).as_posix()


def _read_file(path: Path, extras: bool) -> _File:
    """Reads one file.

    Raises:
        _FileError: too large, no JSON, or not LabelMe's. OSError: it cannot be read.
    """
    top, broken = _top_of(path)
    size = (_side(_value(top, "imageHeight")), _side(_value(top, "imageWidth")))
    size = size if all(size) else (0, 0)
    shapes: list[Shape] = []
    flaws: dict[str, int] = {}
    others: list[Any] = []
    allowance = Allowance()
    for value in _shapes(top):
        shape, flaw = read_shape(value, size, extras, allowance)
        if shape is not None:
            shapes.append(shape)
        elif flaw == "shape_without_area":
            others.append(value)
        if flaw:
            flaws[flaw] = flaws.get(flaw, 0) + 1
    image_path = _value(top, "imagePath")
    file = _File(image_path if isinstance(image_path, str) else "", size, shapes, flaws, broken_letters=broken)
    file.embedded = len(bytes(top.get("imageData", b"null"))) > 16
    if extras:
        values = {key: _value(top, key) for key in top if key not in OWN_OF_FILE}
        file.extras = {key: value for key, value in values.items() if value not in (None, "", {}, [])}
        if others:
            file.extras["shapes"] = others
    return file


def _top_of(path: Path) -> tuple[dict[str, msgspec.Raw], bool]:
    """The keys of a file, undecoded; and whether letters were broken."""
    data = read_regular(path, _LARGEST).removeprefix(b"\xef\xbb\xbf")
    broken = False
    try:
        data.decode()
    except UnicodeDecodeError:
        data, broken = data.decode("utf-8", "replace").encode(), True
    try:
        top = _decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _FileError(f"no valid JSON object ({str(error)[:120]})") from error
    if "shapes" not in top:
        raise _FileError('it has no "shapes"')
    return top, broken


def _shapes(top: dict[str, msgspec.Raw]) -> list[Any]:
    value = _value(top, "shapes")
    if not isinstance(value, list):
        raise _FileError('its "shapes" are no list')
    return value


def _value(top: dict[str, msgspec.Raw], key: str) -> Any:
    if key not in top:
        return None
    try:
        return msgspec.json.decode(top[key])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _FileError(f"no valid JSON ({str(error)[:120]})") from error


def _side(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**24 else 0
