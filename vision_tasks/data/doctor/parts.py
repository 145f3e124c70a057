"""Boxes of which only a part is written in another form, as in files that two tools wrote into."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.conventions import by_distribution, by_masks, form_finding
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.forms import beyond, corners_of, fitting, reread
from vision_tasks.data.doctor.objects import Objects, shown

_FEW = 3
_LEAST = 8
_ENOUGH = 20
_NOTABLE = 0.05
"""So large a share of boxes far beyond their images is no matter of stray errors."""
_FAR = 0.1
"""Of the image's side."""
_NEARLY_ALL = 0.97
_PIXELS = 64


def check_parts(objects: Objects) -> tuple[list[Finding], Objects]:
    """The wrong forms that some of the boxes of a split are in, and the objects with their boxes as they were meant."""
    shares, objects = _check_shares(objects)
    corners, objects = _check_corners(objects)
    return [*shares, *corners], objects


def _meant(objects: Objects, form: str, places: np.ndarray) -> Objects:
    boxes = objects.boxes.copy()
    boxes[places] = reread(objects.boxes[places], form, objects.sizes[places])
    return objects.with_boxes(boxes)


def _check_shares(objects: Objects) -> tuple[list[Finding], Objects]:
    """Boxes all of whose numbers are shares of a pixel, in the upper left corner of a large image: each tells."""
    boxes = objects.boxes
    with np.errstate(invalid="ignore"):
        tiny = objects.positive & (np.abs(boxes) <= 1).all(1) & (objects.sizes.min(1) >= _PIXELS)
        places = np.flatnonzero(tiny & (boxes[:, 2:] % 1 != 0).any(1))
    if len(places) < _FEW or len(places) >= _NEARLY_ALL * objects.readable.sum():
        return [], objects
    words = f"{len(places):,} boxes have no number above 1, in images of {_PIXELS} pixels or more"
    findings = form_finding(objects, "normalised", words, places)
    meant = _meant(objects, "normalised", places)
    part = meant.only(places)
    verdict = by_masks(part) or by_distribution(part, in_shares=True)
    if verdict is not None and verdict[0] != "xywh":
        findings += form_finding(meant, verdict[0], verdict[1], places)
        meant = _meant(meant, verdict[0], places)
    return findings, meant


def _check_corners(objects: Objects) -> tuple[list[Finding], Objects]:
    """Boxes that are corners: by their masks, or because they leave their image by far and as corners none does."""
    boxes, sizes, outlines = objects.boxes, objects.sizes, objects.outlines
    as_corners = reread(boxes, "xyxy", sizes)
    with np.errstate(invalid="ignore"):
        fits = (as_corners[:, 2:] > 0).all(1) & ~beyond(as_corners, sizes) & np.isfinite(sizes).all(1)
        proven = objects.positive & outlines.has & fitting(as_corners, outlines.extent)
        proven &= ~fitting(boxes, outlines.extent)
        far = objects.positive & beyond(boxes, sizes, _FAR * sizes) & ~outlines.has
        open_to = objects.positive & fits & ~beyond(boxes, sizes) & ~outlines.has
        leaves = objects.positive & fits & beyond(boxes, sizes) & ~outlines.has
    words = []
    found = np.zeros(len(boxes), bool)
    if proven.sum() >= _LEAST and proven.sum() >= _NOTABLE * outlines.has.sum():
        found |= proven
        words.append(f"{proven.sum():,} boxes are what their masks span if read as corners")
    if far.sum() >= _LEAST and far.sum() > _NOTABLE * len(boxes) and fits[far].mean() >= _NEARLY_ALL:
        found |= leaves
        words.append(
            f"{leaves.sum():,} boxes leave their image, as corners they do not, {far.sum():,} by over a tenth of it; "
            f"of {open_to.sum():,} others it cannot be told, and they stay as they are: look at them"
        )
    for label in np.unique(objects.records.labels[far | leaves]).tolist():  # one tool may have written one category
        own = np.flatnonzero((objects.records.labels == label) & ~outlines.has & ~found)
        if len(own) < _ENOUGH or len(own) == len(boxes):
            continue
        verdict = by_distribution(objects.only(own), in_shares=False)
        if verdict is not None and verdict[0] == "xyxy":
            found[own] = True
            words.append(f"all {len(own):,} of {objects.records.categories.names[label]!r}: {verdict[1]}")
    places = np.flatnonzero(found)
    if not len(places):
        return [], objects
    return form_finding(objects, "xyxy", "; ".join(words), places), _meant(objects, "xyxy", places)


def check_far_beyond(objects: Objects) -> list[Finding]:
    """Boxes that reach far beyond their images, if they are so many that chance does not do it; nothing is mended."""
    boxes, sizes = objects.boxes, objects.sizes
    low, high = corners_of(boxes)[:, :2], corners_of(boxes)[:, 2:]
    with np.errstate(invalid="ignore"):
        inside = ((low < sizes) & (high > 0)).all(1)
        places = np.flatnonzero(objects.positive & inside & beyond(boxes, sizes, np.maximum(_FAR * sizes, 1)))
    if len(places) < _LEAST or len(places) <= _NOTABLE * len(boxes):
        return []
    return objects.finding(
        "box_far_beyond",
        places,
        lambda i: f"bbox is {shown(boxes[i])}, the image is {sizes[i, 0]:.0f} × {sizes[i, 1]:.0f}",
    )
