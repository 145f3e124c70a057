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
    for category in np.flatnonzero((counts[:, 3] > 0) & (counts[:, 5] > 0)):
        of_truth, of_predicted = _cropped(contours[0] == category, contours[1] == category)
        counts[category, 4] = np.count_nonzero(of_truth & _near(of_predicted, reach))
        counts[category, 6] = np.count_nonzero(of_predicted & _near(of_truth, reach))
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


def _near(places: np.ndarray, reach: int) -> np.ndarray:
    """Pixels at most `reach` away from one of these, (H, W) bool."""
    distance = cv2.distanceTransform((~places).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: np.ndarray = distance <= reach
    return near


def _cropped(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both within the smallest window that holds all of both: no distance between them changes."""
    union = first | second
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return first[window], np.ascontiguousarray(second[window])
