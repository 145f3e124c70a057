"""Where the time of a prediction goes, and what memory it takes; for `inference.py`."""

from __future__ import annotations

import ctypes
import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vision_tasks.models.vision_model import VisionModel


class StageClock:
    """Adds up seconds by stage. Of stages within each other the inner one counts, the outer one has the rest."""

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._open: list[list[float]] = []

    def clear(self) -> None:
        """Forget what was added up."""
        self.seconds.clear()

    def start(self) -> None:
        """Enter a stage."""
        synchronise(self._device)
        self._open.append([time.perf_counter(), 0.0])

    def stop(self, stage: str) -> None:
        """Leave the stage entered last."""
        synchronise(self._device)
        started, within = self._open.pop()
        lasted = time.perf_counter() - started
        self.seconds[stage] += lasted - within
        if self._open:
            self._open[-1][1] += lasted

    def measured(self, inner: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The same function, watched."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.start()
            try:
                return inner(*args, **kwargs)
            finally:
                self.stop(stage)

        return watched

    def watch_modules(self, modules: Iterable[nn.Module], stage: str) -> None:
        """Count the time within these modules' calls."""
        for module in modules:
            module.register_forward_pre_hook(lambda *_: self.start())
            module.register_forward_hook(lambda *_: self.stop(stage))

    def watch(self, model: VisionModel) -> None:
        """Count our own stages: preprocessing, the layers up to all scores, and what R-CNN does after its RPN's."""
        object.__setattr__(model, "preprocess", _Watched(model.preprocess, self))
        object.__setattr__(model, "features", self.measured(model.features, "dense"))
        for head in model.named_heads().values():
            if isinstance(getattr(head, "rpn", None), nn.Module):
                self.watch_modules([head.rpn], "dense")  # type: ignore[list-item]
                object.__setattr__(head, "predict", self.measured(head.predict, "heads"))
            for layers in ("maps", "logits"):
                if hasattr(head, layers):
                    object.__setattr__(head, layers, self.measured(getattr(head, layers), "dense"))


class _Watched:
    """A preprocess whose calls are timed; all else is its own."""

    def __init__(self, inner: Any, clock: StageClock) -> None:
        self._inner, self._call = inner, clock.measured(inner, "preprocess")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def synchronise(device: str | torch.device) -> None:
    """Wait for a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def peak_mebibytes(answer: Callable[[Tensor], Any], photo: Tensor) -> float:
    """What one answer adds to the process at its peak, on a GPU to the device; nan where nothing tells."""
    if photo.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated()
        answer(photo)
        return (torch.cuda.max_memory_allocated() - idle) / 2**20
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        idle = _kibibytes("VmRSS")
        answer(photo)
        return (_kibibytes("VmHWM") - idle) / 1024
    except OSError:
        return float("nan")


def _kibibytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
