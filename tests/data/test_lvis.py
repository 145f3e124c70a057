"""LVIS files as they are published: URLs instead of file names, no crowds, what was searched for in each image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vision_tasks.data.formats.interface import Losses
from vision_tasks.data.formats.lvis import write_lvis
from vision_tasks.data.formats.registry import find_data, read_data, read_found
from vision_tasks.data.operations.writing import write_data

URL = "http://images.cocodataset.org"
# In the order of keys and with the keys of lvis_v1_val.json.
LVIS: dict[str, Any] = {
    "info": {"description": "LVIS v1", "version": "v1"},
    "annotations": [
        {"area": 20.5, "id": 1, "segmentation": [[1, 1, 6, 1, 6, 5]], "image_id": 7, "bbox": [1, 1, 5, 4],
         "category_id": 12},
        {"area": 4.0, "id": 2, "segmentation": [[1, 1, 3, 1, 3, 3]], "image_id": 9, "bbox": [1, 1, 2, 2],
         "category_id": 1203},
    ],
    "images": [
        {"date_captured": "2013", "neg_category_ids": [1203], "license": 4, "height": 30, "width": 40, "id": 7,
         "flickr_url": "http://f", "coco_url": f"{URL}/val2017/000000000007.jpg", "not_exhaustive_category_ids": [12]},
        {"date_captured": "2013", "neg_category_ids": [], "license": 4, "height": 30, "width": 40, "id": 9,
         "flickr_url": "http://f", "coco_url": f"{URL}/train2017/000000000009.jpg",
         "not_exhaustive_category_ids": []},
    ],
    "licenses": [{"id": 4, "name": "x"}],
    "categories": [
        {"image_count": 50, "synonyms": ["banana"], "def": "a fruit", "id": 12, "synset": "banana.n.02",
         "name": "banana", "instance_count": 900, "frequency": "c"},
        {"image_count": 5, "synonyms": ["zucchini", "courgette"], "def": "a squash", "id": 1203,
         "synset": "zucchini.n.02", "name": "zucchini", "instance_count": 6, "frequency": "r"},
    ],
}  # fmt: skip


def put(folder: Path, content: dict[str, Any] = LVIS, nested: bool = True) -> Path:
    path = folder / "annotations/lvis_v1_val.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    for image in content["images"]:
        split, name = image["coco_url"].split("/")[-2:]
        file = folder / split / name if nested else folder / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return path


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("by_file", [True, False])
def test_published_files_are_found_and_ready_for_training(tmp_path: Path, nested: bool, by_file: bool) -> None:
    path = put(tmp_path, nested=nested)
    found = find_data(path if by_file else tmp_path)
    assert {split: f.format for split, f in found.items()} == {"val": "lvis"}
    records = read_found(found["val"])
    assert len(list(records.problems)) == 0, "no notes about crowds and file names that LVIS does not have"
    assert [records.image_path(row).is_file() for row in range(2)] == [True, True]
    assert records.file_name(0) == ("val2017/" if nested else "") + "000000000007.jpg"
    assert records.extras is None
    target = records.target(0)
    assert target.boxes is not None
    assert target.boxes.tolist() == [[1, 1, 6, 5]]
    assert records.categories.ids == (12, 1203)


def test_coco_comes_before_lvis_in_one_folder(tmp_path: Path) -> None:
    """COCO's annotations folder is where people put LVIS files, too."""
    put(tmp_path)
    coco = {
        "images": [{"id": 1, "file_name": "000000000007.jpg", "width": 4, "height": 4}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(coco))
    assert find_data(tmp_path)["val"].annotations.name == "instances_val2017.json"
    assert find_data(tmp_path)["val"].format == "coco"
    assert find_data(tmp_path, "lvis")["val"].annotations.name == "lvis_v1_val.json"


def test_all_keys_come_back(tmp_path: Path) -> None:
    put(tmp_path / "in")
    assert not write_data(read_data(tmp_path / "in", extras=True), tmp_path / "out", "lvis").lines()
    out = find_data(tmp_path / "out")["val"]
    assert out.format == "lvis"
    written = json.loads(out.annotations.read_text())
    for entry in written["images"]:
        assert entry.pop("file_name") == "/".join(entry["coco_url"].split("/")[-2:])
    assert written == LVIS
    assert (tmp_path / "out/images/val/train2017/000000000009.jpg").is_file()


def test_to_coco_and_back(tmp_path: Path) -> None:
    """A COCO file with LVIS's keys is COCO: it says iscrowd."""
    put(tmp_path / "in")
    write_data(read_data(tmp_path / "in", extras=True), tmp_path / "coco", "coco")
    assert find_data(tmp_path / "coco")["val"].format == "coco"
    write_data(read_data(tmp_path / "coco", extras=True), tmp_path / "out", "lvis")
    written = json.loads(find_data(tmp_path / "out")["val"].annotations.read_text())
    for entry in written["images"]:
        del entry["file_name"]
    assert written == LVIS


def test_what_lvis_demands_of_other_data(tmp_path: Path) -> None:
    image = {"width": 9, "height": 9}
    content = {
        "images": [image | {"id": i, "file_name": f"{i}.jpg"} for i in range(1, 13)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 5, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
            for i in range(1, 12)
        ]
        + [
            {"id": 20, "image_id": 1, "category_id": 5, "bbox": [3, 3, 2, 2], "area": 4, "iscrowd": 0},
            {"id": 21, "image_id": 1, "category_id": 6, "bbox": [3, 3, 2, 2], "area": 4, "iscrowd": 0},
            {"id": 22, "image_id": 2, "category_id": 6, "bbox": [3, 3, 2, 2], "area": 4, "iscrowd": 1},
        ],
        "categories": [{"id": 5, "name": "a"}, {"id": 6, "name": "b"}, {"id": 7, "name": "c"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    for i in range(1, 13):
        (tmp_path / f"{i}.jpg").touch()
    losses = Losses()
    (tmp_path / "out").mkdir()
    write_lvis(read_data(tmp_path / "train.json", extras=True), tmp_path / "out", images="none", losses=losses)
    assert losses.lines() == ["1 × crowd regions, which LVIS does not have: left out (annotation 22)"]
    out = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert all("iscrowd" not in entry for entry in out["annotations"])
    assert len(out["annotations"]) == 13
    negatives = {e["id"]: e["neg_category_ids"] for e in out["images"]}
    assert (negatives[1], negatives[2], negatives[12]) == ([7], [7], [5, 6, 7])
    assert {e["id"]: e["not_exhaustive_category_ids"] for e in out["images"] if e["not_exhaustive_category_ids"]} == {
        2: [6]
    }, "of a crowd not every object is marked, but the category is there"
    counts = [(c["frequency"], c["image_count"], c["instance_count"]) for c in out["categories"]]
    assert counts == [("c", 11, 12), ("r", 1, 1), ("r", 0, 0)]
