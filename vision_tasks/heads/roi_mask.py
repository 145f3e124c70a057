"""The mask branch of Mask R-CNN (He et al. 2017, section 3): one small mask per box and class."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.roi_box import Drawn, NormLayer, conv_block, in_a_row
from vision_tasks.ops.mask_targets import mask_targets
from vision_tasks.ops.roi_align import multilevel_roi_align
from vision_tasks.structures import Batch


class RoIMaskStage(nn.Module):
    """RoIAlign 14×14, four convolutions, upsampling to 28×28, and a mask per class output; torchvision's numbers.

    Args:
        in_channels: of every map. levels: maps to pool from. strides: of these, in pixels.
        outputs: class outputs, background (always output 0) included. width: channels inside.
        norm: of the convolutions; torchvision's v2 has batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        levels: Sequence[str],
        strides: Sequence[int],
        outputs: int,
        width: int = 256,
        depth: int = 4,
        pool_size: int = 14,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.levels, self.strides, self.pool_size = tuple(levels), tuple(strides), pool_size
        widths = [in_channels, *[width] * depth]
        self.convs = nn.Sequential(*(conv_block(a, b, norm) for a, b in itertools.pairwise(widths)))
        self.upsample: nn.ConvTranspose2d | None = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.logits = nn.Conv2d(width, outputs, 1)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        # As in Detectron2. torchvision's fan_out gives a head of one class logits of tens, and a first loss to match,
        # which drowns every other loss for a hundred steps.
        nn.init.normal_(self.logits.weight, std=0.001)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)
        self.cells: nn.Module | None = None

    @torch.no_grad()
    def upsample_by_cells(self) -> None:
        """Write the upsampling as a product, (cells, width) -> (cells, 2 * 2 * width), which a CPU does faster.

        For prediction: the layer takes the place of `upsample`.
        """
        assert self.upsample is not None
        assert self.upsample.bias is not None
        weight, bias = self.upsample.weight, self.upsample.bias  # (in, out, 2, 2), (out,)
        cells = nn.Linear(weight.shape[0], 4 * len(bias), device=weight.device, dtype=weight.dtype)
        cells.weight.copy_(weight.permute(2, 3, 1, 0).flatten(0, 2))
        cells.bias.copy_(bias.repeat(4))
        self.cells, self.upsample = cells.requires_grad_(False), None

    def forward(self, features: dict[str, Tensor], boxes: Tensor, image_index: Tensor, outputs: Tensor) -> Tensor:
        """Mask logits (R, M, M) float32 of (R, 4) boxes for one class output each; M is 28.

        Only the wanted output of the last 1×1 convolution is computed: one of 91.
        """
        maps = [features[level] for level in self.levels]
        pooled = multilevel_roi_align(maps, self.strides, boxes, image_index, self.pool_size)
        hidden: Tensor = self.convs(pooled)
        assert self.logits.bias is not None
        weight, bias = self.logits.weight.flatten(1)[outputs], self.logits.bias[outputs]
        if self.cells is not None:
            return self._by_cells(hidden, weight, bias)
        assert self.upsample is not None
        hidden = F.relu(self.upsample(hidden))
        logits: Tensor = torch.bmm(weight[:, None], hidden.flatten(2)) + bias[:, None, None]
        return logits.view(hidden.shape[0], *hidden.shape[2:]).float()

    def _by_cells(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(R, c, M / 2, M / 2), (R, c) and (R,) -> (R, M, M): of each cell its four, put in place once they are few."""
        assert self.cells is not None
        n, _, height, width = hidden.shape
        four = F.relu(self.cells(hidden.permute(0, 2, 3, 1).flatten(0, 2))).view(n, 4 * height * width, weight.shape[1])
        logits = torch.bmm(four, weight[:, :, None].to(four.dtype)).float() + bias.float()[:, None, None]
        placed: Tensor = logits.view(n, height, width, 2, 2).transpose(2, 3).reshape(n, 2 * height, 2 * width)
        return placed

    def loss(self, features: dict[str, Tensor], drawn: Sequence[Drawn], batch: Batch, columns: Tensor) -> Tensor:
        """Binary cross entropy of the true class's mask, the mean over pixels and positive boxes.

        Images whose masks nobody annotated (`Target.masks` is None), and objects without a mask, do not count.

        columns: (K,) output that belongs to each label.
        """
        assert batch.targets is not None, "losses need targets"
        boxes, objects, outputs = [], [], []
        for (candidates, matches), target in zip(drawn, batch.targets, strict=True):
            annotated = target.masks is not None and target.labels is not None and len(target.labels)
            rows = (matches >= 0).nonzero().flatten() if annotated else matches[:0]
            boxes.append(candidates[rows])
            objects.append(matches[rows])
            outputs.append(columns[target.labels][objects[-1]] if annotated else rows)
        logits: Tensor = self(features, *in_a_row(boxes), torch.cat(outputs))
        # On the host, while the device is busy with the above.
        wanted, valid = [logits.new_zeros((0, *logits.shape[1:]))], [torch.zeros(0, dtype=torch.bool)]
        for image_boxes, index, target, scale, offset in zip(
            boxes, objects, batch.targets, batch.scales, batch.offsets, strict=True
        ):
            if target.masks is not None and len(index):
                part = mask_targets(target.masks, image_boxes, index, scale, logits.shape[-1], offset)
                wanted.append(part[0])
                valid.append(part[1])
        counted = torch.cat([v.to(logits.device) for v in valid])
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat(wanted), reduction="none").mean(dim=(1, 2))
        return logits.sum() * 0 + loss.where(counted, 0).sum() / counted.sum().clamp(min=1)
