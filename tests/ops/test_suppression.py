"""Suppression against a greedy loop written here and torchvision's kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from vision_tasks.ops.suppression import select, suppress


def crowded(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=generator) * 40), 1)
    return boxes, torch.rand(n, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def greedy(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    overlaps = box_iou(boxes, boxes)
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(groups[i] != groups[j] or overlaps[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_equals_a_greedy_loop(threshold: float) -> None:
    boxes, scores, groups = crowded(150, 0)
    assert suppress(boxes, scores, groups, threshold).tolist() == greedy(boxes, scores, groups, threshold)


def test_equals_torchvision_on_many_boxes() -> None:
    boxes, scores, groups = crowded(3000, 1)
    assert torch.equal(suppress(boxes, scores, groups, 0.5), batched_nms(boxes, scores, groups, 0.5))


def test_zero_boxes() -> None:
    empty = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert suppress(*empty, 0.5).shape == (0,)
    assert select(*empty, iou_threshold=0.5, top_k=10).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_suppressed_in_float32(dtype: torch.dtype) -> None:
    boxes, scores, groups = crowded(100, 2)
    boxes, scores = boxes.to(dtype) * 8, scores.to(dtype)
    expected = suppress(boxes.float(), scores.float(), groups, 0.5)
    assert torch.equal(suppress(boxes, scores, groups, 0.5), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(suppress(boxes, scores, groups, 0.5), expected)


def test_selection_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [20, 20, 20.5, 30], [30, 30, 40, 40]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.95, 0.1])
    groups = torch.tensor([0, 0, 1, 0, 0])
    options = {"iou_threshold": 0.5, "min_size": 1.0}
    # 3 is too thin, 1 suppresses 0, 2 is of another group.
    assert select(boxes, scores, groups, top_k=10, **options).tolist() == [1, 2, 4]
    assert select(boxes, scores, groups, top_k=2, **options).tolist() == [1, 2]
    assert select(boxes, scores, groups, top_k=0, **options).tolist() == []
    assert 3 in select(boxes, scores, groups, top_k=10, iou_threshold=0.5).tolist()
