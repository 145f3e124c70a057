"""Second stage of Fast R-CNN (Girshick 2015): classify every proposal and refine its box."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.base import weighed
from vision_tasks.heads.rpn import learnable, positive_smooth_l1
from vision_tasks.ops.box_coding import Weights, decode_boxes
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.matching import BACKGROUND, IGNORED, match, sample_balanced
from vision_tasks.ops.roi_align import multilevel_roi_align
from vision_tasks.structures import Target

NormLayer = Callable[[int], nn.Module]
"""Channels -> a normalisation layer."""

Drawn = tuple[Tensor, Tensor]
"""Boxes of one image to train on (S, 4), and their match (S,): index of a truth, or `BACKGROUND`, or `IGNORED`."""


class RoIBoxStage(nn.Module):
    """RoIAlign, perhaps convolutions, fully connected layers, then class scores and boxes; torchvision's numbers.

    Args:
        in_channels: of every map. levels: maps to pool from. strides: of these, in pixels.
        outputs: class outputs, background (always output 0) included. hidden: width of the fully connected layers.
        depth, norm: 3×3 convolutions of in_channels before a single fully connected layer, each normalised by `norm`;
            with none there are two such layers. torchvision's v2 has four, with batch norm (after Wu & He 2018).
        class_agnostic: one box for all classes, as in R-FCN and Cascade R-CNN, instead of one per class.
        delta_weights: of dx, dy, dw, dh (`ops.box_coding`); Fast R-CNN's targets have about unit variance.
        beta: where smooth L1 turns from quadratic to linear; 0 is plain L1.
        batch_per_image, positive_fraction, foreground: what the losses look at (`draw`).
    """

    def __init__(
        self,
        in_channels: int,
        levels: Sequence[str],
        strides: Sequence[int],
        outputs: int,
        hidden: int = 1024,
        pool_size: int = 7,
        depth: int = 0,
        norm: NormLayer | None = None,
        class_agnostic: bool = False,
        delta_weights: Weights = (10.0, 10.0, 5.0, 5.0),
        beta: float = 1 / 9,
        batch_per_image: int = 512,
        positive_fraction: float = 0.25,
        foreground: float = 0.5,
    ) -> None:
        super().__init__()
        self.levels, self.strides, self.pool_size = tuple(levels), tuple(strides), pool_size
        self.class_agnostic, self.delta_weights, self.beta = class_agnostic, delta_weights, beta
        self.batch_per_image, self.positive_fraction, self.foreground = batch_per_image, positive_fraction, foreground
        self.sample = sample_balanced  # an attribute, so that a comparison with another program can fix the draw
        self.convs = nn.Sequential(*(conv_block(in_channels, in_channels, norm) for _ in range(depth)))
        self.fc6 = nn.Linear(in_channels * pool_size**2, hidden)
        self.fc7 = nn.Identity() if depth else nn.Linear(hidden, hidden)
        self.scores = nn.Linear(hidden, outputs)
        self.deltas = nn.Linear(hidden, 4 if class_agnostic else outputs * 4)
        self.channels_last = False

    @torch.no_grad()
    def read_channels_last(self) -> None:
        """Let `fc6` take what it reads cell by cell, not channel by channel, as it lies in channels-last memory.

        For prediction: the weights are no longer those of a checkpoint.
        """
        weight = self.fc6.weight.unflatten(1, (-1, self.pool_size, self.pool_size)).permute(0, 2, 3, 1)
        self.fc6.weight = nn.Parameter(weight.flatten(1).contiguous(), requires_grad=False)
        self.channels_last = True

    def pool(self, features: dict[str, Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
        """What each box sees: (R, C, S, S)."""
        maps = [features[level] for level in self.levels]
        return multilevel_roi_align(maps, self.strides, boxes, image_index, self.pool_size)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, S, S) -> class logits (R, outputs) and deltas (R, outputs or 1, 4), float32."""
        cells = self.convs(pooled)
        if self.channels_last:
            cells = cells.permute(0, 2, 3, 1)
        hidden = F.relu(self.fc7(F.relu(self.fc6(cells.flatten(1)))))
        return self.scores(hidden).float(), self.deltas(hidden).float().unflatten(1, (-1, 4))

    def decode(self, deltas: Tensor, boxes: Tensor, rows: Tensor, outputs: Tensor) -> Tensor:
        """Refined boxes (M, 4) of M rows of (R, outputs or 1, 4) deltas and (R, 4) boxes, for a class output each."""
        chosen = deltas[rows, 0 if self.class_agnostic else outputs]
        return decode_boxes(chosen, boxes[rows], self.delta_weights)

    @torch.no_grad()
    def draw(self, proposals: Tensor, target: Target) -> Drawn:
        """Proposals of one image to train on, the truths themselves among them, positives first."""
        if target.boxes is None:
            return proposals[:0], torch.zeros(0, dtype=torch.int64, device=proposals.device)
        truth, real = learnable(target)
        candidates = torch.cat((proposals, truth))
        matches = self.match(candidates, target)
        # A truth nobody should learn (crowd, no area) must not come back as a background proposal either.
        usable = torch.cat((torch.ones(len(proposals), dtype=torch.bool, device=real.device), real))
        matches = torch.where(usable, matches, IGNORED)
        index, valid = self.sample(matches, self.batch_per_image, self.positive_fraction)
        index = index[valid]
        return candidates[index], matches[index]

    @torch.no_grad()
    def match(self, boxes: Tensor, target: Target) -> Tensor:
        """(N,) truth of each of (N, 4) boxes by overlap of at least `foreground`, or `BACKGROUND`."""
        truth, real = learnable(target)
        overlaps = torch.where(real[:, None], pairwise_iou(truth, boxes), -1)
        return match(overlaps, self.foreground, self.foreground)

    def losses(
        self, logits: Tensor, deltas: Tensor, drawn: Sequence[Drawn], targets: Sequence[Target], columns: Tensor,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Cross entropy, and smooth L1 of the true class's box, both per drawn box that is not `IGNORED`.

        Args:
            logits: (R, outputs), and deltas: (R, outputs or 1, 4), of the drawn boxes of all images in turn.
            columns: (K,) output that belongs to each label. weights: `Head.output_weights`.
        """
        classification, box, count, start = logits.sum() * 0, deltas.sum() * 0, logits.new_zeros(()), 0
        for (boxes, matches), target in zip(drawn, targets, strict=True):
            if target.boxes is None or len(boxes) == 0:
                continue
            assert target.labels is not None
            truth, _ = learnable(target)
            rows = slice(start, start + len(boxes))
            start += len(boxes)
            positive, valid = matches > BACKGROUND, matches != IGNORED
            if len(target.labels):
                output = torch.where(positive, columns[target.labels][matches.clamp(min=0)], 0)
            else:
                output = torch.zeros_like(matches)
            entropy = F.cross_entropy(logits[rows], output, reduction="none")
            entropy = weighed(entropy, output, positive, weights)
            classification = classification + entropy.where(valid, 0).sum()
            count = count + valid.sum()
            if self.class_agnostic:
                chosen = deltas[rows, 0]
            else:
                chosen = deltas[rows].gather(1, output[:, None, None].expand(-1, 1, 4))[:, 0]
            box = box + positive_smooth_l1(chosen, truth, matches, boxes, positive, self.delta_weights, self.beta)
        count = count.clamp(min=1)
        return classification / count, box / count

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        """As `Head.class_parameters`."""
        parts = {"scores.weight": (1, 1), "scores.bias": (1, 1)}
        return parts if self.class_agnostic else parts | {"deltas.weight": (1, 4), "deltas.bias": (1, 4)}


def in_a_row(boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The boxes of all images (R, 4) and the image of each (R,) int64."""
    index = [torch.full((len(b),), i, dtype=torch.int64, device=b.device) for i, b in enumerate(boxes)]
    return torch.cat(list(boxes)), torch.cat(index)


def conv_block(in_channels: int, channels: int, norm: NormLayer | None) -> nn.Sequential:
    """A 3×3 convolution, normalised if asked for, and ReLU; He initialisation as in torchvision's heads."""
    conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=norm is None)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    layers = [conv] if norm is None else [conv, norm(channels)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
