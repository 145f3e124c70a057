"""How far reading, writing and looking through a data set is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vision_tasks.data.progress import reporting_to

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_PATIENCE = 1.0
"""Seconds that work may take before anything is shown."""
_BAR_EVERY, _LINE_EVERY = 0.1, 20.0


@contextlib.contextmanager
def work_bar(screen: Console) -> Iterator[None]:
    """Within, whatever `data.progress.counted` counts is shown: what is done, how much of it, how fast, time left."""
    bar = _Bar(screen)
    try:
        with reporting_to(bar.hear):
            yield
    finally:
        bar.close()


class _Bar:
    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._what = ""
        self._began = self._shown = time.monotonic()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def hear(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if what != self._what or done == 0:
            self.close()
            self._what, self._began, self._shown = what, now, now
        every = _BAR_EVERY if self._screen.is_terminal else _LINE_EVERY
        if now - self._shown < (every if self._task is not None or not self._screen.is_terminal else _PATIENCE):
            return
        self._shown = now
        rate = done / max(now - self._began, 1e-9)
        if not self._screen.is_terminal:
            left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
            self._screen.print(f"{what}: {done:,}{f' of {total:,}' if total else ''}, {rate:,.0f}/s{left}")
            return
        if self._progress is None or self._task is None:
            self._progress = _progress(self._screen)
            self._progress.start()
            self._task = self._progress.add_task(what, total=total, rate="")
        self._progress.update(self._task, completed=done, total=total, rate=f"{rate:,.0f}/s")

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


def _progress(screen: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True), console=screen, transient=True,
    )  # fmt: skip
