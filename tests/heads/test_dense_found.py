"""What dense heads find by comparing logits is what all their scores say, in any float type."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import vision_tasks as vt
from vision_tasks.heads.dense import DenseHead
from vision_tasks.ops.detections import DetectionRule, Found, above, detect_found

MODELS: dict[str, dict[str, Any]] = {
    "retinanet": {"backbone": "resnet_narrow"},
    "fcos": {"backbone": "resnet_narrow"},
    "ssdlite": {"backbone": "mobilenet_v2"},
    "yolox": {"variant": "nano"},
}


def entries(found: Found) -> dict[tuple[int, int], float]:
    return dict(zip(zip(found.rows.tolist(), found.labels.tolist(), strict=True), found.scores.tolist(), strict=True))


@cache
def head_of(name: str) -> Any:
    model = vt.create_model(name, ["a", "b", "c"], columns=(1, 5, 4), outputs=9, **MODELS[name])
    return model.heads["objects"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_found_is_what_the_scores_say(name: str, threshold: float, dtype: torch.dtype) -> None:
    head = head_of(name)
    head.rule = dataclasses.replace(head.rule, score_threshold=threshold)
    generator = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(203, 9, generator=generator)).to(dtype)
    quality: Tensor | None = (3 * torch.randn(203, 1, generator=generator)).to(dtype)
    quality = quality if name in ("fcos", "yolox") else None
    logits[7], logits[8] = 60, -60  # probabilities of 1 and nearly 0
    wanted, found = entries(DenseHead.found(head, logits, quality)), entries(head.found(logits, quality))
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, rel=1e-6)
    assert (len(wanted) > 0) == (threshold < 1)


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 5), (40, 7), (8, 8)])
@pytest.mark.parametrize("limit", [-1.0, 0.5, 2.0, 9.0])
def test_above_equals_nonzero(shape: tuple[int, int], limit: float) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(shape[0])) * 2
    rows, columns = above(values, limit)
    assert torch.equal(torch.stack((rows, columns), 1), (values > limit).nonzero())


def test_a_full_level_leaves_room_for_the_others() -> None:
    """The first level's hundred best scores are cut to its ten candidates, also where only the best are looked at."""
    scores = torch.cat((torch.linspace(0.9, 0.8, 100), torch.linspace(0.5, 0.4, 100)))
    corner = torch.arange(200.0)[:, None] * 20
    boxes = torch.cat((corner, torch.zeros(200, 1), corner + 10, torch.full((200, 1), 10.0)), 1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))  # of the entries, not of the anchors
    found = Found(order, torch.zeros(200, dtype=torch.int64), scores[order])
    rule = DetectionRule(0.1, 0.5, 15, candidates=10)
    looked: list[int] = []

    def decode(rows: Tensor, _: Tensor) -> Tensor:
        looked.append(len(rows))
        return boxes[rows]

    chosen, _, kept = detect_found(found, decode, (10, 4000), rule, [100, 100])
    wanted = [*range(10), *range(100, 105)]
    assert (chosen[:, 0] / 20).tolist() == wanted
    assert torch.equal(kept, scores[wanted])
    assert looked == [10, 20]


def test_few_candidates_are_decoded() -> None:
    """Of a thousand apart, sixty for fifteen detections."""
    found = Found(torch.arange(1000), torch.zeros(1000, dtype=torch.int64), torch.linspace(0.2, 0.9, 1000))

    def decode(rows: Tensor, _: Tensor) -> Tensor:
        assert len(rows) == 60
        corner = rows[:, None] * 20.0
        return torch.cat((corner, torch.zeros_like(corner), corner + 10, torch.full_like(corner, 10)), 1)

    chosen, _, _ = detect_found(found, decode, (10, 20_000), DetectionRule(0.1, 0.5, 15))
    assert (chosen[:, 0] / 20).tolist() == list(range(999, 984, -1))


def test_anchors_are_remembered_and_can_be_trained_with() -> None:
    model = vt.create_model("retinanet", ["a"], backbone="resnet_narrow", min_size=64, max_size=64)
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        first = model.eval().predict(model.preprocess([image]))[0]
    (known,) = model.heads["objects"]._known_references.values()
    assert not known.is_inference()
    again = model.predict(model.preprocess([image]))[0]  # with gradients
    assert torch.equal(first.boxes, again.boxes.detach())
    assert len(model.heads["objects"]._known_references) == 1
