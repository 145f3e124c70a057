"""Faster R-CNN as one head: proposals from the RPN, then the box stage on each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vision_tasks.heads.base import Head
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.heads.rpn import RPN
from vision_tasks.structures import Batch, Categories, Prediction


class FasterRCNNHead(Head):
    """Boxes of objects. Losses: `rpn_objectness`, `rpn_box`, `roi_class`, `roi_box`."""

    def __init__(self, categories: Categories, columns: Sequence[int], rpn: RPN, roi: RoIBoxStage) -> None:
        super().__init__(categories, rpn.levels, columns)
        self.rpn = rpn
        self.roi = roi

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        logits, deltas, anchors = self.rpn(features, _canvas(batch))
        proposals = self.rpn.proposals(logits.detach(), deltas.detach(), anchors, batch)
        return {
            **self.rpn.losses(logits, deltas, anchors, batch.targets),
            **self.roi.losses(features, proposals, batch.targets, self.columns),
        }

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        logits, deltas, anchors = self.rpn(features, _canvas(batch))
        proposals = self.rpn.proposals(logits, deltas, anchors, batch)
        class_logits, box_deltas = self.roi(features, proposals)
        counts = [len(p) for p in proposals]
        predictions = []
        for image_logits, image_deltas, image_proposals, size in zip(
            class_logits.split(counts), box_deltas.split(counts), proposals, batch.image_sizes, strict=True
        ):
            boxes, labels, scores = self.roi.detect(image_logits, image_deltas, image_proposals, size, self.columns)
            predictions.append(Prediction(size, self.categories, boxes=boxes, labels=labels, scores=scores))
        return predictions


def _canvas(batch: Batch) -> tuple[int, int]:
    return (batch.images.shape[-2], batch.images.shape[-1])
