"""Region proposal network (Ren et al. 2015, section 3.1), with torchvision's constants as defaults."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.ops import anchors as anchor_ops
from vision_tasks.ops.box_coding import Weights, decode_boxes, encode_boxes
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.detections import padded_topk
from vision_tasks.ops.matching import match, sample_balanced
from vision_tasks.ops.suppression import select, suppress_fixed
from vision_tasks.structures import Size, Target


class RPN(nn.Module):
    """Scores every anchor of every level for objectness, and moves it towards the object.

    Args:
        in_channels: of every map. levels: names of the maps.
        sizes: sides in pixels of the anchors of each level. aspect_ratios: height / width, of each of these.
        train_top, test_top: (proposals a level may send to suppression, proposals kept an image).
        batch_per_image, positive_fraction: anchors the losses look at.
        foreground, background: overlaps for matching (see `ops.matching.match`).
        score_threshold: objectness that a proposal must reach. min_size: pixels; shorter proposals are dropped.
        depth: 3×3 convolutions; torchvision's v2 has two.
    """

    def __init__(
        self,
        in_channels: int,
        levels: Sequence[str],
        sizes: Sequence[Sequence[float]] = ((32,), (64,), (128,), (256,), (512,)),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        train_top: tuple[int, int] = (2000, 2000),
        test_top: tuple[int, int] = (1000, 1000),
        iou_threshold: float = 0.7,
        batch_per_image: int = 256,
        positive_fraction: float = 0.5,
        foreground: float = 0.7,
        background: float = 0.3,
        score_threshold: float = 0.0,
        min_size: float = 1e-3,
        depth: int = 1,
    ) -> None:
        super().__init__()
        if len(sizes) != len(levels) or len({len(s) for s in sizes}) > 1:
            raise ValueError(f"equally many anchor sizes for each of the levels {', '.join(levels)}, not {sizes}")
        self.levels = tuple(levels)
        for i, sides in enumerate(sizes):
            self.register_buffer(f"cell{i}", anchor_ops.cell_anchors(sides, aspect_ratios), persistent=False)
        self.train_top, self.test_top = train_top, test_top
        self.iou_threshold, self.score_threshold, self.min_size = iou_threshold, score_threshold, min_size
        self.batch_per_image, self.positive_fraction = batch_per_image, positive_fraction
        self.foreground, self.background = foreground, background
        self.sample = sample_balanced  # an attribute, so that a comparison with another program can fix the draw
        per_cell = len(sizes[0]) * len(aspect_ratios)
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.deeper = nn.ModuleList(nn.Conv2d(in_channels, in_channels, 3, padding=1) for _ in range(depth - 1))
        # A module for each convolution, so that whoever makes a model fast can join the two.
        self.relus = nn.ModuleList(nn.ReLU(inplace=True) for _ in range(depth))
        self.objectness = nn.Conv2d(in_channels, per_cell, 1)
        self.deltas = nn.Conv2d(in_channels, 4 * per_cell, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, features: dict[str, Tensor], image_size: tuple[int, int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Objectness logits (B, A) and deltas (B, A, 4), float32, over all levels, and each level's anchors."""
        logits, deltas, sizes = [], [], []
        for level in self.levels:
            hidden = features[level]
            for conv, relu in zip((self.conv, *self.deeper), self.relus, strict=True):
                hidden = relu(conv(hidden))
            sizes.append((hidden.shape[-2], hidden.shape[-1]))
            # (B, A, h, w) -> (B, h*w*A): cells in row-major order, the anchors of a cell together.
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))
            deltas.append(self.deltas(hidden).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
        cells = [getattr(self, f"cell{i}") for i in range(len(self.levels))]
        anchors = anchor_ops.grid_anchors(cells, sizes, image_size)
        return torch.cat(logits, 1).float(), torch.cat(deltas, 1).float(), anchors

    @torch.no_grad()
    def proposals(
        self, logits: Tensor, deltas: Tensor, anchors: list[Tensor], image_sizes: Sequence[Size]
    ) -> list[Tensor]:
        """The best boxes of each image, (P, 4) in network pixels, P at most the second of `train_top` or `test_top`.

        image_sizes: (height, width) of each image on the canvas; boxes are clipped to it.
        """
        edges = image_edges(image_sizes, logits.device)
        boxes, scores, group = self._candidates(logits, deltas, anchors, edges)
        kept = (self.train_top if self.training else self.test_top)[1]
        proposals = []
        for image_boxes, image_scores in zip(boxes, scores, strict=True):
            image_group = group
            if self.score_threshold > 0:
                good = image_scores >= self.score_threshold
                image_boxes, image_scores, image_group = image_boxes[good], image_scores[good], group[good]
            chosen, _ = select(
                image_boxes, image_scores, image_group,
                iou_threshold=self.iou_threshold, top_k=kept, min_size=self.min_size,
            )  # fmt: skip
            proposals.append(image_boxes[chosen])
        return proposals

    def proposals_fixed(
        self, logits: Tensor, deltas: Tensor, anchors: list[Tensor], edges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`proposals` in a fixed shape, for `torch.export`.

        Args:
            edges: (B, 4) width, height, width, height of each image on the canvas.

        Returns:
            boxes (B, P, 4), P being the second of `test_top`, best first, then zeros; valid (B, P) bool.
        """
        boxes, scores, group = self._candidates(logits, deltas, anchors, edges)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= self.min_size).all(dim=-1)
        scores = scores.where(large & (scores >= self.score_threshold), 0)
        kept = [
            suppress_fixed(b, s, group, self.iou_threshold, self.test_top[1])
            for b, s in zip(boxes.unbind(), scores.unbind(), strict=True)
        ]
        valid = torch.stack([s > 0 for _, s in kept])
        chosen = torch.stack([b[index] for b, (index, _) in zip(boxes.unbind(), kept, strict=True)])
        return chosen.where(valid[..., None], 0), valid

    def _candidates(
        self, logits: Tensor, deltas: Tensor, anchors: list[Tensor], edges: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best of each level, decoded and clipped: boxes (B, M, 4), objectness (B, M), level (M,)."""
        per_level = (self.train_top if self.training else self.test_top)[0]
        best, picked, groups, start = [], [], [], 0
        for level, level_anchors in enumerate(anchors):
            length = level_anchors.shape[0]
            # An exported graph may not know how many there are; then what is missing is padded.
            count = min(per_level, length) if isinstance(length, int) else per_level
            value, index = padded_topk(logits[:, start : start + length], count, filler=-torch.inf)
            best.append(value)
            picked.append(index + start)
            groups.append(torch.full((index.shape[1],), level, device=logits.device))
            start = start + length
        index = torch.cat(picked, 1)
        # Only the picked are decoded: a tenth of all anchors at the published size.
        boxes = decode_boxes(deltas.gather(1, index[..., None].expand(-1, -1, 4)), torch.cat(anchors)[index])
        boxes = boxes.clamp(min=0).minimum(edges[:, None])
        return boxes, torch.cat(best, 1).sigmoid(), torch.cat(groups)

    def losses(self, logits: Tensor, deltas: Tensor, anchors: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        """Binary cross entropy on drawn anchors, smooth L1 (beta 1/9) on the positive ones, both per drawn anchor."""
        flat = torch.cat(anchors)
        objectness, box, drawn = logits.sum() * 0, deltas.sum() * 0, logits.new_zeros(())
        for image_logits, image_deltas, target in zip(logits, deltas, targets, strict=True):
            if target.boxes is None:  # nobody looked for objects here: nothing to learn from
                continue
            truth, real = learnable(target)
            overlaps = torch.where(real[:, None], pairwise_iou(truth, flat), -1)
            matches = match(overlaps, self.foreground, self.background, low_quality=True)
            index, valid = self.sample(matches, self.batch_per_image, self.positive_fraction)
            matches = matches[index]
            positive = valid & (matches >= 0)
            loss = F.binary_cross_entropy_with_logits(image_logits[index], positive.float(), reduction="none")
            objectness = objectness + loss.where(valid, 0).sum()
            box = box + positive_smooth_l1(image_deltas[index], truth, matches, flat[index], positive)
            drawn = drawn + valid.sum()
        drawn = drawn.clamp(min=1)
        return {"rpn_objectness": objectness / drawn, "rpn_box": box / drawn}


def image_edges(sizes: Sequence[Size], device: torch.device) -> Tensor:
    """(B, 4) float32 width, height, width, height: the largest corners a box on each image may have."""
    return torch.tensor([(w, h, w, h) for h, w in sizes], dtype=torch.float32, device=device)


def learnable(target: Target) -> tuple[Tensor, Tensor]:
    """Boxes (T, 4), at least one row, and which of them are single objects with an area, (T,) bool.

    A crowd's box is no object to learn; anchors and proposals that lie on it count as background, as in torchvision and
    Detectron2. Masking rather than removing needs no host synchronisation.
    """
    assert target.boxes is not None
    boxes = target.boxes
    if len(boxes) == 0:  # one row, not real, so that indexing by a clamped match stays legal
        return boxes.new_zeros((1, 4)), torch.zeros(1, dtype=torch.bool, device=boxes.device)
    real = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    if target.is_crowd is not None:
        real &= ~target.is_crowd
    return boxes, real


def positive_smooth_l1(
    deltas: Tensor, truth: Tensor, matches: Tensor, references: Tensor, positive: Tensor,
    weights: Weights = (1, 1, 1, 1), beta: float = 1 / 9,
) -> Tensor:  # fmt: skip
    """Sum of smooth L1 between (S, 4) deltas and their targets over the positive rows."""
    wanted = encode_boxes(truth[matches.clamp(min=0)], references, weights)
    rows = positive[:, None]
    return F.smooth_l1_loss(deltas.where(rows, 0), wanted.where(rows, 0), beta=beta, reduction="sum")
