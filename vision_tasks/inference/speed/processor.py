"""What the processor at hand is good at, and how memory is asked of the system."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

import torch

ALLOCATOR = "VISION_TASKS_ALLOCATOR"
"""Environment variable: "0" leaves the C library's allocator as it is."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEEP = (1 << 30, 1 << 25)  # bytes; older releases know no map threshold above the second


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


def keep_memory() -> bool:
    """Tell glibc to keep freed memory for this process; whether that could be done.

    A network's maps are some megabytes each. glibc maps and unmaps such pieces one by one, and the kernel fills every
    page with zeros again: a fifth to a quarter of the time. Kept, they are used again. The process then stays as large
    as it once was, by up to 1 GB. Nothing happens with other C libraries, on the second call, or if the environment
    has VISION_TASKS_ALLOCATOR=0 or a MALLOC_ setting of its own.
    """
    if os.environ.get(ALLOCATOR) == "0" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    return _kept_memory()


@cache
def _kept_memory() -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        return any(mallopt(_M_MMAP_THRESHOLD, size) for size in _KEEP) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP[0]))
    except (OSError, AttributeError):
        return False
