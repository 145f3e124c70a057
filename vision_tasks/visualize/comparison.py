"""Truth next to prediction, with what was found, missed and made up in different colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vision_tasks.ops import boxes as box_ops
from vision_tasks.structures import Categories, Color, Prediction, Target
from vision_tasks.visualize.drawing import (
    OPACITY,
    Picture,
    check_size,
    draw,
    enlarged,
    line_width,
    marks,
    paint_marks,
    to_rgb8,
)
from vision_tasks.visualize.legend import Entry, with_legend
from vision_tasks.visualize.semantic import paint_semantic
from vision_tasks.visualize.semantic_comparison import (
    COLORS,
    IGNORED,
    MADE_UP,
    RIGHT,
    compared_entries,
    difference,
    paint_difference,
)
from vision_tasks.visualize.semantic_comparison import MISSED as MISSING
from vision_tasks.visualize.text import fitted_text, paint_tag, text_height

PASSED, FOUND, MISSED, WRONG = (COLORS[verdict] for verdict in (IGNORED, RIGHT, MISSING, MADE_UP))
"""Okabe and Ito's green, orange and vermilion; grey for crowds and what lies on them, which count for nothing."""
TITLE: Color = (40, 40, 40)


def draw_comparison(
    image: NDArray,
    target: Target,
    prediction: Prediction,
    categories: Categories | None = None,
    threshold: float = 0.5,
    iou_threshold: float = 0.5,
    zoom: int = 1,
    legend: bool = True,
) -> Picture:
    """Truth on the left, prediction beside it, each under a line that says what its colours mean.

    Objects stand in a row, semantic maps in another, with a third panel that shows where they differ and a legend with
    each category's share of the truth and IoU in this image. Segments that a prediction was merged into stand alone.
    Masks are drawn if the prediction has them; which truth a prediction belongs to is decided by boxes all the same.

    Args:
        image: as `draw` takes it. target: its truth, on the image's own grid.
        prediction: on the same grid. categories: of the truth's labels; default the prediction's.
        threshold: predictions with lower scores are left out.
        iou_threshold: a prediction is right if it overlaps a truth of its category by this much.
        zoom: how many times larger than the image each panel is to be.
        legend: whether maps have one.

    Returns:
        (height, width, 3) uint8 RGB: rows of panels of zoom·W, a strip above each.
    """
    canvas = to_rgb8(image)
    check_size(canvas, target)
    check_size(canvas, prediction)
    rows = []
    if prediction.panoptic is not None:
        rows.append([_titled(draw(canvas, prediction, zoom=zoom, legend=False), [("segments", TITLE)])])
    if target.semantic is not None or prediction.semantic is not None:
        maps, entries = _maps(canvas, target.semantic, prediction, zoom)
        rows.append([with_legend(_beside(maps), entries, _letters(maps[0])) if legend else _beside(maps)])
    if target.boxes is not None or prediction.boxes is not None or not rows:
        rows.insert(0, _objects(canvas, target, prediction.filter(threshold), categories, iou_threshold, zoom))
    if prediction.panoptic is not None and target.boxes is not None:
        rows[0] += rows.pop(1)
    return _stacked([_beside(row) for row in rows])


def _maps(image: Picture, truth: Tensor | None, prediction: Prediction, zoom: int) -> tuple[list[Picture], list[Entry]]:
    """Panels of truth, prediction and their difference, as far as they are there; and what a legend says of them."""
    categories = prediction.semantic_categories or prediction.categories
    line = max(1, round(line_width((image.shape[0] * zoom, image.shape[1] * zoom)) / 3))
    panels, entries = [], []
    for title, semantic in (("truth", truth), ("prediction", prediction.semantic)):
        if semantic is not None:
            canvas = enlarged(image, zoom)
            entries = paint_semantic(canvas, semantic, categories, OPACITY, line, zoom)
            panels.append(_titled(canvas, [(title, TITLE)]))
    found = prediction.semantic
    if truth is None or found is None or truth.ndim != found.ndim:
        return panels, entries
    differ = difference(truth, found, len(categories))
    canvas = enlarged(image, zoom)
    paint_difference(canvas, differ.verdict, line, zoom)
    ignored, right, missed, made_up = differ.counts
    whole = max(1, right + missed + made_up)
    words = [(f"{100 * right / whole:.1f} % right", FOUND)]
    if truth.ndim == 3:
        words += [(f"{100 * missed / whole:.1f} % missed", MISSED), (f"{100 * made_up / whole:.1f} % made up", WRONG)]
    else:
        words.append((f"{100 * made_up / whole:.1f} % wrong", WRONG))
    if differ.mean_iou is not None:
        words.insert(0, (f"mIoU {differ.mean_iou:.2f}", TITLE))
    if ignored:
        words.append((f"{100 * ignored / differ.verdict.size:.1f} % ignored", PASSED))
    return [*panels, _titled(canvas, words)], compared_entries(differ, categories)


