"""What all one-stage detectors share: every cell or anchor scored at once, then the best of them decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vision_tasks.heads.base import Head
from vision_tasks.ops.detections import DetectionRule, detect, detect_fixed
from vision_tasks.structures import Batch, Categories, Prediction


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

    def outputs(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> DenseOutputs:
        """The network's answer for images padded to a canvas of (height, width)."""
        raise NotImplementedError

    def scores(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        """(..., C) logits and (..., 1) quality -> (..., K) probabilities of the real categories."""
        raise NotImplementedError

    def best_scores(self, logits: Tensor, quality: Tensor | None) -> Tensor | None:
        """(A, C) and (A, 1) -> (A,) what no score of an anchor exceeds, if that is cheaper to say than all scores.

        Nearly all anchors are dropped by it before the other C - 1 scores of each are worked out.
        """
        return None

    def decode(self, boxes: Tensor, references: Tensor) -> Tensor:
        """(..., 4) outputs and (..., 4) references -> (..., 4) corners in network pixels."""
        raise NotImplementedError

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        """Detections of every image, best first, on the network's grid."""
        out = self.outputs(features, (batch.images.shape[-2], batch.images.shape[-1]))
        predictions = []
        for i, size in enumerate(batch.image_sizes):
            logits, quality = out.logits[i], None if out.quality is None else out.quality[i]
            offsets, references, lengths = out.boxes[i], out.references, out.lengths
            best = self.best_scores(logits, quality)
            if best is not None:
                passed = best > self.rule.score_threshold
                rows = passed.nonzero().flatten()
                logits, quality = logits[rows], None if quality is None else quality[rows]
                offsets, references = offsets[rows], references[rows]
                lengths = torch.stack([level.sum() for level in passed.split(lengths)]).tolist()
            boxes, labels, scores = detect(
                self.scores(logits, quality), partial(self._decode_rows, offsets, references),
                size, self.rule, lengths, self.columns,
            )  # fmt: skip
            predictions.append(Prediction(size, self.categories, boxes=boxes, labels=labels, scores=scores))
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
        return self.decode(boxes[rows], references[rows])
