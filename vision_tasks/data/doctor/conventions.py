"""Whether all boxes of a file are written in another form than x, y, width, height in pixels, judged as a whole.

Where objects have masks these prove it. Elsewhere a form is only accused if the boxes as written leave their images, as
read in the other form they do not, and a second sign agrees: no data set that is sound leaves its images.
"""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.masks import longer_side
from vision_tasks.data.doctor.objects import Objects, shown

CODES = {
    "xyxy": "boxes_xyxy", "normalised": "boxes_normalised", "swapped": "boxes_swapped", "centred": "boxes_centred"
}  # fmt: skip
_FEW = 8
"""With fewer boxes nothing is said."""
_NEARLY_ALL = 0.97
"""So many boxes must fit a form: a file in a wrong form has its stray errors, too."""
_SLACK = 1.5
"""Pixels by which a box may leave its image and still be inside."""


def reread(boxes: np.ndarray, form: str, sizes: np.ndarray) -> np.ndarray:
    """Boxes that are written in `form` as x, y, width, height in pixels.

    Args:
        boxes: (N, 4) float64 as written. form: "xyxy", "normalised" (x, y, width, height as shares of the image),
            "swapped" (y, x, height, width) or "centred" (centre, width, height). sizes: (N, 2) width, height of images.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # unreadable boxes may hold anything
        if form == "xyxy":
            return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        if form == "normalised":
            return np.asarray(boxes * np.concatenate([sizes, sizes], 1))
        if form == "swapped":
            return np.asarray(boxes[:, [1, 0, 3, 2]])
        if form == "centred":
            return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    raise ValueError(f"there is no form of boxes {form!r}; there are: {', '.join(CODES)}")


def check_conventions(objects: Objects) -> tuple[list[Finding], Objects]:
    """The wrong forms that the boxes of a split are in, and the objects with their boxes as they were meant."""
    findings: list[Finding] = []
    unit = _in_shares(objects)
    current = objects
    if unit is not None:
        findings += _finding(objects, "normalised", unit)
        current = objects.with_boxes(reread(objects.boxes, "normalised", objects.sizes))
    verdict = _by_masks(current) if current.outlines.has.any() else None
    if verdict is None:
        verdict = _by_distribution(current, unit is not None)
    if verdict is not None and verdict[0] != "xywh":
        form, evidence = verdict
        findings += _finding(objects, form, evidence)
        current = current.with_boxes(reread(current.boxes, form, current.sizes))
    return findings, current


def _finding(objects: Objects, form: str, evidence: str) -> list[Finding]:
    meant = reread(objects.boxes, form, objects.sizes)
    code = CODES[form]
    return objects.finding(
        code,
        np.flatnonzero(objects.readable),
        lambda i: f"{shown(objects.boxes[i])} is meant as {shown(meant[i])}",
        summary=evidence,
        edits=[{"op": "boxes_from", "form": form, "why": code}],
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


def _by_masks(objects: Objects) -> tuple[str, str] | None:
    """The form in which boxes are what their masks span, with the evidence; None if masks do not tell."""
    outlines = objects.outlines
    chosen = np.flatnonzero(outlines.has & (outlines.area > 0) & objects.readable & ~objects.records.is_crowd)
    if len(chosen) < _FEW:
        return None
    extent, boxes, sizes = outlines.extent[chosen], objects.boxes[chosen], objects.sizes[chosen]
    allowed = np.maximum(2.0, 0.05 * longer_side(extent))
    fits = {}
    for form in ("xywh", "xyxy", "swapped", "centred"):
        read = boxes if form == "xywh" else reread(boxes, form, sizes)
        with np.errstate(invalid="ignore", over="ignore"):
            corners = np.concatenate([read[:, :2], read[:, :2] + read[:, 2:]], 1)
            fits[form] = float((np.abs(corners - extent).max(1) <= allowed).mean())
    best = max(fits, key=lambda form: fits[form])
    if fits["xywh"] >= 0.5:
        return "xywh", ""
    if best == "xywh" or fits[best] < 0.8:
        return None
    return best, (
        f"read as {WORDS[best]}, {fits[best]:.0%} of {len(chosen):,} boxes are what their masks span; "
        f"as x, y, width, height {fits['xywh']:.0%}"
    )


WORDS = {"xyxy": "corners", "swapped": "y, x, height, width", "centred": "centre, width, height"}


def _by_distribution(objects: Objects, in_shares: bool) -> tuple[str, str] | None:
    """The form in which boxes stay in their images, where they leave them as written; with the evidence.

    Args:
        in_shares: the boxes were shares of their images. Those are usually written with the centre first, so little
            is needed to believe it.
    """
    known = objects.readable & np.isfinite(objects.sizes).all(1)
    boxes, sizes = objects.boxes[known], objects.sizes[known]
    if len(boxes) < _FEW:
        return None
    now = _leaving(boxes, sizes)
    words = f"as x, y, width, height {now:.0%} of {len(boxes):,} boxes leave their image"
    touching = _touching(boxes, sizes)
    if _are_corners(boxes, sizes, now) and not (touching > 0.05 and _begin_free(boxes)):
        return "xyxy", f"in {_share_ordered(boxes):.0%} the last two numbers exceed the first two; {words}"
    if len(boxes) >= 20 and touching > 0.03 and _begin_free(boxes):
        return "centred", (
            f"no box begins nearer to the border than half its size, and read as {WORDS['centred']} {touching:.0%} of "
            f"{len(boxes):,} touch it"
        )
    if now < (1 / len(boxes) if in_shares else max(0.02, 5 / len(boxes))):
        return None
    left = {form: _leaving(reread(boxes, form, sizes), sizes) for form in ("swapped", "centred")}
    if left["swapped"] <= 0.1 * now and _looks_swapped(boxes, sizes):
        return "swapped", f"{words}, as {WORDS['swapped']} {left['swapped']:.1%}"
    if left["centred"] <= 0.1 * now < left["swapped"] and _looks_centred(boxes, sizes):
        return "centred", f"{words}, as {WORDS['centred']} {left['centred']:.1%}"
    return None


def _leaving(boxes: np.ndarray, sizes: np.ndarray) -> float:
    """Share of boxes that leave their image."""
    beyond = (boxes[:, :2] < -_SLACK) | (boxes[:, :2] + boxes[:, 2:] > sizes + _SLACK)
    return float(beyond.any(1).mean())


def _share_ordered(boxes: np.ndarray) -> float:
    return float((boxes[:, 2:] > boxes[:, :2]).all(1).mean())


def _are_corners(boxes: np.ndarray, sizes: np.ndarray, leaving: float) -> bool:
    """Whether the last two numbers always lie beyond the first two, inside the image, and are no sizes.

    Boxes of one large object in the middle of each image have width > x, too, but then they end inside; and a sound
    box that begins further to the right has less room, while a corner moves along with the other one.
    """
    if _share_ordered(boxes) < _NEARLY_ALL or _leaving(reread(boxes, "xyxy", sizes), sizes) > 0.03:
        return False
    together = min(_correlation(boxes[:, k] / sizes[:, k], boxes[:, 2 + k] / sizes[:, k]) for k in (0, 1))
    return leaving >= 0.3 or (leaving >= 0.05 and together > 0.3) or (len(boxes) >= 20 and together > 0.8)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if min(np.std(a), np.std(b)) < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _looks_swapped(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes leave their images only on the shorter side, and many by far: over the room of the longer one."""
    end = boxes[:, :2] + boxes[:, 2:]
    over = end > sizes + _SLACK
    room = sizes[:, ::-1] / sizes
    far = over & (end / sizes > 1 + 0.3 * (room - 1))
    return bool((over & (room <= 1)).sum() <= 0.05 * over.sum() and far.sum() >= 0.3 * over.sum())


def _begin_free(boxes: np.ndarray) -> bool:
    """Whether no box begins nearer to the upper left than half its size, as no centre lies."""
    return bool((boxes[:, :2] >= boxes[:, 2:] / 2 - _SLACK).all(1).mean() >= 0.99)


def _looks_centred(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether boxes leave their images as centres make them: by up to half their size, and some by nearly that."""
    over = boxes[:, :2] + boxes[:, 2:] - sizes
    leaving = (over > _SLACK) & (boxes[:, 2:] > 0)
    return _begin_free(boxes) and bool(np.quantile(over[leaving] / boxes[:, 2:][leaving], 0.9) > 0.4)


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
