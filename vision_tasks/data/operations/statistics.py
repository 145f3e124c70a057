"""Counting what is in a data set: images, objects, categories, sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.images import read_image
from vision_tasks.data.operations.gathering import objects_of
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records

SMALL, MEDIUM = 32**2, 96**2
"""COCO's: areas below the first are small, below the second medium (`COCOeval` counts those at a limit in both)."""

SIDES = (0, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Lower limits of the histogram of sides, √(width·height), in pixels."""
ASPECTS = (0, 1 / 8, 1 / 4, 1 / 2, 0.8, 1.25, 2, 4, 8)
"""Lower limits of the histogram of width over height."""
CROWDING = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129)
"""Lower limits of the histogram of objects in an image."""
_COMMON_SIZES = 8
_QUANTILES = (1, 5, 25, 50, 75, 95, 99)


@dataclass
class Statistics:
    """What is in one split. Boxes that training cannot use are counted as objects, but not in sizes and shapes.

    Attributes:
        objects: all annotations. crowds, outlined, unusable: how many of them are crowds, have an outline, and are
            left out of training. empty_images: images without any object.
        sizes: "small", "medium" and "large" objects by area, crowds left out.
        sides, aspects, crowding: histograms, the lower limit as text -> count. side_quantiles: per cent -> pixels.
        image_sizes: the most frequent "WIDTH×HEIGHT" -> images. image_sides: smallest, median and greatest √(w·h).
        categories: rows with name, id, objects, images, share of all objects, crowds, small, medium, large, and the
            median side.
        maps: rows with name, id, images and share of all pixels of semantic maps; empty without maps. ignored: share
            of pixels that count for nothing. unreadable_maps: images whose map, or itself, cannot be read.
    """

    images: int = 0
    objects: int = 0
    crowds: int = 0
    outlined: int = 0
    unusable: int = 0
    empty_images: int = 0
    objects_per_image: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    aspects: dict[str, int] = field(default_factory=dict)
    crowding: dict[str, int] = field(default_factory=dict)
    side_quantiles: dict[str, float] = field(default_factory=dict)
    image_sizes: dict[str, int] = field(default_factory=dict)
    image_sides: list[float] = field(default_factory=list)
    unknown_sizes: int = 0
    categories: list[dict[str, Any]] = field(default_factory=list)
    maps: list[dict[str, Any]] = field(default_factory=list)
    ignored: float = 0.0
    unreadable_maps: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Primitives, for JSON."""
        return asdict(self)


def statistics(splits: Mapping[str, Records]) -> dict[str, Statistics]:
    """Statistics of each split. Images are opened only where there are semantic maps to count."""
    return {split: count(records) for split, records in splits.items()}


def count(records: Records) -> Statistics:
    """Statistics of one split."""
    found = Statistics(images=len(records))
    _count_images(records, found)
    if records.has_boxes:
        _count_objects(records, found)
    if records.semantic is not None and not records.semantic.is_drawn:
        _count_maps(records, found)
    return found


def _count_images(records: Records, found: Statistics) -> None:
    known = (records.widths > 0) & (records.heights > 0)
    found.unknown_sizes = int((~known).sum())
    pairs = np.stack([records.widths[known], records.heights[known]], axis=1).astype(np.int64)
    if not len(pairs):
        return
    sizes, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_COMMON_SIZES]
    found.image_sizes = {f"{sizes[i, 0]}×{sizes[i, 1]}": int(counts[i]) for i in order.tolist()}
    sides = np.sqrt(pairs.prod(axis=1))
    found.image_sides = [round(float(v), 1) for v in (sides.min(), np.median(sides), sides.max())]


