"""`vision-tasks doctor` on a recipe whose training is a list of splits: what it says to do works."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from vision_tasks.cli import main
from vision_tasks.config import load_config
from vision_tasks.data.scenes import generate_scenes
from vision_tasks.errors import VisionTasksError
from vision_tasks.training.data_check import check_data
from vision_tasks.training.splits import read_splits


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Training on two parts, the second of which has corners for boxes and shares an image with val."""
    for name, seed in (("one", 1), ("two", 2)):
        generate_scenes(tmp_path / name, 16, seed, sizes=((96, 112), (112, 96)))
    files = {name: next((tmp_path / name).glob("annotations/*train*.json")) for name in ("one", "two")}
    content = json.loads(files["two"].read_text())
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [x, y, x + w, y + h]
    files["two"].write_text(json.dumps(content))
    images = tmp_path / "one" / "images" / "val"
    shutil.copy(next(images.iterdir()), tmp_path / "two/images/train" / content["images"][0]["file_name"])
    path = tmp_path / "l2.yaml"
    val = str(next((tmp_path / "one").glob("annotations/*val*.json")))
    recipe = {
        "model": {"name": "faster_rcnn"},
        "data": {"train": [{"annotations": str(f)} for f in files.values()], "val": {"annotations": val}},
    }
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_the_way_that_is_printed_works(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fix = recipe.parent / "patch.json"
    monkeypatch.setattr(sys, "argv", ["vision-tasks", "doctor", str(recipe), "--fix", str(fix)])
    with pytest.raises(SystemExit):
        main.main()
    out = capfd.readouterr().out
    assert "[boxes_xyxy]" in out
    assert "train[1]: " in out.split("[image_leaked]")[0].splitlines()[-1]
    assert "data.train.patch" not in out
    assert f"give each entry of data.train that the patch is for: patch: {fix}" in out
    content = yaml.safe_load(recipe.read_text())
    config = load_config(recipe, [])
    with pytest.raises(VisionTasksError, match=r"`patch: patch\.json` in each entry of data\.train"):
        check_data(dict(zip(("train", "val"), read_splits(config.data), strict=True)), "stop", "l2.yaml")
    for entry in content["data"]["train"]:
        entry["patch"] = str(fix)
    recipe.write_text(yaml.safe_dump(content))
    train, val = read_splits(load_config(recipe, []).data)
    assert val is not None
    check_data({"train": train, "val": val}, "stop", "l2.yaml")
    assert len(train) == 31, "without the leaked one"
