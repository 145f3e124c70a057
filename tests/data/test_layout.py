"""Finding annotation files and image folders, in real sets and in every usual arrangement."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vision_tasks.data.layout import find_coco
from vision_tasks.errors import VisionTasksError


def put(top: Path, annotations: str, images: str, prefix: str = "") -> None:
    """An annotation file, and two empty image files where it means them to be."""
    file = top / annotations
    stem = re.sub(r"\W", "_", annotations)
    names = [f"{stem}_{i}.jpg" for i in range(2)]
    file.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"id": i, "file_name": prefix + n} for i, n in enumerate(names)]
    file.write_text(json.dumps({"images": listed, "annotations": [], "categories": []}))
    for name in names:
        place = top / images / (prefix + name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def found(top: Path, path: Path | None = None) -> dict[str, tuple[str, str]]:
    splits = find_coco(path or top)
    return {s: (str(a.relative_to(top)), str(i.relative_to(top))) for s, (a, i) in splits.items()}


@pytest.mark.parametrize(
    "layout",
    [
        {
            "train": ("annotations/instances_train2017.json", "train2017"),
            "val": ("annotations/instances_val2017.json", "val2017"),
        },
        {"train": ("annotations/custom_train.json", "train2017"), "val": ("annotations/custom_val.json", "val2017")},
        {
            "train": ("train/_annotations.coco.json", "train"),
            "val": ("valid/_annotations.coco.json", "valid"),
            "test": ("test/_annotations.coco.json", "test"),
        },
        {"train": ("train.json", "images"), "val": ("val.json", "images")},
        {"train": ("annotations/train.json", "images/train"), "val": ("annotations/val.json", "images/val")},
        {"train": ("train.json", "."), "test": ("test.json", ".")},
        {"train": ("labels/train/coco.json", "images/train"), "val": ("labels/val/coco.json", "images/val")},
        {"train": ("result.json", "images")},
        {"train": ("Train_annotations.json", "jpg"), "val": ("validation_annotations.json", "jpg")},
    ],
)
@pytest.mark.parametrize("prefix", ["", "deep/er/"])
def test_usual_arrangements(tmp_path: Path, layout: dict[str, tuple[str, str]], prefix: str) -> None:
    for file, images in layout.values():
        put(tmp_path, file, images, prefix)
    assert found(tmp_path) == layout


def test_the_folder_that_holds_the_files_wins_over_the_name(tmp_path: Path) -> None:
    put(tmp_path, "annotations/train.json", "pictures")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "other.jpg").touch()
    assert found(tmp_path) == {"train": ("annotations/train.json", "pictures")}


def test_a_single_file(tmp_path: Path) -> None:
    put(tmp_path, "annotations/anything.json", "images")
    assert found(tmp_path, tmp_path / "annotations" / "anything.json") == {
        "train": ("annotations/anything.json", "images")
    }


def test_other_json_files_do_not_matter(tmp_path: Path) -> None:
    put(tmp_path, "annotations/instances_train.json", "train")
    (tmp_path / "annotations" / "captions_train.json").write_text('{"images": [], "annotations": [{"caption": "a"}]}')
    (tmp_path / "settings.json").write_text('{"a": 1}')
    put(tmp_path, "annotations/person_keypoints_train.json", "train")
    assert found(tmp_path) == {"train": ("annotations/instances_train.json", "train")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "coco_mini",
            {
                "train": ("annotations/instances_train2017.json", "train2017"),
                "val": ("annotations/instances_val2017.json", "val2017"),
            },
        ),
        (
            "balloon_coco",
            {
                "train": ("annotations/custom_train.json", "train2017"),
                "val": ("annotations/custom_val.json", "val2017"),
            },
        ),
        (
            "bloodcells_coco",
            {
                "train": ("train/_annotations.coco.json", "train"),
                "val": ("valid/_annotations.coco.json", "valid"),
                "test": ("test/_annotations.coco.json", "test"),
            },
        ),
    ],
)
def test_real_sets(real_data: Path, name: str, expected: dict[str, tuple[str, str]]) -> None:
    assert found(real_data / name) == expected


def test_errors_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="no such file or folder"):
        find_coco(tmp_path / "none")
    with pytest.raises(VisionTasksError, match="the folder is empty"):
        find_coco(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(VisionTasksError, match="the folder holds labels/"):
        find_coco(tmp_path)
    put(tmp_path, "a.json", "images")
    put(tmp_path, "b.json", "images")
    with pytest.raises(VisionTasksError, match=r"which of a\.json, b\.json"):
        find_coco(tmp_path)
    put(tmp_path, "train_1.json", "images")
    put(tmp_path, "train_2.json", "images")
    with pytest.raises(VisionTasksError, match=r"2 annotation files for train: train_1\.json, train_2\.json"):
        find_coco(tmp_path)


def test_images_that_are_nowhere(tmp_path: Path) -> None:
    put(tmp_path, "train.json", "images")
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    with pytest.raises(VisionTasksError, match=r"train_json_0\.jpg, are in none of these folders"):
        find_coco(tmp_path)


@pytest.mark.parametrize(
    "theirs", ["instances.json", "data.yaml", "Annotations/a.xml", "labels/a.txt", "images/a.json"]
)
def test_images_of_another_data_set_beside_it_are_not_taken(tmp_path: Path, theirs: str) -> None:
    put(tmp_path / "mine", "train.json", "images")
    (tmp_path / "mine" / "images").rename(tmp_path / "elsewhere")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "theirs" / "images")  # a file of the same name for each
    (tmp_path / "theirs" / theirs).parent.mkdir(exist_ok=True)
    (tmp_path / "theirs" / theirs).write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(VisionTasksError, match="Name the image folder"):
        find_coco(tmp_path / "mine" / "train.json")


def test_some_images_that_are_near_win_over_all_that_are_far(tmp_path: Path) -> None:
    put(tmp_path / "mine", "train.json", "images")
    put(tmp_path / "mine", "train.json", "../pool/images")
    (tmp_path / "mine" / "images" / "train_json_0.jpg").unlink()
    assert found(tmp_path / "mine", tmp_path / "mine" / "train.json") == {"train": ("train.json", "images")}


def test_annotations_in_a_folder_beside_the_images(tmp_path: Path) -> None:
    """The labels within train/ are of this data set, too."""
    put(tmp_path, "annotations/instances_train.json", "train/images")
    (tmp_path / "train" / "labels").mkdir()
    file = tmp_path / "annotations" / "instances_train.json"
    assert found(tmp_path, file) == {"train": ("annotations/instances_train.json", "train/images")}
