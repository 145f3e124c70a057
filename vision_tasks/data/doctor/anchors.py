"""How well anchors fit the boxes of a data set, and which would fit better.

k-means on sizes with 1 - IoU as the distance is Redmon and Farhadi's ("YOLO9000", 2017, section 2): with the Euclidean
one, large boxes would draw all anchors to themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SAMPLE = 50_000
"""Of more boxes so many are drawn: the third digit of a recall does not change any more."""

_ROUNDS = 60
_GAIN = 1e-4  # mean IoU a round must gain to go on
_AT_ONCE = 1 << 14


def shape_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU of boxes (N, 2) and anchors (K, 2), both width and height, laid on one centre: (N, K) float32."""
    sizes, anchors = sizes.astype(np.float32), anchors.astype(np.float32)
    common = np.minimum(sizes[:, :1], anchors[:, 0]) * np.minimum(sizes[:, 1:], anchors[:, 1])
    return np.asarray(common / (sizes.prod(1)[:, None] + anchors.prod(1) - common))


def kmeans_anchors(sizes: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Anchors for boxes of these sizes: (K, 2) float64 width and height, smallest area first.

    Args:
        sizes: (N, 2) positive width and height in network pixels. count: K; fewer come back if there are fewer
            different boxes. seed: of the draw of a sample, and of the first anchors (k-means++).
    """
    random = np.random.default_rng(seed)
    if len(sizes) > SAMPLE:
        sizes = sizes[random.choice(len(sizes), SAMPLE, replace=False)]
    different = np.unique(sizes, axis=0)
    if len(different) <= count:
        return _by_area(different)
    anchors = _first_anchors(sizes, count, random)
    best, reached = anchors, -1.0
    for _ in range(_ROUNDS):
        overlaps = shape_iou(sizes, anchors)
        nearest = overlaps.argmax(1)
        own = overlaps[np.arange(len(sizes)), nearest]
        mean = float(own.mean())
        if mean > reached:
            best, gained, reached = anchors, mean - reached, mean
            if gained < _GAIN:
                break
        members = np.bincount(nearest, minlength=count)
        anchors = np.stack([np.bincount(nearest, sizes[:, i], count) for i in (0, 1)], 1) / members.clip(1)[:, None]
        if not members.all():  # an anchor that no box is nearest to begins anew at the boxes that fit worst
            anchors[members == 0] = sizes[np.argsort(own)[: int((members == 0).sum())]]
    return _by_area(best)


def _first_anchors(sizes: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """k-means++ (Arthur and Vassilvitskii 2007): each next one likely where the boxes fit badly so far."""
    anchors = sizes[random.integers(len(sizes), size=1)]
    far = np.ones(len(sizes))
    for _ in range(count - 1):
        far = np.minimum(far, 1 - shape_iou(sizes, anchors[-1:])[:, 0]).clip(0)
        weight = far**2
        total = weight.sum()
        place = random.choice(len(sizes), p=weight / total) if total > 0 else random.integers(len(sizes))
        anchors = np.concatenate([anchors, sizes[place : place + 1]])
    return np.asarray(anchors, np.float64)


def _by_area(anchors: np.ndarray) -> np.ndarray:
    return np.asarray(anchors[np.argsort(anchors.prod(1), kind="stable")], np.float64)


def best_overlaps(
    boxes: np.ndarray, strides: Sequence[float], anchors: Sequence[np.ndarray], place: float
) -> tuple[np.ndarray, np.ndarray]:
    """The greatest IoU that each box has with an anchor where anchors stand, and on which level that is.

    An anchor stands at every cell of its level; how far a box's centre is from the nearest one decides, too. That an
    image's edge may lack the cell is not regarded.

    Args:
        boxes: (N, 4) x, y, width, height in network pixels. strides: of the levels, in pixels.
        anchors: (K_l, 2) width and height of each level. place: of an anchor within its cell, in cells: 0 for its
            corner, 0.5 for its centre.

    Returns:
        (N,) float32 IoU, and (N,) int64 level, the finest of equal ones.
    """
    best, level = np.zeros(len(boxes), np.float32), np.zeros(len(boxes), np.int64)
    for at in range(0, len(boxes), _AT_ONCE):
        part = boxes[at : at + _AT_ONCE]
        centres, sizes = part[:, :2] + part[:, 2:] / 2, part[:, 2:]
        for i, (stride, shapes) in enumerate(zip(strides, anchors, strict=True)):
            if not len(shapes):
                continue
            cells = centres / stride - place
            away = np.abs(cells - np.round(cells)) * stride
            common = np.ones((len(part), len(shapes)))
            for axis in (0, 1):
                own, theirs = sizes[:, axis, None], shapes[:, axis]
                reach = (own + theirs) / 2 - away[:, axis, None]
                common *= np.minimum(np.minimum(own, theirs), reach).clip(0)
            overlap = (common / (sizes.prod(1)[:, None] + shapes.prod(1) - common)).max(1)
            better = overlap > best[at : at + _AT_ONCE]
            best[at : at + _AT_ONCE][better] = overlap[better]
            level[at : at + _AT_ONCE][better] = i
    return best, level


def level_of(sizes: np.ndarray, strides: Sequence[float], cells: float = 8.0) -> np.ndarray:
    """The level whose cells suit a size: about `cells` of them along the root of its area, (N,) int64.

    Eight is what Faster R-CNN's anchors have: 32 pixels at a stride of 4, 64 at 8 (Lin et al. 2017, "Feature Pyramid
    Networks for Object Detection", section 4.1).
    """
    side = np.sqrt(sizes.prod(1).clip(1e-9))
    return np.asarray(np.abs(np.log2(side[:, None] / (cells * np.asarray(strides, float)))).argmin(1))
