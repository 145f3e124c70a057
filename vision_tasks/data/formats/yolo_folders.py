"""YOLO data sets without a description: which folders hold images, and which their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vision_tasks.data.formats.fence import is_inside
from vision_tasks.data.formats.yolo_files import NO_LABELS, SPLITS
from vision_tasks.data.regular_files import open_regular


def label_folder(folder: Path, top: Path) -> Path:
    """Where the labels of a folder's images lie.

    An "images" in the path, the last one first as the field has it, stands for "labels"; above the description's own
    folder, and in it. Where there is no such folder, labels lie beside the images.
    """
    above = top.parent if top.parent != top.parent.parent else top
    if folder.is_relative_to(above):
        parts = folder.relative_to(above).parts
        for place in reversed([n for n, part in enumerate(parts) if part.lower() == "images"]):
            tail = ("labels", *parts[place + 1 :])
            beside = [] if folder.is_relative_to(top) else [top.joinpath(*tail)]  # images of several kinds of labels
            for found in (above.joinpath(*parts[:place], *tail), *beside):
                if found.is_dir() and is_inside(found, top):
                    return found
    return folder


def folder_splits(top: Path) -> dict[str, str]:
    """Split -> image folder below `top`, of data sets without a description, whose labels look like YOLO's."""
    found: dict[str, str] = {}
    for split, place in _places(top):
        folder = Path(os.path.normpath(top / place))
        if split not in found and folder.is_dir() and looks_like_labels(label_folder(folder, top)):
            found[split] = place
    return found


def _places(top: Path) -> Iterator[tuple[str, str]]:
    for split, words in SPLITS.items():
        inner = sorted(p.name for p in top.iterdir() if p.is_dir())
        images = sorted(p.name for p in (top / "images").iterdir() if p.is_dir()) if "images" in inner else []
        yield from ((split, f"images/{n}") for n in images if _told(n, words))
        yield from ((split, f"{n}/images") for n in inner if _told(n, words))
        yield from ((split, n) for n in inner if _told(n, words))
    yield "train", "images"
    yield "train", "."


def _told(name: str, words: Sequence[str]) -> bool:
    return name.lower().rstrip("0123456789_-") in words


def looks_like_labels(folder: Path) -> bool:
    """Whether the first label files in a folder hold nothing but lines of numbers, at least one."""
    seen = 0
    for path in _some_texts(folder):
        with open_regular(path) as stream:
            text = stream.read(1 << 16).decode("utf-8-sig", "replace")
        lines = [line.split() for line in text.splitlines()[:5]]
        lines = [fields for fields in lines if fields]
        if any(len(fields) < 5 or not _numbers(fields[:5]) for fields in lines):
            return False
        seen += bool(lines)
        if seen > 3:
            break
    return seen > 0


def _some_texts(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                name = entry.name.lower()
                if name.endswith(".txt") and name not in NO_LABELS and entry.is_file() and number < 5000:
                    yield Path(entry.path)
    except OSError:
        return


def _numbers(fields: Sequence[str]) -> bool:
    try:
        first, *_ = map(float, fields)
    except (ValueError, OverflowError):
        return False
    return first.is_integer()
