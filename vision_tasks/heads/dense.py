"""What all one-stage detectors share: every cell or anchor scored at once, then the best of them decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from vision_tasks.heads.base import Head
from vision_tasks.ops.detections import DetectionRule, Found, above, detect_fixed, detect_found
from vision_tasks.structures import Batch, Categories, Prediction, Size

_REMEMBERED = 16  # sizes of images whose anchors are kept


@dataclass
class DenseOutputs:
    """What a dense head's network says about A anchors (or cells) of B images, levels one after another.

    Attributes:
        logits: (B, A, C) float32, C class outputs. boxes: (B, A, 4) float32, undecoded.
        references: (A, 4) anchors, or whatever `decode` wants to know of a cell. lengths: anchors of each level.
        quality: (B, A, 1) float32 logits of objectness or centreness, or None.
    """

    logits: Tensor
    boxes: Tensor
    references: Tensor
    lengths: list[int]
    quality: Tensor | None = None


@dataclass
class DenseMaps:
    """The same level by level, as the network's layers leave it: in any float type, views where they can be.

    Attributes:
        logits: (B, A_i, C) each. boxes: (B, A_i, 4) each. quality: (B, A_i, 1) each, or none.
        sizes: (height, width) of the levels' maps.
    """

    logits: list[Tensor]
    boxes: list[Tensor]
    quality: list[Tensor]
    sizes: list[Size]


class DenseHead(Head):
    """A one-stage detection head: subclasses say what the outputs are, this says what becomes of them.

    Attributes:
        rule: thresholds, candidates and suppression.
    """

    def __init__(
        self, categories: Categories, levels: Sequence[str], columns: Sequence[int], rule: DetectionRule
    ) -> None:
        super().__init__(categories, levels, columns)
        self.rule = rule
        self._known_references: dict[object, Tensor] = {}

    def maps(self, features: dict[str, Tensor], canvas: Size) -> DenseMaps:
        """The network's answer for images padded to a canvas of (height, width), level by level."""
        raise NotImplementedError

    def references(self, sizes: list[Size], canvas: Size) -> Tensor:
        """(A, 4) float32: the anchors or cells of maps of these (height, width) on a canvas of (height, width)."""
        raise NotImplementedError

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        """(..., C) float32 logits and (..., 1) quality -> (..., K) probabilities of the real categories."""
        raise NotImplementedError

    def found(self, logits: Tensor, quality: Tensor | None) -> Found:
        """Every score of one image that exceeds the threshold.

        Subclasses whose scores are cheaper to compare than to compute do so. The scores they give are those of
        `scores`, but for a float's last bit.

        Args:
            logits: (A, C) of any float type. quality: (A, 1) or None.
        """
        scores = self.scores(logits.float(), None if quality is None else quality.float())
        rows, labels = above(scores, self.rule.score_threshold)
        return Found(rows, labels, scores[rows, labels])

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """(..., 4) outputs and (..., 4) references -> (..., 4) corners in network pixels."""
        raise NotImplementedError

    def outputs(self, features: dict[str, Tensor], canvas: Size) -> DenseOutputs:
        """The network's answer in one piece: what losses and exported programs work on."""
        maps = self.maps(features, canvas)
        return DenseOutputs(
            torch.cat(maps.logits, 1).float(),
            torch.cat(maps.boxes, 1).float(),
            self.references(maps.sizes, canvas),
            [logits.shape[1] for logits in maps.logits],
            torch.cat(maps.quality, 1).float() if maps.quality else None,
        )

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        """Detections of every image, best first, on the network's grid."""
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        maps = self.maps(features, canvas)
        references = self._references(maps.sizes, canvas, batch.images.device)
        lengths = [logits.shape[1] for logits in maps.logits]
        starts = [0, *accumulate(lengths)]
        boxes = torch.cat(maps.boxes, 1)
        predictions = []
        for i, size in enumerate(batch.image_sizes):
            found = [
                self.found(logits[i], maps.quality[level][i] if maps.quality else None)
                for level, logits in enumerate(maps.logits)
            ]
            together = Found(
                torch.cat([part.rows + start for part, start in zip(found, starts, strict=False)]),
                torch.cat([part.labels for part in found]),
                torch.cat([part.scores for part in found]),
            )
            decode = partial(self._decode_rows, boxes[i], references)
            chosen, labels, scores = detect_found(together, decode, size, self.rule, lengths, self.columns)
            predictions.append(Prediction(size, self.categories, boxes=chosen, labels=labels, scores=scores))
        return predictions

    def tensors(self, features: dict[str, Tensor], image_sizes: Tensor, canvas: tuple[int, int]) -> dict[str, Tensor]:
        out = self.outputs(features, canvas)
        images = []
        for i in range(out.logits.shape[0]):
            boxes, labels, scores, _, count = detect_fixed(
                self.scores(out.logits[i], None if out.quality is None else out.quality[i]),
                partial(self._decode_rows, out.boxes[i], out.references),
                image_sizes[i], self.rule, out.lengths, self.columns,
            )  # fmt: skip
            images.append({"boxes": boxes, "labels": labels, "scores": scores, "count": count})
        return {name: torch.stack([image[name] for image in images]) for name in images[0]}

    def _decode_rows(self, boxes: Tensor, references: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        return self.decode(boxes[rows].float(), references[rows])

    def _references(self, sizes: list[Size], canvas: Size, device: torch.device) -> Tensor:
        """`references`, remembered: images of one size have the same."""
        key = (tuple(sizes), canvas, device)
        known = self._known_references
        if key not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            with torch.inference_mode(mode=False), torch.no_grad():  # they may be used outside of it next time
                known[key] = self.references(sizes, canvas)
        return known[key]


def labels_above(logits: Tensor, limit: float, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and label of the (A, C) logits, of any float type, that exceed about `limit` and are of a category.

    A little too many, never too few: the limit is rounded to the logits' type.
    """
    rows, outputs = above(logits, rounded_down(limit))
    label_of = torch.full((logits.shape[1],), -1, device=logits.device).scatter(
        0, columns, torch.arange(len(columns), device=logits.device)
    )
    labels = label_of[outputs]
    real = (labels >= 0).nonzero().flatten()
    return rows[real], outputs[real], labels[real]


def rounded_down(limit: float) -> float:
    """A limit that is not above the given one in any float type."""
    return limit - abs(limit) / 64


def exceeding(found: Found, threshold: float) -> Found:
    """Those whose scores really exceed it."""
    kept = (found.scores > threshold).nonzero().flatten()
    return Found(found.rows[kept], found.labels[kept], found.scores[kept])
