"""What the doctor reads, in words: for its first line, and for the commands that it suggests."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.data.formats.interface import Found
    from vision_tasks.data.records import Records

_FOLDERS = 20


def what_is_read(data: Path, found: Mapping[str, Found]) -> str:
    """One line: format, and of each split its annotations and images."""
    from vision_tasks.data.formats.registry import FORMATS

    title = FORMATS[next(iter(found.values())).format].title
    return f"{data} ({title}): {'; '.join(_split(data, name, one) for name, one in found.items())}"


def _split(data: Path, name: str, one: Found) -> str:
    words = "" if one.annotations == data else _short(data, one.annotations)
    words = " ".join(filter(None, [words, one.part if one.part not in (name, ".") else ""]))
    images = f"images in {_short(data, one.images)}" if one.images is not None else ""
    return f"{name} {', '.join(filter(None, [words, images]))}".rstrip()


def _short(data: Path, path: Path) -> str:
    return path.relative_to(data).as_posix() if data.is_dir() and path.is_relative_to(data) else str(path)


def others(data: Path, found: Mapping[str, Found]) -> str:
    """One line that names annotations of other kinds in the same folder, or in one directly below; "" without any."""
    from vision_tasks.data.formats.registry import FORMATS

    if not data.is_dir():
        return ""
    read = {path for one in found.values() for path in (one.annotations, one.images) if path is not None}
    form = next(iter(found.values())).format
    there = [FORMATS[name].title for name, own in _kinds(data) if name != form and not _annotations(own) <= read]
    for folder in _below(data):
        if not any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in read - {data}):
            # Folders of a set that is a folder itself, such as Annotations of VOC, are its own.
            kinds = [name for name, _ in _kinds(folder) if not (name == form and data in read)]
            there += [f"{folder.name} ({FORMATS[name].title})" for name in kinds[:1]]
    return f"Also there, and not looked at: {', '.join(there)}." if there else ""


def _annotations(found: Mapping[str, Found]) -> set[Path]:
    return {one.annotations for one in found.values()}


def _below(data: Path) -> list[Path]:
    try:
        return sorted(f for f in data.iterdir() if f.is_dir() and not f.name.startswith("."))[:_FOLDERS]
    except OSError:
        return []


def _kinds(folder: Path) -> Iterator[tuple[str, Mapping[str, Found]]]:
    """The formats that a folder is of; those that need datumaro to find out are not asked."""
    from vision_tasks.data.formats.registry import FORMATS
    from vision_tasks.data.layout import images_may_be_missing

    for name, entry in FORMATS.items():
        if entry.find is None or name.startswith("datumaro"):
            continue
        try:
            with images_may_be_missing():
                found = entry.find(folder)
        except VisionTasksError:
            continue
        if found:
            yield name, found


def training_words(data: Path, images: Path | None, found: Mapping[str, Found], splits: Mapping[str, Records]) -> str:
    """The options that train on what was read."""
    if images is None:
        words = f"data={shlex.quote(str(data))}"
    else:
        words = " ".join(
            f"data.{name}.{key}={shlex.quote(str(value))}"
            for name, one in found.items()
            for key, value in _keys(name, one)
        )
    maps_alone = not any(records.has_boxes for records in splits.values())
    return f"{words} model=unet" if maps_alone else words


def _keys(name: str, one: Found) -> Iterator[tuple[str, object]]:
    yield "annotations", one.annotations
    if one.images is not None:
        yield "images", one.images
    if one.format != "coco":
        yield "format", one.format
    if one.part is not None:
        yield "part", one.part
