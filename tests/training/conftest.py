"""A few generated scenes and a very small model, for runs of seconds."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vision_tasks.cli import console
from vision_tasks.cli.main import main
from vision_tasks.config import Config, load_config
from vision_tasks.data.scenes import generate_scenes

TINY = [
    "model=faster_rcnn", "model.backbone=resnet_narrow", "model.channels=16", "model.hidden=32",
    "model.min_size=64", "model.max_size=96", "model.rois_per_image=32", "model.score_threshold=0.01",
    "model.train_proposals=[60,60]", "model.test_proposals=[60,60]", "model.anchor_sizes=[8,16,32,64,128]",
    "data.workers=0", "data.batch_size=4", "train.device=cpu", "train.log_every=1", "run.samples=1",
]  # fmt: skip


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training and 7 validation images of about 100 pixels, in a path with a space."""
    return generate_scenes(tmp_path_factory.mktemp("some data") / "scenes", 16, 7, sizes=((96, 112), (112, 96)))


@pytest.fixture
def recipe(scenes: Path, tmp_path: Path) -> Callable[..., Config]:
    """A function from further overrides to a config; runs go to the test's own folder."""

    def make(*overrides: str) -> Config:
        return load_config(None, [f"data={scenes}", f"run.folder={tmp_path / 'runs'}", *TINY, *overrides])

    return make


@pytest.fixture
def vision_tasks_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs `vision-tasks ARGUMENTS` in this process, which saves starting one, in the test's own folder: its output."""

    def run(*arguments: object) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["vision-tasks", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        logger = logging.getLogger("vision_tasks")
        logger.handlers = [h for h in logger.handlers if not isinstance(h, console._Handler)]
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
        said = capfd.readouterr()
        assert not end.value.code, said.err[-3000:]
        return said.out

    return run
