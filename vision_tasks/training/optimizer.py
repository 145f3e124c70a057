"""Which weights move how fast, and how the rate changes over a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vision_tasks.config import OptimizerConfig
from vision_tasks.models.vision_model import VisionModel

_WARMUP_START = 0.001  # of the rate; torchvision's reference training starts there
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


def parameter_groups(model: VisionModel, config: OptimizerConfig, rate: float) -> list[dict[str, Any]]:
    """At most four groups: backbone or not, decayed or not. Frozen parameters are left out."""
    backbone = {id(p) for p in model.backbone.parameters()}
    plain = {id(p) for m in model.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    plain |= {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decayed = config.decay_norms_and_biases or id(parameter) not in plain
            groups.setdefault((id(parameter) in backbone, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate * (config.backbone_factor if in_backbone else 1.0),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), parameters in groups.items()
    ]


def make_optimizer(model: VisionModel, config: OptimizerConfig, images_per_step: int) -> Optimizer:
    """The optimiser, its rate scaled to the images per step if the config asks for it (`rate_for`)."""
    rate = config.rate * (images_per_step / config.rate_for if config.rate_for else 1.0)
    groups = parameter_groups(model, config, rate)
    if config.name == "adamw":
        return AdamW(groups, lr=rate)
    return SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.nesterov)


def rate_factor(config: OptimizerConfig, total_steps: int, steps_per_epoch: float) -> Callable[[int], float]:
    """Factor on the rate for every step: a linear warm-up, then the schedule."""
    warmup = min(config.warmup_steps, total_steps // 10)
    milestones = [round(m * steps_per_epoch) for m in config.milestones]

    def factor(step: int) -> float:
        rising = _WARMUP_START + (1 - _WARMUP_START) * step / warmup if step < warmup else 1.0
        if config.schedule == "multistep":
            return rising * config.gamma ** sum(step >= m for m in milestones)
        if config.schedule == "constant":
            return rising
        done = min(1.0, max(0.0, (step - warmup) / max(1, total_steps - warmup)))
        falling = 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else (1 - done) ** config.power
        return rising * (config.final + (1 - config.final) * falling)

    return factor


def make_schedule(optimizer: Optimizer, config: OptimizerConfig, total_steps: int, steps_per_epoch: float) -> LambdaLR:
    """The schedule; call its `step` after every optimiser step."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(config, total_steps, steps_per_epoch))