def _count_objects(records: Records, found: Statistics) -> None:
    objects, rows, labels = len(records.labels), objects_of(records), records.labels
    classes = len(records.categories)
    per_image = np.diff(records.first)
    found.objects = objects
    found.crowds = int(records.is_crowd.sum())
    found.outlined = int((records.shape_starts >= 0).sum())
    found.unusable = int((~records.usable).sum())
    found.empty_images = int((per_image == 0).sum())
    found.objects_per_image = round(objects / max(len(records), 1), 2)
    found.crowding = histogram(per_image, CROWDING)
    single = records.usable & ~records.is_crowd
    scale = np.digitize(records.areas, [SMALL, MEDIUM])
    extent = np.where(records.usable[:, None], records.boxes[:, 2:], 1)
    sides = np.sqrt(extent.prod(axis=1))
    found.sizes = {name: int(((scale == i) & single).sum()) for i, name in enumerate(("small", "medium", "large"))}
    found.sides = histogram(sides[single], SIDES)
    found.aspects = histogram((extent[:, 0] / extent[:, 1])[single], ASPECTS)
    if single.any():
        found.side_quantiles = {
            str(q): round(float(v), 1)
            for q, v in zip(_QUANTILES, np.percentile(sides[single], _QUANTILES), strict=True)
        }

    def tally(kept: np.ndarray) -> list[int]:
        counts: list[int] = np.bincount(labels[kept], minlength=classes).tolist()
        return counts

    pairs = np.unique(rows * max(classes, 1) + labels) % max(classes, 1)
    columns: dict[str, list[Any]] = {
        "objects": tally(np.ones(objects, bool)),
        "images": np.bincount(pairs, minlength=classes).tolist(),
        "crowds": tally(records.is_crowd),
        **{name: tally((scale == i) & single) for i, name in enumerate(("small", "medium", "large"))},
        "median_side": _medians(sides[single], labels[single], classes),
    }
    for k, (name, number) in enumerate(zip(records.categories.names, records.categories.ids, strict=True)):
        row: dict[str, Any] = {"name": name, "id": number}
        row |= {column: values[k] for column, values in columns.items()}
        found.categories.append(row | {"share": round(row["objects"] / max(objects, 1), 5)})


def _medians(values: np.ndarray, labels: np.ndarray, classes: int) -> list[float | None]:
    """Median of the values of each label, None where it has none."""
    order = np.lexsort((values, labels))
    ends = np.cumsum(np.bincount(labels, minlength=classes))
    parts = np.split(values[order], ends[:-1]) if classes else []
    return [round(float(np.median(part)), 1) if len(part) else None for part in parts]


def _count_maps(records: Records, found: Statistics) -> None:
    """Pixels per category; every map is read."""
    source = records.semantic
    assert source is not None
    classes = len(source.categories)
    pixels, images = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    total = ignored = 0
    measured: Counter[tuple[int, int]] = Counter()
    for row in counted(range(len(records)), "reading maps"):
        try:
            size = records.size(row)
            if size is None:
                height, width = read_image(records.image_path(row), data=records.image_data(row)).shape[:2]
                size = (height, width)
                measured[(width, height)] += 1
            values = source.read(row, size)
        except ImageError:
            found.unreadable_maps += 1
            continue
        if values is None:
            continue
        if values.ndim == 3:
            own = (values == 1).sum(axis=(1, 2))
            ignored += int((values == -1).all(axis=0).sum())
        else:
            own = np.bincount(values[values >= 0].ravel(), minlength=classes)[:classes]
            ignored += int((values < 0).sum())
        pixels += own
        images += own > 0
        total += size[0] * size[1]
    found.ignored = round(ignored / max(total, 1), 5)
    for k, (name, number) in enumerate(zip(source.categories.names, source.categories.ids, strict=True)):
        share = round(int(pixels[k]) / max(total, 1), 5)
        found.maps.append(
            {"name": name, "id": number, "images": int(images[k]), "pixels": int(pixels[k]), "share": share}
        )
    if measured and not found.image_sizes:
        found.image_sizes = {f"{w}×{h}": n for (w, h), n in measured.most_common(_COMMON_SIZES)}


def histogram(values: np.ndarray, limits: tuple[float, ...]) -> dict[str, int]:
    """How many values lie from each limit to the next (the last is open), by the limit as text."""
    counts = np.bincount(np.digitize(values, limits[1:]), minlength=len(limits))
    return {f"{limit:g}": int(n) for limit, n in zip(limits, counts, strict=True)}
