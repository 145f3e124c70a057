"""Faster R-CNN as one head: proposals from the RPN, the box stage on each, and for Mask R-CNN a mask of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vision_tasks.heads.base import Head
from vision_tasks.heads.roi_box import Drawn, RoIBoxStage, in_a_row
from vision_tasks.heads.roi_mask import RoIMaskStage
from vision_tasks.heads.rpn import RPN, image_edges
from vision_tasks.ops.detections import Decode, DetectionRule, detect, detect_fixed
from vision_tasks.structures import Batch, Categories, Masks, Prediction


class FasterRCNNHead(Head):
    """Boxes of objects, and their masks if there is a mask stage.

    Losses: `rpn_objectness`, `rpn_box`, `roi_class`, `roi_box`, and `mask`.

    Args:
        rule: which scored boxes become detections.
    """

    background = 0

    def __init__(
        self,
        categories: Categories,
        columns: Sequence[int],
        rpn: RPN,
        roi: RoIBoxStage,
        rule: DetectionRule,
        mask: RoIMaskStage | None = None,
    ) -> None:
        super().__init__(categories, rpn.levels, columns)
        self.rpn = rpn
        self.roi = roi
        self.rule = rule
        self.mask = mask

    @property
    def has_masks(self) -> bool:
        return self.mask is not None

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        logits, deltas, anchors = self.rpn(features, _canvas(batch))
        proposals = self.rpn.proposals(logits.detach(), deltas.detach(), anchors, batch.image_sizes)
        drawn = [self.roi.draw(p, t) for p, t in zip(proposals, batch.targets, strict=True)]
        losses = {**self.rpn.losses(logits, deltas, anchors, batch.targets), **self.box_losses(features, drawn, batch)}
        if self.mask is not None:
            losses["mask"] = self.mask.loss(features, drawn, batch, self.columns)
        return losses

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        logits, deltas, anchors = self.rpn(features, _canvas(batch))
        proposals = self.rpn.proposals(logits, deltas, anchors, batch.image_sizes)
        boxes, image_index = in_a_row(proposals)
        edges = image_edges(batch.image_sizes, boxes.device)[image_index]
        scores, decode = self.scored(features, boxes, image_index, edges)
        predictions, start = [], 0
        for image_proposals, size in zip(proposals, batch.image_sizes, strict=True):
            end = start + len(image_proposals)
            found, labels, found_scores = detect(
                scores[start:end], _shifted(decode, start), size, self.rule, groups=self.columns
            )
            predictions.append(Prediction(size, self.categories, boxes=found, labels=labels, scores=found_scores))
            start = end
        if self.mask is not None:
            self._add_masks(features, predictions)
        return predictions

    def tensors(self, features: dict[str, Tensor], image_sizes: Tensor, canvas: tuple[int, int]) -> dict[str, Tensor]:
        logits, deltas, anchors = self.rpn(features, canvas)
        edges = image_sizes.flip(1).repeat(1, 2).float()
        proposals, valid = self.rpn.proposals_fixed(logits, deltas, anchors, edges)
        n_images, n_proposals = proposals.shape[:2]
        images = torch.arange(n_images, device=proposals.device)
        index = images.repeat_interleave(n_proposals)
        scores, decode = self.scored(features, proposals.flatten(0, 1), index, edges[index])
        # What only fills the proposals up must not be detected.
        scores = scores.where(valid.flatten()[:, None], 0)
        found = [
            detect_fixed(
                scores[i * n_proposals : (i + 1) * n_proposals],
                _shifted(decode, i * n_proposals), image_sizes[i], self.rule, groups=self.columns,
            )
            for i in range(n_images)
        ]  # fmt: skip
        boxes, labels, found_scores, _, count = (torch.stack(field) for field in zip(*found, strict=True))
        tensors = {"boxes": boxes, "labels": labels, "scores": found_scores, "count": count}
        if self.mask is not None:
            index = images.repeat_interleave(boxes.shape[1])
            grid = self.mask(features, boxes.flatten(0, 1), index, self.columns[labels.flatten()]).sigmoid()
            real = torch.arange(boxes.shape[1], device=boxes.device) < count[:, None]
            tensors["masks"] = grid.unflatten(0, labels.shape).where(real[..., None, None], 0)
        return tensors

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        parts = {f"roi.{name}": part for name, part in self.roi.class_parameters().items()}
        return parts | ({} if self.mask is None else {"mask.logits.weight": (1, 1), "mask.logits.bias": (1, 1)})

    def box_losses(self, features: dict[str, Tensor], drawn: Sequence[Drawn], batch: Batch) -> dict[str, Tensor]:
        """Losses of what comes after the proposals, by name."""
        assert batch.targets is not None, "losses need targets"
        logits, deltas = self.roi(self.roi.pool(features, *in_a_row([boxes for boxes, _ in drawn])))
        classification, box = self.roi.losses(logits, deltas, drawn, batch.targets, self.columns, self.output_weights)
        return {"roi_class": classification, "roi_box": box}

    def scored(
        self, features: dict[str, Tensor], boxes: Tensor, image_index: Tensor, edges: Tensor
    ) -> tuple[Tensor, Decode]:
        """What the box stage makes of proposals.

        Args:
            boxes: (R, 4) proposals of all images. image_index: (R,). edges: (R, 4) width, height, width, height of the
                image each is on.

        Returns:
            Probabilities (R, K) of the categories, and what decodes (rows, labels) to boxes. The softmax runs over all
            outputs; only then are the real categories picked. Of a thousand proposals times 80 classes a few hundred
            are decoded.
        """
        logits, deltas = self.roi(self.roi.pool(features, boxes, image_index))
        scores = logits.softmax(dim=-1)[:, self.columns]
        return scores, lambda rows, labels: self.roi.decode(deltas, boxes, rows, self.columns[labels])

    def _add_masks(self, features: dict[str, Tensor], predictions: Sequence[Prediction]) -> None:
        assert self.mask is not None
        boxes = [p.boxes for p in predictions if p.boxes is not None]
        labels = torch.cat([p.labels for p in predictions if p.labels is not None])
        grids = self.mask(features, *in_a_row(boxes), self.columns[labels]).sigmoid()
        parts = grids.split([len(b) for b in boxes])
        for prediction, image_boxes, grid in zip(predictions, boxes, parts, strict=True):
            prediction.masks = Masks(prediction.size, grid=grid, boxes=image_boxes)


def _shifted(decode: Decode, start: int) -> Decode:
    """Decoding for the rows of one image, which begin at `start` among those of all."""
    return lambda rows, labels: decode(rows + start, labels)


def _canvas(batch: Batch) -> tuple[int, int]:
    return (batch.images.shape[-2], batch.images.shape[-1])
