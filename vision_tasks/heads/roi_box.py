"""Second stage of Fast R-CNN (Girshick 2015): classify every proposal and refine its box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.rpn import learnable, positive_smooth_l1
from vision_tasks.ops.box_coding import decode_boxes
from vision_tasks.ops.boxes import clip, pairwise_iou
from vision_tasks.ops.matching import BACKGROUND, IGNORED, match, sample_balanced
from vision_tasks.ops.roi_align import multilevel_roi_align
from vision_tasks.ops.suppression import select
from vision_tasks.structures import Target

DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # Fast R-CNN: targets of about unit variance


class RoIBoxStage(nn.Module):
    """RoIAlign 7×7, two fully connected layers, class scores and one box per class; torchvision's constants.

    Args:
        in_channels: of every map. levels: maps to pool from. strides: of these, in pixels.
        outputs: class outputs, background (always output 0) included. hidden: width of the two layers.
    """

    def __init__(
        self,
        in_channels: int,
        levels: Sequence[str],
        strides: Sequence[int],
        outputs: int,
        hidden: int = 1024,
        pool_size: int = 7,
        batch_per_image: int = 512,
        positive_fraction: float = 0.25,
        foreground: float = 0.5,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        detections_per_image: int = 100,
    ) -> None:
        super().__init__()
        self.levels, self.strides, self.pool_size = tuple(levels), tuple(strides), pool_size
        self.batch_per_image, self.positive_fraction, self.foreground = batch_per_image, positive_fraction, foreground
        self.score_threshold, self.iou_threshold = score_threshold, iou_threshold
        self.detections_per_image = detections_per_image
        self.sample = sample_balanced  # an attribute, so that a comparison with another program can fix the draw
        self.fc6 = nn.Linear(in_channels * pool_size**2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.scores = nn.Linear(hidden, outputs)
        self.deltas = nn.Linear(hidden, outputs * 4)

    def forward(self, features: dict[str, Tensor], proposals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (R, outputs) and deltas (R, outputs, 4), float32, for all proposals of all images in turn."""
        image_index = torch.cat([torch.full((len(p),), i, device=p.device) for i, p in enumerate(proposals)])
        maps = [features[level] for level in self.levels]
        pooled = multilevel_roi_align(maps, self.strides, torch.cat(list(proposals)), image_index, self.pool_size)
        hidden = F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))
        return self.scores(hidden).float(), self.deltas(hidden).float().unflatten(1, (-1, 4))

    @torch.no_grad()
    def draw(self, proposals: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Proposals to train on (S, 4), the truths themselves among them, and their match (S,) (`ops.matching`)."""
        if target.boxes is None:
            return proposals[:0], torch.zeros(0, dtype=torch.int64, device=proposals.device)
        truth, real = learnable(target)
        candidates = torch.cat((proposals, truth))
        overlaps = torch.where(real[:, None], pairwise_iou(truth, candidates), -1)
        matches = match(overlaps, self.foreground, self.foreground)
        # A truth nobody should learn (crowd, no area) must not come back as a background proposal either.
        usable = torch.cat((torch.ones(len(proposals), dtype=torch.bool, device=real.device), real))
        matches = torch.where(usable, matches, IGNORED)
        index, valid = self.sample(matches, self.batch_per_image, self.positive_fraction)
        index = index[valid]
        return candidates[index], matches[index]

    def losses(
        self, features: dict[str, Tensor], proposals: Sequence[Tensor], targets: Sequence[Target], columns: Tensor
    ) -> dict[str, Tensor]:
        """Cross entropy, and smooth L1 (beta 1/9) of the true class's box, both per drawn proposal.

        columns: (K,) output that belongs to each label.
        """
        drawn = [self.draw(p, t) for p, t in zip(proposals, targets, strict=True)]
        logits, deltas = self(features, [boxes for boxes, _ in drawn])
        classification, box, start = logits.sum() * 0, deltas.sum() * 0, 0
        for (boxes, matches), target in zip(drawn, targets, strict=True):
            if target.boxes is None or len(boxes) == 0:
                continue
            assert target.labels is not None
            truth, _ = learnable(target)
            rows = slice(start, start + len(boxes))
            start += len(boxes)
            positive = matches > BACKGROUND
            if len(target.labels):
                output = torch.where(positive, columns[target.labels][matches.clamp(min=0)], 0)
            else:
                output = torch.zeros_like(matches)
            classification = classification + F.cross_entropy(logits[rows], output, reduction="sum")
            chosen = deltas[rows].gather(1, output[:, None, None].expand(-1, 1, 4))[:, 0]
            box = box + positive_smooth_l1(chosen, truth, matches, boxes, positive, DELTA_WEIGHTS)
        return {"roi_class": classification / max(start, 1), "roi_box": box / max(start, 1)}

    def detect(
        self, logits: Tensor, deltas: Tensor, proposals: Tensor, size: tuple[int, int], columns: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Detections of one image: boxes (N, 4), labels (N,), scores (N,), best first.

        Softmax runs over all outputs; only then are the real categories picked. A score must exceed the threshold
        before its box is decoded: of a thousand proposals times 80 classes a few hundred remain.
        """
        scores = logits.softmax(dim=-1)[:, columns]
        row, label = (scores > self.score_threshold).nonzero(as_tuple=True)
        column = columns[label]
        boxes = clip(decode_boxes(deltas[row, column], proposals[row], DELTA_WEIGHTS), size)
        chosen_scores = scores[row, label]
        # Suppression by output column, not label: the same groups as torchvision's, so the same rounding.
        keep, _ = select(
            boxes, chosen_scores, column,
            iou_threshold=self.iou_threshold, top_k=self.detections_per_image, min_size=1e-2,
        )  # fmt: skip
        return boxes[keep], label[keep], chosen_scores[keep]
