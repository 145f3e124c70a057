"""Boxes that are none, lie elsewhere, are there twice, or cover everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.masks import beside_box
from vision_tasks.data.doctor.objects import Objects, shown
from vision_tasks.data.doctor.parts import check_far_beyond

_SAME = 0.5
"""Boxes of one category whose four numbers differ by no more pixels are one object annotated twice."""
_TRIES = 64
_WHOLE = 1.0
_SMALL_IMAGE = 16


def check_boxes(objects: Objects) -> list[Finding]:
    """All findings about single boxes."""
    return [
        *check_degenerate(objects), *check_places(objects), *check_whole_image(objects), *check_duplicated(objects)
    ]  # fmt: skip


def check_degenerate(objects: Objects) -> list[Finding]:
    """Boxes that are unreadable, inverted or empty."""
    boxes = objects.boxes
    inverted = objects.readable & (boxes[:, 2:] < 0).any(1)
    empty = objects.readable & ~inverted & (boxes[:, 2:] == 0).any(1)
    out = []
    for code, found, op in (
        ("box_unreadable", ~objects.readable, "drop_annotations"),
        ("box_inverted", inverted, "order_corners"),
        ("box_empty", empty, "drop_annotations"),
    ):
        places = np.flatnonzero(found)
        edits = _from_masks_or(op, objects, places, code)
        out += objects.finding(code, places, lambda i: _written(objects.records.boxes[i]), edits=edits)
    return out


def _written(box: np.ndarray) -> str:
    return "it has no bbox of four numbers" if np.isnan(box).all() else f"bbox is {shown(box)}"


def _from_masks_or(op: str, objects: Objects, places: np.ndarray, code: str) -> list[Mapping[str, Any]]:
    """Boxes are taken from their masks where these lie in the image; the others are mended by `op`."""
    if not len(places):
        return []
    extent = objects.outlines.extent[places]
    with np.errstate(invalid="ignore"):
        inside = ((extent >= -1) & ~(extent[:, 2:] > objects.sizes[places] + 1).any(1, keepdims=True)).all(1)
    masked = (objects.outlines.area[places] > 0) & inside
    edits: list[Mapping[str, Any]] = []
    for operation, chosen in (("boxes_from_masks", places[masked]), (op, places[~masked])):
        if len(chosen):
            edits.append({"op": operation, "ids": objects.ids(chosen), "why": code})
    return edits


def check_places(objects: Objects) -> list[Finding]:
    """Boxes that lie outside their image, or reach more than a pixel beyond it; many that do so by far are others."""
    boxes, sizes = objects.boxes, objects.sizes
    good = objects.positive
    with np.errstate(invalid="ignore"):
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        outside = good & ((low >= sizes) | (high <= 0)).any(1)
        beyond = good & ~outside & ((low < -1) | (high > sizes + 1)).any(1)

    def detail(i: int) -> str:
        width, height = sizes[i]
        size = f", the image is {width:.0f} × {height:.0f}" if np.isfinite(width) else ""
        return f"bbox is {shown(boxes[i])}{size}"

    out = check_far_beyond(objects)
    if out:
        beyond[objects.found["box_far_beyond"]] = False
    for code, found, op in (("box_outside", outside, "drop_annotations"), ("box_beyond", beyond, "clip_boxes")):
        places = np.flatnonzero(found)
        out += objects.finding(code, places, detail, edits=_from_masks_or(op, objects, places, code))
    return out


def check_whole_image(objects: Objects) -> list[Finding]:
    """Boxes whose four sides are those of the image to a pixel, unless an outline fits and leaves corners free."""
    boxes, sizes = objects.boxes, objects.sizes
    with np.errstate(invalid="ignore"):
        near = (np.abs(boxes[:, :2]) <= _WHOLE) & (np.abs(boxes[:, :2] + boxes[:, 2:] - sizes) <= _WHOLE)
        found = near.all(1) & (sizes >= _SMALL_IMAGE).all(1) & ~objects.records.is_crowd
    edits: list[Mapping[str, Any]] = []
    names = objects.records.categories.names
    places = np.flatnonzero(found)
    if len(places):
        outlines = objects.outlines
        fits = outlines.has & ~beside_box(objects)
        drawn = fits & (outlines.area < 0.99 * sizes.prod(1))
        places = places[~drawn[places]]
        masked = places[(outlines.has & ~fits)[places]]
        edits = (
            [{"op": "boxes_from_masks", "ids": objects.ids(masked), "why": "box_whole_image"}] if len(masked) else []
        )
    return objects.finding(
        "box_whole_image",
        places,
        lambda i: (
            f"{names[objects.records.labels[i]]!r}, bbox is {shown(boxes[i])}, "
            f"the image is {sizes[i, 0]:.0f} × {sizes[i, 1]:.0f}"
        ),
        edits=edits,
    )


def check_duplicated(objects: Objects) -> list[Finding]:
    """Annotations of one image and category with the same box to half a pixel: all but the first of each."""
    original = _originals(objects)
    places = np.flatnonzero(original >= 0)
    records = objects.records
    ids = records.annotation_ids
    shared = len(np.unique(ids[places])) < len(places) or bool((ids[places] == ids[original[places]]).any())
    edit: dict[str, Any] = {"op": "drop_annotations", "ids": objects.ids(places), "why": "box_duplicated"}
    if shared:
        edit["keep_first"] = True  # the repetitions have their original's id
    return objects.finding(
        "box_duplicated",
        places,
        lambda i: (
            f"{records.categories.names[records.labels[i]]!r} at {shown(objects.boxes[i])}, "
            f"as annotation {ids[original[i]]} at {shown(objects.boxes[original[i]])}"
        ),
        edits=[edit],
    )


def _originals(objects: Objects) -> np.ndarray:
    """(N,) int64: index of the annotation that each one repeats, -1 for those that repeat none."""
    boxes = objects.boxes
    chosen = np.flatnonzero(objects.positive & ~objects.records.is_crowd)
    group = objects.rows[chosen] * max(1, len(objects.records.categories)) + objects.records.labels[chosen]
    original = np.full(len(objects), -1)
    order = np.lexsort((chosen, boxes[chosen, 0], group))
    chosen, group = chosen[order], group[order]
    sorted_boxes = boxes[chosen]
    active = np.arange(len(chosen))
    for step in range(1, _TRIES):  # partners lie next to each other once sorted by their left side
        active = active[: np.searchsorted(active, len(chosen) - step)]
        other = active + step
        near = (group[other] == group[active]) & (sorted_boxes[other, 0] - sorted_boxes[active, 0] <= _SAME)
        active = active[near]
        if not len(active):
            break
        other = active + step
        # Of tiny objects even half a pixel is much: sides are compared with the box, too.
        allowed = np.minimum(_SAME, 0.05 * sorted_boxes[active, 2:].min(1))
        same = np.abs(sorted_boxes[other] - sorted_boxes[active]).max(1) <= allowed
        one, two = chosen[active[same]], chosen[other[same]]
        earlier, later = np.minimum(one, two), np.maximum(one, two)
        fresh = original[later] < 0
        original[later[fresh]] = earlier[fresh]
    # What repeats a repetition repeats its original; a few rounds, as chains are short.
    for _ in range(8):
        chained = (original >= 0) & (original[original] >= 0)
        if not chained.any():
            break
        original[chained] = original[original[chained]]
    return original
