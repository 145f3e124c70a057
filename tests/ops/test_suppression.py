"""Suppression against a greedy loop written here and torchvision's kernel."""

from __future__ import annotations

import math
import resource

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from vision_tasks.ops import suppression
from vision_tasks.ops.suppression import Method, select, suppress, suppress_fixed


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
    assert suppress(boxes, scores, groups, threshold)[0].tolist() == greedy(boxes, scores, groups, threshold)


def test_equals_torchvision_on_many_boxes() -> None:
    boxes, scores, groups = crowded(3000, 1)
    assert torch.equal(suppress(boxes, scores, groups, 0.5)[0], batched_nms(boxes, scores, groups, 0.5))


@pytest.mark.parametrize(("side", "looked_at"), [(2000.0, 1), (60.0, 2), (5.0, 3)])
def test_the_best_of_many_without_looking_at_all(side: float, looked_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where few of the best overlap one look at them is enough; where all do, more are looked at, in the end all."""
    generator = torch.Generator().manual_seed(3)
    corner = torch.rand(6000, 2, generator=generator) * side
    boxes = torch.cat((corner, corner + 20 + torch.rand(6000, 2, generator=generator) * 20), 1)
    scores, groups = torch.randperm(6000, generator=generator) / 6000, torch.randint(0, 4, (6000,), generator=generator)
    calls: list[int] = []
    for name in ("nms", "batched_nms"):
        kernel = getattr(suppression, name)
        monkeypatch.setattr(suppression, name, lambda *a, kernel=kernel: calls.append(len(a[0])) or kernel(*a))
    for method, kinds in (("nms", groups), ("agnostic", torch.zeros_like(groups))):
        calls.clear()
        found, found_scores = suppress(boxes, scores, groups, 0.3, 50, method)
        assert torch.equal(found, batched_nms(boxes, scores, kinds, 0.3)[:50])
        assert torch.equal(found_scores, scores[found])
        assert method == "agnostic" or len(calls) == looked_at, calls


def test_zero_boxes() -> None:
    empty = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert suppress(*empty, 0.5)[0].shape == (0,)
    assert select(*empty, iou_threshold=0.5, top_k=10)[0].shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_suppressed_in_float32(dtype: torch.dtype) -> None:
    boxes, scores, groups = crowded(100, 2)
    boxes, scores = boxes.to(dtype) * 8, scores.to(dtype)
    expected, _ = suppress(boxes.float(), scores.float(), groups, 0.5)
    assert torch.equal(suppress(boxes, scores, groups, 0.5)[0], expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(suppress(boxes, scores, groups, 0.5)[0], expected)


def test_selection_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [20, 20, 20.5, 30], [30, 30, 40, 40]])
    scores = torch.tensor([0.5, 0.9, 0.8, 0.95, 0.1])
    groups = torch.tensor([0, 0, 1, 0, 0])
    options = {"iou_threshold": 0.5, "min_size": 1.0}
    # 3 is too thin, 1 suppresses 0, 2 is of another group.
    assert select(boxes, scores, groups, top_k=10, **options)[0].tolist() == [1, 2, 4]
    assert select(boxes, scores, groups, top_k=2, **options)[0].tolist() == [1, 2]
    assert select(boxes, scores, groups, top_k=0, **options)[0].tolist() == []
    assert 3 in select(boxes, scores, groups, top_k=10, iou_threshold=0.5)[0].tolist()


METHODS_TO_LOOP = ("diou", "soft_linear", "soft_gaussian", "nms", "agnostic")


def slow(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, method: str) -> list[tuple[int, float]]:
    """The papers' loops, with plain numbers."""

    def overlap(a: list[float], b: list[float]) -> float:
        w = min(a[2], b[2]) - max(a[0], b[0])
        h = min(a[3], b[3]) - max(a[1], b[1])
        shared = max(w, 0) * max(h, 0)
        both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
        value = shared / both
        if method == "diou":
            hull = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
            apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
            value -= apart / hull
        return value

    left = dict(enumerate(scores.tolist()))
    rows = boxes.tolist()
    kept = []
    while left:
        best = max(left, key=lambda i: left[i])
        kept.append((best, left.pop(best)))
        for i in list(left):
            if groups[i] != groups[best] and method != "agnostic":
                continue
            value = overlap(rows[best], rows[i])
            if method == "soft_gaussian":
                left[i] *= math.exp(-(value**2) / 0.5)
            elif value > threshold and method == "soft_linear":
                left[i] *= 1 - value
            elif value > threshold:
                del left[i]
    return kept


@pytest.mark.parametrize("method", METHODS_TO_LOOP)
@pytest.mark.parametrize("top_k", [12, None])
def test_every_method_equals_the_papers_loop(method: Method, top_k: int | None) -> None:
    boxes, scores, groups = crowded(80, 4)
    expected = slow(boxes, scores, groups, 0.4, method)[:top_k]
    index, kept = suppress(boxes, scores, groups, 0.4, top_k, method)
    assert index.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(kept, torch.tensor([s for _, s in expected]))


def test_soft_suppression_by_hand() -> None:
    # 0 and 1 overlap by 8 / 12 = 2/3; 2 stands alone.
    boxes = torch.tensor([[0.0, 0, 10, 1], [2, 0, 12, 1], [50, 0, 60, 1]])
    scores, groups = torch.tensor([0.9, 0.6, 0.5]), torch.zeros(3, dtype=torch.int64)
    index, kept = suppress(boxes, scores, groups, 0.5, method="soft_linear")
    assert index.tolist() == [0, 2, 1]
    torch.testing.assert_close(kept, torch.tensor([0.9, 0.5, 0.6 * (1 - 2 / 3)]))
    index, kept = suppress(boxes, scores, groups, 0.5, method="soft_gaussian")
    assert index.tolist() == [0, 2, 1]
    torch.testing.assert_close(kept, torch.tensor([0.9, 0.5, 0.6 * math.exp(-((2 / 3) ** 2) / 0.5)]))


def test_diou_spares_boxes_whose_centres_are_apart() -> None:
    # IoU 60 / 140 = 0.43; squared centre distance 16 over the hull's diagonal 14² + 10² = 296: DIoU 0.37.
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10]])
    scores, groups = torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64)
    assert suppress(boxes, scores, groups, 0.4)[0].tolist() == [0]
    assert suppress(boxes, scores, groups, 0.4, method="diou")[0].tolist() == [0, 1]
    assert suppress(boxes, scores, groups, 0.37, method="diou")[0].tolist() == [0]


