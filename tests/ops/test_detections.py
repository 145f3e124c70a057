"""From scores to detections, against a loop written here; the fixed shape against the free one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from vision_tasks.ops.detections import DetectionRule, detect, detect_fixed

LENGTHS = [60, 30, 10]
SIZE = (80, 100)


def scene(seed: int, anchors: int = 100, categories: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(anchors, 2, generator=generator) * 90 - 5
    boxes = torch.cat((corner, corner + 2 + torch.rand(anchors, 2, generator=generator) * 50), 1)
    return torch.rand(anchors, categories, generator=generator) ** 3, boxes


def by_loop(scores: Tensor, boxes: Tensor, rule: DetectionRule) -> list[tuple[int, int]]:
    """(anchor, label) of the detections, one comparison after another."""
    candidates: list[tuple[float, int, int]] = []
    pools: dict[int, list[tuple[float, int, int]]] = {}
    level_of = [level for level, n in enumerate(LENGTHS) for _ in range(n)]
    for a in range(scores.shape[0]):
        for k in range(scores.shape[1]):
            if scores[a, k] > rule.score_threshold:
                pool = level_of[a] if rule.candidates_per == "level" else k
                pools.setdefault(pool, []).append((float(scores[a, k]), a, k))
    for pool_entries in pools.values():
        candidates += sorted(pool_entries, reverse=True)[: rule.candidates]
    clipped = boxes.clone()
    clipped[:, 0::2] = clipped[:, 0::2].clamp(0, SIZE[1])
    clipped[:, 1::2] = clipped[:, 1::2].clamp(0, SIZE[0])
    overlaps = box_iou(clipped, clipped)
    kept: list[tuple[int, int]] = []
    for _, a, k in sorted(candidates, reverse=True):
        thin = min(float(clipped[a, 2] - clipped[a, 0]), float(clipped[a, 3] - clipped[a, 1])) < rule.min_size
        if not thin and all(k != k2 or overlaps[a, a2] <= rule.iou_threshold for a2, k2 in kept):
            kept.append((a, k))
    return kept[: rule.detections]


RULES = [
    DetectionRule(0.05, 0.5, 30),
    DetectionRule(0.3, 0.3, 100, candidates=20, min_size=4.0),
    DetectionRule(0.1, 0.6, 25, candidates=15, candidates_per="category"),
    DetectionRule(0.99, 0.5, 10, candidates=15),
    DetectionRule(1.0, 0.5, 10),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_loop(rule: DetectionRule, seed: int) -> None:
    scores, boxes = scene(seed)
    expected = by_loop(scores, boxes, rule)
    found, labels, values = detect(scores, lambda rows, _: boxes[rows], SIZE, rule, LENGTHS)
    clipped = torch.stack([boxes[a] for a, _ in expected]) if expected else torch.zeros(0, 4)
    clipped = torch.minimum(clipped.clamp(min=0), torch.tensor([SIZE[1], SIZE[0]] * 2))
    torch.testing.assert_close(found, clipped)
    assert labels.tolist() == [k for _, k in expected]
    torch.testing.assert_close(values, torch.tensor([scores[a, k] for a, k in expected]))


@pytest.mark.parametrize("method", ["nms", "agnostic", "diou", "soft_linear", "soft_gaussian"])
@pytest.mark.parametrize("rule", RULES)
def test_fixed_shape_gives_the_same(rule: DetectionRule, method: str) -> None:
    rule = DetectionRule(**{**vars(rule), "suppression": method})
    scores, boxes = scene(2)
    free = detect(scores, lambda rows, _: boxes[rows], SIZE, rule, LENGTHS)
    fixed = detect_fixed(scores, lambda rows, _: boxes[rows], torch.tensor(SIZE), rule, LENGTHS)
    count = int(fixed[4])
    assert count == len(free[0])
    assert [len(part) for part in fixed[:4]] == [rule.detections] * 4
    for have, want in zip(fixed[:3], free, strict=True):
        torch.testing.assert_close(have[:count], want)
        assert (have[count:] == 0).all()
    torch.testing.assert_close(scores[fixed[3], fixed[1]][:count] >= fixed[2][:count], torch.ones(count, dtype=bool))


def test_no_anchor_at_all() -> None:
    boxes, labels, scores = detect(torch.zeros(0, 3), lambda rows, _: torch.zeros(len(rows), 4), SIZE, RULES[2])
    assert boxes.shape == (0, 4)
    assert labels.shape == scores.shape == (0,)


def test_unknown_suppression() -> None:
    with pytest.raises(ValueError, match="soft_linear"):
        DetectionRule(0.1, 0.5, 10, suppression="softest")  # type: ignore[arg-type]
