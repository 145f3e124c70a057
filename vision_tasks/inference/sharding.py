"""One job over several processes, as `torchrun` starts them: each takes its part of the inputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from vision_tasks.errors import VisionTasksError

_PATIENCE = timedelta(days=7)
"""How long a process that is done waits for the slowest."""


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's.

    Attributes:
        rank: its number, from 0. ranks: how many processes there are. local_rank: its number on this machine.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0

    @classmethod
    def of_this_process(cls) -> Share:
        """From the environment that `torchrun` makes; all of it where there is none.

        Raises:
            VisionTasksError: numbers that make no sense.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        given = [os.environ.get(name) for name in names]
        if given[0] is None or given[1] is None:
            return cls()
        try:
            share = cls(int(given[0]), int(given[1]), int(given[2] or 0))
        except ValueError:
            share = cls(-1)
        if not 0 <= share.rank < share.ranks:
            words = ", ".join(f"{name}={value}" for name, value in zip(names, given, strict=True))
            raise VisionTasksError(f"{words}: not what torchrun sets. Unset them to use one process.")
        return share

    @property
    def alone(self) -> bool:
        """Whether all of the work is this process's."""
        return self.ranks == 1

    def device(self, wanted: str) -> str:
        """This process's own GPU, if any GPU was wanted and there is one."""
        import torch

        if self.alone or wanted not in ("auto", "cuda") or not torch.cuda.is_available():
            return wanted
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def totals(self, numbers: Sequence[int]) -> list[int]:
        """Sums over all processes; returns when every process has come here.

        Raises:
            VisionTasksError: another one ended without coming here.
        """
        if self.alone:
            return list(numbers)
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_PATIENCE)
        sums = torch.tensor(numbers, dtype=torch.int64)
        try:
            dist.all_reduce(sums)
        except RuntimeError as error:
            raise VisionTasksError(
                f"Another of the {self.ranks} processes ended before its part was done (see its own words). What the "
                "others found lies in files ending in .partN; start again to have all."
            ) from error
        return [int(number) for number in sums]
