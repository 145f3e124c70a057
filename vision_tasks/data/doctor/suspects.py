"""Boxes and masks that disagree nearly everywhere: which of the two is wrong, before either is overwritten."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.forms import corners_of, fitting, leaving, many
from vision_tasks.data.doctor.objects import Objects

_NEARLY_ALL = 0.8


def masks_leave(objects: Objects, places: np.ndarray) -> int:
    """Who leaves the images: 1 if the masks do and their boxes do not, -1 the other way round, 0 if that is unclear."""
    boxes, sizes = objects.boxes[places], objects.sizes[places]
    extent = objects.outlines.extent[places]
    own = leaving(boxes, sizes)
    theirs = leaving(np.concatenate([extent[:, :2], extent[:, 2:] - extent[:, :2]], 1), sizes)
    if theirs >= many(len(places)) and own <= 0.1 * theirs:
        return 1
    return -1 if own >= many(len(places)) and theirs <= 0.1 * own else 0


def suspect(objects: Objects, places: np.ndarray) -> str:
    """Which side is wrong where boxes and masks disagree, (n,) indices, in words with the numbers that say so."""
    boxes, sizes = objects.boxes[places], objects.sizes[places]
    extent = objects.outlines.extent[places]
    corner = np.concatenate([boxes[:, :2], boxes[:, :2]], 1)
    both = np.concatenate([sizes, sizes], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = float(np.median(corners_of(boxes)[:, 2:].sum(1) / extent[:, 2:].sum(1)))
    readings = {
        "with x and y exchanged": extent[:, [1, 0, 3, 2]],
        "as shares of the image": extent * both,
        "as percentages of the image": extent * both / 100,
        "from the corner of their box": extent + corner,
        f"times {scale:.3g}": extent * scale,
    }
    fits = {words: float(fitting(boxes, read).mean()) for words, read in readings.items()}
    best = max(fits, key=lambda words: fits[words])
    found = ""
    if fits[best] >= _NEARLY_ALL:
        found = f"read {best}, {fits[best]:.0%} of these masks are what their boxes span; "
    side = masks_leave(objects, places)
    if side > 0:
        found += "the masks leave their images and the boxes do not, so the masks are suspect"
    elif side < 0:
        found += "the boxes leave their images and the masks do not, so the boxes are suspect"
    elif found and not best.startswith("times"):
        found += "so the masks are suspect"
    else:
        found += "which of the two is wrong cannot be told"
    return f"{found}. Look first: the patch touches neither"
