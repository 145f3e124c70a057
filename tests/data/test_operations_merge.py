"""Putting data sets together: categories, ids, file names, what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.written_coco import read_again, written
from vision_tasks.categories import Categories
from vision_tasks.data.operations.merge import joint_categories, merge, near_duplicates, same_files
from vision_tasks.data.operations.writing import write_data
from vision_tasks.errors import VisionTasksError


def test_two_sets_become_one_and_nothing_is_lost(tmp_path: Path) -> None:
    one = written(
        tmp_path / "farm", "train", {"a.png": [("cow", [1, 2, 3, 4]), ("dog", [5, 6, 7, 8])], "b.png": []},
        ["cow", "dog"], info={"year": 1}, licenses=[{"id": 1, "name": "free"}],
        image_keys={"a.png": {"license": 1}}, object_keys={2: {"attributes": {"wet": True}}},
    )  # fmt: skip
    other = written(
        tmp_path / "street", "train", {"a.png": [("dog", [9, 9, 9, 9])], "c.png": [("car", [4, 4, 4, 4])]},
        ["car", "dog"], licenses=[{"id": 1, "name": "not free"}], image_keys={"a.png": {"license": 1}},
        object_keys={1: {"score": 3}},
    )  # fmt: skip
    val = written(tmp_path / "street", "val", {"v.png": [("car", [4, 4, 4, 4])]}, ["car", "dog"])
    merged, notes = merge([{"train": one}, {"train": other, "val": val}])
    assert [*merged] == ["train", "val"]
    write_data(merged, tmp_path / "out", "coco")
    found = read_again(tmp_path / "out", "train")
    assert [(c["id"], c["name"]) for c in found["categories"]] == [(1, "cow"), (2, "dog"), (3, "car")]
    assert read_again(tmp_path / "out", "val")["categories"] == found["categories"]
    by_id = {image["id"]: image for image in found["images"]}
    assert {image["file_name"]: image["license"] for image in found["images"] if "license" in image} == {
        "a.png": 1, "street/a.png": 2,
    }  # fmt: skip
    assert [entry["name"] for entry in found["licenses"]] == ["free", "not free"]
    objects = {(by_id[a["image_id"]]["file_name"], a["category_id"], tuple(a["bbox"])): a for a in found["annotations"]}
    assert set(objects) == {
        ("a.png", 1, (1, 2, 3, 4)), ("a.png", 2, (5, 6, 7, 8)), ("street/a.png", 2, (9, 9, 9, 9)),
        ("street/c.png", 3, (4, 4, 4, 4)),
    }  # fmt: skip
    assert objects["a.png", 2, (5, 6, 7, 8)]["attributes"] == {"wet": True}
    assert objects["street/a.png", 2, (9, 9, 9, 9)]["score"] == 3
    assert len({a["id"] for a in found["annotations"]}) == 4
    written_file = tmp_path / "out" / "images" / "train" / "street" / "a.png"
    assert written_file.read_bytes() == (tmp_path / "street" / "images" / "train" / "a.png").read_bytes()
    assert any("file names are taken" in note and "street/" in note for note in notes)
    assert any("'car'" not in note and "car" in note and "background" in note for note in notes)


def test_ids_that_do_not_clash_stay(tmp_path: Path) -> None:
    one = written(tmp_path / "1", "train", {"a.png": [("x", [1, 1, 1, 1])]}, ["x"])
    other = written(tmp_path / "2", "train", {"b.png": [("x", [1, 1, 1, 1])]}, ["x"])
    far = replace(other, image_ids=other.image_ids + 1000, annotation_ids=other.annotation_ids + 50)
    merged, _ = merge([{"train": one}, {"train": far}])
    assert merged["train"].image_ids.tolist() == [1, 1001]
    assert merged["train"].annotation_ids.tolist() == [1, 51]
    merged, notes = merge([{"train": one}, {"train": other}])
    assert merged["train"].image_ids.tolist() == [1, 2]
    assert sum("ids clash" in note for note in notes) == 2


def test_categories_are_renamed_and_dropped(tmp_path: Path) -> None:
    one = written(tmp_path / "1", "train", {"a.png": [("Car", [1, 1, 1, 1]), ("mud", [2, 2, 2, 2])]}, ["Car", "mud"])
    other = written(tmp_path / "2", "train", {"b.png": [("car", [3, 3, 3, 3])]}, ["car"])
    _, notes = merge([{"train": one}, {"train": other}])
    assert any("'Car', 'car'" in note and "--map" in note for note in notes)
    merged, notes = merge([{"train": one}, {"train": other}], {"Car": "car", "mud": None})
    assert merged["train"].categories.names == ("car",)
    assert merged["train"].boxes[:, 0].tolist() == [1, 3]
    assert merged["train"].labels.tolist() == [0, 0]
    assert not any("look like one" in note for note in notes)
    with pytest.raises(VisionTasksError, match="did you mean 'Car'"):
        merge([{"train": one}], {"Kar": "car"})


def test_names_that_look_alike() -> None:
    assert near_duplicates(["car", "bus", "glass", "person"]) == []
    assert len(near_duplicates(["traffic light", "Traffic-Light", "cars", "car", "dog "])) == 2


def test_ids_of_joint_categories() -> None:
    one = Categories.of([{"id": 1, "name": "a"}, {"id": 7, "name": "b"}])
    other = Categories.of([{"id": 7, "name": "c"}, {"id": 3, "name": "b"}, {"id": 9, "name": "d"}])
    joint, said = joint_categories([one, other], {})
    assert dict(zip(joint.names, joint.ids, strict=True)) == {"a": 1, "b": 7, "c": 10, "d": 9}
    assert said == ["category 'c' has the id 10 instead of 7, which is taken"]


def test_same_images_are_said(tmp_path: Path) -> None:
    one = written(tmp_path / "1", "train", {"a.png": [], "b.png": []}, ["x"])
    other = written(tmp_path / "2", "val", {"q.png": []}, ["x"])
    assert same_files([one, other]) == []
    other.image_path(0).write_bytes(one.image_path(1).read_bytes())
    (note,) = same_files([one, other])
    assert note.startswith("1 images")
    assert "b.png" in note
    assert "of them in two splits" not in note
    (note,) = same_files([one, other], ["train", "val"])
    assert "1 of them in two splits" in note
    one.image_path(0).unlink()  # what is not there is nobody's copy
    assert len(same_files([one, other])) == 1


def test_outlines_and_lists_of_categories_stay(tmp_path: Path) -> None:
    outline = {"segmentation": [[1.0, 1.0, 9.0, 1.0, 9.0, 9.5]]}
    one = written(tmp_path / "1", "train", {"a.png": [("x", [1, 1, 8, 8])]}, ["x"])
    keys = {"b.png": {"neg_category_ids": [1, 2], "not_exhaustive_category_ids": [2]}}
    other = written(
        tmp_path / "2", "train", {"b.png": [("y", [1, 1, 8, 8])]}, ["y", "x"], image_keys=keys, object_keys={1: outline}
    )
    merged = merge([{"train": one}, {"train": other}])[0]["train"]
    assert merged.segmentation(0) is None
    polygons = merged.segmentation(1)
    assert isinstance(polygons, list)
    assert np.array_equal(polygons[0].ravel(), np.float32(outline["segmentation"][0]))
    assert merged.extras is not None
    ids = dict(zip(merged.categories.names, merged.categories.ids, strict=True))
    assert merged.extras.of_image(1)["neg_category_ids"] == [ids["y"], ids["x"]]
    assert merged.extras.of_image(1)["not_exhaustive_category_ids"] == [ids["x"]]


def test_sets_of_other_kinds_are_not_merged(tmp_path: Path) -> None:
    one = written(tmp_path / "1", "train", {"a.png": [("x", [1, 1, 8, 8])]}, ["x"])
    bare = replace(one, has_boxes=False)
    with pytest.raises(VisionTasksError, match="would teach that there are none"):
        merge([{"train": one}, {"train": bare}])


def test_images_are_never_taken_from_elsewhere(tmp_path: Path) -> None:
    one = written(tmp_path / "1", "train", {"a.png": []}, ["x"])
    name = np.frombuffer(b"../../secret.png", np.uint8)
    odd = replace(one, names=name, name_ends=np.array([len(name)]))
    with pytest.raises(VisionTasksError, match="leads out"):
        merge([{"train": one}, {"train": odd}])
