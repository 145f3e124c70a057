"""Writing COCO instances and LVIS files, piece by piece: no Python object stays for long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from vision_tasks.categories import category_color
from vision_tasks.data.extras import Extras
from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.image_files import place_images, safe_name
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.formats.json_text import json_text
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.structures import Rle

_PIECE = 4096
_OWN = ("images", "annotations", "categories")


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    segmentation: Any
    iscrowd: int | msgspec.UnsetType


def write_coco(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """`annotations/instances_{split}.json` and `images/{split}/` (see `interface.Writer`)."""
    for split, records in splits.items():
        records = having_objects(records, losses)
        path = folder / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            write_instances(records, stream, losses)
        place_images(records, folder / "images" / split, images, losses)


def having_objects(records: Records, losses: Losses) -> Records:
    """Records that have objects: those of the semantic maps where nobody annotated any others."""
    if records.has_boxes or records.semantic is None:
        return records
    from vision_tasks.data.formats.mask_images import objects_of_maps

    return objects_of_maps(records, losses)


def write_instances(records: Records, stream: BinaryIO, losses: Losses, crowds: bool = True) -> None:
    """One split as the JSON text that COCO has for instances.

    Args:
        crowds: whether objects say "iscrowd".

    Ids, boxes and areas are written as they were read, outlines with the digits that float32 needs. A box that is
    not four finite numbers cannot be written: the box around its outline is, and without an outline nothing.
    """
    extras = records.extras or Extras()
    pieces = {
        "images": _images(records, extras),
        "annotations": annotation_entries(records, losses, crowds),
        "categories": iter([category_entries(records, extras)]),
    }
    stream.write(b"{")
    for key, value in extras.data_set.items():
        if key not in _OWN:
            stream.write(b"%s:%s," % (json_text(key), json_text(value)))
    for number, (key, lists) in enumerate(pieces.items()):
        stream.write(b'%s"%s":[' % (b",\n" if number else b"", key.encode()))
        first = True
        for entries in lists:
            if entries:
                stream.write((b"" if first else b",\n") + json_text(entries)[1:-1])
                first = False
        stream.write(b"]")
    stream.write(b"}\n")


def _images(records: Records, extras: Extras) -> Iterator[list[Any]]:
    for begin in range(0, len(records), _PIECE):
        rows = range(begin, min(begin + _PIECE, len(records)))
        sizes = zip(
            records.widths[begin : rows.stop].tolist(), records.heights[begin : rows.stop].tolist(), strict=True
        )
        ids = records.image_ids[begin : rows.stop].tolist()
        plain = [
            _Image(number, safe_name(records, row), width, height)
            for row, number, (width, height) in zip(rows, ids, sizes, strict=True)
        ]
        yield [_with(entry, extras.images.get(row)) for row, entry in zip(rows, plain, strict=True)]


def annotation_entries(records: Records, losses: Losses, crowds: bool = True) -> Iterator[list[Any]]:
    """Entries of "annotations", some thousands at a time: structs, or dictionaries where there are other keys."""
    others = (records.extras or Extras()).annotations
    owners = np.repeat(records.image_ids, np.diff(records.first))
    category_ids = np.array(records.categories.ids, np.int64)[records.labels]
    begins = range(0, len(records.labels), _PIECE)
    for begin in counted(begins, "writing annotations", len(records.labels), each=_PIECE):
        part = slice(begin, begin + _PIECE)
        outlines = segmentations(records, begin, min(begin + _PIECE, len(records.labels)))
        boxes = _written_boxes(records, begin, losses)
        crowd_flags = records.is_crowd[part].astype(np.int64).tolist() if crowds else [msgspec.UNSET] * len(outlines)
        out: list[Any] = []
        for index, (number, owner, category, box, area, crowd, outline) in enumerate(
            zip(
                records.annotation_ids[part].tolist(), owners[part].tolist(), category_ids[part].tolist(),
                boxes.tolist(), records.areas[part].tolist(), crowd_flags, outlines, strict=True,
            ),
            begin,
        ):  # fmt: skip
            if box[0] == box[0]:
                entry = _Annotation(number, owner, category, box, area, outline, crowd)
                out.append(_with(entry, others.get(index)))
        yield out


def _written_boxes(records: Records, begin: int, losses: Losses) -> np.ndarray:
    """(n, 4) float64 of the annotations from `begin` on; NaN for those that cannot be written."""
    boxes = records.boxes[begin : begin + _PIECE]
    unreadable = ~np.isfinite(boxes).all(1)
    if not unreadable.any():
        return boxes
    boxes = boxes.copy()
    lost: list[str] = []
    drawn: list[str] = []
    for i in np.flatnonzero(unreadable).tolist():
        outline = records.segmentation(begin + i)
        boxes[i] = np.nan if outline is None else shapes.box_of(outline)
        (lost if outline is None else drawn).append(f"annotation {records.annotation_ids[begin + i]}")
    losses.add("annotations whose box is not four numbers, without outline: left out", lost)
    losses.add("boxes that are not four numbers: the box around the outline is written", drawn)
    return boxes


def segmentations(records: Records, begin: int, end: int) -> list[Any]:
    """The outlines of annotations `begin` to `end` as COCO has them in JSON: [] for none."""
    outlines = [records.segmentation(index) for index in range(begin, end)] if records.has_shapes else []
    if not outlines:
        return [[]] * (end - begin)
    polygons = [p for outline in outlines if isinstance(outline, list) for p in outline]
    numbers = shortest(np.concatenate([p.reshape(-1) for p in polygons])).tolist() if polygons else []
    out: list[Any] = []
    at = 0
    for outline in outlines:
        if outline is None:
            out.append([])
        elif isinstance(outline, list):
            ends = np.cumsum([at] + [2 * len(p) for p in outline]).tolist()
            out.append([numbers[a:b] for a, b in pairwise(ends)])
            at = ends[-1]
        else:
            out.append(_run_lengths(outline))
    return out


def _run_lengths(rle: Rle) -> dict[str, Any]:
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}


def shortest(numbers: np.ndarray) -> np.ndarray:
    """(N,) float32 as the float64 of the fewest decimals that are still read as the same float32.

    JSON writers print float64 with up to 17 digits: 0.1 in float32 would become 0.10000000149011612.
    """
    wide = numbers.astype(np.float64)
    left = np.arange(len(wide))
    for decimals in range(8):
        tried = np.round(wide[left], decimals)
        same = tried.astype(np.float32) == numbers[left]
        wide[left[same]] = tried[same]
        left = left[~same]
        if not len(left):
            return wide
    wide[left] = [float(str(v)) for v in numbers[left]]
    return wide


def category_entries(records: Records, extras: Extras) -> list[dict[str, Any]]:
    """The "categories"; isthing and color only where they say what is not the default, or were there before."""
    out = []
    for label, entry in enumerate(records.categories.to_list()):
        other = extras.categories.get(label, {})
        if entry["isthing"] and "isthing" not in other:
            del entry["isthing"]
        if tuple(entry["color"]) == category_color(label) and "color" not in other:
            del entry["color"]
        out.append({**other, **entry})
    return out


def _with(entry: _Image | _Annotation, others: Mapping[str, Any] | None) -> Any:
    """The entry itself, or with other keys; its own keys win."""
    if not others:
        return entry
    return {**others, **{k: v for k, v in msgspec.structs.asdict(entry).items() if v is not msgspec.UNSET}}
