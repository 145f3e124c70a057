"""Forms in which boxes are written by mistake, and reading them; whether boxes leave their images."""

from __future__ import annotations

import numpy as np

CODES = {
    "xyxy": "boxes_xyxy", "yxyx": "boxes_yxyx", "normalised": "boxes_normalised", "percent": "boxes_percent",
    "swapped": "boxes_swapped", "centred": "boxes_centred",
}  # fmt: skip
"""Form -> its finding."""
WORDS = {
    "xyxy": "corners", "yxyx": "corners with y first", "percent": "percentages", "swapped": "y, x, height, width",
    "centred": "centre, width, height",
}  # fmt: skip
SLACK = 1.5
"""Pixels by which a box may leave its image and still be inside."""


def reread(boxes: np.ndarray, form: str, sizes: np.ndarray) -> np.ndarray:
    """Boxes that are written in `form` as x, y, width, height in pixels.

    Args:
        boxes: (N, 4) float64 as written. form: "xyxy", "yxyx" (corners, y before x), "normalised" (x, y, width, height
            as shares of the image), "percent" (hundredths of it), "swapped" (y, x, height, width) or "centred" (centre,
            width, height). sizes: (N, 2) width, height of images.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # unreadable boxes may hold anything
        if form == "xyxy":
            return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        if form == "yxyx":
            return reread(boxes[:, [1, 0, 3, 2]], "xyxy", sizes)
        if form in ("normalised", "percent"):
            return np.asarray(boxes * np.concatenate([sizes, sizes], 1) / (100 if form == "percent" else 1))
        if form == "swapped":
            return np.asarray(boxes[:, [1, 0, 3, 2]])
        if form == "centred":
            return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], 1)
    raise ValueError(f"there is no form of boxes {form!r}; there are: {', '.join(CODES)}")


def corners_of(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) left, top, right, bottom of boxes x, y, width, height."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def beyond(boxes: np.ndarray, sizes: np.ndarray, by: float | np.ndarray = SLACK) -> np.ndarray:
    """(N,) bool: boxes that reach more than `by` pixels beyond their image of `sizes` (N, 2)."""
    corners = corners_of(boxes)
    with np.errstate(invalid="ignore"):
        return np.asarray(((corners[:, :2] < -by) | (corners[:, 2:] > sizes + by)).any(1))


def leaving(boxes: np.ndarray, sizes: np.ndarray) -> float:
    """Share of boxes that leave their image."""
    return float(beyond(boxes, sizes).mean())


def many(count: int) -> float:
    """The least share of `count` boxes that is no matter of stray errors."""
    return max(0.02, 5 / max(count, 1))


def longer_side(extent: np.ndarray) -> np.ndarray:
    """(N,) longer side of left, top, right, bottom (N, 4)."""
    return np.asarray((extent[:, 2:] - extent[:, :2]).max(1))


def fitting(boxes: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """(N,) bool: boxes that are what their masks span, (N, 4) left, top, right, bottom."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(corners_of(boxes) - extent).max(1)
        return np.asarray(off <= np.maximum(2.0, 0.05 * longer_side(extent)))
