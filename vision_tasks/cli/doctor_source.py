"""What the doctor reads, in words: for its first line, and for the commands that it suggests."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision_tasks.data.formats.interface import Found
    from vision_tasks.data.records import Records


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
