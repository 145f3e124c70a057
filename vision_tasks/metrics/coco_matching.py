"""Matching detections with ground truth as pycocotools' `evaluateImg` does, many images at once.

Ten IoU thresholds × four area ranges make forty independent matchings. They run side by side as the bits ("lanes") of
one int64: bit `10 * area + threshold`. All (image, category) groups advance in lockstep, each by its next best
detection, so the Python loop is as long as the largest group, not as the data set.
"""

from __future__ import annotations

import numpy as np

from vision_tasks.metrics.coco_masks import rank_in_run, rle_iou
from vision_tasks.metrics.coco_results import Detections
from vision_tasks.metrics.coco_truth import CocoTruth, IouType, find_rows, rows_of

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], dtype=np.float64)
"""all, small, medium, large; both ends belong to the range, as in pycocotools."""
MAX_DETECTIONS = (1, 10, 100)

LANES = len(IOU_THRESHOLDS) * len(AREA_RANGES)
_ALL_LANES = np.int64((1 << LANES) - 1)
_ONE_AREA = (1 << len(IOU_THRESHOLDS)) - 1
# Bits set for an overlap that reaches the first n thresholds, in every area range.
_REACHED = np.array(
    [sum(((1 << n) - 1) << (len(IOU_THRESHOLDS) * a) for a in range(len(AREA_RANGES))) for n in range(11)],
    dtype=np.int64,
)
# pycocotools lets a detection match from min(threshold, 1 - 1e-10) on.
_BOUNDS = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
_CHUNK = 65536  # detections worked on at once: bounds the memory, large enough to hide numpy's overhead


def match(
    truth: CocoTruth, image_ids: np.ndarray, detections: Detections, iou_type: IouType = "bbox"
) -> tuple[np.ndarray, np.ndarray]:
    """Match the detections of some images; detections of other images must not be among them.

    Args:
        truth: the data set. image_ids: (I,) int64, each once. detections: of these images, in any order; those of
            categories that the truth does not have are left out, as pycocotools does.

    Returns:
        (I,) int64 number of kept detections per image, and (N, 5) int64 with the kept detections, image by image in
        the order of `image_ids`, then by category, then by rank: row of the category, rank in its image and category
        (0..99, best score first, ties in input order), bits of the float64 score, matched lanes, ignored lanes.
    """
    by_id = np.argsort(image_ids)
    place = by_id[rows_of(image_ids[by_id], detections.image_ids, "result for image", "the evaluated images")]
    category, known = find_rows(truth.category_ids, detections.category_ids)
    rows = truth.image_rows(image_ids)
    n_categories = max(1, len(truth.category_ids))
    group = place * n_categories + category
    order = np.lexsort((-detections.scores, group))
    order = order[known[order]]
    group = group[order]
    rank = rank_in_run(group)
    kept = rank < MAX_DETECTIONS[-1]
    order, group, rank = order[kept], group[kept], rank[kept]
    place = place[order]
    counts = np.bincount(place, minlength=len(image_ids))

    table = np.empty((len(order), 5), dtype=np.int64)
    table[:, 0] = category[order]
    table[:, 1] = rank
    table[:, 2] = detections.scores[order].view(np.int64)
    wanted_group = rows[place] * n_categories + table[:, 0]
    for start, stop in _chunks(counts):
        part = slice(start, stop)
        first = np.searchsorted(truth.group, wanted_group[part], side="left")
        last = np.searchsorted(truth.group, wanted_group[part], side="right")
        pairs = _overlaps(truth, detections, order[part], first, last - first, iou_type)
        table[part, 3], table[part, 4] = _assign(truth, group[part], *pairs)
    # A detection that matched nothing and lies outside the area range is neither right nor wrong there.
    outside = ~areas_to_lanes(detections.areas[order])
    table[:, 4] |= ~table[:, 3] & outside & _ALL_LANES
    return counts, table


def areas_to_lanes(area: np.ndarray) -> np.ndarray:
    """(N,) float64 areas -> (N,) int64 lanes whose area range holds them."""
    inside = (area[:, None] >= AREA_RANGES[:, 0]) & (area[:, None] <= AREA_RANGES[:, 1])
    weight = np.array([_ONE_AREA << (len(IOU_THRESHOLDS) * a) for a in range(len(AREA_RANGES))], dtype=np.int64)
    return inside.astype(np.int64) @ weight


def counted_lanes(truth: CocoTruth) -> np.ndarray:
    """(N,) int64 lanes in which each annotation counts: no crowd, and its own area within the range."""
    return np.where(truth.is_crowd, 0, areas_to_lanes(truth.area))


