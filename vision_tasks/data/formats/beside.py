"""What else lies in a folder in which a data set was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import FORMATS
from vision_tasks.data.layout import images_may_be_missing
from vision_tasks.errors import VisionTasksError

_FOLDERS = 20


def others_beside(data: Path, found: Mapping[str, Found], *, maps: bool = True) -> str:
    """One line that names annotations of other kinds in the same folder, or in one directly below; "" without any.

    Args:
        maps: whether mask images count, which often are the maps of the same images.
    """
    if not data.is_dir():
        return ""
    read = {path for one in found.values() for path in (one.annotations, one.images) if path is not None}
    form = next(iter(found.values())).format
    passed = () if maps else ("masks",)
    there = [
        FORMATS[name].title
        for name, own in _kinds(data)
        if name not in (form, *passed) and not _annotations(own) <= read
    ]
    for folder in _below(data):
        if not any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in read - {data}):
            # Folders of a set that is a folder itself, such as Annotations of VOC, are its own.
            kinds = [name for name, _ in _kinds(folder) if name not in passed and not (name == form and data in read)]
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
