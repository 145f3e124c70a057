"""YOLO labels as people have them: read and written, compared with numbers made by hand and with pycocotools."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.formats.yolo import find_yolo, read_yolo
from vision_tasks.data.formats.yolo_lines import read_lines
from vision_tasks.data.image_headers import upright_size
from vision_tasks.data.images import read_image
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

NAMES = "names: [cat, dog]\n"


def picture(path: Path, width: int = 200, height: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def put(
    root: Path, labels: dict[str, str | None], about: str | None = "names: [cat, dog]\ntrain: images/train\n"
) -> Path:
    """A data set of images of 200 × 100 pixels; None: no label file."""
    for name, text in labels.items():
        picture(root / "images" / "train" / name)
        if text is not None:
            label = root / "labels" / "train" / Path(name).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text)
    if about is not None:
        (root / "data.yaml").write_text(about)
    return root


def only(root: Path) -> Records:
    splits = read_data(root, "yolo", extras=True)
    assert list(splits) == ["train"]
    return splits["train"]


def test_boxes_and_outlines_in_pixels(tmp_path: Path) -> None:
    text = "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.3 0.2 0.3 0.6\n0 0.5 0.5 0.5 0.5 0.875\n"
    records = only(put(tmp_path / "a b é", {"x.png": text}))
    assert records.categories.names == ("cat", "dog")
    assert records.categories.ids == (0, 1)
    assert records.labels.tolist() == [1, 0, 0]
    assert records.boxes.tolist() == [[75, 25, 50, 50], [20, 20, 40, 40], [50, 25, 100, 50]]
    assert records.areas.tolist() == [2500, 800, 5000]
    assert records.segmentation(0) is None
    np.testing.assert_array_equal(records.segmentation(1), [[[20, 20], [60, 20], [60, 60]]])  # type: ignore[arg-type]
    assert records.extras is not None
    assert records.extras.annotations == {2: {"score": 0.875}}
    assert not len(records.problems)


def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path) -> None:
    labels = {
        "a.png": "0 0.5 0.5 0.1 0.1\n0 0.5 x 0.1 0.1\n0 0.5 0.5\n-1 0.5 0.5 0.1 0.1\n0.5 0.5 0.5 0.1 0.1\n",
        "b.png": "7 0.5 0.5 0.1 0.1\n0 320 240 50 60\n0 nan 0.5 0.1 0.1\n",
        "c.png": None,
        "d.png": "",
        "e.png": "0 0.9 0.5 0.4 0.1\n",
    }
    root = put(tmp_path, labels)
    (root / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.1 0.1")
    records = only(root)
    found = {p.code: (p.count, p.examples) for p in records.problems}
    folder = root / "labels" / "train"
    assert found["label_line_unreadable"] == (5, (*(f"{folder}/a.txt:{n}" for n in (2, 3, 4, 5)), f"{folder}/b.txt:3"))
    assert found["unknown_category"] == (1, (f"{folder}/b.txt:1",))
    assert found["label_not_shares"] == (1, (f"{folder}/b.txt:2",))
    assert found["label_missing"] == (1, (str(root / "images" / "train" / "c.png"),))
    assert found["label_without_image"] == (1, (f"{folder}/gone.txt",))
    assert len(records) == 5
    # As written, times the size; judging is left to what judges all formats.
    assert records.boxes[1].tolist() == [320 * 200 - 5000, 240 * 100 - 3000, 10000, 6000]
    assert records.boxes[2].tolist() == [140, 45, 80, 10]
    assert records.usable.tolist() == [True, False, True]


def test_a_photo_turned_by_exif_counts_as_it_is_shown(tmp_path: Path) -> None:
    root = put(tmp_path, {"a.jpg": "0 0.5 0.5 1 0.5"})
    path = root / "images" / "train" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(path, exif=exif)
    records = only(root)
    assert records.size(0) == (200, 100) == read_image(path).shape[:2]
    assert records.boxes.tolist() == [[0, 50, 100, 100]]
    assert read_image(path, records.size(0)).shape[:2] == (200, 100)


def test_sizes_are_those_of_decoded_images(real_data: Path) -> None:
    for path in sorted((real_data / "voc_quirks").rglob("*.jpg")) + sorted((real_data / "coco128").rglob("*02.jpg")):
        try:
            shape = read_image(path).shape[:2]
        except VisionTasksError:
            continue
        assert upright_size(path) == shape, path


def test_an_image_that_cannot_be_opened_is_kept_without_its_objects(tmp_path: Path) -> None:
    root = put(tmp_path, {"a.png": "0 0.5 0.5 0.1 0.1", "b.png": "0 0.5 0.5 0.1 0.1"})
    (root / "images" / "train" / "a.png").write_bytes(b"")
    records = only(root)
    assert len(records) == 2
    assert np.diff(records.first).tolist() == [0, 1]
    assert records.problems["image_unreadable"].count == 1


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ("train: images/train\nnames: {1: cat, 90: dog}\n", {1: "cat", 90: "dog"}),
        ("train: ./images/train/\nval:\nnc: 3\nnames: [yes, no]\n", {0: "yes", 1: "no", 2: "2"}),
        ("path: .\ntrain: [images/train]\nnames:\n  0: cat\n", {0: "cat"}),
        (f"path: /content/set\ntrain: images/train\n{NAMES}", {0: "cat", 1: "dog"}),
        (f"path: ../datasets/set\ntrain: images/train\n{NAMES}", {0: "cat", 1: "dog"}),
        (f"train: ../images/train\n{NAMES}", {0: "cat", 1: "dog"}),
        (f"train: /home/joe/set/images/train\n{NAMES}", {0: "cat", 1: "dog"}),
        (f"train: images\\train\n{NAMES}", {0: "cat", 1: "dog"}),
        (f"train: list.txt\n{NAMES}", {0: "cat", 1: "dog"}),
        (f"train: images/train\ntest: ../test/images\n{NAMES}", {0: "cat", 1: "dog"}),
    ],
)
def test_descriptions_as_tools_write_them(tmp_path: Path, about: str, names: dict[int, str]) -> None:
    root = put(tmp_path / "set", {"a.png": "1 0.5 0.5 0.1 0.1", "b.png": None}, about)
    (root / "list.txt").write_text("./images/train/a.png\n/data/other/images/train/b.png\nimages/train/gone.png\n")
    records = only(root)
    assert [records.file_name(row) for row in range(len(records))] == ["a.png", "b.png"]
    assert dict(zip(records.categories.ids, records.categories.names, strict=True)) == names
    assert records.problems["list_entry_missing"].count == ("list" in about)


def test_nothing_outside_the_data_set_is_read(tmp_path: Path) -> None:
    outside = put(tmp_path / "secret", {"a.png": "0 0.5 0.5 0.1 0.1"})
    root = put(tmp_path / "deep" / "down" / "set", {}, None)
    root.mkdir(parents=True)
    for about in (
        f"train: {outside}/images/train\n", f"path: {outside}\ntrain: images/train\n",
        "train: ../../../secret/images/train\n", "train: list.txt\n",
    ):  # fmt: skip
        (root / "data.yaml").write_text(about + NAMES)
        (root / "list.txt").write_text(f"{outside}/images/train/a.png\n../../../secret/images/train/a.png\n")
        with pytest.raises(VisionTasksError, match=r"outside of|neither"):
            read_data(root, "yolo")


@pytest.mark.parametrize(
    "about", ["train: images/train\nnames: !!python/object/apply:os.system [ls]\n", "a: [1", "- 1\n"]
)
def test_a_yaml_file_runs_nothing(tmp_path: Path, about: str) -> None:
    root = put(tmp_path, {"a.png": "0 0.5 0.5 0.1 0.1"}, about)
    assert read_yolo(Found("yolo", root, part="images/train")).categories.names == ("0",)


def test_folders_without_a_description(tmp_path: Path) -> None:
    one = put(tmp_path / "one", {"a.png": "3 0.5 0.5 0.1 0.1", "sub/images/b.png": "1 0.5 0.5 0.1 0.1"}, None)
    records = only(one)
    assert records.categories.names == ("1", "3")
    assert records.labels.tolist() == [1, 0]
    assert records.problems["class_names_missing"].count == 1
    (one / "classes.txt").write_text("w\nx\ny\nz\n")
    assert only(one).categories.names == ("w", "x", "y", "z")
    beside = tmp_path / "beside"
    picture(beside / "a.png")
    (beside / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert only(beside).boxes.tolist() == [[90, 45, 20, 10]]
    for name in ("train", "valid"):
        shutil.copytree(one / "images" / "train", tmp_path / "two" / name / "images")
        shutil.copytree(one / "labels" / "train", tmp_path / "two" / name / "labels")
    assert list(find_data(tmp_path / "two", "yolo")) == ["train", "val"]
    words = tmp_path / "words"
    picture(words / "a.png")
    (words / "a.txt").write_text("a photo of a cat")
    assert find_yolo(words) == {}


def test_darknet_description(tmp_path: Path) -> None:
    """CVAT's export: paths begin with a folder that is not there."""
    picture(tmp_path / "obj_train_data" / "a.png")
    (tmp_path / "obj_train_data" / "a.txt").write_text("1 0.5 0.5 0.1 0.1")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = b/\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/a.png\n")
    records = only(tmp_path)
    assert records.categories.names == ("cat", "dog")
    assert records.labels.tolist() == [1]


