"""A model made ready for prediction alone: the same answers, or nearly, in less time."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn

from vision_tasks.data.allocator import keep_memory
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.roi_box import RoIBoxStage
from vision_tasks.heads.roi_mask import RoIMaskStage
from vision_tasks.heads.semantic import Decoder
from vision_tasks.inference.speed.compiled import Compiled, compiler_problem
from vision_tasks.inference.speed.folding import fold
from vision_tasks.inference.speed.packed import can_pack, pack
from vision_tasks.inference.speed.processor import cpu_bf16
from vision_tasks.models.vision_model import VisionModel

log = logging.getLogger("vision_tasks")

SPEEDS = ("exact", "fast", "max")
"""What `prepare` offers, by what it costs."""


def prepare(model: VisionModel, speed: str, device: torch.device) -> VisionModel:
    """A copy of the model for prediction on a device; the model itself is left alone and may go on training.

    Batch norm is folded into the convolutions before it, and maps are channels-last. Thresholds, boxes, suppression and
    masks are float32 at every speed.

    Args:
        model: any. speed: "exact": float32, the same arithmetic up to rounding, so the same detections.
            "fast": convolutions and products in half precision where the processor has it, else as "exact", which is
            said once. "max": also compiled, where a compiler is.
        device: that the copy lies on.

    Returns:
        A model in evaluation mode whose `preprocess`, `features`, `predict` and heads work as before. It cannot be
        trained, saved or exported.

    Raises:
        VisionTasksError: an unknown speed.
    """
    if speed not in SPEEDS:
        raise VisionTasksError(f"speed must be one of {', '.join(SPEEDS)}, not {speed!r}.")
    if device.type == "cpu":
        keep_memory()
    ready = copy.deepcopy(model).eval().requires_grad_(False).float()
    fold(ready)
    dtype = torch.float32 if speed == "exact" else half_precision(device)
    if speed != "exact" and dtype is torch.float32:
        log.warning("%s", describe_speed(device))
    ready.to(device).to(memory_format=torch.channels_last)
    dense = [part for part in (ready.backbone, ready.neck) if part is not None]
    problem = compiler_problem(device) if speed == "max" else "not asked for"
    if device.type == "cpu" and can_pack():
        for module in ready.modules():
            if isinstance(module, RoIBoxStage):
                module.read_channels_last()
            elif isinstance(module, RoIMaskStage):
                module.upsample_by_cells()
        pack(ready, dtype, () if problem else dense)
    _take_images_as(ready, dtype)
    if dtype != torch.float32:
        _lower(ready, dtype)
    if speed == "max":
        _compile(ready, dtype, device, problem)
    return ready


def _compile(model: VisionModel, dtype: torch.dtype, device: torch.device, problem: str | None) -> None:
    """Compile backbone and neck, or say why not."""

    def give_up(reason: str) -> None:
        log.warning("speed=max works as fast does: the network could not be compiled, because %s.", reason)
        for name in ("backbone", "neck"):
            part = getattr(model, name)
            if isinstance(part, Compiled):
                setattr(model, name, part.inner)
        if device.type == "cpu" and can_pack():
            pack(model, dtype)

    if problem is not None:
        log.warning("speed=max works as fast does: the network cannot be compiled, because %s.", problem)
        return
    for name in ("backbone", "neck"):
        part = getattr(model, name)
        if part is not None:
            setattr(model, name, Compiled(part, device, give_up))


def half_precision(device: torch.device) -> torch.dtype:
    """The dtype that convolutions are fastest in without losing range; float32 where nothing is faster."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and cpu_bf16() and torch.backends.mkldnn.is_available():
        return torch.bfloat16
    return torch.float32


def describe_speed(device: torch.device) -> str:
    """One sentence on what "fast" is on this device."""
    dtype = half_precision(device)
    if device.type == "cpu":
        if dtype == torch.bfloat16:
            return f"This processor has {cpu_bf16()}: speed=fast computes in bfloat16."
        return (
            f"This processor ({torch.backends.cpu.get_cpu_capability()}) has neither AMX nor AVX512-BF16: speed=fast "
            "computes in float32, as exact does."
        )
    if dtype == torch.float32:
        return f"On {device.type} speed=fast computes in float32, as exact does."
    return f"On {device.type} speed=fast computes in {str(dtype).removeprefix('torch.')}."


def _take_images_as(model: VisionModel, dtype: torch.dtype) -> None:
    """Let the backbone read images channels-last in this dtype, however they come."""

    def converted(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        images, *rest = inputs
        return (images.to(dtype=dtype, memory_format=torch.channels_last), *rest)

    model.backbone.register_forward_pre_hook(converted)


def _lower(model: VisionModel, dtype: torch.dtype) -> None:
    """Let convolutions and products work in half precision; statistics, anchors and what is scored stay float32."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
            module.register_forward_pre_hook(_cast_to(dtype))
        elif isinstance(module, Decoder):
            module.register_forward_hook(_as_float32)


def _cast_to(dtype: torch.dtype) -> Any:
    return lambda _, inputs: tuple(x.to(dtype) if isinstance(x, Tensor) else x for x in inputs)


def _as_float32(_: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.contiguous().float()  # planes, as maps are decided; half floats are turned round sooner
