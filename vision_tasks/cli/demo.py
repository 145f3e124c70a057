"""`vision-tasks demo`: the main jobs on a small generated data set, on a CPU, in about two minutes each."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.cli.console import console, say, table
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.config import Config

_TWO_STAGES = {
    "hidden": 128,
    "anchor_sizes": [16, 32, 64, 128, 256],
    "train_proposals": [300, 300],
    "test_proposals": [300, 300],
    "rois_per_image": 96,
}
_PYRAMID = {"backbone": "resnet_narrow", "channels": 64, "min_size": 192, "max_size": 256}
_MAPS = {"layout": "scenes"}


@dataclass(frozen=True)
class Task:
    """What a demo trains: how the model is called, its options, where maps lie (if it draws any), and steps."""

    title: str
    model: dict[str, Any]
    semantic: dict[str, Any] | None
    steps: int


TASKS = {
    "boxes": Task("Faster R-CNN", {"name": "faster_rcnn", **_PYRAMID, **_TWO_STAGES}, None, 300),
    "semantic": Task("U-Net", {"name": "unet", "backbone": "resnet_narrow", "min_size": 192}, _MAPS, 150),
    "panoptic": Task(
        "Panoptic FPN",
        {
            "name": "panoptic_fpn",
            **_PYRAMID,
            "semantic_width": 32,
            "objects": {**_TWO_STAGES, "mask_channels": 32},
            "panoptic_stuff_area": 256,
        },
        _MAPS,
        200,
    ),
}


def demo_config(data: Path, out: Path, steps: int | None = None, task: str = "boxes") -> Config:
    """A narrow model for images of about 200 pixels, trained from nothing: no weights are at hand here."""
    from vision_tasks.config import load_config

    chosen = TASKS[task]
    options = {
        "model": chosen.model,
        "data.path": data,
        "data.semantic": "null" if chosen.semantic is None else chosen.semantic,
        "data.batch_size": 8,
        "train.epochs": 10_000,
        "train.max_steps": steps or chosen.steps,
        "train.evaluate_every": 10_000,
        "train.optimizer.name": "adamw",
        "train.optimizer.rate": 0.002,
        "train.device": "cpu",
        "run.folder": out.parent,
        "run.name": out.name,
    }
    return load_config(None, [f"{key}={value}" for key, value in options.items()])


def run(folder: Path, out: Path, steps: int | None, task: str = "boxes") -> None:
    """Generate, train, evaluate, predict, and write a page of pictures."""
    from rich.progress import Progress

    from vision_tasks.data.scenes import generate_scenes

    if task not in TASKS:
        raise VisionTasksError(f"--task must be one of {', '.join(TASKS)}, not {task!r}.")
    began = time.monotonic()
    _make_room(out)
    screen = console()
    say(f"Scenes: {folder}")
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        bar_task = bar.add_task("making scenes", total=None)
        generate_scenes(folder, progress=lambda done, total: bar.update(bar_task, completed=done, total=total))

    from vision_tasks.training.judging import in_short
    from vision_tasks.training.report import report, tables
    from vision_tasks.training.run import fit

    config = demo_config(folder, out, steps, task)
    say(f"Training a small {TASKS[task].title} from nothing, {config.train.max_steps} steps on the CPU ...")
    done = fit(config, console=screen)
    if done.interrupted or done.score is None:
        say("Stopped.")
        raise SystemExit(130)
    page = report(done, config)
    for title, rows in tables(done.summaries).items():
        say(f"{title}:")
        columns = ["name", "truths", "AP", "AP50", "AP75", "segm/AP", "pixels", "IoU", "Dice", "PQ", "SQ", "RQ"]
        say(table(rows, [c for c in columns if c in rows[0]]))
    took = time.monotonic() - began
    say(f"\n{in_short(done.summaries)} on held-out scenes, {took:.0f} s in all.")
    say(f"Look at the pictures: {page}")
    if task == "boxes":
        say("Next, with your own data (COCO format):")
        say("  vision-tasks train data=FOLDER model=faster_rcnn model.backbone_weights=imagenet")
        say("Or see maps, or boxes, masks and maps from one model:")
        say("  vision-tasks demo --task semantic\n  vision-tasks demo --task panoptic")
    else:
        say("Next, with your own data (docs/semantic_data.md says how they may be laid out):")
        say(f"  vision-tasks train data=FOLDER model={TASKS[task].model['name']} model.backbone_weights=imagenet")
    say(f"  vision-tasks predict {done.best} {folder / 'images' / 'val'}")


def _make_room(out: Path) -> None:
    """An earlier demo's run is replaced; anything else is not ours to remove."""
    if not out.exists():
        return
    if not (out / "config.yaml").is_file() and any(out.iterdir()):
        raise VisionTasksError(f"{out} holds something other than an earlier demo. Give --out another folder.")
    shutil.rmtree(out)
