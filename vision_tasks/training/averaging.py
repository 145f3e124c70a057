"""A moving average of a model's weights, which often detects better than the weights themselves."""

from __future__ import annotations

import copy

import torch
from torch import nn

from vision_tasks.models.vision_model import VisionModel


class AveragedModel(nn.Module):
    """Exponential average of weights and running statistics.

    torch's own `AveragedModel` asks the device how often it was updated, and its decay is constant; here the step is
    told, and the decay grows, min(decay, (1 + n) / (10 + n)), so that the random start is soon forgotten.
    """

    module: VisionModel

    def __init__(self, model: VisionModel, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay = decay

    def train(self, mode: bool = True) -> AveragedModel:
        """The average only ever predicts."""
        return super().train(False)

    @torch.no_grad()
    def update(self, model: VisionModel, step: int) -> None:
        """Move towards the model as it is after this many steps."""
        keep = min(self.decay, (1 + step) / (10 + step))
        own, new = self.module.state_dict(), model.state_dict()
        floats = [name for name, value in own.items() if value.is_floating_point()]
        torch._foreach_lerp_([own[n] for n in floats], [new[n] for n in floats], 1 - keep)
        for name in own.keys() - set(floats):
            own[name].copy_(new[name])