def _overlaps(
    truth: CocoTruth, detections: Detections, chosen: np.ndarray, first: np.ndarray, n: np.ndarray, iou_type: IouType
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that overlap by the lowest threshold: place in `chosen`, row of the truth, IoU.

    `first` and `n` say where the truths of each chosen detection's image and category lie.
    """
    detection = np.repeat(np.arange(len(chosen)), n)
    target = np.arange(len(detection)) - np.repeat(np.cumsum(n) - n, n) + np.repeat(first, n)
    if iou_type == "bbox":
        iou = _box_iou(detections.boxes[chosen[detection]], truth.boxes[target], truth.is_crowd[target])
    else:
        iou = _mask_iou(truth, detections, chosen, first, n)
    near = iou >= _BOUNDS[0]
    return detection[near], target[near], iou[near]


def _box_iou(boxes: np.ndarray, others: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    """IoU of (P, 4) float64 xywh boxes with their partners, in the order of operations of pycocotools' `bbIou`."""
    width = np.minimum(boxes[:, 0] + boxes[:, 2], others[:, 0] + others[:, 2]) - np.maximum(boxes[:, 0], others[:, 0])
    height = np.minimum(boxes[:, 1] + boxes[:, 3], others[:, 1] + others[:, 3]) - np.maximum(boxes[:, 1], others[:, 1])
    area = boxes[:, 2] * boxes[:, 3]
    intersection = width * height
    union = np.where(is_crowd, area, area + others[:, 2] * others[:, 3] - intersection)
    iou = np.zeros(len(boxes))
    np.divide(intersection, union, out=iou, where=(width > 0) & (height > 0))
    return iou


def _mask_iou(
    truth: CocoTruth, detections: Detections, chosen: np.ndarray, first: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """IoU of the same pairs as in `_overlaps`, from masks: one call of pycocotools per image and category."""
    assert truth.rles is not None
    assert detections.rles is not None
    with_truth = np.flatnonzero(n)
    starts = np.flatnonzero(np.diff(first[with_truth], prepend=-1))
    blocks = []
    for run in np.split(with_truth, starts[1:]) if len(starts) else []:
        targets = slice(first[run[0]], first[run[0]] + n[run[0]])
        masks = [detections.rles[i] for i in chosen[run]]
        blocks.append(rle_iou(masks, truth.rles[targets], truth.is_crowd[targets]).reshape(-1))
    return np.concatenate(blocks) if blocks else np.zeros(0)


def _assign(
    truth: CocoTruth, group: np.ndarray, detection: np.ndarray, target: np.ndarray, iou: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The greedy part: matched and ignored lanes of each detection, (n,) int64 each.

    In its group's order of score a detection takes, lane by lane, the free counted truth of highest IoU, or failing
    that the ignored one; of equal IoUs the later annotation wins. A crowd never stops being free.
    """
    matched = np.zeros(len(group), dtype=np.int64)
    ignored = np.zeros(len(group), dtype=np.int64)
    if len(detection) == 0:
        return matched, ignored
    best_first = np.lexsort((-target, -iou, detection))
    detection, target = detection[best_first], target[best_first]
    reached = _REACHED[np.searchsorted(_BOUNDS, iou[best_first], side="right")]
    is_new = np.diff(detection, prepend=-1) != 0
    # Turn of each detection among those of its group that overlap anything, then choice among its truths.
    turn = rank_in_run(group[detection[is_new]])[np.cumsum(is_new) - 1]
    choice = rank_in_run(detection)
    step = np.lexsort((choice, turn))
    detection, reached, turn, choice = detection[step], reached[step], turn[step], choice[step]
    rows, target = np.unique(target[step], return_inverse=True)
    crowd = truth.is_crowd[rows]
    counted = np.where(crowd, 0, areas_to_lanes(truth.area[rows]))
    free = np.full(len(rows), _ALL_LANES)
    uses_up = np.where(crowd, 0, _ALL_LANES)

    bounds = np.flatnonzero((np.diff(turn, prepend=-1) != 0) | (np.diff(choice, prepend=-1) != 0)).tolist()
    slices = [slice(a, b) for a, b in zip(bounds, [*bounds[1:], len(turn)], strict=True)]
    first_of_turn = [i for i, s in enumerate(slices) if choice[s.start] == 0]
    for begin, end in zip(first_of_turn, [*first_of_turn[1:], len(slices)], strict=True):
        for of_ignored in (False, True):
            for part in slices[begin:end]:
                # Within one slice every group has at most one pair, so no row of the arrays occurs twice.
                d, g = detection[part], target[part]
                lanes = reached[part] & free[g] & ~matched[d] & (~counted[g] if of_ignored else counted[g])
                matched[d] |= lanes
                free[g] &= ~(lanes & uses_up[g])
                if of_ignored:
                    ignored[d] |= lanes
    return matched, ignored


def _chunks(counts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of whole images with about `_CHUNK` detections each."""
    ends = np.cumsum(counts)
    if len(ends) == 0 or ends[-1] == 0:
        return []
    last_of_chunk = np.flatnonzero(np.diff(ends // _CHUNK, append=-1))
    stops = ends[last_of_chunk].tolist()
    return [(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True) if b > a]
