"""Which predicted segments of an image find which true ones, as panopticapi decides it."""

from __future__ import annotations

import numpy as np

COLUMNS = ("overlap", "right", "wrong", "missed")
"""What is counted per category: sum of the IoU of matched pairs, matched pairs, predictions alone, truths alone."""

OVERLAP_UNIT = 1 << 40
"""IoU is kept in parts of this one, rounded: sums of integers are the same in any order. It is good to 5e-13 a pair,
and holds for eight million pairs of a category."""


def match_segments(
    pixels: np.ndarray,
    truth_labels: np.ndarray,
    truth_is_crowd: np.ndarray,
    predicted_labels: np.ndarray,
    categories: int,
) -> np.ndarray:
    """Matched and unmatched segments of one image, by category (Kirillov et al. 2019, section 4).

    A pair matches if it is of one category and its IoU is above 0.5, so at most one pair can; crowds match nothing.
    Pixels of a prediction that the truth leaves undecided are not in the union. A prediction without a match is
    wrong, unless more than half of it lies in undecided pixels and the crowd of its category (of several, as in
    panopticapi, the last). A truth without a match that is no crowd is missed, also if it has no pixel. A predicted
    segment without a pixel, which panopticapi refuses, claims nothing and is not counted.

    Args:
        pixels: (T + 1, P + 1) int64, pixels that true segment t and predicted segment p share; row and column 0 are
            those of no segment.
        truth_labels: (T,) labels. truth_is_crowd: (T,) bool. predicted_labels: (P,) labels.
        categories: K.

    Returns:
        (K, 4) int64, see `COLUMNS`.
    """
    shared = pixels[1:, 1:]
    truth_area, predicted_area = pixels[1:].sum(axis=1), pixels[:, 1:].sum(axis=0)
    undecided = pixels[0, 1:]
    same = truth_labels[:, None] == predicted_labels[None]
    union = truth_area[:, None] + (predicted_area - undecided)[None] - shared
    t, p = np.nonzero(same & ~truth_is_crowd[:, None] & (2 * shared > union))

    crowd_of = np.full(categories, -1)
    crowds = np.flatnonzero(truth_is_crowd)
    crowd_of[truth_labels[crowds]] = crowds
    crowd = crowd_of[predicted_labels]
    in_crowd = np.where(crowd >= 0, pixels[1 + crowd, np.arange(1, pixels.shape[1])], 0)

    wrong = (predicted_area > 0) & ~(2 * (undecided + in_crowd) > predicted_area)
    wrong[p] = False
    missed = ~truth_is_crowd
    missed[t] = False

    overlap = np.rint(shared[t, p] / union[t, p] * OVERLAP_UNIT).astype(np.int64)
    counts = np.zeros((categories, len(COLUMNS)), dtype=np.int64)
    np.add.at(counts[:, 0], truth_labels[t], overlap)
    for column, labels in enumerate((truth_labels[t], predicted_labels[wrong], truth_labels[missed]), start=1):
        counts[:, column] = np.bincount(labels, minlength=categories)
    return counts
