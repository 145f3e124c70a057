"""Cascade R-CNN against the paper and Detectron2's numbers, worked by hand and stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import vision_tasks as vt
from tests.tiny_model import OPTIONS
from vision_tasks.heads.cascade_rcnn import CascadeRCNNHead
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.heads.rpn import RPN
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.structures import Batch, Categories, Target


class Scripted(RoIBoxStage):
    """A stage that says what it is told to, whatever it sees, and remembers the boxes it was asked about."""

    def __init__(self, logits: list[float], deltas: list[float], weights: Any, foreground: float) -> None:
        super().__init__(
            4, ["P2"], [4], len(logits), hidden=4, class_agnostic=True, delta_weights=weights, beta=0,
            foreground=foreground,
        )  # fmt: skip
        self.says = torch.tensor(logits), torch.tensor(deltas)
        self.seen: list[Tensor] = []

    def pool(self, features: dict[str, Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        self.seen.append(boxes)
        return super().pool(features, boxes, image_index)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        n, (logits, deltas) = len(pooled), self.says
        # Connected to what was pooled, so that gradients can be looked at.
        return logits.expand(n, -1) + pooled.mean(dim=(1, 2, 3))[:, None], deltas.expand(n, 1, -1)


FEATURES = {"P2": torch.zeros(1, 4, 25, 25)}
WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))


def scripted(logits: Sequence[list[float]], deltas: Sequence[list[float]]) -> CascadeRCNNHead:
    stages = [
        Scripted(said, moved, weights, overlap)
        for said, moved, weights, overlap in zip(logits, deltas, WEIGHTS, (0.5, 0.6, 0.7), strict=True)
    ]
    rule = DetectionRule(score_threshold=0.05, iou_threshold=0.5, detections=10)
    return CascadeRCNNHead(Categories.of(["cat", "dog"]), (1, 2), RPN(4, ["P2"], [(8,)]), stages, rule)


def test_each_stage_starts_where_the_last_one_ended() -> None:
    # A box of 20×10 moved by a tenth of its width, made twice as high, then moved down by a tenth of its height.
    log2 = float(torch.log(torch.tensor(2.0)))
    head = scripted([[0.0, 0, 0]] * 3, [[1.0, 0, 0, 0], [0, 0, 0, 10 * log2], [0, 3.0, 0, 0]])
    start = torch.tensor([[10.0, 20, 30, 30]])
    edges = torch.tensor([[100.0, 100, 100, 100]])
    _, decode = head.scored(FEATURES, start, torch.zeros(1, dtype=torch.int64), edges)
    seen = [stage.seen[0].tolist() for stage in head.stages]  # type: ignore[attr-defined]
    assert seen[0] == [[10, 20, 30, 30]]
    torch.testing.assert_close(torch.tensor(seen[1]), torch.tensor([[12.0, 20, 32, 30]]))
    torch.testing.assert_close(torch.tensor(seen[2]), torch.tensor([[12.0, 15, 32, 35]]))
    last = decode(torch.tensor([0]), torch.tensor([1]))
    torch.testing.assert_close(last, torch.tensor([[12.0, 17, 32, 37]]))


def test_between_stages_boxes_are_clipped_to_their_own_image() -> None:
    head = scripted([[0.0, 0, 0]] * 3, [[10.0, 0, 0, 0], [0.0] * 4, [0.0] * 4])  # to the right by the width
    start = torch.tensor([[60.0, 10, 80, 30], [60, 10, 80, 30]])
    edges = torch.tensor([[90.0, 50, 90, 50], [200, 50, 200, 50]])
    head.scored({"P2": torch.zeros(2, 4, 25, 25)}, start, torch.tensor([0, 1]), edges)
    assert head.stages[1].seen[0].tolist() == [[80, 10, 90, 30], [80, 10, 100, 30]]  # type: ignore[attr-defined]


def test_scores_are_the_mean_of_the_stages_probabilities() -> None:
    said = [[0.0, 1.0, 2.0], [2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]
    head = scripted(said, [[0.0] * 4] * 3)
    boxes = torch.tensor([[10.0, 20, 30, 30]])
    scores, _ = head.scored(FEATURES, boxes, torch.zeros(1, dtype=torch.int64), torch.full((1, 4), 100.0))
    e = [[float(torch.tensor(v).exp()) for v in row] for row in said]
    mean = [sum(row[k] / sum(row) for row in e) / 3 for k in (1, 2)]
    torch.testing.assert_close(scores, torch.tensor([mean]))


def batch_of(target: Target) -> Batch:
    return Batch(torch.zeros(1, 3, 100, 100), [(100, 100)], [(100, 100)], [(1.0, 1.0)], [(0.0, 0.0)], [target])


def test_losses_by_hand() -> None:
    """The overlap a box needs rises; each stage regresses with its own weights; a box of the first draw stays drawn."""
    # A proposal that covers 0.64 of a truth of 20×20: positive for 0.5 and 0.6, background for 0.7.
    truth, proposal = [10.0, 10, 30, 30], [10.0, 10, 30, 22.8]
    head = scripted([[1.0, 0.0, 0.0]] * 3, [[0.0] * 4] * 3)
    target = Target(0, (100, 100), boxes=torch.tensor([truth]), labels=torch.tensor([1]))
    drawn = [(torch.tensor([proposal]), torch.tensor([0]))]
    losses = head.box_losses(FEATURES, drawn, batch_of(target))
    assert list(losses) == [f"stage{i}_{kind}" for i in (1, 2, 3) for kind in ("class", "box")]
    probability = torch.tensor([1.0, 0.0, 0.0]).softmax(0)
    dy, dh = (20 - 16.4) / 12.8, float(torch.tensor(20 / 12.8).log())  # centre 16.4, height 12.8; L1 of zero deltas
    expected = {
        "stage1_class": -probability[2].log(), "stage1_box": torch.tensor(10 * dy + 5 * dh),
        "stage2_class": -probability[2].log(), "stage2_box": torch.tensor(20 * dy + 10 * dh),
        "stage3_class": -probability[0].log(), "stage3_box": torch.tensor(0.0),
    }  # fmt: skip
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


def test_a_stage_trains_on_what_the_one_before_made() -> None:
    # The first stage moves the box onto the truth: the third, too, finds it positive, with nothing left to correct.
    truth, proposal = [10.0, 10, 30, 30], [10.0, 10, 30, 22.8]
    dy, dh = (20 - 16.4) / 12.8, float(torch.tensor(20 / 12.8).log())
    head = scripted([[1.0, 0.0, 0.0]] * 3, [[0.0, 10 * dy, 0.0, 5 * dh], [0.0] * 4, [0.0] * 4])
    target = Target(0, (100, 100), boxes=torch.tensor([truth]), labels=torch.tensor([0]))
    losses = head.box_losses(FEATURES, [(torch.tensor([proposal]), torch.tensor([0]))], batch_of(target))
    for i in (1, 2, 3):
        assert losses[f"stage{i}_box"] < 1e-4
        torch.testing.assert_close(losses[f"stage{i}_class"], -F.log_softmax(torch.tensor([1.0, 0, 0]), 0)[1])


def test_a_box_clipped_to_nothing_counts_in_no_later_stage() -> None:
    head = scripted([[1.0, 0.0, 0.0]] * 3, [[100.0, 0, 0, 0], [0.0] * 4, [0.0] * 4])  # ten widths to the right: outside
    target = Target(0, (100, 100), boxes=torch.tensor([[10.0, 10, 30, 30]]), labels=torch.tensor([0]))
    losses = head.box_losses(
        FEATURES, [(torch.tensor([[60.0, 10, 80, 30]]), torch.tensor([BACKGROUND]))], batch_of(target)
    )
    assert losses["stage1_class"] > 0
    assert losses["stage2_class"] == losses["stage3_class"] == 0


def test_the_features_feel_the_mean_of_the_stages() -> None:
    """Detectron2 divides the gradient that reaches the features by the number of stages."""
    head = scripted([[1.0, 0.0, 0.0]] * 3, [[0.0] * 4] * 3)
    features = {"P2": torch.zeros(1, 4, 25, 25, requires_grad=True)}
    target = Target(0, (100, 100), boxes=torch.tensor([[10.0, 10, 30, 30]]), labels=torch.tensor([0]))
    drawn = [(torch.tensor([[10.0, 10, 30, 30]]), torch.tensor([0]))]
    # The scripted logits all rise together with what is pooled, which a softmax does not feel: weigh one of them.
    for stage in head.stages:
        stage.forward = lambda pooled: (  # type: ignore[method-assign]
            pooled.mean(dim=(1, 2, 3))[:, None] * torch.tensor([0.0, 1.0, 0.0]), torch.zeros(len(pooled), 1, 4)
        )  # fmt: skip
    sum(head.box_losses(features, drawn, batch_of(target)).values()).backward()  # type: ignore[union-attr]
    # Each stage: d(-log softmax)/d(logit 1) = 1/3 - 1; three stages, each counted a third.
    assert features["P2"].grad is not None
    torch.testing.assert_close(features["P2"].grad.sum(), torch.tensor(-2 / 3))


def tiny(**options: Any) -> VisionModel:
    torch.manual_seed(0)
    return vt.create_model("cascade_rcnn", ["cat", "dog"], **(OPTIONS | {"mask_channels": 8} | options))


def test_built_with_the_published_numbers() -> None:
    head = tiny(masks=True).heads["objects"]
    assert [stage.foreground for stage in head.stages] == [0.5, 0.6, 0.7]
    assert [stage.delta_weights for stage in head.stages] == list(WEIGHTS)
    assert all(stage.deltas.out_features == 4 and stage.beta == 0 for stage in head.stages)
    assert head.mask is not None
    assert tiny().heads["objects"].mask is None


def test_a_cascade_refines_one_box_for_all_classes() -> None:
    stage = RoIBoxStage(4, ["P2"], [4], 3, hidden=4)
    with pytest.raises(ValueError, match="one box for all classes"):
        CascadeRCNNHead(Categories.of(["a", "b"]), (1, 2), RPN(4, ["P2"], [(8,)]), [stage], DetectionRule(0.1, 0.5, 9))
