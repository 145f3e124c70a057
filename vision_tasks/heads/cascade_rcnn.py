"""Cascade R-CNN (Cai & Vasconcelos 2018): box stages in a row, each trained on better boxes than the one before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.heads.roi_box import Drawn, RoIBoxStage, in_a_row
from vision_tasks.heads.roi_mask import RoIMaskStage
from vision_tasks.heads.rpn import RPN, image_edges
from vision_tasks.ops.box_coding import decode_boxes
from vision_tasks.ops.detections import Decode, DetectionRule
from vision_tasks.ops.matching import IGNORED
from vision_tasks.structures import Batch, Categories, Target


class CascadeRCNNHead(FasterRCNNHead):
    """Boxes of objects, refined stage by stage, and their masks if there is a mask stage.

    As in Detectron2: the first stage draws its proposals, later ones take all of the boxes of the stage before, matched
    anew at their own overlap; scores are the mean over the stages; one mask stage learns from the first stage's draw
    and predicts for the last stage's boxes.

    Losses: `rpn_objectness`, `rpn_box`, `stage1_class`, `stage1_box`, ..., and `mask`.

    Args:
        stages: class-agnostic, first to last.
    """

    def __init__(
        self,
        categories: Categories,
        columns: Sequence[int],
        rpn: RPN,
        stages: Sequence[RoIBoxStage],
        rule: DetectionRule,
        mask: RoIMaskStage | None = None,
    ) -> None:
        if not stages or not all(stage.class_agnostic for stage in stages):
            raise ValueError("a cascade needs stages that refine one box for all classes")
        super().__init__(categories, columns, rpn, stages[0], rule, mask)
        self.later = nn.ModuleList(stages[1:])

    @property
    def stages(self) -> list[RoIBoxStage]:
        """First to last."""
        return [self.roi, *(stage for stage in self.later if isinstance(stage, RoIBoxStage))]

    def box_losses(self, features: dict[str, Tensor], drawn: Sequence[Drawn], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        losses: dict[str, Tensor] = {}
        for number, stage in enumerate(self.stages, start=1):
            boxes, image_index = in_a_row([b for b, _ in drawn])
            pooled = stage.pool(features, boxes, image_index)
            if pooled.requires_grad:
                # The sum of the stages' losses must not pull the shared features harder than one stage would
                # (Detectron2; the authors' code averages the losses and scales up the heads' rates instead).
                pooled.register_hook(lambda gradient: gradient / len(self.stages))
            logits, deltas = stage(pooled)
            classification, box = stage.losses(logits, deltas, drawn, batch.targets, self.columns, self.output_weights)
            losses |= {f"stage{number}_class": classification, f"stage{number}_box": box}
            if number < len(self.stages):
                edges = image_edges(batch.image_sizes, boxes.device)[image_index]
                refined = _refine(stage, deltas.detach(), boxes, edges).split([len(b) for b, _ in drawn])
                after = self.stages[number]
                drawn = [(b, _rematch(after, b, t)) for b, t in zip(refined, batch.targets, strict=True)]
        return losses

    def scored(
        self, features: dict[str, Tensor], boxes: Tensor, image_index: Tensor, edges: Tensor
    ) -> tuple[Tensor, Decode]:
        probabilities: list[Tensor] = []
        for stage in self.stages:
            logits, deltas = stage(stage.pool(features, boxes, image_index))
            probabilities.append(logits.softmax(dim=-1))
            boxes = _refine(stage, deltas, boxes, edges)
        scores = torch.stack(probabilities).mean(dim=0)[:, self.columns]
        return scores, lambda rows, _: boxes[rows]

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        parts = super().class_parameters()
        for i, stage in enumerate(self.stages[1:]):
            parts |= {f"later.{i}.{name}": part for name, part in stage.class_parameters().items()}
        return parts


def _refine(stage: RoIBoxStage, deltas: Tensor, boxes: Tensor, edges: Tensor) -> Tensor:
    """The boxes (R, 4) a stage hands on: decoded from (R, 1, 4) deltas and clipped to their images."""
    return decode_boxes(deltas[:, 0], boxes, stage.delta_weights).clamp(min=0).minimum(edges)


def _rematch(stage: RoIBoxStage, boxes: Tensor, target: Target) -> Tensor:
    """(S,) match of boxes a stage takes over; those that were clipped to nothing are `IGNORED`."""
    if target.boxes is None:
        return torch.zeros(0, dtype=torch.int64, device=boxes.device)
    return torch.where((boxes[:, 2:] > boxes[:, :2]).all(dim=1), stage.match(boxes, target), IGNORED)
