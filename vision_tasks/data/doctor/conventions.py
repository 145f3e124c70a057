"""Whether all boxes of a file are written in another form than x, y, width, height in pixels, judged as a whole.

Where objects have masks these prove it. Elsewhere a form is only accused if the boxes as written leave their images, as
read in the other form they do not, and a second sign agrees: no data set that is sound leaves its images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.forms import CODES, SLACK, WORDS, corners_of, fitting, leaving, many, reread
from vision_tasks.data.doctor.objects import Objects, shown
from vision_tasks.data.doctor.stated_sizes import exchanged
from vision_tasks.data.doctor.suspects import masks_leave

_FEW = 8
"""With fewer boxes nothing is said."""
_SOME = 20
"""Signs that are weaker need so many boxes."""
_HUNDRED = 100.0
_NEARLY_ALL = 0.97
"""So many boxes must fit a form: a file in a wrong form has its stray errors, too."""


def check_conventions(objects: Objects) -> tuple[list[Finding], Objects]:
    """The wrong forms that the boxes of a split are in, and the objects with their boxes as they were meant."""
    findings: list[Finding] = []
    current = objects
    unit = "normalised"
    evidence = _in_shares(objects)
    if evidence is None:
        unit, evidence = "percent", _in_percent(objects)
    if evidence is not None:
        findings += form_finding(objects, unit, evidence)
        current = objects.with_boxes(reread(objects.boxes, unit, objects.sizes))
    verdict = by_masks(current) if current.outlines.has.any() else None
    if verdict is None:
        verdict = by_distribution(current, evidence is not None)
    if verdict is not None and verdict[0] != "xywh":
        form, evidence = verdict
        if form == "swapped" and (doubt := _doubt(current)):
            findings += form_finding(objects, form, f"{evidence}; {doubt}", edits=False)
        else:
            findings += form_finding(objects, form, evidence)
        current = current.with_boxes(reread(current.boxes, form, current.sizes))
    return findings, current


def form_finding(
    objects: Objects, form: str, evidence: str, places: np.ndarray | None = None, edits: bool = True
) -> list[Finding]:
    """That boxes are written in another form, with the edit that reads them so.

    Args:
        evidence: what showed it. places: indices of annotations; None: all that are readable, and the edit is for all.
        edits: False writes none, as something else may be wrong.
    """
    meant = reread(objects.boxes, form, objects.sizes)
    code = CODES[form]
    edit: dict[str, Any] = {"op": "boxes_from", "form": form, "why": code}
    if places is not None:
        edit["ids"] = objects.ids(places)
    return objects.finding(
        code,
        np.flatnonzero(objects.readable) if places is None else places,
        lambda i: f"{shown(objects.boxes[i])} is meant as {shown(meant[i])}",
        summary=evidence,
        edits=[edit] if edits else [],
    )


def _doubt(objects: Objects) -> str:
    """Why boxes that look as if x and y were exchanged may not be what is wrong; "" if they are."""
    outlines = objects.outlines
    chosen = np.flatnonzero(outlines.has & (outlines.area > 0) & objects.readable & ~objects.records.is_crowd)
    if len(chosen) >= _FEW:
        if masks_leave(objects, chosen) < 0:
            return ""
        return "whether boxes or masks are exchanged cannot be told, as neither leaves its image: look first"
    if exchanged(objects.records) == 0:
        return ""
    return (
        "or else the images' width and height are exchanged, and the boxes are right: look at them, or let the doctor "
        "open them (without --quick)"
    )


def _in_shares(objects: Objects) -> str | None:
    """What shows that boxes are shares of their image: no number above 1, in images of many pixels."""
    chosen = objects.readable & (objects.sizes.min(1) >= 8)
    boxes = objects.boxes[chosen]
    if len(boxes) < 3:
        return None
    inside = (np.abs(boxes) <= 1.01).all(1)
    if inside.mean() < _NEARLY_ALL or not (boxes[:, 2:] % 1 != 0).any():
        return None
    return (
        f"{inside.mean():.0%} of the boxes have no number above 1, in images of up to {objects.sizes.max():.0f} pixels"
    )


def _in_percent(objects: Objects) -> str | None:
    """What shows that boxes are percentages: in images of hundreds of pixels all end by 100, and some just there."""
    chosen = objects.positive & (objects.sizes.min(1) >= 2 * _HUNDRED)
    boxes, sizes = objects.boxes[chosen], objects.sizes[chosen]
    if len(boxes) < _SOME or chosen.sum() < _NEARLY_ALL * objects.readable.sum():
        return None
    if np.median(sizes.min(1)) < 3 * _HUNDRED:
        return None
    for form in ("xywh", "xyxy", "centred"):
        read = boxes if form == "xywh" else reread(boxes, form, sizes)
        corners = corners_of(read)
        inside = (corners[:, :2] > -0.5) & (corners[:, 2:] < _HUNDRED + 0.5) & (read[:, 2:] > 0)
        # Where images are hundreds of pixels wide and high, boxes of pixels end beyond 100 or long before.
        ends = np.quantile(corners[:, 2:], 0.99, axis=0)
        if inside.all(1).mean() >= _NEARLY_ALL and (ends >= 0.9 * _HUNDRED).all():
            return (
                f"{inside.all(1).mean():.0%} of the boxes end before 100, and many just there, in images of "
                f"{sizes.min():.0f} to {sizes.max():.0f} pixels"
            )
    return None


def by_masks(objects: Objects) -> tuple[str, str] | None:
    """The form in which boxes are what their masks span, with the evidence; None if masks do not tell."""
    outlines = objects.outlines
    chosen = np.flatnonzero(outlines.has & (outlines.area > 0) & objects.readable & ~objects.records.is_crowd)
    if len(chosen) < _FEW:
        return None
    extent, boxes, sizes = outlines.extent[chosen], objects.boxes[chosen], objects.sizes[chosen]
    fits = {
        form: float(fitting(boxes if form == "xywh" else reread(boxes, form, sizes), extent).mean())
        for form in ("xywh", "xyxy", "yxyx", "swapped", "centred", "percent")
    }
    best = max(fits, key=lambda form: fits[form])
    if fits["xywh"] >= 0.5:
        return "xywh", ""
    if best == "xywh" or fits[best] < 0.8:
        return None
    if best == "swapped" and masks_leave(objects, chosen) > 0:
        return "xywh", ""  # it is the masks that are exchanged
    return best, (
        f"read as {WORDS[best]}, {fits[best]:.0%} of {len(chosen):,} boxes are what their masks span; "
        f"as x, y, width, height {fits['xywh']:.0%}"
    )


def by_distribution(objects: Objects, in_shares: bool) -> tuple[str, str] | None:
    """The form in which boxes stay in their images, where they leave them as written; with the evidence.

    Args:
        in_shares: the boxes were shares of their images. Those are usually written with the centre first, so little
            is needed to believe it.
    """
    known = objects.readable & np.isfinite(objects.sizes).all(1)
    boxes, sizes = objects.boxes[known], objects.sizes[known]
    if len(boxes) < _FEW:
        return None
    now = leaving(boxes, sizes)
    words = f"as x, y, width, height {now:.0%} of {len(boxes):,} boxes leave their image"
    touching = _touching(boxes, sizes)
    if _are_corners(boxes, sizes, now) and not (touching > 0.05 and _begin_free(boxes)):
        either = "" if (sizes[:, 0] != sizes[:, 1]).any() else " (or y before x, which square images do not show)"
        return "xyxy", f"in {_share_ordered(boxes):.0%} the last two numbers exceed the first two; {words}{either}"
    if len(boxes) >= _SOME and _are_turned_corners(boxes, sizes, now):
        return "yxyx", f"{words}, as corners {leaving(reread(boxes, 'xyxy', sizes), sizes):.0%}, with y before x none"
    if len(boxes) >= 20 and touching > 0.03 and _begin_free(boxes):
        return "centred", (
            f"no box begins nearer to the border than half its size, and read as {WORDS['centred']} {touching:.0%} of "
            f"{len(boxes):,} touch it"
        )
    if now < (1 / len(boxes) if in_shares else many(len(boxes))):
        return None
    left = {form: leaving(reread(boxes, form, sizes), sizes) for form in ("swapped", "centred")}
    if left["swapped"] <= 0.1 * now and _looks_swapped(boxes, sizes):
        return "swapped", f"{words}, as {WORDS['swapped']} {left['swapped']:.1%}"
    if left["centred"] <= 0.1 * now < left["swapped"] and _looks_centred(boxes, sizes):
        return "centred", f"{words}, as {WORDS['centred']} {left['centred']:.1%}"
    return None


def _share_ordered(boxes: np.ndarray) -> float:
    return float((boxes[:, 2:] > boxes[:, :2]).all(1).mean())


def _are_corners(boxes: np.ndarray, sizes: np.ndarray, now: float) -> bool:
    """Whether the last two numbers always lie beyond the first two, inside the image, and are no sizes.

    Boxes of one large object in the middle of each image have width > x, too, but then they end inside; and a sound
    box that begins further to the right has less room, while a corner moves along with the other one.
    """
    if _share_ordered(boxes) < _NEARLY_ALL or leaving(reread(boxes, "xyxy", sizes), sizes) > 0.03:
        return False
    together = min(_correlation(boxes[:, k] / sizes[:, k], boxes[:, 2 + k] / sizes[:, k]) for k in (0, 1))
    return now >= 0.3 or (now >= 0.05 and together > 0.3) or (len(boxes) >= 20 and together > 0.8)


def _are_turned_corners(boxes: np.ndarray, sizes: np.ndarray, now: float) -> bool:
    """Whether boxes are corners with y before x: as corners they leave the shorter side of their images."""
    as_corners = leaving(reread(boxes, "xyxy", sizes), sizes)
    if _share_ordered(boxes) < _NEARLY_ALL or as_corners < many(len(boxes)):
        return False
    if leaving(reread(boxes, "yxyx", sizes), sizes) > min(0.03, 0.1 * as_corners):
        return False
    return _are_corners(boxes, sizes[:, ::-1], now) and _looks_swapped(reread(boxes, "xyxy", sizes), sizes)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if min(np.std(a), np.std(b)) < 5e-3:  # of shares of an image: rounding to pixels correlates by chance
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _looks_swapped(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes leave their images only on the shorter side, and many by far: over the room of the longer one."""
    end = boxes[:, :2] + boxes[:, 2:]
    over = end > sizes + SLACK
    room = sizes[:, ::-1] / sizes
    far = over & (end / sizes > 1 + 0.3 * (room - 1))
    return bool((over & (room <= 1)).sum() <= 0.05 * over.sum() and far.sum() >= 0.3 * over.sum())


