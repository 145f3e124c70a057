"""What `vision-tasks evaluate` writes, and of which split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import vision_tasks as vt
from tests.tiny_models import TINY_JOINT, tiny
from vision_tasks.cli import evaluate, main

NAMES: Any = {"objects": ["ball", "nothing"], "semantic": ["sky", "nothing", "grass"]}


@pytest.mark.slow
def test_numbers_for_programs(scenes: Path, tmp_path: Path) -> None:
    name, small = TINY_JOINT["panoptic_fpn"]
    path = vt.save(vt.create_model(name, NAMES, **small), tmp_path / "best.ckpt")
    test = tmp_path / "data"
    for folder in ("images", "semantic"):
        shutil.copytree(scenes / folder / "val", test / folder / "test")
    shutil.copy(scenes / "semantic/categories.json", test / "semantic")
    (test / "annotations").mkdir()
    shutil.copy(scenes / "annotations/instances_val.json", test / "annotations/instances_test.json")
    found = []
    for data, split in ((scenes, "val"), (test, "test")):
        evaluate.run(path, [f"data={data}", "data.workers=0"], split, tmp_path / split, "cpu")
        assert not list((tmp_path / split).glob(".*")), "nothing half done is left"
        found.append(json.loads((tmp_path / split / "metrics.json").read_text(encoding="utf-8")))
    assert found[0] == found[1]
    numbers, tables = found[0]["numbers"], found[0]["per_category"]
    assert {"AP", "AP50", "segm/AP", "mIoU", "PQ"} <= numbers.keys()
    assert all(v is None or 0 <= v <= 1 for v in numbers.values())
    assert [row["name"] for row in tables["Maps per category"]] == NAMES["semantic"]
    ball = next(row for row in tables["Per category"] if row["name"] == "ball")
    assert ball["truths"] > 0
    with pytest.raises(vt.VisionTasksError, match=r"no train split in .*data\.train\.annotations=FILE"):
        evaluate.run(path, [f"data={test}"], "train", tmp_path / "train", "cpu")


def test_ctrl_c_has_an_exit_code_and_a_word(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    path = vt.save(tiny("fcos", ("ball",)), tmp_path / "best.ckpt")
    monkeypatch.setattr("vision_tasks.models.vision_model.VisionModel.predict", stop)
    monkeypatch.setattr("sys.argv", ["vision-tasks", "evaluate", str(path), f"data={scenes}", "data.workers=0"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 130
    assert capfd.readouterr().err.strip().splitlines()[-1] == "stopped"
