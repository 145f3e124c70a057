"""Truth next to prediction, with what was found, missed and made up in different colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vision_tasks.ops import boxes as box_ops
from vision_tasks.structures import Categories, Color, Prediction, Target
from vision_tasks.visualize.drawing import Mark, Picture, check_size, marks, paint, to_rgb8
from vision_tasks.visualize.text import fitted_text, paint_tag, text_height

FOUND: Color = (0, 158, 115)
MISSED: Color = (230, 159, 0)
WRONG: Color = (213, 94, 0)
PASSED: Color = (140, 140, 140)
"""Okabe and Ito's green, orange and vermilion; grey for crowds and what lies on them, which count for nothing."""


def draw_comparison(
    image: NDArray,
    target: Target,
    prediction: Prediction,
    categories: Categories | None = None,
    threshold: float = 0.5,
    iou_threshold: float = 0.5,
    zoom: int = 1,
) -> Picture:
    """Truth on the left, prediction on the right, each under a line that says what its colours mean.

    Masks are drawn if the prediction has them; which truth a prediction belongs to is decided by boxes all the same.

    Args:
        image: as `draw` takes it. target: its truth, on the image's own grid, with boxes and labels.
        prediction: on the same grid. categories: of the truth's labels; default the prediction's.
        threshold: predictions with lower scores are left out.
        iou_threshold: a prediction is right if it overlaps a truth of its category by this much.
        zoom: how many times larger than the image each half is to be.

    Returns:
        (zoom·H + strip, 2·zoom·W + gap, 3) uint8 RGB.
    """
    canvas = to_rgb8(image)
    check_size(canvas, target)
    check_size(canvas, prediction)
    prediction = prediction.filter(threshold)
    categories = prediction.categories if categories is None else categories
    truth_of, passed = match(target, prediction, iou_threshold)
    masks = prediction.masks is not None
    truth_marks = marks(target, categories, masks)
    found = set(truth_of[truth_of >= 0].tolist())
    crowds = [False] * len(truth_marks) if target.is_crowd is None else target.is_crowd.tolist()
    truth_colors = [PASSED if crowds[i] else FOUND if i in found else MISSED for i in range(len(truth_marks))]
    # `marks` sorts by score: sort the verdicts with them.
    order = [] if prediction.scores is None else torch.argsort(prediction.scores, descending=True, stable=True).tolist()
    order = order or list(range(len(prediction)))
    colors = [FOUND if truth_of[i] >= 0 else PASSED if passed[i] else WRONG for i in order]
    left = _titled(
        canvas,
        [replace(mark, color=color) for mark, color in zip(truth_marks, truth_colors, strict=True)],
        [
            ("truth", (40, 40, 40)),
            (f"{truth_colors.count(FOUND)} found", FOUND),
            (f"{truth_colors.count(MISSED)} missed", MISSED),
        ],
        zoom,
    )
    right = _titled(
        canvas,
        [replace(m, color=color) for m, color in zip(marks(prediction, categories, masks), colors, strict=True)],
        [
            ("prediction", (40, 40, 40)),
            (f"{colors.count(FOUND)} right", FOUND),
            (f"{colors.count(WRONG)} wrong", WRONG),
        ],
        zoom,
    )
    gap = np.full((left.shape[0], max(2, left.shape[1] // 60), 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def match(target: Target, prediction: Prediction, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """COCO's greedy matching at one threshold: best score first, each takes the free truth it overlaps most.

    Returns:
        (N,) int64 index of each prediction's truth or -1, and (N,) bool: unmatched, but lying on a crowd.
    """
    count = len(prediction)
    truth_of = torch.full((count,), -1, dtype=torch.int64)
    passed = torch.zeros(count, dtype=torch.bool)
    if count == 0 or target.boxes is None or len(target.boxes) == 0:
        return truth_of, passed
    assert prediction.boxes is not None
    boxes, truth = prediction.boxes.detach().cpu().float(), target.boxes.detach().cpu().float()
    overlap = box_ops.pairwise_iou(boxes, truth)
    crowd = torch.zeros(len(truth), dtype=torch.bool) if target.is_crowd is None else target.is_crowd.cpu()
    # Of a crowd counts how much of the prediction lies on it.
    low, high = (
        torch.maximum(boxes[:, None, :2], truth[None, :, :2]),
        torch.minimum(boxes[:, None, 2:], truth[None, :, 2:]),
    )
    shared = (high - low).clamp(min=0).prod(2) / box_ops.area(boxes)[:, None].clamp(min=1e-9)
    if prediction.labels is not None and target.labels is not None:
        same = prediction.labels.cpu()[:, None] == target.labels.cpu()[None]
        overlap, shared = overlap * same, shared * same
    overlap[:, crowd] = -1
    passed = ((shared >= iou_threshold) & crowd).any(1)
    scores = torch.zeros(count) if prediction.scores is None else prediction.scores.cpu()
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        best, index = overlap[i].max(0)
        if best >= iou_threshold:
            truth_of[i] = index
            overlap[:, index] = -1
    return truth_of, passed & (truth_of < 0)


def _titled(canvas: Picture, drawn: list[Mark], words: list[tuple[str, Color]], zoom: int) -> Picture:
    # Two pictures side by side are seen at half the size: letters make up for it.
    canvas = paint(canvas, drawn, zoom=zoom, text_scale=1.3)
    height, width = canvas.shape[:2]
    # Three tags must fit side by side, so that narrow images get small letters.
    texts = [
        fitted_text(word, min(text_height((height, width)), max(7, width // 22)), (10_000, width)) for word, _ in words
    ]
    strip = np.full((max((t.shape[0] for t in texts if t is not None), default=1) + 4, width, 3), 40, np.uint8)
    x = 0
    for text, (_, color) in zip(texts, words, strict=True):
        if text is not None and x + text.shape[1] <= width:
            paint_tag(strip, (x, 2, x + text.shape[1], 2 + text.shape[0]), text, color)
            x += text.shape[1] + 4
    return np.concatenate([strip, canvas])
