"""`vision-tasks demo`: the main job on a small generated data set, on a CPU, in about two minutes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.cli.console import console, say, table
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.config import Config

STEPS = 300


def demo_config(data: Path, out: Path, steps: int) -> Config:
    """A narrow Faster R-CNN for images of about 200 pixels, trained from nothing: no weights are at hand here."""
    from vision_tasks.config import load_config

    options = {
        "model.backbone": "resnet_narrow",
        "model.channels": 64,
        "model.hidden": 128,
        "model.min_size": 192,
        "model.max_size": 256,
        "model.anchor_sizes": [16, 32, 64, 128, 256],
        "model.train_proposals": [300, 300],
        "model.test_proposals": [300, 300],
        "model.rois_per_image": 96,
        "data.train.annotations": data / "annotations" / "instances_train.json",
        "data.train.images": data / "images" / "train",
        "data.val.annotations": data / "annotations" / "instances_val.json",
        "data.val.images": data / "images" / "val",
        "data.batch_size": 8,
        "train.epochs": 10_000,
        "train.max_steps": steps,
        "train.evaluate_every": 10_000,
        "train.optimizer.name": "adamw",
        "train.optimizer.rate": 0.002,
        "train.device": "cpu",
        "run.folder": out.parent,
        "run.name": out.name,
    }
    return load_config(None, [f"{key}={value}" for key, value in options.items()])


def run(folder: Path, out: Path, steps: int | None) -> None:
    """Generate, train, evaluate, predict, and write a page of pictures."""
    from rich.progress import Progress

    from vision_tasks.data.scenes import generate_scenes

    began = time.monotonic()
    _make_room(out)
    screen = console()
    say(f"Scenes: {folder}")
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("making scenes", total=None)
        generate_scenes(folder, progress=lambda done, total: bar.update(task, completed=done, total=total))

    from vision_tasks.training.report import report, tables
    from vision_tasks.training.run import fit

    config = demo_config(folder, out, steps or STEPS)
    say(f"Training a small Faster R-CNN from nothing, {steps or STEPS} steps on the CPU ...")
    done = fit(config, console=screen)
    if done.interrupted or done.score is None:
        say("Stopped.")
        raise SystemExit(130)
    page = report(done, config)
    for rows in tables(done.summaries).values():
        say(table(rows, ["name", "truths", "AP", "AP50", "AP75"]))
    numbers = done.summaries["bbox"].numbers
    took = time.monotonic() - began
    say(f"\nAP {numbers['AP']:.3f}, AP50 {numbers['AP50']:.3f} on held-out scenes, {took:.0f} s in all.")
    say(f"Look at the boxes: {page}")
    say("Next, with your own data (COCO format):")
    say("  vision-tasks train data=FOLDER model=faster_rcnn model.backbone_weights=imagenet")
    say(f"  vision-tasks predict {done.best} {folder / 'images' / 'val'}")


def _make_room(out: Path) -> None:
    """An earlier demo's run is replaced; anything else is not ours to remove."""
    if not out.exists():
        return
    if not (out / "config.yaml").is_file() and any(out.iterdir()):
        raise VisionTasksError(f"{out} holds something other than an earlier demo. Give --out another folder.")
    shutil.rmtree(out)
