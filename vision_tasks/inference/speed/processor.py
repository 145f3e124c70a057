"""What the processor at hand is good at."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


@cache
def cpu_bf16() -> str | None:
    """The processor's instructions for bfloat16 products: "AMX", "AVX512-BF16", or None.

    Without them bfloat16 is emulated, and slower than float32.
    """
    if _asked("_is_amx_tile_supported", "amx_bf16"):
        return "AMX"
    return "AVX512-BF16" if _asked("_is_avx512_bf16_supported", "avx512_bf16") else None


def _asked(name: str, flag: str) -> bool:
    """torch's own answer; of a torch that does not know the question, the kernel's list of flags."""
    question = getattr(torch.cpu, name, None)
    if question is not None:
        return bool(question())
    try:
        return flag in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # not Linux
        return False
