"""A network compiled by torch, with the weights built in; as it was before where that fails."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

log = logging.getLogger("vision_tasks")


def compiler_problem(device: torch.device) -> str | None:
    """Why nothing can be compiled here; None if it can, as far as one can tell before trying."""
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler

        try:
            get_cpp_compiler()
        except Exception as error:  # it has an error of its own, whose home moves from release to release
            return f"there is no C++ compiler ({(str(error).splitlines() or ['none found'])[0]})"
        return None
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "triton is not installed"
    return f"torch does not compile for {device.type}"


class Compiled(nn.Module):
    """A module that is compiled when it is first called: half a minute or so, and once more for a second size.

    Args:
        inner: in evaluation mode. on_failure: called with the reason when compiling fails; the inner module then
            works as it is.
    """

    def __init__(self, inner: nn.Module, device: torch.device, on_failure: Callable[[str], None]) -> None:
        super().__init__()
        self.inner = inner
        self._on_failure = on_failure
        # On a GPU the kernels of a network are recorded and started together ("CUDA graphs").
        options: dict[str, Any] = (
            {"mode": "reduce-overhead"} if device.type == "cuda" else {"options": {"freezing": True}}
        )
        self._run: Any = torch.compile(inner, **options)
        self._worked = False

    def forward(self, *inputs: Any) -> Any:
        if self._run is None:
            return self.inner(*inputs)
        try:
            found = self._run(*inputs)
        except Exception as error:
            if self._worked:
                raise
            self._run = None
            self._on_failure(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['unknown'])[0]}")
            return self.inner(*inputs)
        self._worked = True
        return found
