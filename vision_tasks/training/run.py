"""One training run: its folder, its trainer, its end."""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console

from vision_tasks.config import Config, TrainConfig, to_yaml
from vision_tasks.data.joint import JointRecords
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.batching import choose_device
from vision_tasks.models.multi_head import chosen_categories
from vision_tasks.models.registry import model_kinds
from vision_tasks.training.building import model_for, resumed_model
from vision_tasks.training.callbacks import Checkpoints, Interrupted, MetricsLog, NonFiniteGuard, PoliteInterrupt
from vision_tasks.training.class_weights import weigh_classes
from vision_tasks.training.data_check import check_data
from vision_tasks.training.judging import Summaries, score
from vision_tasks.training.loaders import check_augment, data_module
from vision_tasks.training.module import TrainingModule
from vision_tasks.training.progress import TrainingProgress
from vision_tasks.training.splits import read_splits
from vision_tasks.training.truth import check_suits, metrics_for

log = logging.getLogger("vision_tasks")

_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_RUN_VARIABLE = "VISION_TASKS_RUN_FOLDER"  # tells the processes that Lightning starts which folder the first one made


@dataclass
class Run:
    """What a run left.

    Attributes:
        folder: the run's. best, last: checkpoints; best is None if no step was made.
        summaries: of the last evaluation, by kind ("bbox", "segm", "semantic", "panoptic"); empty without validation
            data. best_score: what the best checkpoint was judged by (see `judging.score`).
        interrupted: whether the user stopped it; terminated: by SIGTERM.
    """

    folder: Path
    best: Path | None
    last: Path
    summaries: Summaries
    best_score: float
    interrupted: bool
    val: Records | None
    terminated: bool = False

    @property
    def score(self) -> tuple[str, float] | None:
        """Name and value of what the last evaluation was judged by; None without validation data."""
        return score(self.summaries)


def fit(config: Config, resume: Path | None = None, console: Console | None = None) -> Run:
    """Train as the recipe says.

    Args:
        resume: a `last.ckpt`; the run goes on in its folder with the same data, batches and randomness.
        console: where progress is shown.

    Raises:
        VisionTasksError: unusable data or options, or a loss that is not finite.
    """
    console = console or Console(stderr=True)
    pl.seed_everything(config.train.seed, workers=False, verbose=False)
    choose_device(config.train.device)
    check_augment(config.data)
    kinds = model_kinds(config.model["name"], config.model)
    train, val = read_splits(config.data, kinds, chosen_categories(config.model))
    if resume is None:  # a run that has begun was looked at then
        what = config.data.path or ("RECIPE.yaml" if isinstance(train, JointRecords) else train.source)
        check_data({"train": train, "val": val}, config.data.check, str(what))
    model = model_for(config, train) if resume is None else resumed_model(resume, config, train)
    check_suits(model, train, config.data.min_sizes, val)
    weigh_classes(model, train, config.train.class_weights)
    metrics = [] if val is None else metrics_for(model, val, "val")
    module = TrainingModule(model, config.train, metrics, config.data.batch_size)
    data = data_module(config, train, val, model.preprocess)
    folder = run_folder(config, resume)

    guard = NonFiniteGuard(folder)
    checkpoints = Checkpoints(folder, guard, config.train.patience)
    polite = PoliteInterrupt(checkpoints)
    callbacks = [_Description(folder, config), MetricsLog(folder / "metrics.csv", config.train.log_every)]
    callbacks += [guard, checkpoints, polite]
    trainer = make_trainer(config.train, [*callbacks, TrainingProgress(console)], folder, evaluates=val is not None)
    interrupted = False
    with polite.listening(), quiet_lightning():
        try:
            trainer.fit(module, data, ckpt_path=resume, weights_only=True)
            if metrics and module.evaluated_at != trainer.global_step:  # ended between two evaluations
                trainer.validate(module, data, verbose=False)
                checkpoints.judge(trainer, module)
        except Interrupted:
            interrupted = True
        finally:
            os.environ.pop(_RUN_VARIABLE, None)  # of this run only: another may follow in this process
    best = folder / "best.ckpt"
    return Run(
        folder=folder,
        best=best if best.exists() else None,
        last=folder / "last.ckpt",
        summaries=module.summaries,
        best_score=checkpoints.best,
        interrupted=interrupted,
        terminated=interrupted and polite.terminated,
        val=val,
    )


