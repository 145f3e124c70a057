"""Writing LabelMe: each image with its JSON file beside it, in a folder a split, and labels.txt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from vision_tasks.data.formats.coco_writer import having_objects
from vision_tasks.data.formats.image_annotations import exact, plain, write_labels
from vision_tasks.data.formats.image_files import note_renamed, place_images, unique_names, unique_stems
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.formats.json_text import json_text
from vision_tasks.data.formats.labelme import OWN_OF_FILE
from vision_tasks.data.formats.labelme_shapes import circle, enclosed, encode_mask
from vision_tasks.data.formats.unheld import note_unheld
from vision_tasks.data.formats.upright import stored_turns
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.ops import run_lengths
from vision_tasks.structures import Polygons, Rle

_Drawn = tuple[str, Any, str | None]
"""Type of a shape, its points, and its mask as PNG in base64."""
_VERSION = "5.5.0"
_OWN_OF_SHAPE = ("label", "points", "group_id", "shape_type", "mask", "iscrowd", "flags", "description")


def write_labelme(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """The whole data set (see `interface.Writer`).

    Polygons of several parts share a `group_id`, run lengths become masks, boxes without outline rectangles. Other
    keys, and `iscrowd`, are written into the shapes, where LabelMe keeps what it does not know.
    """
    splits = {split: having_objects(records, losses) for split, records in splits.items()}
    for split, records in splits.items():
        stems = unique_stems(records)
        names = unique_names(records, stems)
        note_renamed(records, names, losses)
        turned = [name for name, turn in zip(names, stored_turns(records), strict=True) if turn is not None]
        losses.add("images that EXIF turns, annotated as stored: labelme shows them turned beneath the shapes", turned)
        place_images(records, folder / split, images, losses, names)
        (folder / split).mkdir(exist_ok=True)
        for row, (stem, name) in enumerate(counted(list(zip(stems, names, strict=True)), "writing annotations")):
            target = folder / split / f"{stem}.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            content = _file(records, row, PurePosixPath(name).name, losses)
            target.write_bytes(msgspec.json.format(json_text(content), indent=2) + b"\n")
    write_labels(folder, next(iter(splits.values())).categories)
    note_unheld(splits, "LabelMe", losses, lambda key, _: key not in OWN_OF_FILE or key == "shapes", _holds)


def _file(records: Records, row: int, name: str, losses: Losses) -> dict[str, Any]:
    extras = {} if records.extras is None else dict(records.extras.of_image(row))
    others = extras.pop("shapes", [])
    indices = range(int(records.first[row]), int(records.first[row + 1]))
    outlines = {i: records.segmentation(i) for i in indices}
    size = records.size(row) or next(
        ((r["size"][0], r["size"][1]) for r in outlines.values() if isinstance(r, dict)), (0, 0)
    )
    known = [records.extras.of_annotation(i) for i in indices] if records.extras is not None else []
    groups = _Groups(entry.get("group_id") for entry in known)
    written: list[dict[str, Any]] = []
    for index in indices:
        written += _shapes(records, index, outlines[index], groups, losses)
    return {
        "version": _VERSION,
        "flags": {},
        **{k: v for k, v in extras.items() if k not in OWN_OF_FILE},
        "shapes": written + (others if isinstance(others, list) else []),
        "imagePath": name,
        "imageData": None,
        "imageHeight": size[0] or None,
        "imageWidth": size[1] or None,
    }


def _shapes(
    records: Records, index: int, outline: Polygons | Rle | None, groups: _Groups, losses: Losses
) -> list[dict[str, Any]]:
    """The shapes of one object, none if it has no place."""
    shown = f"annotation {records.annotation_ids[index]}"
    extras = dict(records.extras.of_annotation(index)) if records.extras is not None else {}
    geometry = _outline(records, index, outline, extras, losses) or _rectangle(records, index, losses)
    if not geometry:
        return []
    label = plain(records.categories.names[records.labels[index]])
    group, kept = groups.of(label, extras.get("group_id"), len(geometry))
    if not kept:
        losses.add("'group_id' of several objects of a category: LabelMe would take them for one", [shown])
    others = {k: v for k, v in extras.items() if k not in _OWN_OF_SHAPE}
    if records.is_crowd[index]:
        others["iscrowd"] = 1
    common = {"label": label, "group_id": group}
    common |= {"description": extras.get("description", ""), "flags": extras.get("flags", {})}
    return [common | {"points": points, "shape_type": kind, "mask": mask} | others for kind, points, mask in geometry]


class _Groups:
    """Numbers that tell which shapes of a file are one object.

    Args:
        known: those that objects have already; new ones differ from them.
    """

    def __init__(self, known: Iterable[Any]) -> None:
        self._taken = {g for g in known if type(g) is int}
        self._used: set[tuple[str, type, Any]] = set()

    def of(self, label: str, own: Any, parts: int) -> tuple[int | str | None, bool]:
        """The group of an object, None if it needs none; and whether its own was kept."""
        if isinstance(own, int | str) and (key := (label, type(own), own)) not in self._used:
            self._used.add(key)
            return own, True
        group = None
        if parts > 1:
            group = next(g for g in range(1, len(self._taken) + 2) if g not in self._taken)
            self._taken.add(group)
        return group, own is None


def _outline(
    records: Records, index: int, outline: Polygons | Rle | None, extras: Mapping[str, Any], losses: Losses
) -> list[_Drawn]:
    shown = f"annotation {records.annotation_ids[index]}"
    around: tuple[float, ...]
    if outline is None:
        return []
    if isinstance(outline, dict):
        if (window := _window(outline)) is None:
            losses.add("masks without a pixel: only the box is kept", [shown])
            return []
        bitmap, (left, top) = window
        height, width = bitmap.shape
        around, area = (left, top, width, height), float(bitmap.sum())
        drawn: list[_Drawn] = [("mask", [[left, top], [left + width - 1, top + height - 1]], encode_mask(bitmap))]
    else:
        points = np.concatenate(outline).astype(np.float64)
        around = (*points.min(0), *(points.max(0) - points.min(0)))
        area = sum(enclosed(p.reshape(-1)) for p in outline)
        drawn = [_polygon(p, outline, extras) for p in outline]
    if not np.abs(records.boxes[index] - around).max() <= 0.1:
        losses.add("boxes that lie elsewhere than their outline: LabelMe keeps the outline", [shown])
    if not abs(area - records.areas[index]) <= 0.001 * area + 0.01:
        losses.add("areas that differ from their outline's: LabelMe keeps the outline", [shown])
    return drawn


def _rectangle(records: Records, index: int, losses: Losses) -> list[_Drawn]:
    shown = f"annotation {records.annotation_ids[index]}"
    x, y, w, h = records.boxes[index].tolist()
    if not all(map(math.isfinite, (x, y, w, h))):
        losses.add("boxes that are no numbers: left out", [shown])
        return []
    if w < 0 or h < 0:
        losses.add("boxes of negative width or height: LabelMe puts their corners in order", [shown])
    elif abs(records.areas[index] - w * h) > 1e-6 * max(w * h, 1):
        losses.add("areas: LabelMe has none, that of the box will count", [shown])
    return [("rectangle", [[x, y], [exact(x + w), exact(y + h)]], None)]


def _polygon(points: np.ndarray, outline: Polygons, extras: Mapping[str, Any]) -> tuple[str, Any, None]:
    """One part of an outline; the circle that it was drawn as, if it still is one."""
    kind, drawn = extras.get("shape_type"), extras.get("points")
    if len(outline) == 1:
        if kind == "circle" and drawn is not None:
            was = np.array(circle([v for point in drawn for v in point]), np.float32).reshape(-1, 2)
            if was.shape == points.shape and np.allclose(was, points, rtol=0, atol=1e-3):
                return "circle", drawn, None
        elif kind in ("oriented_rectangle", "rotation") and len(points) == 4:
            return str(kind), _decimals(points), None
    return "polygon", _decimals(points), None


def _decimals(points: np.ndarray) -> list[list[float]]:
    """float32 coordinates by their shortest decimals, not by those of the same number as float64."""
    out: list[list[float]] = points.astype(str).astype(np.float64).tolist()
    return out


def _window(rle: Rle) -> tuple[np.ndarray, tuple[int, int]] | None:
    """The bitmap (h, w) bool that a mask's pixels fill, and its (x, y) in the image; None if it has none."""
    height, width = rle["size"]
    runs = run_lengths.decompress(rle["counts"])
    ends = np.cumsum(runs)
    inside = (np.arange(len(runs)) % 2 == 1) & (runs > 0)
    if not inside.any():
        return None
    x1, x2 = int((ends - runs)[inside][0] // height), int((ends[inside][-1] - 1) // height)
    strip = run_lengths.cut(runs, (height, width), (x1, 0, x2 + 1, height))
    rows = np.flatnonzero(strip.any(1))
    return np.ascontiguousarray(strip[rows[0] : rows[-1] + 1]), (x1, int(rows[0]))


def _holds(key: str, value: Any) -> bool:
    if key == "group_id":
        return isinstance(value, int | str)
    if key == "flags":
        return isinstance(value, dict)
    if key == "description":
        return isinstance(value, str)
    return key not in ("label", "mask", "iscrowd")
