"""Truth made from records: equal to the file where the file is clean, and sound where it is not."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vision_tasks as vt
from vision_tasks.config import DataConfig, Split
from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.coco_truth import CocoTruth
from vision_tasks.structures import Categories
from vision_tasks.training.evaluation import aligned_categories
from vision_tasks.training.splits import read_split, read_splits
from vision_tasks.training.truth import truth_of


def test_truth_of_clean_records_is_that_of_the_file(real_data: Path) -> None:
    folder = real_data / "coco_mini"
    file = next(folder.glob("**/instances_val*.json"))
    records = read_split(Split(annotations=file, images=folder / "val2017"), "val")
    ours, expected = truth_of(records), CocoTruth.from_file(file)
    for name in ("image_ids", "category_ids", "image_sizes", "image", "category", "boxes", "area", "is_crowd"):
        assert np.array_equal(getattr(ours, name), getattr(expected, name)), name
    assert np.array_equal(ours.annotation_ids, expected.annotation_ids)


def test_truth_of_dirty_records(scenes: Path, tmp_path: Path) -> None:
    """What the reader reports and mends does not stop an evaluation."""
    content = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    first, second, third, fourth = content["annotations"][:4]
    del first["area"]
    second["iscrowd"] = None
    third["bbox"] = [str(v) for v in third["bbox"]]
    fourth["bbox"] = [float("nan"), 1, 2, 3]
    content["images"][0]["width"] = str(content["images"][0]["width"])
    path = tmp_path / "dirty.json"
    path.write_text(json.dumps(content))
    truth = truth_of(read_split(Split(annotations=path, images=scenes / "images" / "val"), "val"))
    clean = CocoTruth.from_file(scenes / "annotations" / "instances_val.json")
    assert len(truth.boxes) in (len(clean.boxes), len(clean.boxes) - 1)
    assert np.isfinite(truth.boxes).all()
    kept = np.isin(clean.annotation_ids, truth.annotation_ids) & (clean.annotation_ids != fourth["id"])
    ours = np.isin(truth.annotation_ids, clean.annotation_ids[kept])
    assert np.array_equal(truth.boxes[ours], clean.boxes[kept])


@pytest.mark.parametrize(
    ("own", "wanted", "ids"),
    [
        ([(1, "cat"), (2, "dog")], [(2, "cat"), (1, "dog")], (2, 1)),
        ([(1, "cat"), (2, "dog")], [(7, "Dog ")], (-1, 7)),
        ([(1, "cell"), (2, "cell")], [(1, "cell"), (2, "cell")], (1, 2)),
        ([(1, "Cell"), (2, "cell")], [(5, "cell"), (6, "Cell")], (6, 5)),
    ],
)
def test_categories_are_aligned_by_name(
    own: list[tuple[int, str]], wanted: list[tuple[int, str]], ids: tuple[int, ...]
) -> None:
    def make(pairs: list[tuple[int, str]]) -> Categories:
        return Categories.of([{"id": i, "name": n} for i, n in pairs])

    assert aligned_categories(make(own), make(wanted)).ids == ids


def test_a_model_of_objects_is_told_of_maps(tmp_path: Path) -> None:
    for folder in ("train", "trainannot", "val", "valannot"):
        (tmp_path / folder).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / folder / "a.png")
    with pytest.raises(VisionTasksError, match="maps of the layout camvid are there, but this model finds objects"):
        read_splits(DataConfig(path=tmp_path), ("objects",))


@pytest.mark.parametrize("images", [8, pytest.param(34, marks=pytest.mark.slow)])
def test_one_mask_file_per_object_gives_objects(real_data: Path, tmp_path: Path, images: int) -> None:
    for folder in sorted((real_data / "dsb2018_nuclei" / "stage1_train").iterdir())[:images]:
        shutil.copytree(folder, tmp_path / "stage1_train" / folder.name)
    train, val = read_splits(DataConfig(path=tmp_path), ("objects",))
    assert val is not None
    assert len(train) + len(val) == images
    assert train.has_shapes
    files = list(tmp_path.glob("stage1_train/*/masks/*.png"))
    assert len(train.labels) + len(val.labels) == len(files)


def test_checks_can_be_switched_off_in_yaml_too() -> None:
    assert DataConfig.model_validate({"check": False}).check == "off"


def test_other_data_sets_in_the_folder_are_told(scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(scenes, tmp_path / "a")
    vt.data.write_data(vt.data.read_data(scenes), tmp_path / "b", "voc", images="none")
    with caplog.at_level(logging.INFO, "vision_tasks"):
        read_splits(DataConfig(path=tmp_path), ("objects",))
    assert "Also there, and not looked at" in caplog.text
    assert "b (Pascal VOC)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "vision_tasks"):
        read_splits(DataConfig(path=scenes), ("objects",))  # its maps are no other data set
    assert "Also there" not in caplog.text
