"""Masks that do not fit their box, cross themselves, are empty, or have another area than is written."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.entries import place_of
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.objects import Objects, shown

_PIXELS, _SHARE = 2.0, 0.05
"""A side of a box may be so many pixels from its mask, or so large a share of the box's longer side."""
_AREA_SHARE = 0.1
_CROSSING = 0.01
"""Outlines of COCO cross themselves by slips of the mouse; a hundredth of the area changes nothing."""


def check_masks(objects: Objects) -> list[Finding]:
    """All findings about single masks."""
    if not objects.outlines.has.any():
        return []
    return [*check_fit(objects), *check_crossing(objects), *check_empty(objects), *check_areas(objects)]


def beside_box(objects: Objects) -> np.ndarray:
    """Which masks reach elsewhere than their box, (N,) bool."""
    boxes, outlines = objects.boxes, objects.outlines
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
        off = np.abs(corners - outlines.extent).max(1)
        allowed = np.maximum(_PIXELS, _SHARE * np.maximum(boxes[:, 2:].max(1), longer_side(outlines.extent)))
        return np.asarray(objects.positive & outlines.has & (off > allowed))


def longer_side(extent: np.ndarray) -> np.ndarray:
    """(N,) longer side of left, top, right, bottom (N, 4)."""
    return np.asarray((extent[:, 2:] - extent[:, :2]).max(1))


def check_fit(objects: Objects) -> list[Finding]:
    """Masks whose extent is not their box."""
    outlines, boxes = objects.outlines, objects.boxes
    places = np.flatnonzero(beside_box(objects) & (outlines.area > 0))

    def detail(i: int) -> str:
        left, top, right, bottom = outlines.extent[i]
        return f"bbox is {shown(boxes[i])}, its mask spans {shown(np.array([left, top, right - left, bottom - top]))}"

    edits = [{"op": "boxes_from_masks", "ids": objects.ids(places), "why": "mask_beside_box"}]
    return objects.finding("mask_beside_box", places, detail, of=int(outlines.has.sum()), edits=edits)


def check_crossing(objects: Objects) -> list[Finding]:
    """Outlines whose own lines cut off more than a hundredth of them by crossing."""
    outlines = objects.outlines
    places = np.flatnonzero(outlines.crossing > _CROSSING)
    return objects.finding(
        "mask_crossing",
        places,
        lambda i: f"a loop of {outlines.crossing[i]:.0%} of its area is cut off where lines cross",
        of=int(outlines.has.sum()),
        edits=[{"op": "drop_masks", "ids": objects.ids(places), "why": "mask_crossing"}],
    )


def check_empty(objects: Objects) -> list[Finding]:
    """Masks without area; and annotations without a mask, where most others have one."""
    outlines, problems = objects.outlines, objects.records.problems
    flat = outlines.has & ~(outlines.area > 0) & (outlines.crossing <= _CROSSING)
    none = ~outlines.has & ~objects.records.is_crowd
    # Those that the reader left out are findings of their own.
    lost = [problems[code] for code in ("polygon_flaw", "rle_flaw", "rle_size", "segmentation_flaw")]
    count = int(none.sum()) - sum(p.count for p in lost)
    if count <= 0 or outlines.has.mean() < 0.5:
        none[:] = False
    else:
        known = [place_of(text).annotation_id for p in lost for text in p.examples]
        none &= ~np.isin(objects.records.annotation_ids, [i for i in known if i is not None])

    def detail(i: int) -> str:
        return "its run lengths hold no pixel" if outlines.runs[i] else "its points lie on one line"

    edits = [{"op": "drop_masks", "ids": objects.ids(np.flatnonzero(flat)), "why": "mask_empty"}] if flat.any() else []
    return [
        *objects.finding("mask_empty", np.flatnonzero(flat), detail, of=int(outlines.has.sum()), edits=edits),
        *objects.finding("mask_missing", np.flatnonzero(none), lambda i: "has no mask"),
    ]


def check_areas(objects: Objects) -> list[Finding]:
    """Areas as written that differ from the mask's by more than drawing it on pixels explains.

    Crowds are left alone: those of COCO itself have other areas than their run lengths. So are masks that cross
    themselves, whose area depends on who fills them.
    """
    outlines, areas = objects.outlines, objects.records.areas
    places = np.flatnonzero(wrong_areas(objects))
    count = len(places)
    summary = ""
    if count:
        ratio = areas[places] / outlines.area[places]
        box = objects.boxes[places, 2:].prod(1)
        if (np.abs(areas[places] - box) <= 0.01 * box + 1).mean() > 0.9:
            summary = "the areas are those of the boxes"
        else:
            summary = f"the areas are {np.median(ratio):.2g} times those of the masks in the median"
    return objects.finding(
        "mask_area",
        places,
        lambda i: f"area is {areas[i]:.6g}, that of its mask {outlines.area[i]:.6g}",
        of=int(outlines.has.sum()),
        summary=summary,
        edits=[{"op": "areas_from_masks", "ids": objects.ids(places), "why": "mask_area"}],
    )


def wrong_areas(objects: Objects) -> np.ndarray:
    """Which areas disagree with their mask, (N,) bool."""
    outlines, areas = objects.outlines, objects.records.areas
    with np.errstate(invalid="ignore"):
        # Pixels that a line passes count or do not: up to about half a pixel along the circumference.
        allowed = np.maximum(2 + 0.6 * outlines.length, _AREA_SHARE * outlines.area)
        # Polygons of one object may overlap: together they are between the largest and the sum.
        off = np.maximum(outlines.largest - areas, areas - outlines.area)
        judged = outlines.has & (outlines.area > 0) & ~objects.records.is_crowd & (outlines.crossing <= _CROSSING)
        return np.asarray(judged & (off > allowed))
