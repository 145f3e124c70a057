"""Several models that are asked together: what their labels mean is matched by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories, Prediction

Kind = Literal["objects", "semantic"]


class Ensemble:
    """Models that answer the same question, in evaluation mode and on one device.

    Attributes:
        models: the members; labels, ids and colours of the first are those of all. weights: theirs, positive.

    Raises:
        VisionTasksError: no model, weights that do not fit, or models that do not know the same categories by name, do
            not all find objects, draw masks or maps, or take images of different channels.
    """

    def __init__(self, models: Sequence[VisionModel], weights: Sequence[float] | None = None) -> None:
        self.models = list(models)
        self.weights = [1.0] * len(self.models) if weights is None else [float(w) for w in weights]
        if not self.models:
            raise VisionTasksError("An ensemble needs at least one model.")
        if len(self.weights) != len(self.models) or not all(0 < w < float("inf") for w in self.weights):
            raise VisionTasksError(
                f"{len(self.models)} models need as many weights, all positive, not {tuple(self.weights)}."
            )
        first = self.models[0]
        for number, model in enumerate(self.models[1:], start=2):
            _check_alike(first, model, number)
        self._labels = {kind: [_labels(first, model, kind) for model in self.models] for kind in _KINDS}

    def __len__(self) -> int:
        return len(self.models)

    def relabelled(self, prediction: Prediction, number: int) -> Prediction:
        """Objects found by a member, in the labels of the first."""
        labels = self._labels["objects"][number]
        if labels is None or prediction.labels is None:
            return prediction
        table = torch.tensor(labels, device=prediction.labels.device)
        categories = self.models[0].head_of("objects")
        assert categories is not None
        return dataclasses.replace(prediction, labels=table[prediction.labels], categories=categories.categories)

    def reordered(self, scores: Tensor, number: int) -> Tensor:
        """(K, ...) scores of a member's map in the order of the first one's categories."""
        labels = self._labels["semantic"][number]
        if labels is None:
            return scores
        order = torch.tensor(labels, device=scores.device).argsort()
        return scores[order]


_KINDS: tuple[Kind, ...] = ("objects", "semantic")
_WHAT = {"objects": "finds objects", "semantic": "draws maps"}


def _labels(first: VisionModel, model: VisionModel, kind: Kind) -> list[int] | None:
    """The first model's label for each of this one's; None where they are the same."""
    known, own = first.head_of(kind), model.head_of(kind)
    if known is None or own is None or known.categories.names == own.categories.names:
        return None
    names = known.categories.names
    return [names.index(name) for name in own.categories.names]


def _check_alike(first: VisionModel, model: VisionModel, number: int) -> None:
    for kind in _KINDS:
        one, two = first.head_of(kind), model.head_of(kind)
        if (one is None) != (two is None):
            which = "1" if one is not None else str(number)
            raise VisionTasksError(
                f"Models 1 and {number} cannot be asked together: only model {which} {_WHAT[kind]}. Use models of "
                "the same task."
            )
        if one is not None and two is not None:
            _check_names(one.categories, two.categories, number)
            if getattr(one, "multi_label", None) != getattr(two, "multi_label", None):
                raise VisionTasksError(
                    f"Models 1 and {number} cannot be asked together: one decides every category on its own, the "
                    "other between them."
                )
    if first.has_masks != model.has_masks:
        which = "1" if first.has_masks else str(number)
        raise VisionTasksError(
            f"Models 1 and {number} cannot be asked together: only model {which} has masks of objects."
        )
    one_has, two_has = len(first.preprocess.mean), len(model.preprocess.mean)
    if one_has != two_has:
        raise VisionTasksError(f"Model 1 takes images of {one_has} channels, model {number} of {two_has}.")


def _check_names(one: Categories, two: Categories, number: int) -> None:
    for which, names in ((1, one.names), (number, two.names)):
        if len(set(names)) < len(names):
            twice = sorted({n for n in names if names.count(n) > 1})
            raise VisionTasksError(
                f"Model {which} has several categories of one name ({', '.join(twice)}): they cannot be matched."
            )
    missing, extra = sorted({*one.names} - {*two.names}), sorted({*two.names} - {*one.names})
    if missing or extra:
        words = [
            f"{text} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for text, names in (("lacks", missing), ("adds", extra))
            if names
        ]
        raise VisionTasksError(
            f"Models of an ensemble must know the same categories, in any order, but model {number} "
            f"{' and '.join(words)}, compared with model 1."
        )
