"""Which layer of a network feeds which, seen by running it once on noise.

Reading the code of every network there is (torchvision's, timm's, Darknet's, ours) would take as many rules as there
are networks, and a rule can be wrong. A run shows what happens: every tensor a layer makes is watched until the end,
and every operation that reads it is counted.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel


@dataclass
class Trace:
    """What was seen of the watched layers.

    Attributes:
        calls: how often each layer ran; what never ran is not in it.
        inputs: shape of what each layer read first.
        only_reader: (layer, reader) where all that the first ever made was read by the second alone, once, and the
            second never read anything else.
    """

    calls: Counter[nn.Module] = field(default_factory=Counter)
    inputs: dict[nn.Module, torch.Size] = field(default_factory=dict)
    only_reader: dict[nn.Module, nn.Module] = field(default_factory=dict)


class _Watch(TorchDispatchMode):
    """Counts the operations that read a watched tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[int] = Counter()
        self.kept: dict[int, Tensor] = {}  # alive until the end, so that no other tensor gets its identity

    def __torch_dispatch__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if id(value) in self.kept:
                self.reads[id(value)] += 1
        return func(*args, **(kwargs or {}))


@dataclass
class _Made:
    """A tensor on its way from the layer that made it."""

    layer: nn.Module
    reader: nn.Module | None = None
    reads: int = 0


def probe(preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """Noise as images (1, C, H, W), small where the network allows it, and their sizes (1, 2)."""
    if preprocess.resize == "stretch" and preprocess.size is not None:
        height, width = preprocess.size
    else:
        height, width = (math.ceil(side / preprocess.stride) * preprocess.stride for side in (128, 160))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, len(preprocess.mean), height, width, generator=generator)
    return images, torch.tensor([[height, width]])


@contextmanager
def _few_objects(model: VisionModel) -> Iterator[None]:
    """Let R-CNN's stages look at a handful of boxes: what reads what does not depend on how many there are."""
    heads = [head for head in model.named_heads().values() if isinstance(head, FasterRCNNHead)]
    usual = [(head, head.rule, head.rpn.test_top) for head in heads]
    try:
        for head in heads:
            head.rule, head.rpn.test_top = dataclasses.replace(head.rule, detections=2), (4, 4)
        yield
    finally:
        for head, rule, top in usual:
            head.rule, head.rpn.test_top = rule, top


@torch.no_grad()
def trace(model: VisionModel, kinds: Sequence[type[nn.Module]]) -> Trace:
    """Run backbone, neck and heads once and watch the layers of these kinds.

    Args:
        model: in evaluation mode.
    """
    watch, seen, made = _Watch(), Trace(), list[_Made]()
    current: dict[int, _Made] = {}  # by identity of the tensor
    edges: Counter[tuple[nn.Module, nn.Module]] = Counter()

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        source = inputs[0] if inputs else None
        seen.calls[layer] += 1
        if isinstance(source, Tensor):
            seen.inputs.setdefault(layer, source.shape)
        known = current.get(id(source))
        if known is not None:
            edges[known.layer, layer] += 1
            known.reader = layer if known.reader is None else known.layer  # a layer never reads itself: not exclusive

    def after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        last = current.get(id(output))
        if last is not None:  # changed in place: from here on it is this layer's
            last.reads = watch.reads[id(output)]
        watch.kept[id(output)], watch.reads[id(output)] = output, 0
        current[id(output)] = _Made(layer)
        made.append(current[id(output)])

    watched = [m for m in model.modules() if isinstance(m, tuple(kinds))]
    hooks = [m.register_forward_pre_hook(before) for m in watched]
    hooks += [m.register_forward_hook(after) for m in watched]
    images, sizes = (t.to(model.device) for t in probe(model.preprocess))
    try:
        with watch, _few_objects(model):
            features = model.features(images)
            for level in features.values():  # a map that is handed out is read, whether or not by a head
                watch.reads[id(level)] += 1
            for head in model.named_heads().values():
                head.tensors(features, sizes, (images.shape[-2], images.shape[-1]))
    finally:
        for hook in hooks:
            hook.remove()
    for key, one in current.items():
        one.reads = watch.reads[key]
    alone: dict[nn.Module, bool] = {}
    for one in made:
        alone[one.layer] = alone.get(one.layer, True) and one.reads == 1 and one.reader not in (None, one.layer)
    for (layer, reader), count in edges.items():
        if alone.get(layer) and count == seen.calls[layer] == seen.calls[reader]:
            seen.only_reader[layer] = reader
    return seen
