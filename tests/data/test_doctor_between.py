"""What the doctor says of splits beside each other, and of boxes in a list of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doctor_sets import Coco, scenes, written
from PIL import Image

from vision_tasks.data.doctor.diagnose import diagnose
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records


def read(data: Coco, folder: Path, name: str = "a.json") -> Records:
    return read_coco(written(data, folder / name), folder, cache=False)


def drawn(records: Records, seed: int) -> None:
    random = np.random.default_rng(seed)
    for row in range(len(records)):
        path = records.image_path(row)
        path.parent.mkdir(exist_ok=True, parents=True)
        coarse = random.integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((records.widths[row], records.heights[row])).save(path)


@pytest.mark.parametrize("name", ["train", "anything"])
def test_training_without_objects_breaks(name: str, tmp_path: Path) -> None:
    empty = scenes(images=4)
    empty["annotations"] = []
    bare, full = read(empty, tmp_path), read(scenes(images=4, seed=1), tmp_path, "b.json")
    found = diagnose({name: bare, "val": full}, quick=True).findings[0]
    assert (found.code, found.severity, found.split, found.count) == ("training_empty", "breaks", name, 4)
    assert [f.code for f in found.consequences] == ["image_empty"]
    second = diagnose({"train": full, "train[1]": bare, "val": bare}, quick=True)
    said = {(f.split, f.severity) for f in second if f.code == "split_empty"}
    assert said == {("train[1]", "hurts"), ("val", "hurts")}
    assert not second.breaks


def test_training_with_nothing_but_crowds_breaks(tmp_path: Path) -> None:
    crowds = scenes(images=4)
    for annotation in crowds["annotations"]:
        annotation["iscrowd"] = 1
    found = diagnose({"train": read(crowds, tmp_path)}, quick=True).findings[0]
    assert (found.code, found.severity, found.count) == ("training_empty", "breaks", 4)
    assert "crowds" in found.title
    assert "iscrowd" in found.remedy
    assert not found.consequences


def test_a_file_of_two_splits_is_told_without_opening_it(tmp_path: Path) -> None:
    one, two = read(scenes(images=9), tmp_path / "x"), read(scenes(images=9, seed=4), tmp_path / "y")
    three = two.subset(np.array([2, 5]))
    (tmp_path / "x" / "000.jpg").touch()
    assert not [f for f in diagnose({"train": one, "val": two}, quick=True) if f.code == "image_leaked"]
    assert not [f for f in diagnose({"train": two, "val": three}, quick=True) if f.code == "image_leaked"], "no file"
    for number in (2, 5):
        (tmp_path / "y" / f"{number:03d}.jpg").touch()
    diagnosis = diagnose({"train": one, "train[1]": two, "val": three}, quick=True)
    found = next(f for f in diagnosis if f.code == "image_leaked")
    assert (found.split, found.count, found.of) == ("train[1]", 2, 2)
    assert found.edits == ({"op": "drop_images", "ids": [12, 15], "why": "image_leaked"},)


def test_two_parts_of_training_may_share_images(tmp_path: Path) -> None:
    one, two = read(scenes(images=6), tmp_path / "x"), read(scenes(images=6), tmp_path / "y")
    drawn(one, 1)
    drawn(two, 1)
    val = read(scenes(images=2, seed=3), tmp_path / "z")
    drawn(val, 9)
    assert "image_leaked" not in diagnose({"train": one, "train[1]": two, "val": val}).codes()
    drawn(val, 1)  # the pictures of both parts
    leaks = [f for f in diagnose({"train": one, "train[1]": two, "val": val}) if f.code == "image_leaked"]
    assert [(f.split, f.count) for f in leaks] == [("train", 2), ("train[1]", 2)]


def test_boxes_in_a_list_of_their_own(tmp_path: Path) -> None:
    data = scenes(images=3)
    before = [a["bbox"] for a in data["annotations"]]
    for a in data["annotations"]:
        a["bbox"] = [a["bbox"]]
    records = read(data, tmp_path)
    assert np.array_equal(records.boxes, before)
    assert records.problems["box_nested"].count == len(before)
    assert {f.code for f in diagnose(records, quick=True)} == {"box_nested", "category_rare"}


def test_letters_and_names_by_case(tmp_path: Path) -> None:
    """A and a are two letters; Car and car one thing; five such pairs are somebody's intention."""
    data = scenes(images=60, kinds=1)

    def named(*names: str) -> Records:
        data["categories"] = [{"id": k + 1, "name": n} for k, n in enumerate(names)]
        for k, a in enumerate(data["annotations"]):
            a["category_id"] = 1 + k % len(names)
        return read(data, tmp_path)

    assert diagnose(named("A", "a", "B", "b"), quick=True).is_clean
    one = diagnose(named("Car", "car", "B", "b"), quick=True).findings[0]
    assert (one.code, one.count, len(one.edits)) == ("category_alike", 1, 1)
    words = [w for word in ("aa", "bb", "cc", "dd", "ee") for w in (word, word.upper())]
    many = diagnose(named(*words), quick=True).findings[0]
    assert (many.code, many.count, many.edits) == ("category_alike", 5, ())
    assert "case alone" in many.detail