def make_trainer(
    config: TrainConfig, callbacks: list[pl.Callback], folder: Path | None, evaluates: bool = True
) -> pl.Trainer:
    """Lightning's trainer; its sampler, checkpoints and bar are switched off, ours stand in `callbacks`."""
    device = choose_device(config.device)
    if config.precision == "16" and device.type == "cpu":
        raise VisionTasksError("train.precision=16 needs a GPU; on the CPU use bf16 or 32.")
    loggers: list[Any] = []
    if folder is not None and find_spec("tensorboard"):
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    with quiet_lightning():
        return _trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=[device.index] if device.index is not None and config.devices == 1 else config.devices,
            num_nodes=config.nodes,
            strategy=strategy_of(config),
            precision=_PRECISIONS[config.precision],
            max_epochs=-1 if config.max_steps else config.epochs,
            max_steps=config.max_steps or -1,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.clip,
            check_val_every_n_epoch=config.evaluate_every,
            deterministic="warn" if config.deterministic else None,
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=None if evaluates else 0,
            use_distributed_sampler=False,
        )


def _trainer(**options: Any) -> pl.Trainer:
    try:
        return pl.Trainer(**options)
    except (ValueError, TypeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())[:300]
        raise VisionTasksError(
            f"These devices, strategy or precision cannot be used together here: {reason}"
        ) from error


def strategy_of(config: TrainConfig) -> Any:
    """Lightning's strategy; several processes keep their own batch statistics (see `TrainingModule`).

    Buffers must not be broadcast at every forward pass: in evaluation ranks may have unequal numbers of batches, and
    the one that has more would wait for ever.
    """
    several = config.nodes > 1 or config.devices not in (1, "1") or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if config.devices in ("auto", -1, "-1") and choose_device(config.device).type == "cuda":
        several = several and torch.cuda.device_count() > 1
    if config.strategy in ("auto", "ddp") and several:
        return DDPStrategy(broadcast_buffers=False)
    return config.strategy


def run_folder(config: Config, resume: Path | None = None) -> Path:
    """Make the run's folder: the resumed run's own, the named one, or the next free number."""
    if resume is not None:
        return resume.parent
    known = os.environ.get(_RUN_VARIABLE)
    if known and "LOCAL_RANK" in os.environ:
        return Path(known)
    if config.run.name is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise VisionTasksError("With several processes give the run a name all of them know: run.name=NAME.")
    parent = config.run.folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        if config.run.name is not None:
            folder = parent / config.run.name
            if any((folder / name).exists() for name in ("last.ckpt", "best.ckpt", "metrics.csv")):
                last = folder / "last.ckpt"
                raise VisionTasksError(
                    f"{folder} already holds a run. "
                    + (f"Go on with it by --resume {last}, or give" if last.exists() else "Remove it, or give")
                    + " another run.name."
                )
            folder.mkdir(exist_ok=True)
        else:
            folder = _next_folder(parent, str(config.model["name"]))
    except OSError as error:
        raise VisionTasksError(f"No run folder can be made in {parent}: {error.strerror}. Set run.folder.") from error
    os.environ[_RUN_VARIABLE] = str(folder)
    return folder


def _next_folder(parent: Path, name: str) -> Path:
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    taken = [int(m.group(1)) for p in parent.iterdir() if (m := pattern.fullmatch(p.name))]
    number = max(taken, default=0) + 1
    while True:
        folder = parent / f"{name}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:  # somebody else's run started at the same moment
            number += 1
        else:
            return folder


def describe_run(folder: Path, config: Config) -> None:
    """config.yaml, command.txt and environment.txt: enough to do it again."""
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    with (folder / "command.txt").open("a", encoding="utf-8") as file:  # a line for the start, one for every resume
        file.write(shlex.join(sys.argv) + "\n")
    lines = [f"python {platform.python_version()} on {platform.platform()}", f"cpu cores {os.cpu_count()}"]
    lines += [f"gpu {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    for package in ("vision_tasks", "torch", "torchvision", "lightning", "torchmetrics", "albumentations", "numpy"):
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} (not installed as a package)")
    (folder / "environment.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


class _Description(pl.Callback):
    """Writes what the run is once it really runs: a resume that fails must not change the recipe."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            describe_run(self.folder, self.config)


class quiet_lightning:
    """Keeps Lightning's remarks off the screen while it sets up and runs: what matters we say ourselves.

    Ctrl-C, of which Lightning makes exit code 1, is a KeyboardInterrupt again.
    """

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", module=r"(lightning|torch\.(optim|utils\.data|distributed|nn|jit))(\..*)?")
        warnings.filterwarnings("ignore", message=r".*(isinstance\(treespec|does not have many workers|srun).*")
        self._loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *error: Any) -> None:
        self._warnings.__exit__(*error)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
        if error and isinstance(error[1], SystemExit) and isinstance(error[1].__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
