"""Writing COCO panoptic annotations: a JSON file of segments, and a PNG per image whose colours are their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.coco_writer import having_objects
from vision_tasks.data.formats.image_files import place_images, safe_name, unique_stems
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.formats.json_text import json_text
from vision_tasks.data.formats.mask_images import segment_rles, size_of
from vision_tasks.data.formats.panoptic import IDS
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.image_headers import in_threads
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.ops.masks import area, render, to_rles
from vision_tasks.structures import Masks, Rle, Size

_SPREAD = 0x9E3779B1
"""Odd, so that multiplying by it permutes the 24-bit numbers: neighbouring segments get colours far apart."""
_BARE = "objects without an outline: left out"
_MISFIT = "masks of another size than their image: left out"
_HIDDEN = "objects that lie beneath smaller ones entirely, or have no pixel: left out"
_COVERED = "objects partly beneath smaller ones: a pixel is of one segment, the smaller one's"
_JOINED = "objects of one stuff in one image: they are one segment"
_REMEASURED = "boxes and areas as they were: written are those of a segment's pixels"
_RENUMBERED = "annotation ids: segments get ids that are colours"
_SIZELESS = "images whose size nothing tells, or that are too large: left out"


@dataclass(frozen=True)
class _Drawn:
    """An image's segments as written, and what could not be: kind of loss -> annotation numbers."""

    segments: list[dict[str, Any]]
    lost: dict[str, list[int]]


