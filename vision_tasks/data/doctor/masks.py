"""Masks that do not fit their box, cross themselves, are empty, or have another area than is written."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.entries import place_of
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.forms import corners_of, longer_side
from vision_tasks.data.doctor.objects import Objects, shown
from vision_tasks.data.doctor.suspects import suspect

_PIXELS, _SHARE = 2.0, 0.05
"""A side of a box may be so many pixels from its mask, or so large a share of the box's longer side."""
_MANY_HELD = 0.3
_MOST_BESIDE = 0.5
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
    with np.errstate(invalid="ignore", over="ignore"):
        corners, extent = corners_of(objects.boxes), objects.outlines.extent
        # A box that was clipped fits what is in the image of its mask.
        seen = np.fmin(np.maximum(extent, 0), np.concatenate([objects.sizes, objects.sizes], 1))
        off = np.minimum(np.abs(corners - extent).max(1), np.abs(corners - seen).max(1))
        return np.asarray(objects.positive & objects.outlines.has & (off > _allowed(objects)))


def _allowed(objects: Objects) -> np.ndarray:
    """(N,) pixels by which a side of a box may be off its mask."""
    longer = np.maximum(objects.boxes[:, 2:].max(1), longer_side(objects.outlines.extent))
    return np.asarray(np.maximum(_PIXELS, _SHARE * longer))


def _held(objects: Objects) -> np.ndarray:
    """Which boxes reach further than their mask on some sides, and on none less far, (N,) bool."""
    corners, extent = corners_of(objects.boxes), objects.outlines.extent
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = _allowed(objects)[:, None]
        held = (corners[:, :2] <= extent[:, :2] + allowed) & (corners[:, 2:] >= extent[:, 2:] - allowed)
        return np.asarray(held.all(1))


def check_fit(objects: Objects) -> list[Finding]:
    """Masks whose extent is not their box.

    Where many boxes hold their mask with room to spare, that is how they were drawn: around whole objects of which
    the mask is the part that is seen. Where most masks lie elsewhere, either side may be wrong: nothing is mended.
    """
    outlines, boxes = objects.outlines, objects.boxes
    beside = beside_box(objects) & (outlines.area > 0)
    total = int(outlines.has.sum())
    held = beside & _held(objects)
    if held.sum() < _MANY_HELD * total:
        held[:] = False
    places = np.flatnonzero(beside & ~held)

    def detail(i: int) -> str:
        left, top, right, bottom = outlines.extent[i]
        return f"bbox is {shown(boxes[i])}, its mask spans {shown(np.array([left, top, right - left, bottom - top]))}"

    edits = [{"op": "boxes_from_masks", "ids": objects.ids(places), "why": "mask_beside_box"}]
    summary = ""
    if len(places) and (len(places) > _MOST_BESIDE * total or objects.are_too_many(len(places))):
        summary, edits = suspect(objects, places), []
    return [
        *objects.finding("mask_beside_box", places, detail, of=total, summary=summary, edits=edits),
        *objects.finding("box_amodal", np.flatnonzero(held), detail, of=total),
    ]


def check_crossing(objects: Objects) -> list[Finding]:
    """Outlines whose own lines cut off more than a hundredth of them by crossing."""
    outlines = objects.outlines
    places = np.flatnonzero(outlines.crossing > _CROSSING)
    return objects.finding(
        "mask_crossing",
        places,
        lambda i: f"a loop of {outlines.crossing[i]:.0%} of its area is cut off where lines cross",
        of=int(outlines.has.sum()),
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