def _begin_free(boxes: np.ndarray) -> bool:
    """Whether no box begins nearer to the upper left than half its size, as no centre lies."""
    return bool((boxes[:, :2] >= boxes[:, 2:] / 2 - SLACK).all(1).mean() >= 0.99)


def _looks_centred(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes leave their images as centres make them: by up to half their size, and some by nearly that."""
    over = boxes[:, :2] + boxes[:, 2:] - sizes
    out = (over > SLACK) & (boxes[:, 2:] > 0)
    return _begin_free(boxes) and bool(np.quantile(over[out] / boxes[:, 2:][out], 0.9) > 0.4)


def _touching(boxes: np.ndarray, sizes: np.ndarray) -> float:
    """Share of boxes that touch the border of their image if they begin at their centre, less those that do as written.

    Objects are cut by the border of a photo, so that many boxes end just there. Small ones do by chance.
    """
    if_centred = _at_border(reread(boxes, "centred", sizes), sizes)
    for k in (0, 1):  # one object of half the width in the middle of every image is no sign: sizes must differ
        shares = (boxes[:, 2 + k] / sizes[:, k])[if_centred[:, k]]
        if len(shares) and np.std(shares) < 0.02:
            if_centred[:, k] = False
    return float(if_centred.any(1).mean() - 5 * _at_border(boxes, sizes).any(1).mean())


def _at_border(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N, 2) bool: boxes of 16 pixels or more that begin or end at the border of their image, in x and in y."""
    ends = (np.abs(boxes[:, :2]) < 1) | (np.abs(boxes[:, :2] + boxes[:, 2:] - sizes) < 1)
    return np.asarray(ends & (boxes[:, 2:] >= 16).all(1, keepdims=True))
