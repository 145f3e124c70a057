"""Finding the annotation files and image folders of a COCO-format data set below a folder."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vision_tasks.data.formats.coco_entries import name_from_url
from vision_tasks.data.formats.semantic_layouts import MARKS
from vision_tasks.data.records import escapes
from vision_tasks.data.regular_files import open_regular
from vision_tasks.errors import VisionTasksError

# Words in file and folder names -> split; the first that fits counts.
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testdev"),
}
_OTHER_TASKS = ("captions", "panoptic", "keypoints", "stuff", "image_info")
_OF_ANNOTATIONS = ("annotations", "labels")
_HEAD = 1 << 20
_SAMPLE = 16
_DEPTH = 3


_may_be_missing: ContextVar[bool] = ContextVar("images may be missing", default=False)


@contextlib.contextmanager
def images_may_be_missing() -> Iterator[None]:
    """Within, annotations are found though their images are nowhere: the image folder is then theirs."""
    token = _may_be_missing.set(True)
    try:
        yield
    finally:
        _may_be_missing.reset(token)


def may_be_missing() -> bool:
    """Whether images may be missing here (`images_may_be_missing`)."""
    return _may_be_missing.get()


class NothingFoundError(VisionTasksError):
    """There is nothing of this format, in contrast to something that cannot be used."""


class CocoSplit(NamedTuple):
    """One part of a data set: its annotation file and the folder that holds its images."""

    annotations: Path
    images: Path


def find_coco(path: Path | str, wanted: Callable[[Path], bool] | None = None) -> dict[str, CocoSplit]:
    """The splits "train", "val" and "test" of a data set, as far as there are any, in this order.

    The split is told by the file's name, else by its folder's; a single file of unknown split is "train". The image
    folder is the nearest one that really holds the first files that the annotations name.

    Args:
        path: a folder (annotation files up to three levels down), or one annotation file.
        wanted: of a folder's files only those of which this is true.

    Raises:
        NothingFoundError: no such file in the folder; lists what is there.
        VisionTasksError: two files for one split, or images that are in no folder.
    """
    path = Path(path)
    if path.is_file():
        return {split_of(path, path.parent) or "train": CocoSplit(path, image_folder(path, path.parent.parent))}
    if not path.is_dir():
        raise VisionTasksError(f"{path}: there is no such file or folder. Check the path of the data set.")
    files = sorted(json_files(path))
    coco = [f for f in files if looks_like_instances(f) and (wanted is None or wanted(f))]
    # COCO puts files of several tasks side by side; one for key points alone has boxes too.
    coco = [f for f in coco if not any(word in f.name.lower() for word in _OTHER_TASKS)] or coco
    if not coco:
        if panoptic := next((f for f in files if looks_like_panoptic(f)), None):
            raise NothingFoundError(
                f"{path}: {panoptic.relative_to(path)} is a COCO panoptic file: for boxes and masks of objects an "
                "instances_*.json is needed beside it. A model of semantic maps alone, such as unet, does without."
            )
        raise NothingFoundError(
            f"{path}: no COCO annotation file (JSON with images, annotations, categories) found; {held(path)}"
        )
    found: dict[str, list[Path]] = {}
    for file in coco:
        split = split_of(file, path) or ("train" if len(coco) == 1 else None)
        if split:
            found.setdefault(split, []).append(file)
    if not found:
        names = ", ".join(str(f.relative_to(path)) for f in coco)
        raise VisionTasksError(f"{path}: which of {names} is for training? Put train, val or test into the names.")
    top = path.parent if path.name.lower() in _OF_ANNOTATIONS else path
    return {s: CocoSplit(f := _only(path, s, found[s]), image_folder(f, top)) for s in _SPLITS if s in found}


def find_semantic(path: Path | str) -> str | None:
    """Name of the layout (`LAYOUTS`) that a folder of semantic data has, by what it holds; None if it has none."""
    path = Path(path)
    if not path.is_dir():
        return None
    for layout, marks in MARKS.items():
        if all(any(path.glob(mark)) for mark in marks):
            return layout
    return None


def json_files(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """JSON files, not looking into folders that hold nothing but images, nor hidden ones."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.suffix.lower() == ".json" and entry.is_file():
            yield entry
        elif depth > 1 and not entry.suffix and entry.is_dir():
            yield from json_files(entry, depth - 1)


def looks_like_instances(file: Path) -> bool:
    """Whether the text has COCO's keys and none of other tasks; big files are judged by both ends."""
    text = _ends(file)
    keys = sum(key in text for key in (b'"images"', b'"annotations"', b'"categories"'))
    return keys >= (3 if len(text) < 2 * _HEAD else 1) and b'"segments_info"' not in text and b'"caption"' not in text


def looks_like_lvis(file: Path) -> bool:
    """Whether the text has keys of LVIS, which has no "iscrowd"; big files are judged by both ends."""
    text = _ends(file)
    images = any(key in text for key in (b'"not_exhaustive_category_ids"', b'"neg_category_ids"'))
    categories = all(key in text for key in (b'"synset"', b'"frequency"'))
    return (images or categories) and b'"iscrowd"' not in text


def looks_like_panoptic(file: Path) -> bool:
    """Whether the text has segments, as COCO panoptic files have."""
    return b'"segments_info"' in _ends(file)


def _ends(file: Path) -> bytes:
    """A file's beginning and end, of a small one all; nothing of one that cannot be read."""
    try:
        with open_regular(file) as stream:
            text = stream.read(_HEAD)
            size = stream.seek(0, 2)
            stream.seek(max(len(text), size - _HEAD))
            return text + stream.read(_HEAD)
    except OSError:
        return b""