def _objects(
    canvas: Picture,
    target: Target,
    prediction: Prediction,
    categories: Categories | None,
    iou_threshold: float,
    zoom: int,
) -> list[Picture]:
    """Truth, and what was found of it; and the prediction, and what of it is right."""
    categories = prediction.categories if categories is None else categories
    truth_of, passed = match(target, prediction, iou_threshold)
    prediction = replace(prediction, track_ids=None)  # by which `marks` would sort them
    masks = prediction.masks is not None
    truth_marks = marks(target, categories, masks)
    found = set(truth_of[truth_of >= 0].tolist())
    crowds = [False] * len(truth_marks) if target.is_crowd is None else target.is_crowd.tolist()
    truth_colors = [PASSED if crowds[i] else FOUND if i in found else MISSED for i in range(len(truth_marks))]
    # `marks` sorts by score: sort the verdicts with them.
    order = [] if prediction.scores is None else torch.argsort(prediction.scores, descending=True, stable=True).tolist()
    order = order or list(range(len(prediction)))
    colors = [FOUND if truth_of[i] >= 0 else PASSED if passed[i] else WRONG for i in order]
    panels = []
    for drawn, tones, words in (
        (truth_marks, truth_colors, (("truth", TITLE), ("found", FOUND), ("missed", MISSED))),
        (marks(prediction, categories, masks), colors, (("prediction", TITLE), ("right", FOUND), ("wrong", WRONG))),
    ):
        panel = enlarged(canvas, zoom)
        colored = [replace(mark, color=color) for mark, color in zip(drawn, tones, strict=True)]
        # Two pictures side by side are seen at half the size: letters make up for it.
        paint_marks(panel, colored, zoom=zoom, text_scale=1.3)
        counted = [(f"{tones.count(color)} {word}", color) for word, color in words[1:]]
        panels.append(_titled(panel, [words[0], *counted]))
    return panels


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


def _titled(canvas: Picture, words: list[tuple[str, Color]]) -> Picture:
    """The picture under a strip of words."""
    width = canvas.shape[1]
    texts = [fitted_text(word, _letters(canvas, len(words)), (10_000, width)) for word, _ in words]
    strip = np.full((max((t.shape[0] for t in texts if t is not None), default=1) + 4, width, 3), TITLE, np.uint8)
    x = 0
    for text, (_, color) in zip(texts, words, strict=True):
        if text is not None and x + text.shape[1] <= width:
            paint_tag(strip, (x, 2, x + text.shape[1], 2 + text.shape[0]), text, color)
            x += text.shape[1] + 4
    return np.concatenate([strip, canvas])


def _letters(panel: Picture, words: int = 3) -> int:
    """Height of letters: so many words must fit side by side, so that narrow images get small ones."""
    height, width = int(panel.shape[0]), int(panel.shape[1])
    return min(text_height((height, width)), max(7, width // (6 + 6 * max(words, 3))))


def _beside(panels: list[Picture]) -> Picture:
    """Equally wide panels in a row; strips may differ in height by a pixel or two, so they end at one line."""
    height, gap = max(panel.shape[0] for panel in panels), max(2, panels[0].shape[1] // 60)
    row = np.full((height, sum(panel.shape[1] + gap for panel in panels) - gap, 3), 255, np.uint8)
    x = 0
    for panel in panels:
        row[height - panel.shape[0] :, x : x + panel.shape[1]] = panel
        x += panel.shape[1] + gap
    return row


def _stacked(rows: list[Picture]) -> Picture:
    """Rows under each other, from the left."""
    width, gap = max(row.shape[1] for row in rows), max(2, rows[0].shape[1] // 120)
    page = np.full((sum(row.shape[0] + gap for row in rows) - gap, width, 3), 255, np.uint8)
    y = 0
    for row in rows:
        page[y : y + row.shape[0], : row.shape[1]] = row
        y += row.shape[0] + gap
    return page