def test_key_points_follow_boxes() -> None:
    (line,), lost = read_lines("0 0.5 0.5 0.1 0.1 0.4 0.4 2 0.6 0.6 1", key_points=6)
    assert line.values == (0.5, 0.5, 0.1, 0.1)
    assert line.key_points == (0.4, 0.4, 2, 0.6, 0.6, 1)
    assert not lost


def test_coco128_has_what_its_source_says(real_data: Path) -> None:
    boxes = read_data(real_data / "coco128" / "object_detection")
    assert boxes["train"].problems["label_without_image"].count == 2
    assert boxes["train"].problems["label_missing"].count == 2
    assert len(boxes["val"].labels) == sum(
        len(p.read_text().splitlines()) for p in (real_data / "coco128/object_detection/labels/val2017").iterdir()
    )
    outlines = read_data(real_data / "coco128" / "instance_segmentation")
    assert [len(r.labels) for r in outlines.values()] == [746, 159]
    assert outlines["train"].categories.ids[-1] == 90
    assert all((r.shape_starts >= 0).all() for r in outlines.values())


def test_images_may_be_named(tmp_path: Path) -> None:
    """The description is of another machine, and images lie apart from labels."""
    root = put(tmp_path / "set", {"a.png": "1 0.5 0.5 0.1 0.1"}, f"train: /x/images/train\nval: /x/images/val\n{NAMES}")
    elsewhere = tmp_path / "far" / "away" / "photos"
    shutil.copytree(root / "images", elsewhere)
    shutil.rmtree(root / "images")
    picture(elsewhere / "val" / "b.png")
    (root / "labels" / "val").mkdir()
    (root / "labels" / "val" / "b.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(VisionTasksError, match="Name the image folder"):
        read_data(root, "yolo")
    splits = read_data(root, "yolo", elsewhere)
    assert {name: r.labels.tolist() for name, r in splits.items()} == {"train": [1], "val": [0]}
    assert splits["train"].image_path(0) == elsewhere / "train" / "a.png"
