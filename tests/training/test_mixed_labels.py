"""Data sets with different labels train one model: in one process, in two, and after a resume."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.training.test_processes import vision_tasks
from vision_tasks.config import load_config
from vision_tasks.training.run import fit
from vision_tasks.training.splits import read_splits

MODEL = {
    "name": "panoptic_fpn", "backbone": "resnet_narrow", "channels": 16, "min_size": 64, "max_size": 96,
    "semantic_width": 32, "panoptic_stuff_area": 20, "panoptic_score": 0.05,
    "objects": {
        "hidden": 32, "mask_channels": 8, "rois_per_image": 32, "score_threshold": 0.01, "train_proposals": [60, 60],
        "test_proposals": [60, 60], "anchor_sizes": [8, 16, 32, 64, 128],
    },
}  # fmt: skip


@pytest.fixture
def mixed(scenes: Path, tmp_path: Path) -> Path:
    """A recipe: boxes and masks of all scenes, maps of the same scenes as if they were another data set."""
    maps = {"semantic": {"path": str(scenes), "layout": "scenes"}}
    boxes = {"annotations": str(scenes / "annotations/instances_train.json"), "images": str(scenes / "images/train")}
    both = {"annotations": str(scenes / "annotations/instances_val.json"), "images": str(scenes / "images/val")}
    recipe = {
        "model": MODEL,
        "data": {"train": [boxes, maps | {"ratio": 0.5}], "val": both | maps, "batch_size": 1, "workers": 0},
        "train": {"max_steps": 6, "device": "cpu", "log_every": 1},
        "run": {"folder": str(tmp_path / "runs"), "name": "mixed", "samples": 1},
    }
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_parts_keep_their_labels_apart(mixed: Path) -> None:
    train, val = read_splits(load_config(mixed).data, ("objects", "semantic"))
    assert len(train) == 32
    assert train.target(0).boxes is not None
    assert train.target(16).boxes is None
    assert train.semantic is not None
    assert train.semantic.read(0, (96, 112)) is None
    assert train.semantic.read(16, (96, 112)) is not None
    assert val is not None
    assert val.target(0).boxes is not None
    assert val.semantic is not None
    assert val.semantic.has(0)


@pytest.mark.slow
def test_one_run_learns_both_and_is_judged_by_both(mixed: Path) -> None:
    done = fit(load_config(mixed, ["train.max_steps=12"]))
    assert set(done.summaries) == {"bbox", "segm", "semantic", "panoptic"}
    assert done.score == ("PQ", done.summaries["panoptic"].numbers["PQ"])
    with (done.folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["loss"]]
    objects = [float(row["loss/objects/rpn_objectness"]) > 0 for row in rows]
    surface = [float(row["loss/semantic/cross_entropy"]) > 0 for row in rows]
    assert [not o for o in objects] == surface, "with one image a batch each step has one kind of label"
    assert 0 < sum(surface) < sum(objects)


@pytest.mark.slow
def test_two_processes_whose_batches_lack_a_label(
    mixed: Path, tmp_path: Path, vision_tasks_here: Callable[..., str]
) -> None:
    """One image a process and step: again and again a rank has only boxes while the other has only a map."""
    vision_tasks("train", mixed, "train.devices=2", "train.max_steps=8", cwd=tmp_path)
    folder = tmp_path / "runs" / "mixed"
    assert (folder / "best.ckpt").is_file()
    shown = vision_tasks_here("evaluate", folder / "best.ckpt", "--device", "cpu")
    assert "PQ" in shown
    assert "mIoU" in shown
