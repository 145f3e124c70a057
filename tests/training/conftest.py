"""A few generated scenes and a very small model, for runs of seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
