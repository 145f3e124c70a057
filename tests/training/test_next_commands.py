"""The commands that a finished run names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.data.written_coco import written
from vision_tasks.training.report import next_commands
from vision_tasks.training.run import Run


def test_next_commands_work_as_they_are_written(tmp_path: Path) -> None:
    val = written(tmp_path, "val", {"a.png": [("cat", [5.0, 5.0, 30.0, 20.0])]}, ["cat"])
    run = Run(Path("my runs"), Path("my runs/best.ckpt"), Path("my runs/last.ckpt"), {}, 0.5, False, val)
    predict = "vision-tasks predict 'my runs/best.ckpt' YOUR_IMAGES"
    assert next_commands(run) == ["vision-tasks evaluate 'my runs/best.ckpt'", predict]
    assert next_commands(replace(run, val=None)) == [predict]
