"""Two processes (gloo) on the CPU, and Ctrl-C, as a user would start them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.conftest import TINY

pytestmark = pytest.mark.slow


def vision_tasks(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-m", "vision_tasks.cli.main", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


def split(scenes: Path, folder: Path, keep: int, empty: int = 0) -> Path:
    """A data set of the first `keep` images of either split; the first `empty` training images lose their objects."""
    shutil.copytree(scenes, folder)
    for name in ("train", "val"):
        path = folder / "annotations" / f"instances_{name}.json"
        content = json.loads(path.read_text())
        content["images"] = content["images"][: keep if name == "val" else None]
        ids = {image["id"] for image in content["images"][empty if name == "train" else 0 :]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
        path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("images", [7, 3])
def test_two_processes_evaluate_as_one(
    scenes: Path, tmp_path: Path, images: int, vision_tasks_here: Callable[..., str]
) -> None:
    """Seven images in batches of two (one rank has fewer), and three in one batch of three (one rank has none)."""
    data = split(scenes, tmp_path / "data", images)
    batch = 2 if images == 7 else 3
    vision_tasks_here("train", f"data={data}", *TINY, "train.epochs=4", "run.name=r")
    checkpoint = tmp_path / "runs" / "r" / "best.ckpt"
    common = ("evaluate", checkpoint, f"data.val_batch_size={batch}", "--device", "cpu", "--out")
    one = vision_tasks_here(*common, tmp_path / "one")
    two = vision_tasks(*common, tmp_path / "two", "train.devices=2", cwd=tmp_path)
    numbers = [line for line in one.splitlines() if line.startswith(("AP", "AR"))]
    assert len(numbers) == 12
    assert numbers == [line for line in two.stdout.splitlines() if line.startswith(("AP", "AR"))]
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("one", "two")]
    assert len(results[0]) > 20
    assert results[0] == results[1]


def test_two_processes_train_with_batches_without_boxes(scenes: Path, tmp_path: Path) -> None:
    """Most images are empty, so at most steps one rank, or both, see no box at all; batches do not divide by two."""
    data = split(scenes, tmp_path / "data", 7, empty=13)
    done = vision_tasks(
        "train", f"data={data}", *TINY, "data.batch_size=3", "train.epochs=2", "train.devices=2", "train.average=0.9",
        "run.name=r", cwd=tmp_path,
    )  # fmt: skip
    assert "epoch 2: AP" in done.stderr
    assert (tmp_path / "runs" / "r" / "index.html").exists()
    resumed = vision_tasks("train", "--resume", tmp_path / "runs" / "r" / "last.ckpt", cwd=tmp_path)
    assert "Run folder" in resumed.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_checkpoint_and_says_how_to_go_on(
    number: signal.Signals, scenes: Path, tmp_path: Path, vision_tasks_here: Callable[..., str]
) -> None:
    command = [sys.executable, "-m", "vision_tasks.cli.main", "train", f"data={scenes}", *TINY, "train.epochs=500"]
    command += ["run.name=r", "data.workers=1", "train.evaluate_every=500"]
    environment = dict(os.environ)
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=environment,
    )  # fmt: skip
    log = tmp_path / "runs" / "r" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) > 3):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.2)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to every process of the group
    else:
        process.send_signal(number)  # as whoever started it does
    out, error = process.communicate(timeout=120)
    assert process.returncode == 128 + number, error[-3000:]
    assert "Traceback" not in error, error[-3000:]
    assert "--resume" in out
    assert (tmp_path / "runs" / "r" / "last.ckpt").exists()
    steps = len(log.read_text().splitlines())
    resumed = vision_tasks_here(*out.split("vision-tasks")[1].split(), f"train.max_steps={steps + 1}")
    assert "Run folder" in resumed
    last = [row.split(",")[0] for row in log.read_text().splitlines()][-1]
    assert last == str(steps + 1), "it goes on where it stopped"
