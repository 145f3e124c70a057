"""Losses of semantic maps by name, and the sum's parts that a recipe asks for."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor

from vision_tasks.losses.cross_entropy import cross_entropy
from vision_tasks.losses.focal import focal
from vision_tasks.losses.lovasz import lovasz
from vision_tasks.losses.overlap import dice, jaccard, tversky

LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "focal": focal,
    "jaccard": jaccard,
    "lovasz": lovasz,
    "tversky": tversky,
}
"""Name -> function(logits, target, **options) that returns a scalar. Add your own with `LOSSES["mine"] = function`.

Logits (B, K, H, W) are float32 or float64. The target is (B, H, W) int64 of labels, of which a softmax is compared, or
(B, K, H, W) of 0 and 1 in any type of integers, of K sigmoids. What is -1 must count nowhere, and if nothing else is
there the loss must be 0 and have a gradient."""


def semantic_losses(logits: Tensor, target: Tensor, spec: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Losses of a batch of maps, each by its name in the spec, in float32 (of float64 logits in float64).

    Args:
        logits: (B, K, H, W).
        target: (B, H, W) labels 0..K-1, of a softmax; or (B, K, H, W), 1 where a category is and 0 where it is not.
            Whatever is below 0 is ignored.
        spec: names in `LOSSES`, with their options.

    Raises:
        ValueError: no such loss or option, an option of another type or out of range, shapes that do not fit, or, on
            the CPU, a label that is no category (a GPU stops in its kernel: looking would mean waiting for it).
    """
    if not (logits.ndim == 4 and target.shape in (logits.shape, logits.shape[:1] + logits.shape[2:])):
        raise ValueError(f"the target of logits {tuple(logits.shape)} has shape {tuple(target.shape)}")
    functions = {name: _checked(name, options) for name, options in spec.items()}
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if target.ndim == 3:
            target = target.long().clamp_min(-1)
            if target.device.type == "cpu" and target.numel() and int(target.max()) >= logits.shape[1]:
                raise ValueError(f"the target has label {int(target.max())}, but labels end at {logits.shape[1] - 1}")
        return {name: function(logits, target, **spec[name]) for name, function in functions.items()}


def _checked(name: str, options: Mapping[str, Any]) -> Callable[..., Tensor]:
    if name not in LOSSES:
        raise ValueError(f"there is no semantic loss {name!r}.{_nearest(name, LOSSES)} Known: {', '.join(LOSSES)}")
    kinds = _options(LOSSES[name])
    for option, value in options.items():
        if option not in kinds:
            raise ValueError(
                f"the semantic loss {name} has no option {option!r}.{_nearest(option, kinds)} "
                f"It has: {', '.join(kinds)}"
            )
        if not _fits(value, kinds[option]):
            raise ValueError(
                f"the option {option} of the semantic loss {name} takes {_in_words(kinds[option])}, not {value!r}"
            )
    return LOSSES[name]


@lru_cache
def _options(function: Callable[..., Tensor]) -> dict[str, Any]:
    """Names of its options, and their types as far as they can be told."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError:  # of types that only a type checker imports
        parameters = inspect.signature(function).parameters
    return {name: parameter.annotation for name, parameter in list(parameters.items())[2:]}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of a recipe is of the kind that a signature asks for: numbers, words, lists, or None."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Sequence:
        return isinstance(value, list | tuple) and all(_fits(v, get_args(kind)[0]) for v in value)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return value is None if kind is NoneType else (kind is not bool or isinstance(value, bool))


def _in_words(kind: Any) -> str:
    """A kind as the user of a recipe reads it."""
    if Sequence in (get_origin(kind), *map(get_origin, get_args(kind))):
        return "a list of one number for each category, or names of categories with numbers ({road: 2})"
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
