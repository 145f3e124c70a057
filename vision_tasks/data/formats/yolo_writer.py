"""Writing YOLO labels: `data.yaml`, `images/{split}/`, `labels/{split}/`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from vision_tasks.data.formats.coco_writer import having_objects
from vision_tasks.data.formats.image_files import note_renamed, place_images, unique_names, unique_stems
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.formats.mask_images import size_of
from vision_tasks.data.formats.rings import single_outline
from vision_tasks.data.formats.upright import stored_turns, turned_points
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.outlines import extents
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.structures import Size

_CROWDS = "crowds: left out, as YOLO has no word for them and an ordinary object would teach wrongly"
_OUTLINES = "outlines: boxes are written instead, for not every object of the data set has an outline"
_PARTS = "outlines of several parts: joined by lines without width, which cover no pixel"
_HOLES = "holes in masks: cut open by lines without width, which cover no pixel"
_EMPTY = "objects whose mask has no pixel: left out"
_RUNS = "run-length masks: written as outlines along the edges of their pixels, which cover the same ones"
_UNREADABLE = "boxes that are no four numbers: left out"
_BEYOND = "boxes or outlines that reach beyond their image: written so, but some tools leave out such images"
_TURNED = "images that EXIF turns or mirrors: their objects go along, as tools of YOLO read images upright"
_SIZELESS = "images whose size nothing tells, or that are too large: without their objects"


def write_yolo(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """Write all splits; classes count from 0 in the order of the categories.

    Lines are outlines if every object of the data set (crowds aside) has one, else boxes. Shares have twelve digits:
    boxes come back to a millionth of a pixel, points of outlines exactly.

    Raises:
        VisionTasksError: file names that lead out of the folder, or collide. OSError: the disk is full.
    """
    splits = {split: having_objects(records, losses) for split, records in splits.items()}
    outlined = [(r.shape_starts >= 0) | r.is_crowd for r in splits.values()]
    as_outlines = any(r.has_shapes for r in splits.values()) and all(bool(o.all()) for o in outlined)
    for split, records in splits.items():
        _write_split(records, folder, split, as_outlines, images, losses)
    _say_lost(splits, as_outlines, losses)
    first = next(iter(splits.values()))
    # No `path`: without it the field's tools, like ours, start from the folder of this file.
    content = {**{s: f"images/{s}" for s in splits}, "names": dict(enumerate(first.categories.names))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _write_split(
    records: Records, folder: Path, split: str, as_outlines: bool, images: ImageWriting, losses: Losses
) -> None:
    own = unique_stems(records)
    stems = _without_images(own)
    names = unique_names(records, stems)
    moved = [a for a, b in zip(own, stems, strict=True) if a != b]
    losses.add("images that lie in folders called images: moved to others", moved)
    if not moved:
        note_renamed(records, names, losses)
    place_images(records, folder / "images" / split, images, losses, names)
    made: set[Path] = set()
    turns = stored_turns(records)
    for row, (stem, turn) in enumerate(zip(counted(stems, "writing YOLO labels"), turns, strict=True)):
        target = folder / "labels" / split / f"{stem}.txt"
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        # An empty file says that somebody looked and found nothing.
        target.write_text("".join(_lines(records, row, turn, as_outlines, losses)), encoding="utf-8")


def _without_images(stems: list[str]) -> list[str]:
    """Stems without folders called images: the field takes the last one for that which stands beside labels."""
    if not any("images" in stem.lower().split("/")[:-1] for stem in stems):
        return stems
    parts = [PurePosixPath(stem).parts for stem in stems]
    short = ["/".join([*(p for p in own[:-1] if p.lower() != "images"), own[-1]]) for own in parts]
    if len(set(short)) == len(short):
        return short
    return ["/".join([*(f"{p}_" if p.lower() == "images" else p for p in own[:-1]), own[-1]]) for own in parts]


def _lines(records: Records, row: int, turn: int | None, as_outlines: bool, losses: Losses) -> list[str]:
    start, end = int(records.first[row]), int(records.first[row + 1])
    if start == end:
        return []
    size = _size(records, row)
    if size is None:
        losses.add(_SIZELESS, [records.file_name(row)])
        return []
    if turn is not None:
        losses.add(_TURNED, [records.file_name(row)])
    lines, beyond = [], 0
    for index in range(start, end):
        if records.is_crowd[index]:
            losses.add(_CROWDS, [f"annotation {records.annotation_ids[index]}"])
            continue
        box = records.boxes[index]
        shares = _outline(records, index, size, turn, losses) if as_outlines else _box(box, size, turn)
        if shares is None:
            if not as_outlines:
                losses.add(_UNREADABLE, [f"annotation {records.annotation_ids[index]}"])
            continue
        beyond += any(v < 0 or v > 1 for v in shares)
        lines.append(f"{records.labels[index]} {' '.join(map(_written, shares))}\n")
    losses.add(_BEYOND, [records.file_name(row)] * beyond)
    return lines


def _box(box: np.ndarray, size: Size, turn: int | None) -> Sequence[float] | None:
    """Center x, center y, width, height as shares."""
    if not np.isfinite(box).all():
        return None
    x, y, w, h = box.tolist()
    if turn is not None:
        ((x1, y1), (x2, y2)), size = turned_points(np.array([[x, y], [x + w, y + h]]), turn, size)
        w, h = (h, w) if turn > 4 else (w, h)  # kept, with their sign
        x, y = (x1 + x2 - w) / 2, (y1 + y2 - h) / 2
    return (x + w / 2) / size[1], (y + h / 2) / size[0], w / size[1], h / size[0]


def _outline(records: Records, index: int, size: Size, turn: int | None, losses: Losses) -> Sequence[float] | None:
    shape = records.segmentation(index)
    assert shape is not None
    where = f"annotation {records.annotation_ids[index]}"
    points, parts, holes = single_outline(shape, size)
    if points is None:
        losses.add(_EMPTY, [where])
        return None
    losses.add(_RUNS, [where] * isinstance(shape, dict))
    losses.add(_PARTS, [where] * (parts > 1))
    losses.add(_HOLES, [where] * (holes > 0))
    if turn is not None:
        points, size = turned_points(points, turn, size)
    shares: list[float] = (points.astype(np.float64) / (size[1], size[0])).reshape(-1).tolist()
    return shares


def _written(share: float) -> str:
    return f"{share:.12g}"


def _size(records: Records, row: int) -> Size | None:
    try:
        return size_of(records, row)
    except ImageError:
        return None


def _say_lost(splits: Mapping[str, Records], as_outlines: bool, losses: Losses) -> None:
    """What no line can hold."""
    for split, records in splits.items():
        if not as_outlines:
            losses.add(_OUTLINES, count=int((records.shape_starts >= 0).sum()))
        else:
            corners = _disagreeing(records)
            losses.add(
                "boxes that are not those around their outline: only the outline is written",
                (f"annotation {records.annotation_ids[i]}" for i in corners), len(corners),
            )  # fmt: skip
        _say_ids(records, losses)
        if records.semantic is not None and not records.semantic.is_drawn:
            losses.add("semantic maps", [split], len(records))
        if records.extras is not None:
            for what, others in (("annotations", records.extras.annotations), ("images", records.extras.images)):
                keys = Counter(key for own in others.values() for key in own)
                for key, count in keys.items():
                    losses.add(f"{key} of {what}", count=count)
    categories = next(iter(splits.values())).categories
    if categories.ids != tuple(range(len(categories))):
        losses.add("category ids: classes count from 0", count=len(categories))


def _say_ids(records: Records, losses: Losses) -> None:
    """Ids that our reader will not give again: images have numbers in their names, or are counted by them."""
    stems = [PurePosixPath(records.file_name(row)).stem for row in range(len(records))]
    if all(s.isdecimal() and len(s) < 18 for s in stems):
        expected = np.array([int(s) for s in stems], np.int64)
    else:
        order = sorted(range(len(records)), key=records.file_name)
        expected = np.empty(len(records), np.int64)
        expected[order] = np.arange(1, len(records) + 1)
    for what, ids, given in (
        ("images", records.image_ids, expected),
        ("annotations", records.annotation_ids, np.arange(1, len(records.annotation_ids) + 1)),
    ):
        other = ids != given
        losses.add(f"ids of {what}: YOLO has none, they are counted anew", ids[other][:5], int(other.sum()))


def _disagreeing(records: Records) -> np.ndarray:
    """Annotations whose box is another, by a pixel, than that around their outline."""
    index = np.flatnonzero((records.shape_starts >= 0) & ~records.is_crowd)
    if not len(index):
        return index
    around, boxes = extents(records.shape_bytes, records.shape_starts[index]), records.boxes[index]
    with np.errstate(invalid="ignore"):
        same = (np.abs(around[:, :2] - boxes[:, :2]) <= 1).all(1) & (
            np.abs(around[:, :2] + around[:, 2:] - boxes[:, :2] - boxes[:, 2:]) <= 1
        ).all(1)
    found: np.ndarray = index[~same]
    return found
