"""What the doctor says of files beside their annotations: unlisted and misnamed images, sizes that nothing states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.doctor_sets import coco, written
from vision_tasks.data.doctor.diagnose import diagnose, splits_of
from vision_tasks.data.doctor.findings import Finding, ordered
from vision_tasks.data.doctor.mending import mend
from vision_tasks.data.doctor.sizes import check_sizes
from vision_tasks.data.doctor.wording import in_singular
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.registry import read_data

SIZES = [(40, 60), (50, 70), (60, 40)]


def photos(root: Path, split: str = "train", first: int = 0) -> Path:
    """A COCO file of three images with an object each, and the images, noise of their own."""
    data = coco([[[4.0, 5.0, 20.0, 21.0]] for _ in SIZES], SIZES)
    rng = np.random.default_rng(first)
    for image in data["images"]:
        image["id"] += first
        image["file_name"] = f"{first}{image['file_name']}"
        file = root / "images" / split / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (image["height"], image["width"], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(file)
    for annotation in data["annotations"]:
        annotation["image_id"] += first
    return written(data, root / "annotations" / f"instances_{split}.json")


def codes(root: Path, quick: bool = False) -> dict[str, Finding]:
    return {f.code: f for f in diagnose(root, quick=quick) if not f.code.startswith("category_")}


@pytest.mark.parametrize("quick", [False, True])
def test_images_that_nothing_names(tmp_path: Path, quick: bool) -> None:
    photos(tmp_path)
    photos(tmp_path, "val", 100)
    folder = tmp_path / "images" / "train"
    assert "image_unlisted" not in codes(tmp_path, quick)
    Image.new("RGB", (8, 8)).save(folder / "new.png")
    Image.new("RGB", (8, 8)).save(folder / ".hidden.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "below").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "below" / "map.png")
    found = codes(tmp_path, quick)["image_unlisted"]
    assert (found.split, found.count, found.of, found.severity) == ("train", 1, 4, "note")
    assert found.examples[0].file == str(folder / "new.png")


def test_a_file_of_another_format(tmp_path: Path) -> None:
    photos(tmp_path)
    file = tmp_path / "images" / "train" / "0001.jpg"
    Image.open(file).save(file.with_suffix(".png"))
    file.with_suffix(".png").replace(file)
    found = codes(tmp_path)["image_misnamed"]
    assert (found.count, found.of) == (1, 3)
    assert str(found.examples[0]) == "0001.jpg, image 11: holds PNG"


def test_sizes_that_nothing_states_are_taken_from_the_files(tmp_path: Path) -> None:
    file = photos(tmp_path)
    data = json.loads(file.read_text())
    for image in data["images"][:2]:
        del image["width"], image["height"]
    file.write_text(json.dumps(data))
    splits = splits_of(tmp_path)
    diagnosis = diagnose(splits)
    (found,) = [f for f in diagnosis if f.code == "image_size_unknown"]
    assert found.count == 2
    assert found.edits[0] == {
        "op": "set_size", "image": 10, "was": [0, 0], "to": [40, 60], "why": "image_size_unknown"
    }  # fmt: skip
    mended = mend(splits, diagnosis)
    assert not mended.refused
    records = mended.records["train"]
    assert list(zip(records.heights.tolist(), records.widths.tolist(), strict=True)) == SIZES
    assert "image_size_unknown" not in [f.code for f in mended.left]


def test_what_is_of_how_many(tmp_path: Path) -> None:
    """Label files, and images, not objects."""
    for name, label in (("a", "0 0.5 0.5 0.4 0.4\n" * 5), ("b", None), ("gone", "0 0.5 0.5 0.4 0.4\n")):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        if name != "gone":
            Image.new("RGB", (40, 40)).save(tmp_path / "images" / f"{name}.png")
        if label is not None:
            (tmp_path / "labels" / f"{name}.txt").write_text(label)
    found = {f.code: (f.count, f.of) for f in diagnose(read_data(tmp_path), quick=True)}
    assert found["label_missing"] == (1, 2)
    assert found["label_without_image"] == (1, 2)


def test_slips_of_voc_do_not_decide_about_anchors(tmp_path: Path) -> None:
    data = coco([[[4.0, 5.0, 20.0, 21.0]] * 1, [[3.0, 3.0, 1.0, 20.0]], [[9.0, 9.0, 12.0, 12.0]]], SIZES, masks=False)
    records = read_coco(written(data, tmp_path / "a.json"))
    assert check_sizes(records, "train")[1]["objects"] == 3
    records.problems.add("voc_one_pixel", ["annotation 2 (image 11)"])
    assert check_sizes(records, "train")[1]["objects"] == 2


def test_files_come_before_how_often_categories_occur() -> None:
    rare, small = Finding("category_rare", 9, 10, "train"), Finding("image_truncated", 1, 100, "train")
    assert [f.code for f in ordered([rare, small])] == ["image_truncated", "category_rare"]


def test_a_remedy_speaks_of_the_patch_where_there_is_an_edit() -> None:
    assert Finding("image_missing", 1).remedy == "copy them, or delete the entries"
    assert Finding("image_missing", 1, edits=({"op": "drop_images"},)).remedy.endswith(": the patch does")
    assert Finding("mask_crossing", 1).remedy.startswith("training draws them as COCO's tools do")


@pytest.mark.parametrize(
    ("title", "of", "one"),
    [
        ("images are the same as another of their split", True, "images is the same as another of its split"),
        ("categories have no annotation", False, "category has no annotation"),
        ("boxes lie outside their image", False, "box lies outside its image"),
        ("outlines cross themselves", True, "outlines crosses itself"),
        ("VOC boxes begin and end at the same pixel", True, "VOC boxes begins and ends at the same pixel"),
    ],
)
def test_one_of_something(title: str, of: bool, one: str) -> None:
    assert in_singular(title, of) == one


@pytest.mark.parametrize(
    ("line", "code", "beneath"),
    [
        ("0 200 150 80 60\n", "label_not_shares", "box_outside"),
        ("0,0.5,0.5,0.4,0.4\n", "label_line_unreadable", "training_empty"),
    ],
)
def test_labels_in_another_form_come_before_what_follows(line: str, code: str, beneath: str, tmp_path: Path) -> None:
    for split, text in (("train", line), ("val", "0 0.5 0.5 0.4 0.4\n")):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (400, 300)).save(tmp_path / "images" / split / f"{split}{number}.png")
            (tmp_path / "labels" / split / f"{split}{number}.txt").write_text(text)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    first = diagnose(read_data(tmp_path), quick=True).findings[0]
    assert (first.code, first.severity, first.count, first.of) == (code, "breaks", 6, 6)
    assert beneath in [f.code for f in first.consequences]
