"""Training begins with the doctor's quick part: what would break it stops it, and a patch lets it go on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.data.doctor_sets import coco, written
from vision_tasks.config import DataConfig, Split, load_config
from vision_tasks.data.doctor.diagnose import diagnose
from vision_tasks.data.doctor.mending import mend
from vision_tasks.errors import VisionTasksError
from vision_tasks.training.data_check import check_data
from vision_tasks.training.splits import read_split, read_splits


@pytest.fixture
def xyxy(scenes: Path, tmp_path: Path) -> Path:
    """The generated scenes, with corners where x, y, width, height belong."""
    folder = tmp_path / "corners"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").symlink_to(scenes / "images")
    for split in ("train", "val"):
        content = json.loads((scenes / f"annotations/instances_{split}.json").read_text())
        for entry in content["annotations"]:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x, y, x + w, y + h]
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return folder


def test_clean_data_are_let_through_in_silence(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, val = read_splits(DataConfig(path=scenes))
    with caplog.at_level(logging.WARNING):
        check_data({"train": train, "val": val}, "stop", "scenes")
    said = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert [words for words in said if "few objects" not in words] == []


def test_what_would_break_a_training_stops_it(xyxy: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, val = read_splits(DataConfig(path=xyxy))
    with pytest.raises(VisionTasksError, match=r"boxes are corners(?s:.)*boxes_xyxy(?s:.)*doctor corners --fix"):
        check_data({"train": train, "val": val}, "stop", "corners")
    with caplog.at_level(logging.WARNING):
        check_data({"train": train, "val": val}, "warn", "corners")
    assert any("boxes_xyxy" in r.message for r in caplog.records)
    caplog.clear()
    check_data({"train": train, "val": val}, "off", "corners")
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_patch_is_applied_when_reading(xyxy: Path, scenes: Path, tmp_path: Path) -> None:
    from vision_tasks.data.patch import write_patch

    train, val = read_splits(DataConfig(path=xyxy))
    whole = {"train": train, "val": val}
    patch = tmp_path / "a patch.json"
    write_patch(patch, mend(whole, diagnose(whole, quick=True)).patches(whole))
    config = load_config(None, [f"data={xyxy}", f"data.train.patch={patch}", f"data.val.patch={patch}"]).data
    again, judged = read_splits(config)
    clean, clean_val = read_splits(DataConfig(path=scenes))
    assert abs(again.boxes - clean.boxes).max() < 1e-9
    assert judged is not None
    assert clean_val is not None
    assert abs(judged.boxes - clean_val.boxes).max() < 1e-9
    check_data({"train": again, "val": judged}, "stop", "corners")
    alone = {"train": {"patch": str(patch)}}
    with pytest.raises(VisionTasksError, match="nothing for the patch to mend"):
        read_splits(DataConfig.model_validate(alone))


def test_what_readers_told_is_not_said_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A box without area is a problem of reading; a note of it is no warning."""
    data = coco([[[4.0, 5.0, 20.0, 21.0]] * (row + 1) for row in range(30)], [(480, 640)] * 30, masks=False)
    for number, annotation in enumerate(data["annotations"]):
        annotation["bbox"][0] += 23 * (number % 25)
    data["annotations"][3]["bbox"][2] = 0.0
    file = written(data, tmp_path / "instances_train.json")
    for image in data["images"]:
        (tmp_path / image["file_name"]).touch()
    split = Split(annotations=file, images=tmp_path)
    with caplog.at_level(logging.INFO):
        records = read_split(split, "train")
        check_data({"train": records}, "stop", "data")
    assert sum("box_empty" in record.message for record in caplog.records) == 1
    caplog.clear()
    del data["annotations"][3], data["annotations"][5]["area"]
    file.write_text(json.dumps(data))
    with caplog.at_level(logging.INFO):
        read_split(split, "train")
    (note,) = [record for record in caplog.records if "area_missing" in record.message]
    assert (note.levelname, note.message[:6]) == ("INFO", "note: ")


def test_sets_that_train_together_are_examined_one_by_one(xyxy: Path, scenes: Path) -> None:
    sound = {"annotations": str(scenes / "annotations/instances_train.json"), "images": str(scenes / "images/train")}
    wrong = {"annotations": str(xyxy / "annotations/instances_train.json"), "images": str(xyxy / "images/train")}
    train, _ = read_splits(DataConfig.model_validate({"train": [sound, wrong]}))
    grave = [(f.split, f.code) for f in diagnose(train, quick=True) if f.severity == "breaks"]
    assert grave == [("train[1]", "boxes_xyxy")]
    with pytest.raises(VisionTasksError, match=r"train\[1\](?s:.)*patch: patch.json. in each entry of data.train"):
        check_data({"train": train, "val": None}, "stop", "RECIPE.yaml")
