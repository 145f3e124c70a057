"""Descriptions of YOLO data sets that are wrong: told, not passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import find_data, read_data, read_found
from vision_tasks.errors import VisionTasksError


def yolo_set(root: Path) -> None:
    for part in ("images", "labels"):
        (root / part / "train").mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(root / "images/train/a.png")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.5 0.5\n")


@pytest.mark.parametrize("name", ["data.yaml", "dataset.yaml"])
@pytest.mark.parametrize(
    "text", ["names: [a, b\ntrain: images/train\n", "train: images/train\nnc: 2x\n", "names: {a: b}\ntrain: x\n"]
)
def test_a_broken_description_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    yolo_set(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(VisionTasksError, match=name):
        find_data(tmp_path)


def test_a_broken_obj_data_is_an_error(tmp_path: Path) -> None:
    yolo_set(tmp_path)
    (tmp_path / "obj.data").write_text("classes = 2x\ntrain = images/train\n")
    with pytest.raises(VisionTasksError, match=r"obj\.data"):
        find_data(tmp_path)


def test_other_yaml_files_may_be_anything(tmp_path: Path) -> None:
    yolo_set(tmp_path)
    (tmp_path / "deploy.yaml").write_text("a: [b\n")
    assert list(find_data(tmp_path)) == ["train"]


def test_data_yaml_counts_first(tmp_path: Path) -> None:
    yolo_set(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [a, b]\ntrain: images/train\n")
    (tmp_path / "dataset.yaml").write_text("names: [c, d]\ntrain: images/train\n")
    (tmp_path / "obj.data").write_text("{{{")
    assert read_data(tmp_path)["train"].categories.names == ("a", "b")


def test_what_is_no_description(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(VisionTasksError, match=r"instances\.json: describes no YOLO data set.*leave format out"):
        read_found(Found("yolo", tmp_path / "instances.json"))
    yolo_set(tmp_path)
    (tmp_path / "data.yaml").write_text("names: [a, b]\ntrain: images/train\n")
    with pytest.raises(VisionTasksError, match="which of its parts is meant: train"):
        read_found(Found("yolo", tmp_path / "data.yaml"))
    with pytest.raises(VisionTasksError, match="has no part 'val', only train"):
        read_found(Found("yolo", tmp_path / "data.yaml", part="val"))
