"""Where a model runs, and how many images go through it at once."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch

from vision_tasks.errors import VisionTasksError

log = logging.getLogger("vision_tasks")

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGEST = 64
"""Images in a batch found automatically. Beyond this throughput does not rise, only waiting."""
_ROOM = 0.7  # of the free memory; fragmentation and batches with larger images take the rest


class Batching:
    """Runs work on lists of any length, in batches that fit into memory.

    When memory does not suffice the batch is halved, for good, and the work goes on.

    Attributes:
        size: items of a batch; with "auto" unknown, None, until the first item has been worked on.

    Args:
        size: items of a batch at most, or "auto": on a GPU as many as fit by what the first one took, at most
            `LARGEST`; on a CPU one, as a single image occupies all its cores.
        device: that is worked on.

    Raises:
        VisionTasksError: a size below 1.
    """

    def __init__(self, size: int | Literal["auto"], device: torch.device) -> None:
        if size != "auto" and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise VisionTasksError(f"batch_size must be at least 1, or 'auto', not {size!r}.")
        self._device = device
        self.size: int | None = size if size != "auto" else 1 if device.type != "cuda" else None

    def run(self, items: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        """`work` on all items, results in their order.

        Raises:
            VisionTasksError: a single item is too much for the memory there is.
        """
        done: list[Result] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + (self.size or 1)]
            try:
                done += self._probe(part, work) if self.size is None else work(part)
                continue
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                reason = (str(error).splitlines() or ["no memory left"])[0]
            # Outside of the handler: the traceback holds the tensors that the failed batch made.
            gc.collect()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            if len(part) == 1:
                raise VisionTasksError(
                    f"One image alone is too large for the memory of {self._device} ({reason}). Use smaller images, "
                    "tiles (tile=1024, say), or another device."
                )
            self.size = len(part) // 2
            log.warning("Out of memory with %d images at once: going on with %d.", len(part), self.size)
        return done

    def _probe(self, part: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        """Work on the first item, and see how many like it would fit."""
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        results = work(part)
        needed = max(1, torch.cuda.max_memory_allocated(self._device) - before)
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        self.size = int(max(1, min(LARGEST, _ROOM * free / needed)))
        log.info("batch size: %d images at once (%.0f MB each, %.1f GB free)", self.size, needed / 1e6, free / 1e9)
        return results


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that a device, or this machine, has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """ "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises:
        VisionTasksError: no such device here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise VisionTasksError(f"The device {device!r} cannot be used here ({reason}). Try device='auto'.") from error
    return chosen
