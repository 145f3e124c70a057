"""What happens between steps: the log, the guard against non-finite losses, checkpoints, and a polite end."""

from __future__ import annotations

import csv
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vision_tasks.data.dataset import RawBatch
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.checkpoint import save
from vision_tasks.training.judging import numbers_of
from vision_tasks.training.module import TrainingModule

log = logging.getLogger("vision_tasks")


class MetricsLog(Callback):
    """Rows of `metrics.csv` (step, epoch, losses, rate, AP ...), and the same to Lightning's loggers.

    Losses leave the device only every `every` steps.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self._seen = 0

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        step = trainer.global_step
        if step != self._seen and (step % self.every == 0 or step == 1):
            values = {f"loss/{name}": float(loss) for name, loss in outputs["losses"].items()}
            values["loss"] = float(outputs["loss"])
            self._seen = step  # with accumulation several batches make one step
            values["learning_rate"] = float(trainer.optimizers[0].param_groups[-1]["lr"])
            self.write(trainer, values)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if module.summaries:
            self.write(trainer, numbers_of(module.summaries))

    def write(self, trainer: Trainer, values: dict[str, float]) -> None:
        """One row; a new column rewrites the file, so that the header is always whole."""
        for logger in trainer.loggers:
            logger.log_metrics(values, trainer.global_step)
        if not trainer.is_global_zero:
            return
        row: dict[str, Any] = {"step": trainer.global_step, "epoch": trainer.current_epoch, **values}
        old: list[dict[str, Any]] = []
        columns = list(row)
        if self.path.exists():
            with self.path.open(newline="") as file:
                reader = csv.DictReader(file)
                known = list(reader.fieldnames or [])
                if not set(columns) - set(known):
                    columns = known
                else:
                    columns, old = known + [c for c in columns if c not in known], list(reader)
        if not self.path.exists() or old:
            temporary = self.path.with_suffix(".csv.part")
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows([*old, row])
            os.replace(temporary, self.path)
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerow(row)


class NonFiniteGuard(Callback):
    """Stops at a loss that is not finite, names the images, and saves the batch.

    The flag is read one step late, when the device has long computed it, so a step never waits for it. Two batches are
    kept for that, and whoever writes a checkpoint calls `check` first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._waiting: tuple[torch.Tensor, RawBatch, int] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        self.check()
        self._waiting = (torch.isfinite(outputs["loss"].detach()), batch, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.check()

    def check(self, trainer: Trainer | None = None) -> None:
        """Look at the last step's flag now.

        Args:
            trainer: given where all processes come by (before a checkpoint): then all stop if one must.

        Raises:
            VisionTasksError: its loss was not finite.
        """
        waiting, self._waiting = self._waiting, None
        fine = waiting is None or bool(waiting[0])
        if trainer is not None and trainer.world_size > 1:
            all_fine = trainer.strategy.reduce_boolean_decision(fine, all=True)
            if fine and not all_fine:
                raise VisionTasksError("Another process met a loss that is not finite; it says which images it was.")
        if waiting is None or fine:
            return
        _, batch, step = waiting
        path = self.folder / "nonfinite-batch.pt"
        content = {
            "images": [image.cpu() for image in batch.images],
            "image_ids": batch.image_ids,
            "boxes": [None if t.boxes is None else t.boxes.cpu() for t in batch.targets],
            "labels": [None if t.labels is None else t.labels.cpu() for t in batch.targets],
            "min_size": batch.min_size,
        }
        torch.save(content, path)
        raise VisionTasksError(
            f"The loss of step {step} is not finite. Its images have the ids {batch.image_ids}; the batch is saved in "
            f"{path} (torch.load reads it). Often the rate is too high: lower train.optimizer.rate, raise warmup_steps "
            "or lower train.clip. Else look at these images and their annotations."
        )


class Checkpoints(Callback):
    """`last.ckpt` with everything needed to resume, `best.ckpt` with the weights of the best score (see
    `judging.score`); early stop.

    Files appear whole or not at all. Without validation data, best is the last.
    """

    def __init__(self, folder: Path, guard: NonFiniteGuard, patience: int | None = None) -> None:
        self.folder, self.guard, self.patience = folder, guard, patience
        self.best = -2.0  # numbers are -1 where there is no truth
        self.best_step = 0
        self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_step, self.waited = state["best"], state["best_step"], state["waited"]

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if module.score is not None and trainer.state.fn == "fit":
            self.judge(trainer, module)

    def judge(self, trainer: Trainer, module: TrainingModule) -> None:
        """Keep the weights if the evaluation just made is the best so far; count how long it has not been."""
        assert module.score is not None
        self.guard.check(trainer)
        name, value = module.score
        if value > self.best:
            self.best, self.best_step, self.waited = value, trainer.global_step, 0
            if trainer.is_global_zero:
                save(module.best_model, self.folder / "best.ckpt")
        else:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                log.info("No better %s in %d evaluations: training ends early.", name, self.waited)
                trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.save_last(trainer)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if self.best_step == 0 and trainer.is_global_zero and trainer.global_step > 0:
            save(module.best_model, self.folder / "best.ckpt")

    def save_last(self, trainer: Trainer) -> None:
        """Write last.ckpt; all ranks call it."""
        self.guard.check(trainer)
        path = self.folder / "last.ckpt"
        temporary = self.folder / ".last.ckpt.part"
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                os.replace(temporary, path)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "writing file" not in str(error):
                raise  # not the disk but, for instance, another process that is gone
            if trainer.is_global_zero:
                temporary.unlink(missing_ok=True)
            raise VisionTasksError(
                f"{path} cannot be written: {error}. The earlier one is untouched; make room."
            ) from error


class Interrupted(Exception):
    """Training was stopped by the user, between two steps, with a checkpoint written."""


class PoliteInterrupt(Callback):
    """The first Ctrl-C, or SIGTERM, lets the running step end and writes `last.ckpt`; a second one ends at once.

    An evaluation under way is finished first: its result would otherwise be missing from the resumed run.

    Attributes:
        asked: whether to stop. terminated: whether it was SIGTERM that asked.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self._listens = False
        self.asked = False
        self.terminated = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        # Lightning has just put a handler of its own here, which ends training without a checkpoint.
        if self._listens:
            signal.signal(signal.SIGTERM, self._ask)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, index: int) -> None:
        # Ranks must agree on the step; asking the others costs a message, so they are asked now and then only.
        # Not between batches whose gradients are being summed: a checkpoint does not hold the sum.
        if index % trainer.accumulate_grad_batches == 0 and (trainer.world_size == 1 or index % 10 == 0):
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
        asked = self.asked
        if trainer.world_size > 1:
            asked = bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        if asked:
            self.checkpoints.save_last(trainer)
            raise Interrupted

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take over SIGINT and, while it trains, SIGTERM inside this block; only possible in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, self._ask)
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            for number, handler in before.items():
                if handler is not None:  # None: not set from Python, and not ours to restore
                    signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked, self.terminated = True, number == signal.SIGTERM
        again = "a second signal stops at once" if self.terminated else "press Ctrl-C again to stop at once"
        log.warning("Stopping after this step (or evaluation); %s.", again)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
