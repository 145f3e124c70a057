"""Counts and histograms of a split, for the page and for programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from vision_tasks.data.doctor.objects import Objects

_BINS = 24


def statistics_of(objects: Objects) -> dict[str, Any]:
    """Counts and histograms of one split; primitives for JSON.

    Returns:
        `images`, `images_without_annotations`, `annotations`, `crowds`, `masks`; `categories`: a list of name, id,
        objects, images, the most frequent first; `small`, `medium`, `large`: objects by COCO's areas of 32² and 96²;
        `histograms`: by name ("object_size", the root of width × height in pixels; "relative_size", that over the
        image's; "aspect_ratio", width / height; "objects_per_image"; "image_width"; "image_height"), `edges` (B + 1)
        and `counts` (B).
    """
    records = objects.records
    per_image = np.diff(records.first)
    sound = objects.positive & ~records.is_crowd
    sides = objects.boxes[sound, 2:]
    size = np.sqrt(sides[:, 0]) * np.sqrt(sides[:, 1])
    with np.errstate(invalid="ignore"):
        relative = size / np.sqrt(objects.sizes[sound].prod(1))
    area = records.areas[sound]
    return {
        "images": len(records),
        "images_without_annotations": int((per_image == 0).sum()),
        "annotations": len(objects),
        "crowds": int(records.is_crowd.sum()),
        "masks": int((records.shape_starts >= 0).sum()),
        "small": int((area < 32**2).sum()),
        "medium": int(((area >= 32**2) & (area < 96**2)).sum()),
        "large": int((area >= 96**2).sum()),
        "categories": _categories(objects),
        "histograms": {
            "object_size": _histogram(size, logarithmic=True),
            "relative_size": _histogram(relative[np.isfinite(relative)], 0.0, 1.0),
            "aspect_ratio": _histogram(sides[:, 0] / sides[:, 1], logarithmic=True),
            "objects_per_image": _histogram(per_image, whole=True),
            "image_width": _histogram(records.widths[records.widths > 0], whole=True),
            "image_height": _histogram(records.heights[records.heights > 0], whole=True),
        },
    }


def _categories(objects: Objects) -> list[dict[str, Any]]:
    records = objects.records
    count = len(records.categories)
    numbers = np.bincount(records.labels[~records.is_crowd], minlength=count)
    # Images in which a category occurs: distinct pairs of row and label.
    pairs = np.unique(objects.rows * max(count, 1) + records.labels)
    images = np.bincount(pairs % max(count, 1), minlength=count)
    return [
        {
            "name": records.categories.names[k], "id": records.categories.ids[k],
            "objects": int(numbers[k]), "images": int(images[k]),
        }
        for k in np.argsort(-numbers, kind="stable").tolist()
    ]  # fmt: skip


def _histogram(
    values: np.ndarray, low: float | None = None, high: float | None = None, *, logarithmic: bool = False,
    whole: bool = False,
) -> dict[str, list[float]]:  # fmt: skip
    """Edges and counts; bins of whole numbers are at least 1 wide and lie between them."""
    if not len(values):
        return {"edges": [], "counts": []}
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    edges: np.ndarray
    if logarithmic:
        edges = np.geomspace(max(low, 1e-9), max(high, low * 1.01, 1e-9 * 1.01), _BINS + 1)
    elif whole:
        step = max(1, int(np.ceil((high - low + 1) / _BINS)))
        edges = np.arange(int(low), int(high) + step + 1, step) - 0.5
    else:
        edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    counts, edges = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
