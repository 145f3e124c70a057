"""Darknet's `.weights`: a header and nothing but float32 values, in the order of the layers of a `.cfg`."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights.darknet_cfg import Layer

NORM_NAMES = ("bias", "weight", "running_mean", "running_var")
"""What a file holds of a batch norm, in its order."""

COCO_OUTPUTS = 80
"""Classes of the published COCO files."""

HEAD_PARTS = ("boxes", "objectness", "classes")
"""Our three layers for what Darknet keeps in one convolution before each yolo layer: see `split_head`."""


def is_darknet(path: Path) -> bool:
    """Whether a file is one of Darknet's, by its name: `.weights`, or `.conv.N` for the first N layers."""
    return path.suffix == ".weights" or _cutoff(path) is not None


def read_weights(path: str | Path, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Weights of the layers of a `.cfg`, in the names of `models.darknet`.

    A file whose name ends in `.conv.N` holds the first N layers only, as Darknet's `partial` command writes them.

    Args:
        layers: of `darknet_cfg.plan`.

    Returns:
        float32 tensors by name.

    Raises:
        VisionTasksError: no such file; no header of Darknet's; fewer or more values than the layers want.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise VisionTasksError(f"There is no weight file {path}. Check the path.")
    wanted = [layer for layer in layers[: _cutoff(path)] if layer.section.kind == "convolutional"]
    start = _header_size(path)
    size = path.stat().st_size - start
    counts = [_count(layer) for layer in wanted]
    if size != 4 * count_values(wanted):
        raise VisionTasksError(_misfit(path, size, wanted, counts))
    values = torch.from_numpy(np.fromfile(path, dtype="<f4", offset=start).astype(np.float32, copy=False))
    state: dict[str, Tensor] = {}
    of_yolo = {layer.sources[0]: layer for layer in layers if layer.section.kind == "yolo"}
    for layer, block in zip(wanted, values.split(counts), strict=True):
        index = layer.section.index
        tensors = _convolution(layer, block)
        if index in of_yolo:
            yolo = of_yolo[index].section
            parts = split_head(tensors["conv.weight"], tensors["conv.bias"], len(yolo.integers("mask")))
            state |= {f"heads.objects.{level_name(yolo.index)}.{name}": value for name, value in parts.items()}
        else:
            state |= {f"backbone.layers.{index}.{name}": value for name, value in tensors.items()}
    return state


def count_values(layers: Sequence[Layer]) -> int:
    """Values that the layers want of a file."""
    return sum(_count(layer) for layer in layers if layer.section.kind == "convolutional")


def level_name(index: int) -> str:
    """Name of the map that the yolo layer with this number reads."""
    return f"yolo{index}"


def split_head(weight: Tensor, bias: Tensor, anchors: int) -> dict[str, Tensor]:
    """The convolution before a yolo layer as three, so that each kind of output can be kept or replaced by itself.

    Args:
        weight: (A × (5 + C), in, k, k), for each of A anchors x, y, width, height, objectness, and C classes.
        bias: (A × (5 + C),).

    Returns:
        `boxes.weight` (A × 4, in, k, k), `objectness.weight` (A, ...), `classes.weight` (A × C, ...), and biases.
    """
    parts = {}
    for kind, value in (("weight", weight), ("bias", bias)):
        per_anchor = value.unflatten(0, (anchors, -1))
        columns = (per_anchor[:, :4], per_anchor[:, 4:5], per_anchor[:, 5:])
        for name, part in zip(HEAD_PARTS, columns, strict=True):
            parts[f"{name}.{kind}"] = part.flatten(0, 1).clone()
    return parts


def _cutoff(path: Path) -> int | None:
    *_, word, number = ["", "", *path.name.split(".")]
    return int(number) if word == "conv" and number.isdecimal() else None


def _header_size(path: Path) -> int:
    """Bytes before the values. The count of images seen became 64 bits wide with version 0.2."""
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12:
        raise VisionTasksError(f"{path} is truncated: it has {len(head)} bytes, not even Darknet's header.")
    major, minor, _ = struct.unpack("<3i", head)
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise VisionTasksError(
            f"{path} does not begin with a version of Darknet's. Is it a .weights file? (Other programs' files have "
            "other endings.)"
        )
    return 12 + (8 if major * 10 + minor >= 2 else 4)


def _count(layer: Layer) -> int:
    return math.prod(layer.kernel) + layer.channels * (4 if layer.section.flag("batch_normalize") else 1)


def _convolution(layer: Layer, values: Tensor) -> dict[str, Tensor]:
    out = layer.channels
    if layer.section.flag("batch_normalize"):
        norm, kernel = values[: 4 * out].view(4, out), values[4 * out :]
        tensors = {f"norm.{name}": row.clone() for name, row in zip(NORM_NAMES, norm, strict=True)}
    else:
        tensors, kernel = {"conv.bias": values[:out].clone()}, values[out:]
    return {**tensors, "conv.weight": kernel.view(layer.kernel).clone()}


def _misfit(path: Path, size: int, wanted: Sequence[Layer], counts: Sequence[int]) -> str:
    total = 4 * count_values(wanted)
    if size > total:
        return (
            f"{path} is too long: after its header it has {size} bytes, {size - total} more than the cfg's "
            f"{len(wanted)} convolutions want. It belongs to another cfg, or one with other classes."
        )
    ends = itertools.accumulate(4 * count for count in counts)
    section = next(layer.section for layer, end in zip(wanted, ends, strict=True) if end > size)
    return (
        f"{path} is truncated, or belongs to another cfg: its {size} bytes end in layer {section.index} "
        f"([convolutional] on line {section.line} of the cfg) of the {total} that all layers want."
    )
