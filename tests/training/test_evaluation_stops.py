"""What stops an evaluation or a run before it begins, or at Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import vision_tasks as vt
from tests.tiny_models import tiny
from vision_tasks.config import TrainConfig, load_config
from vision_tasks.training.evaluation import evaluate
from vision_tasks.training.module import TrainingModule


def test_ctrl_c_is_a_keyboard_interrupt(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the command line makes exit code 130; Lightning would end the process with 1 and without a word."""

    def stop(batch: Any) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    data = load_config(None, [f"data={scenes}", "data.workers=0"]).data
    model = vt.create_model("fcos", ["ball"], backbone="resnet_narrow", min_size=64, max_size=96)
    monkeypatch.setattr(model, "predict", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"semantic/dice": 1.0}, r"names semantic/dice; the losses are semantic/cross_entropy, semantic/auxiliary\."),
        ({"surface/dice": 1.0}, r"names surface/dice; the losses are semantic/\.\.\."),
        ({"auxiliary": 1.0}, "names auxiliary"),
    ],
)
def test_weights_of_losses_that_are_not_there(weights: dict[str, float], says: str) -> None:
    with pytest.raises(vt.VisionTasksError, match=says):
        TrainingModule(tiny("pspnet"), TrainConfig(loss_weights=weights))
    TrainingModule(tiny("pspnet"), TrainConfig(loss_weights={"semantic/auxiliary": 0.2}))
    TrainingModule(tiny("fcos"), TrainConfig(loss_weights={"objects/box": 0.2}))
