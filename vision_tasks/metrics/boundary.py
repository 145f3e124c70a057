"""How well two label maps agree near the edges of their regions.

Boundary IoU is that of Cheng et al., "Boundary IoU" (CVPR 2021): IoU of the bands of pixels inside each region that lie
near its edge. The F-score is that of Csurka et al., "What is a good evaluation measure for semantic segmentation?"
(BMVC 2013), and of DAVIS: how many contour pixels have one of the other map near by. Both are counted over all images,
as IoU is, before they are divided; Csurka's mean over images gives a small object the weight of a large one.

Three things that the papers leave open, as they are here. A region's edge is where it meets another label; where it
meets pixels to ignore nobody knows, so that is no edge, in either map. The frame of the image is an edge for boundary
IoU (as in its published code) but not for contours (as in DAVIS). Contour pixels lie inside their region, and one
matches only contours of its own category.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

COLUMNS = ("band_truth", "band_predicted", "band_both", "truth", "truth_found", "predicted", "predicted_right")
"""What is counted per category: pixels of bands; contour pixels of the truth, those found, and of the prediction."""

_FAR = np.iinfo(np.int16).max
_PLANES = 64  # categories whose contours are widened together
_ROWS_AT_ONCE = 64  # what is widened together shall fit a processor's cache


def boundary_counts(
    truth: np.ndarray, predicted: np.ndarray, categories: int, ratio: float, bound: float
) -> np.ndarray:
    """Pixels of bands and contours, category by category.

    All bands of a map come from one running minimum and one running maximum over it, whatever the number of
    categories: a pixel lies inside its region where both are its own label.

    Args:
        truth: (H, W) int16 in -1..K-1; -1 is ignored, in both maps. predicted: likewise; -1 is nothing.
        categories: K.
        ratio: width of a band as a share of the diagonal, rounded, at least a pixel (chessboard distance).
        bound: how far contours may lie apart as a share of the diagonal, rounded up (Euclidean distance).

    Returns:
        (K, 7) int64, see `COLUMNS`.
    """
    ignored = truth < 0
    predicted = np.where(ignored, np.int16(-1), np.where(predicted < 0, np.int16(categories), predicted))
    diagonal = math.hypot(*truth.shape)
    width, reach = max(1, round(ratio * diagonal)), math.ceil(bound * diagonal)

    counts = np.zeros((categories, len(COLUMNS)), dtype=np.int64)
    bands = [_edges(labels, width, framed=True) for labels in (truth, predicted)]
    both = bands[0] & bands[1] & (truth == predicted)
    for column, chosen in enumerate((truth[bands[0]], predicted[bands[1]], truth[both])):
        counts[:, column] = np.bincount(chosen, minlength=categories)[:categories]

    contours = [np.where(_edges(labels, 1, framed=False), labels, np.int16(-1)) for labels in (truth, predicted)]
    for column, labels in ((3, contours[0]), (5, contours[1])):
        counts[:, column] = np.bincount(labels[labels >= 0], minlength=categories)[:categories]
    shared = np.flatnonzero((counts[:, 3] > 0) & (counts[:, 5] > 0))
    for begin in range(0, len(shared), _PLANES):
        chosen = shared[begin : begin + _PLANES]
        counts[chosen, 4] = _found(contours[0], contours[1], chosen, reach)
        counts[chosen, 6] = _found(contours[1], contours[0], chosen, reach)
    return counts


def _edges(labels: np.ndarray, width: int, *, framed: bool) -> np.ndarray:
    """Labelled pixels with another label, or the frame if that counts, at most `width` away, (H, W) bool."""
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    ignored = labels < 0
    lowest = cv2.erode(
        np.where(ignored, np.int16(_FAR), labels), square,
        borderType=cv2.BORDER_CONSTANT, borderValue=-1 if framed else _FAR,
    )  # fmt: skip
    highest = cv2.dilate(labels, square, borderType=cv2.BORDER_CONSTANT, borderValue=-1)
    found: np.ndarray = ~ignored & (lowest != highest)
    return found


def _found(contours: np.ndarray, others: np.ndarray, chosen: np.ndarray, reach: int) -> np.ndarray:
    """Pixels of each chosen category that have one of their category in the other map, at most `reach` away, (C,).

    Every category is a bit, so that all are widened at once; distances would have to be made for one after the other.
    """
    word = next(w for w in (np.uint8, np.uint16, np.uint32, np.uint64) if len(chosen) <= np.iinfo(w).bits)
    bits = np.zeros(int(max(contours.max(), others.max())) + 2, dtype=word)  # the last one is for -1
    bits[chosen] = np.left_shift(word(1), np.arange(len(chosen), dtype=word))
    near = _widened(bits[others], reach)
    y, x = np.nonzero(bits[contours])
    labels = contours[y, x]
    found: np.ndarray = np.bincount(labels[near[y, x] & bits[labels] > 0], minlength=int(chosen[-1]) + 1)[chosen]
    return found


def _widened(bits: np.ndarray, reach: int) -> np.ndarray:
    """(H, W) words with all bits that are set at most `reach` away.

    A disc is made of rows, the shorter the farther from its middle; from outside in, each takes up where the last was.
    """
    height, width = bits.shape
    padded = np.pad(bits, reach)
    widened = np.zeros_like(bits)
    for top in range(0, height, _ROWS_AT_ONCE):
        out = widened[top : top + _ROWS_AT_ONCE]
        rows = padded[top : top + len(out) + 2 * reach]
        row, half = rows[:, reach : reach + width].copy(), 0
        for away in range(reach, -1, -1):
            while (half + 1) ** 2 + away**2 <= reach**2:
                half += 1
                row |= rows[:, reach - half : reach - half + width]
                row |= rows[:, reach + half : reach + half + width]
            out |= row[reach - away : reach - away + len(out)]
            out |= row[reach + away : reach + away + len(out)]
    return widened