def write_panoptic(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """Write all splits; segments are made of the objects' masks.

    A pixel is of the smallest object that covers it, of crowds only where nothing else is. All of one stuff in an image
    is one segment. Pixels that no object covers have id 0, which counts as not annotated.

    Raises:
        VisionTasksError: file names that lead out of the folder, or collide. OSError: the disk is full.
    """
    for split, given in splits.items():
        if given.has_boxes and given.semantic is not None and not given.semantic.is_drawn:
            losses.add("semantic maps beside objects", [split], len(given))
        records = having_objects(given, losses)
        place_images(records, folder / "images" / split, images, losses)
        _write_split(records, folder / "annotations" / f"panoptic_{split}.json", losses)


def _write_split(records: Records, path: Path, losses: Losses) -> None:
    stems = unique_stems(records)
    top = path.with_suffix("")
    for parent in {(top / stem).parent for stem in stems} | {top}:
        parent.mkdir(parents=True, exist_ok=True)
    sizes = [_size(records, row) for row in range(len(records))]
    rows = [row for row, size in enumerate(sizes) if size is not None]
    losses.add(_SIZELESS, [records.file_name(row) for row, size in enumerate(sizes) if size is None])
    extras = records.extras or Extras()

    def draw(row: int) -> _Drawn:
        return _draw(records, row, sizes[row] or (0, 0), top / f"{stems[row]}.png")

    with path.open("wb") as stream:
        stream.write(b"{")
        for key, value in extras.data_set.items():
            if key not in ("images", "annotations", "categories"):
                stream.write(b"%s:%s,\n" % (json_text(key), json_text(value)))
        stream.write(b'"images":%s,\n"annotations":[' % json_text(_images(records, sizes, extras)))
        drawn = counted(in_threads(draw, rows), "writing panoptic maps", len(rows))
        for number, (row, one) in enumerate(zip(rows, drawn, strict=True)):
            for what, indices in one.lost.items():
                losses.add(what, [f"annotation {records.annotation_ids[i]}" for i in indices])
            entry = {
                "image_id": int(records.image_ids[row]),
                "file_name": f"{stems[row]}.png",
                "segments_info": one.segments,
            }
            stream.write((b",\n" if number else b"") + json_text(entry))
        stream.write(b'],\n"categories":%s}\n' % json_text(_categories(records, extras)))
    keys = Counter(key for own in extras.annotations.values() for key in own if key != "segment_id")
    for key, count in keys.items():
        losses.add(f"{key} of annotations", count=count)


def _size(records: Records, row: int) -> Size | None:
    try:
        return size_of(records, row)
    except ImageError:
        return None


def _images(records: Records, sizes: Sequence[Size | None], extras: Extras) -> list[dict[str, Any]]:
    return [
        {
            **extras.of_image(row), "id": int(records.image_ids[row]), "file_name": safe_name(records, row),
            "height": size[0], "width": size[1],
        }
        for row, size in enumerate(sizes) if size is not None
    ]  # fmt: skip


def _categories(records: Records, extras: Extras) -> list[dict[str, Any]]:
    return [{**extras.categories.get(n, {}), **entry} for n, entry in enumerate(records.categories.to_list())]


def _draw(records: Records, row: int, size: Size, target: Path) -> _Drawn:
    """Draws the segments of an image and writes its PNG."""
    lost: dict[str, list[int]] = {}
    chosen = _usable(records, row, size, lost)
    rles = to_rles(Masks(size, shapes=[shape for _, shape in chosen]))
    indices = np.array([index for index, _ in chosen], np.int64)
    crowd = records.is_crowd[indices]
    areas = area(rles).numpy()
    segment_of = _joined(records, indices, crowd, lost)
    canvas = np.full(size, -1, np.int32)
    for k in np.lexsort((-areas, ~crowd)).tolist():  # crowds first, then the largest
        x, y, w, h = (int(v) for v in coco_mask.toBbox(rles[k]))
        part = render(Masks(size, shapes=[rles[k]]), (x, y, x + w, y + h))[0].numpy()
        canvas[y : y + h, x : x + w][part] = segment_of[k]
    count = int(segment_of.max(initial=-1)) + 1
    visible = segment_rles(canvas, count)
    left = np.array([0 if rle is None else int(coco_mask.area(rle)) for rle in visible], np.int64)
    alone = np.bincount(segment_of, minlength=count)[segment_of] == 1
    lost[_HIDDEN] = indices[left[segment_of] == 0].tolist()
    lost[_COVERED] = indices[alone & (left[segment_of] > 0) & (left[segment_of] < areas)].tolist()
    ids = _ids(records, indices, segment_of, count)
    colors = np.append(ids, 0)[canvas]
    pixels = np.stack([colors & 255, colors >> 8 & 255, colors >> 16], 2).astype(np.uint8)
    Image.fromarray(pixels).save(target)
    segments: list[dict[str, Any]] = []
    kept: dict[int, dict[str, Any]] = {}
    first = np.unique(segment_of, return_index=True)[1]
    for number, rle in enumerate(visible):
        if rle is not None:
            index = int(indices[first[number]])
            segments.append(_segment(records, index, int(ids[number]), rle, int(left[number])))
            kept[index] = segments[-1]
    told = {*lost[_COVERED], *indices[~alone].tolist()}
    lost[_REMEASURED] = [i for i, one in kept.items() if i not in told and _is_remeasured(records, i, one)]
    lost[_RENUMBERED] = [index for index, one in kept.items() if not _has_own_id(records, index, one)]
    return _Drawn(segments, lost)


def _segment(records: Records, index: int, number: int, rle: Rle, pixels: int) -> dict[str, Any]:
    return {
        "id": number,
        "category_id": records.categories.ids[int(records.labels[index])],
        "iscrowd": int(records.is_crowd[index]),
        "bbox": [int(v) for v in coco_mask.toBbox(rle)],
        "area": pixels,
    }


def _is_remeasured(records: Records, index: int, segment: Mapping[str, Any]) -> bool:
    """Whether box or area of an annotation were others, by more than a thousandth of a pixel."""
    before = np.append(records.boxes[index], records.areas[index])
    return not np.allclose(before, [*segment["bbox"], segment["area"]], rtol=0, atol=1e-3)


def _has_own_id(records: Records, index: int, segment: Mapping[str, Any]) -> bool:
    number = int(records.annotation_ids[index])
    had = {} if records.extras is None else records.extras.annotations.get(index, {})
    return bool(segment["id"] == had.get("segment_id", number))


def _usable(records: Records, row: int, size: Size, lost: dict[str, list[int]]) -> list[tuple[int, Any]]:
    """Numbers and masks of an image's annotations."""
    chosen = []
    for index in range(int(records.first[row]), int(records.first[row + 1])):
        shape = records.segmentation(index)
        if shape is None:
            lost.setdefault(_BARE, []).append(index)
        elif isinstance(shape, dict) and tuple(shape["size"]) != tuple(size):
            lost.setdefault(_MISFIT, []).append(index)
        else:
            chosen.append((index, shape))
    return chosen


def _joined(records: Records, indices: np.ndarray, crowd: np.ndarray, lost: dict[str, list[int]]) -> np.ndarray:
    """(N,) number of each object's segment: its own, but one for all of a stuff (a crowd has its own)."""
    labels = records.labels[indices]
    thing = np.array(records.categories.is_thing, bool)[labels] if len(labels) else np.zeros(0, bool)
    own = np.where(thing | crowd, np.arange(len(indices)) + len(records.categories), labels)
    values, first, segment_of = np.unique(own, return_index=True, return_inverse=True)
    again = np.setdiff1d(np.arange(len(indices)), first)
    if len(again):
        lost[_JOINED] = indices[again].tolist()
    # In the order of the objects, as files have them.
    rank = np.empty(len(values), np.int64)
    rank[np.argsort(first)] = np.arange(len(values))
    return rank[segment_of]


def _ids(records: Records, indices: np.ndarray, segment_of: np.ndarray, count: int) -> np.ndarray:
    """(count,) int64 ids of segments: those they had, else by their annotation's place in the data set."""
    ids = np.zeros(count, np.int64)
    taken: set[int] = set()
    others = records.extras.annotations if records.extras is not None else {}
    first = np.unique(segment_of, return_index=True)[1]
    for number, place in enumerate(first.tolist()):
        had = others.get(int(indices[place]), {}).get("segment_id")
        own = had if isinstance(had, int) and 0 < had < IDS and had not in taken else 0
        step = int(indices[place]) + 1
        while not own or own in taken:
            own = step * _SPREAD % IDS
            step += len(records.labels)
        ids[number] = own
        taken.add(own)
    return ids