def split_of(file: Path, top: Path) -> str | None:
    """The split that the file's name tells, else the nearest folder's below and including `top`."""
    inner = [p.name for p in file.parents if top in p.parents]
    named = [re.findall(r"[a-z]+", name.lower()) for name in (file.stem, *inner)]
    # Of the topmost folder only the whole name counts: test_of_balloons is a data set, not a test split.
    for words in (*named, [top.name.lower()]):
        for split, own in _SPLITS.items():
            if any(word in own for word in words):
                return split
    return None


def _only(path: Path, split: str, files: list[Path]) -> Path:
    """The one file of a split; where there are several, the one that says instances."""
    if len(files) > 1:
        named = [f for f in files if "instances" in f.name.lower()]
        if len(named) != 1:
            names = ", ".join(str(f.relative_to(path)) for f in files)
            raise VisionTasksError(f"{path}: {len(files)} annotation files for {split}: {names}. Name the one to use.")
        return named[0]
    return files[0]


def image_folder(file: Path, top: Path, url_parts: int = 0) -> Path:
    """The nearest candidate folder that holds most of the first files named, else the nearest one that holds any.

    Args:
        url_parts: images without file name are named by so many parts of the end of their URL.
    """
    names = [n for n in first_names(file, url_parts) if not escapes(n)]
    candidates = list(_candidates(file, top))
    nearest = candidates[0][0]
    if not names:
        return nearest
    # What lies near goes before what lies further up, where another data set may have files of the same names.
    held = [[sum((folder / name).is_file() for name in names) for folder in level] for level in candidates]
    best = next((i for i, own in enumerate(held) if 2 * max(own) >= len(names)), None)
    best = next((i for i, own in enumerate(held) if max(own)), None) if best is None else best
    if best is not None:
        return candidates[best][held[best].index(max(held[best]))]
    if may_be_missing():
        return nearest
    every = [folder for level in candidates for folder in level]
    tried = ", ".join(map(str, every[:8]))
    raise VisionTasksError(
        f"{file}: its images, such as {PurePosixPath(names[0])}, are in none of these folders: {tried}"
        f"{', ...' if len(every) > 8 else ''}. Name the image folder."
    )


def first_image_folder(file: Path, places: Sequence[tuple[Path, int]]) -> Path:
    """`image_folder` for the first (top, url_parts) that leads to images; where none does, what the first one gives."""
    token = _may_be_missing.set(False)  # an image that lies at a later place is not missing
    try:
        for top, url_parts in places:
            with contextlib.suppress(VisionTasksError):
                return image_folder(file, top, url_parts)
    finally:
        _may_be_missing.reset(token)
    return image_folder(file, *places[0])


def images_below(file: Path, folder: Path) -> Path:
    """The folder, or the one in it, that holds most of the first files that an annotation file names."""
    names = [n for n in first_names(file, url_parts=2) if not escapes(n)] if file.is_file() else []
    candidates = [folder, *(f for f in _folders(folder) if not _is_of_masks(f))]
    held = [sum((candidate / name).is_file() for name in names) for candidate in candidates]
    return candidates[held.index(max(held))]


def _candidates(file: Path, top: Path) -> Iterator[list[Path]]:
    """Folders that may hold the images, level by level upwards to `top`: each with those below it, likeliest first.

    Other data sets beside the file's own are left out: their images may be called the same.
    """
    above = [file.parent, *(p for p in file.parent.parents if p == top or top in p.parents)]
    near = above[: 2 if file.parent.name.lower() in _OF_ANNOTATIONS else 1]
    split = split_of(file, file.parent)
    for folder in above:
        foreign = (lambda f: False) if folder in near else _is_data_set
        own = [f for f in _folders(folder) if f not in above and not foreign(f)]
        below = [f for outer in own for f in (outer, *(i for i in _folders(outer) if not foreign(i)))]
        below = [f for f in below if not _is_of_masks(f)]
        yield [folder, *sorted(below, key=lambda f: split_of(f / "x", f) != split)]


def _is_data_set(folder: Path) -> bool:
    """Whether a folder has annotations of its own."""
    try:
        if any(f.name.lower() in _OF_ANNOTATIONS for f in _folders(folder)):
            return True
        files = [f for f in folder.iterdir() if f.suffix.lower() in (".json", ".yaml", ".yml")][:8]
    except OSError:
        return False
    return any(f.suffix.lower() != ".json" or looks_like_instances(f) for f in files)


def _is_of_masks(folder: Path) -> bool:
    """Whether the PNG of a panoptic file lie here: they are often called like the images, but are not those."""
    file = folder.with_name(f"{folder.name}.json")
    return file.is_file() and looks_like_panoptic(file)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))[:200]
    except OSError:
        return []


def first_names(file: Path, url_parts: int = 0) -> list[str]:
    """Some file names out of the first megabyte, else out of the middle and the end (images may follow annotations)."""
    for key in ("file_name", "coco_url") if url_parts else ("file_name",):
        if names := _first_texts(file, key):
            return names if key == "file_name" else [n for url in names if (n := name_from_url(url, url_parts))]
    return []


def _first_texts(file: Path, key: str) -> list[str]:
    size = file.stat().st_size
    pattern = rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % key.encode()
    with open_regular(file) as stream:
        for place in (0, size // 2, max(0, size - _HEAD)):
            stream.seek(place)
            found = re.findall(pattern, stream.read(_HEAD))
            if found:
                return [n for raw in found[:_SAMPLE] if isinstance(n := _text(raw), str)]
    return []


def _text(raw: bytes) -> str | None:
    try:
        return str(json.loads(raw.decode("utf-8", "replace"), strict=False)).replace("\\", "/")
    except ValueError:
        return None


def held(path: Path) -> str:
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
    if not names:
        return "the folder is empty."
    return f"the folder holds {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}."
