"""Semantic segmentation as a head: a decoder draws scores of every category, the head learns and decides by them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision_tasks.heads.base import Head
from vision_tasks.losses.semantic import semantic_losses
from vision_tasks.ops.semantic import decide
from vision_tasks.structures import Batch, Categories, Prediction, Target


class Decoder(nn.Module):
    """Maps in, scores of every output at every place out, at whatever stride it works.

    Attributes:
        levels: names of the maps it reads, of backbone and neck together, finest first.
    """

    levels: tuple[str, ...]

    def forward(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        """Logits (B, outputs, h, w).

        Args:
            canvas: (height, width) of the batch's images, for decoders that draw at full size.
        """
        raise NotImplementedError

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        """As `Head.class_parameters`, by names in this module."""
        raise NotImplementedError


def first_scores(classifier: nn.Conv2d) -> nn.Conv2d:
    """Glorot and Bengio's first values for a last layer, as segmentation_models_pytorch has them; returns it."""
    nn.init.xavier_uniform_(classifier.weight)
    assert classifier.bias is not None
    nn.init.zeros_(classifier.bias)
    return classifier


class SemanticHead(Head):
    """A category for every pixel; or, of every category on its own, the pixels where it is.

    With `multi_label`, and with a single category, outputs go through a sigmoid each and `Prediction.semantic` is
    (L, H, W) bool. Else they go through a softmax, background is a category like any other, and it is (H, W) int16.

    Losses are those of `losses`, computed on logits resized to the canvas in float32, over pixels that are annotated;
    `auxiliary` is the first of them on the auxiliary decoder's logits (PSPNet, section 3.2).

    Args:
        decoder: draws the logits. columns: output of each category; 0..K-1 if not given.
        losses: their names in `losses.semantic.LOSSES`, with options each. `class_weights` may be a mapping from
            categories' names to numbers, too; those not named weigh 1.
        auxiliary: a second decoder that learns along and is not used to predict.
        auxiliary_weight: of its loss, unless the recipe says otherwise.
    """

    kind = "semantic"

    def __init__(
        self,
        categories: Categories,
        decoder: Decoder,
        columns: Sequence[int] | None = None,
        multi_label: bool = False,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        auxiliary: Decoder | None = None,
        auxiliary_weight: float = 0.4,
    ) -> None:
        super().__init__(categories, decoder.levels, columns or range(len(categories)))
        self.decoder = decoder
        self.auxiliary = auxiliary
        self.multi_label = multi_label or len(categories) == 1
        self.spec: dict[str, dict[str, Any]] = {
            name: _by_label(name, options or {}, categories)
            for name, options in (losses or {"cross_entropy": {}}).items()
        }
        if not self.spec:
            raise ValueError("losses must name at least one loss")
        self.default_weights = {"auxiliary": auxiliary_weight}
        self._in_order = list(columns or range(len(categories))) == list(range(len(categories)))
        # A misspelt loss or option shall be found when the model is made, not in the first step.
        shape = (1, len(categories), 1, 1) if self.multi_label else (1, 1, 1)
        logits = torch.zeros(1, len(categories), 1, 1, device="cpu")
        nothing = torch.full(shape, -1, dtype=torch.int8, device="cpu")
        semantic_losses(logits, nothing, self.spec)

    def logits(self, features: dict[str, Tensor], canvas: tuple[int, int]) -> Tensor:
        """(B, K, h, w) of the categories, at the decoder's own stride."""
        return self._picked(self.decoder(features, canvas))

    def annotated(self, target: Target) -> bool:
        return target.semantic is not None

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.targets is not None, "losses need targets"
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        truth = self._stacked(batch, canvas)
        found = semantic_losses(_resized(self.logits(features, canvas), canvas), truth, self.spec)
        if self.auxiliary is not None:
            logits = _resized(self._picked(self.auxiliary(features, canvas)), canvas)
            first = next(iter(self.spec.items()))
            (found["auxiliary"],) = semantic_losses(logits, truth, dict([first])).values()
        return found

    def predict(self, features: dict[str, Tensor], batch: Batch) -> list[Prediction]:
        """Maps at the images' original sizes: a map that is decided cannot be resized without loss."""
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        return [
            Prediction(
                size,
                self.categories,
                semantic=decide(logits, size, scale, offset, canvas, self.multi_label),
                semantic_categories=self.categories,
            )
            for logits, size, scale, offset in zip(
                self.logits(features, canvas), batch.original_sizes, batch.scales, batch.offsets, strict=True
            )
        ]

    def tensors(self, features: dict[str, Tensor], image_sizes: Tensor, canvas: tuple[int, int]) -> dict[str, Tensor]:
        """`semantic`: (B, H, W) int16 labels, or (B, L, H, W) bool, on the canvas."""
        logits = _resized(self.logits(features, canvas), canvas)
        return {"semantic": logits > 0 if self.multi_label else logits.argmax(dim=1).to(torch.int16)}

    def class_parameters(self) -> dict[str, tuple[int, int]]:
        parts = {f"decoder.{name}": part for name, part in self.decoder.class_parameters().items()}
        if self.auxiliary is not None:
            parts |= {f"auxiliary.{name}": part for name, part in self.auxiliary.class_parameters().items()}
        return parts

    def _picked(self, logits: Tensor) -> Tensor:
        # Published heads have as many outputs as categories; picking them again would only copy.
        k = len(self.categories)
        return logits if logits.shape[1] == k and self._in_order else logits[:, self.columns]

    def _stacked(self, batch: Batch, canvas: tuple[int, int]) -> Tensor:
        """Truth on the canvas, -1 where there is none: (B, H, W) int16, or (B, L, H, W) int8.

        Raises:
            ValueError: a truth of the other kind.
        """
        targets = batch.targets or []
        device = batch.images.device
        if self.multi_label:
            truth = torch.full((len(targets), len(self.categories), *canvas), -1, dtype=torch.int8, device=device)
        else:
            truth = torch.full((len(targets), *canvas), -1, dtype=torch.int16, device=device)
        for i, (target, (x, y)) in enumerate(zip(targets, batch.offsets, strict=True)):
            if target.semantic is None:
                continue
            if target.semantic.ndim != truth.ndim - 1 or (
                self.multi_label and len(target.semantic) != len(self.categories)
            ):
                raise ValueError(
                    f"image id {target.image_id} has a semantic map of shape {tuple(target.semantic.shape)}, but the "
                    f"head learns {'a layer for each of' if self.multi_label else 'one label out of'} "
                    f"{len(self.categories)} categories"
                )
            h, w = target.semantic.shape[-2:]
            truth[i, ..., int(y) : int(y) + h, int(x) : int(x) + w] = target.semantic.to(truth.dtype)
        return truth


def _by_label(loss: str, options: Mapping[str, Any], categories: Categories) -> dict[str, Any]:
    """A loss's options with `class_weights` by label where they were given by name.

    Raises:
        ValueError: a name that no category has.
    """
    weights = options.get("class_weights")
    if not isinstance(weights, Mapping):
        return dict(options)
    for name in weights:
        if name not in categories.names:
            close = difflib.get_close_matches(str(name), categories.names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            shown = ", ".join(categories.names[:20]) + (", ..." if len(categories) > 20 else "")
            raise ValueError(f"class_weights of the loss {loss} names {name!r}, which is no category.{hint} "
                             f"There are: {shown}")  # fmt: skip
    if not all(isinstance(weight, Real) for weight in weights.values()):
        return dict(options)  # refused as a whole, with what was given
    return dict(options) | {"class_weights": [weights.get(name, 1.0) for name in categories.names]}


def _resized(logits: Tensor, canvas: tuple[int, int]) -> Tensor:
    logits = logits.float()
    if logits.shape[-2:] == canvas:
        return logits
    return F.interpolate(logits, size=canvas, mode="bilinear", align_corners=False)
