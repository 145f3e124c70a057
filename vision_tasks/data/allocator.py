"""How memory is asked of the system."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

ALLOCATOR = "VISION_TASKS_ALLOCATOR"
"""Environment variable: "0" leaves the C library's allocator as it is."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_OLDEST_MAP_THRESHOLD = 1 << 25  # bytes; older releases know none above this


def keep_memory(total: int = 1 << 30, piece: int = 1 << 30) -> bool:
    """Tell glibc to keep freed memory for this process; whether that could be done.

    Images and a network's maps are some megabytes each. glibc maps and unmaps such pieces one by one, and the kernel
    fills every page with zeros again: a fifth to a third of the time. Kept, they are used again. Of freed memory that
    nothing in use lies above, `total` bytes stay; what lies below something in use stays whatever its size. Pieces
    larger than `piece` are handed back. Nothing happens with other C libraries, on a second call with the same
    numbers, or if the environment has VISION_TASKS_ALLOCATOR=0 or a MALLOC_ setting of its own.
    """
    if os.environ.get(ALLOCATOR) == "0" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    return _kept_memory(total, piece)


@cache
def _kept_memory(total: int, piece: int) -> bool:
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
        mapped = any(mallopt(_M_MMAP_THRESHOLD, size) for size in (piece, _OLDEST_MAP_THRESHOLD))
        return mapped and bool(mallopt(_M_TRIM_THRESHOLD, total))
    except (OSError, AttributeError):
        return False
