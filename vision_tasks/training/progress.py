"""How far a run is, how fast, and how long it will take: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vision_tasks.training.judging import in_short
from vision_tasks.training.module import TrainingModule

_LINE_EVERY = 20.0  # seconds, where there is no terminal
_LOOK_EVERY = 10  # steps between looks at the loss, which lives on the device


class TrainingProgress(Callback):
    """Shown by the first rank only."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = self._validation = TaskID(0)
        self._loss = self._shown_at = self._began_at = 0.0
        self._began_step = 0
        self._score = ""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._began_at = self._shown_at = time.monotonic()
        self._began_step = trainer.global_step
        if self.console.is_terminal and trainer.is_global_zero:
            self._bar = _bar(self.console)
            self._bar.start()
            total = int(trainer.estimated_stepping_batches)
            self._task = self._bar.add_task("training", total=total, completed=trainer.global_step, note="")

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if index % _LOOK_EVERY == 0 or not self._loss:
            self._loss = float(outputs["loss"])
        now, step = time.monotonic(), trainer.global_step
        rate = (step - self._began_step) / max(now - self._began_at, 1e-9)
        if self._bar is not None:
            note = f"{rate:.2f} steps/s  epoch {trainer.current_epoch + 1}  loss {self._loss:.3f}{self._score}"
            self._bar.update(self._task, completed=step, note=note)
        elif trainer.is_global_zero and now - self._shown_at > _LINE_EVERY:
            self._shown_at = now
            total = int(trainer.estimated_stepping_batches)
            left = (total - step) / rate if rate else 0.0
            self.console.print(
                f"step {step}/{total}  epoch {trainer.current_epoch + 1}  loss {self._loss:.3f}{self._score}  "
                f"{rate:.2f} steps/s  {_clock(left)} left"
            )

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self._bar is None and self.console.is_terminal and trainer.is_global_zero and trainer.state.fn == "validate":
            self._bar = _bar(self.console)
            self._bar.start()
        if self._bar is not None:
            total = sum(int(b) for b in trainer.num_val_batches) or None
            self._validation = self._bar.add_task("evaluating", total=total, note="")

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int, dataloader_idx: int = 0
    ) -> None:
        if self._bar is not None:
            self._bar.update(self._validation, completed=index + 1)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if self._bar is not None:
            self._bar.remove_task(self._validation)
            if trainer.state.fn == "validate":
                self._stop()
        if module.score is None or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        name, value = module.score
        self._score = f"  {name} {value:.3f}"
        self.console.print(
            f"epoch {trainer.current_epoch + 1}: {in_short(module.summaries)}, loss {self._loss:.3f}, "
            f"after {_clock(time.monotonic() - self._began_at)}"
        )

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
