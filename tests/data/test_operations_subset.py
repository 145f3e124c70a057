"""Taking images and categories out of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.written_coco import written
from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.operations.subset import named_images, only_categories, some_images
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError


def names_of(records: Records) -> list[str]:
    return [records.file_name(row) for row in range(len(records))]


def test_categories_keep_their_ids_and_extras(tmp_path: Path) -> None:
    images = {
        "a.png": [("cat", [1, 1, 2, 2]), ("dog", [3, 3, 2, 2])],
        "b.png": [("cat", [5, 5, 2, 2])],
        "c.png": [],
        "d.png": [("dog", [6, 6, 2, 2]), ("cow", [7, 7, 2, 2])],
    }
    keys = {"d.png": {"neg_category_ids": [1, 2]}}
    records = written(
        tmp_path, "train", images, ["cat", "dog", "cow"], image_keys=keys, object_keys={4: {"difficult": 1}}
    )
    found = only_categories({"train": records}, ["cow", "dog"])["train"]
    assert names_of(found) == ["a.png", "d.png"]
    assert found.categories.names == ("dog", "cow")
    assert found.categories.ids == (2, 3)
    assert found.annotation_ids.tolist() == [2, 4, 5]
    assert [found.categories.names[i] for i in found.labels] == ["dog", "dog", "cow"]
    assert found.boxes[:, 0].tolist() == [3, 6, 7]
    assert found.extras is not None
    assert found.extras.of_annotation(1) == {"difficult": 1}
    assert found.extras.of_image(1) == {"neg_category_ids": [2]}
    with pytest.raises(VisionTasksError, match="Did you mean 'cow'"):
        only_categories({"train": records}, ["cows"])


def test_count_over_splits(tmp_path: Path) -> None:
    splits = {
        name: written(tmp_path, name, {f"{i}.png": [] for i in range(n)}, ["x"])
        for name, n in (("train", 12), ("val", 4), ("test", 1))
    }
    found = some_images(splits, 8, seed=5)
    assert sum(map(len, found.values())) == 8
    assert abs(len(found["train"]) - 8 * 12 / 17) < 1
    ids = found["train"].image_ids.tolist()
    assert ids == sorted(set(ids))
    assert ids == some_images(splits, 8, seed=5)["train"].image_ids.tolist()
    assert any(ids != some_images(splits, 8, seed=s)["train"].image_ids.tolist() for s in range(5))
    assert sum(map(len, some_images(splits, 1000).values())) == 17
    assert [*some_images(splits, 1)] == ["train"]


def test_names_of_files(tmp_path: Path) -> None:
    splits = {
        "train": written(tmp_path, "train", {"x/1.png": [], "y/1.png": [], "y/2.png": []}, ["a"]),
        "val": written(tmp_path, "val", {"3.png": []}, ["a"]),
    }
    found = named_images(splits, ["y/1.png", "2", "", " 3.png "])
    assert names_of(found["train"]) == ["y/1.png", "y/2.png"]
    assert names_of(found["val"]) == ["3.png"]
    assert [*named_images(splits, ["3"])] == ["val"]
    for names, words in ((["1.png"], "may be train: x/1.png, train: y/1.png"), (["9.png", "3"], "1 of 2 names"), ([], "is empty")):  # fmt: skip # noqa: E501
        with pytest.raises(VisionTasksError, match=words):
            named_images(splits, names)


def test_maps_alone(real_data: Path) -> None:
    splits = read_data(real_data / "camvid")
    found = only_categories(splits, ["bicyclist"])
    source = splits["train"].semantic
    assert source is not None
    label = source.categories.names.index("bicyclist")
    there = []
    for row in range(len(splits["train"])):
        values = source.read(row, (360, 480))
        if values is not None and (values == label).any():
            there.append(splits["train"].file_name(row))
    assert names_of(found["train"]) == there
    kept = found["train"].semantic
    assert kept is not None
    assert kept.categories.names == ("bicyclist",)
    own = kept.read(0, (360, 480))
    whole = source.read(splits["train"].row_of_id[int(found["train"].image_ids[0])], (360, 480))
    assert own is not None
    assert whole is not None
    assert ((own == 0) == (whole == label)).all()
    assert set(own[whole != label].ravel().tolist()) == {-1}