@pytest.mark.parametrize("method", METHODS_TO_LOOP)
def test_fixed_shape_gives_the_same(method: Method) -> None:
    boxes, scores, groups = crowded(60, 5)
    index, kept = suppress(boxes, scores, groups, 0.4, 20, method)
    fixed_index, fixed_kept = suppress_fixed(boxes, scores, groups, 0.4, 20, method)
    assert fixed_index.shape == fixed_kept.shape == (20,)
    assert fixed_index[: len(index)].tolist() == index.tolist()
    torch.testing.assert_close(fixed_kept[: len(index)], kept)
    assert (fixed_kept[len(index) :] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS_TO_LOOP)
def test_a_hundred_thousand_boxes_need_no_square_memory(method: Method) -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(100_000, 2, generator=generator) * 4000
    boxes = torch.cat((corner, corner + 4 + torch.rand(100_000, 2, generator=generator) * 30), 1)
    scores = torch.rand(100_000, generator=generator)
    groups = torch.randint(0, 80, (100_000,), generator=generator)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index, _ = suppress(boxes, scores, groups, 0.5, 100, method)
    assert len(index) == 100
    # The square of 100,000 would be 10 GB of bytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize("top_k", [1, 2, None])
def test_boxes_left_of_the_image_do_not_meet_those_of_another_group(top_k: int | None) -> None:
    """Moved apart by the largest coordinate, 640, plus 1, the second would lie on the first."""
    boxes = torch.tensor([[600.0, 0, 640, 40], [-41, -641, -1, -601]])
    scores, groups = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    assert suppress(boxes, scores, groups, 0.5, top_k)[0].tolist() == [0, 1][:top_k]
    index, kept = suppress_fixed(boxes, scores, groups, 0.5, 2)
    assert (index.tolist(), (kept > 0).tolist()) == ([0, 1], [True, True])


def test_what_is_no_box_does_not_blur_the_others() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 10.4], [0, 0, 1e7, 1e7]])
    scores, groups = torch.tensor([0.9, 0.8, 0.0]), torch.tensor([79, 79, 0])
    index, kept = suppress_fixed(boxes, scores, groups, 0.9, 2)
    assert index[0] == 0
    assert kept[1] == 0
