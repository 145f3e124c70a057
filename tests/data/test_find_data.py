"""Which format a folder is of: every real set is found as what it is, and what is no data set is told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import FORMATS, find_data, find_with_images, read_data, read_found
from vision_tasks.errors import VisionTasksError

# Set -> format, and images by split: those of the set's SOURCE.txt that have labels.
REAL: dict[str, tuple[str, dict[str, int]]] = {
    "balloon_coco": ("coco", {"train": 61, "val": 13}),
    "bccd_voc": ("voc", {"train": 205, "val": 87, "test": 72}),
    "bloodcells_coco": ("coco", {"train": 210, "val": 20, "test": 10}),
    "camvid": ("masks", {"train": 92, "val": 21, "test": 30}),
    "coco128/instance_segmentation": ("yolo", {"train": 100, "val": 24}),
    "coco128/object_detection": ("yolo", {"train": 128, "val": 24}),
    "coco128/panoptic_segmentation": ("coco_panoptic", {"train": 100, "val": 24}),
    "coco_mini": ("coco", {"train": 80, "val": 79}),
    "coco_mini/annotations": ("coco", {"train": 80, "val": 79}),
    "coco_mini/annotations/instances_val2017.json": ("coco", {"val": 79}),
    "panoptic_sample": ("coco_panoptic", {"train": 2}),
    "panoptic_sample/panoptic_coco_detection_format.json": ("coco", {"train": 2}),
    "voc_quirks": ("voc", {"train": 16}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_found_as_what_they_are(real_data: Path, name: str) -> None:
    form, counts = REAL[name]
    found = find_data(real_data / name)
    assert {f.format for f in found.values()} == {form}
    assert list(found) == list(counts)
    assert {split: len(read_found(f)) for split, f in found.items()} == counts


@pytest.mark.slow
def test_nuclei_are_found(real_data: Path) -> None:
    found = find_data(real_data / "dsb2018_nuclei")
    assert {f.format for f in found.values()} == {"masks"}
    assert sum(len(read_found(f)) for f in found.values()) == 34


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mot17_mini", "sequences of MOTChallenge, for `vision-tasks evaluate-tracks`"),
        ("mot17_mini/train/MOT17-02-FRCNN", "sequences of MOTChallenge"),
        ("videos", "videos, for `vision-tasks predict`"),
        ("coco128/images", "images without annotations"),
        ("coco128/semantic_segmentation", "masks: the images must lie beside them"),
        ("weights", "the folder holds"),
    ],
)
def test_what_is_no_data_set_is_said(real_data: Path, name: str, words: str) -> None:
    with pytest.raises(VisionTasksError) as error:
        find_data(real_data / name)
    assert words in str(error.value)
    assert "COCO instances, LVIS, " in str(error.value)


def coco(folder: Path, name: str, image: str = "a.jpg", **others: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": 1, "file_name": image, "width": 9, "height": 9}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (folder / name).write_text(json.dumps(content | others))
    return folder / name


def test_the_splits_share_the_categories_of_all(tmp_path: Path) -> None:
    """Objects of a category that only the second split has are not lost."""
    coco(tmp_path / "train", "train.json")
    rare = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}
    coco(
        tmp_path / "val", "val.json", categories=[{"id": 1, "name": "rare"}, {"id": 2, "name": "a"}],
        annotations=[rare, rare | {"id": 2, "category_id": 2, "note": "x"}],
    )  # fmt: skip
    for split in ("train", "val"):
        (tmp_path / split / "a.jpg").touch()
    splits = read_data(tmp_path, extras=True)
    assert splits["train"].categories.names == splits["val"].categories.names == ("a", "rare")
    assert splits["val"].labels.tolist() == [1, 0]
    assert splits["train"].labels.tolist() == [0]
    assert splits["val"].extras is not None
    assert splits["val"].extras.of_annotation(1) == {"note": "x"}


def test_a_named_image_folder(tmp_path: Path) -> None:
    """It holds the images, or the folders of the splits' images; the annotations may lie anywhere."""
    for split in ("train", "val"):
        coco(tmp_path / "in", f"{split}.json", f"{split}.jpg")
        (tmp_path / "elsewhere" / split).mkdir(parents=True)
        (tmp_path / "elsewhere" / split / f"{split}.jpg").touch()
    with pytest.raises(VisionTasksError, match=r"train\.json: its images, such as train\.jpg, are in none of these"):
        find_data(tmp_path / "in")
    found = find_with_images(tmp_path / "in", images=tmp_path / "elsewhere")
    assert {split: f.images for split, f in found.items()} == {
        split: tmp_path / "elsewhere" / split for split in ("train", "val")
    }
    alone = find_with_images(tmp_path / "in/val.json", images=tmp_path / "elsewhere/val")
    assert alone == {"val": Found("coco", tmp_path / "in/val.json", tmp_path / "elsewhere/val")}
    with pytest.raises(VisionTasksError, match="no such folder of images"):
        find_with_images(tmp_path / "in", images=tmp_path / "nowhere")


def test_files_of_another_kind_are_named_by_their_reader(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('[{"image_id": 1, "score": 0.5}]')
    with pytest.raises(VisionTasksError, match="a list of detections"):
        read_data(tmp_path / "results.json")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(VisionTasksError, match=r"a\.txt"):
        find_data(tmp_path / "a.txt")


def test_wrong_words(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="there is no such file or folder"):
        find_data(tmp_path / "gone")
    with pytest.raises(VisionTasksError, match="there is no format 'yol'; did you mean 'yolo'"):
        find_data(tmp_path, "yol")
    for name, form in FORMATS.items():
        if form.find is not None:
            with pytest.raises(VisionTasksError):
                find_data(tmp_path, name)
