"""Maps drawn of objects; held to pycocotools' own rendering."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.semantic import read_semantic, relabelled, with_rendered, with_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.formats.semantic_rendered import rendered
from vision_tasks.data.records import Records
from vision_tasks.data.relabel import with_maps_of
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

CATEGORIES = [{"id": 3, "name": "cup"}, {"id": 5, "name": "table"}]


def square(x: int, y: int, side: int) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def write(root: Path, annotations: list[dict[str, Any]], name: str = "instances_train.json", **changes: Any) -> Path:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "train").mkdir(exist_ok=True)
    Image.new("RGB", (8, 6)).save(root / "train/1.jpg")
    whole = [{"id": i, "image_id": 1, "bbox": [0, 0, 8, 6], "iscrowd": 0} | a for i, a in enumerate(annotations, 1)]
    content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 6, "width": 8}], "annotations": whole,
               "categories": CATEGORIES} | changes  # fmt: skip
    path = root / "annotations" / name
    path.write_text(json.dumps(content))
    return path


def records_of(root: Path, annotations: list[dict[str, Any]], **changes: Any) -> Records:
    return read_coco(write(root, annotations, **changes), root / "train")


SMALL = {"category_id": 3, "segmentation": square(2, 2, 2)}
LARGE = {"category_id": 5, "segmentation": square(1, 1, 4)}


@pytest.mark.parametrize("order", [[SMALL, LARGE], [LARGE, SMALL]])
def test_smaller_objects_lie_on_larger_ones(tmp_path: Path, order: list[dict[str, Any]]) -> None:
    source = rendered(records_of(tmp_path, order))
    expected = np.zeros((6, 8))
    expected[1:5, 1:5] = 2
    expected[2:4, 2:4] = 1
    assert source.categories.names == ("background", "cup", "table")
    assert source.categories.ids == (0, 3, 5)
    assert (source.read(0, (6, 8)) == expected).all()
    assert (rendered(source.records, background=None).read(0, (6, 8)) == expected - 1).all()
    overlapping = rendered(source.records, multi_label=True)
    assert overlapping.categories.names == ("cup", "table")
    planes = np.zeros((2, 6, 8))
    planes[0, 2:4, 2:4] = 1
    planes[1, 1:5, 1:5] = 1
    assert (overlapping.read(0, (6, 8)) == planes).all()


def test_crowds_and_objects_without_outline_are_ignored_where_nothing_is_drawn(tmp_path: Path) -> None:
    counts = [0, 18, 30]  # the first three columns of eight
    crowd = {"category_id": 5, "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": counts}}
    bare = {"category_id": 3, "bbox": [6.5, 4, 1.5, 2]}
    records = records_of(tmp_path, [crowd, SMALL, bare])
    expected = np.zeros((6, 8))
    expected[:, :3] = -1
    expected[4:6, 6:8] = -1
    expected[2:4, 2:4] = 1
    assert (rendered(records).read(0, (6, 8)) == expected).all()
    planes = np.zeros((2, 6, 8))
    planes[0, 4:6, 6:8] = -1
    planes[0, 2:4, 2:4] = 1
    planes[1, :, :3] = -1
    assert (rendered(records, multi_label=True).read(0, (6, 8)) == planes).all()


def test_one_category_is_there_or_not(tmp_path: Path) -> None:
    records = records_of(tmp_path, [LARGE], categories=CATEGORIES[1:])
    source = rendered(records)
    assert source.multi_label
    found = source.read(0, (6, 8))
    assert found is not None
    assert (found.shape, int(found.sum())) == ((1, 6, 8), 16)


def test_training_categories_decide_the_form(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    one = with_rendered(records_of(tmp_path / "one", [SMALL], categories=CATEGORIES[:1]))
    both = with_rendered(records_of(tmp_path, [SMALL, LARGE]))
    assert one.semantic is not None
    assert both.semantic is not None
    assert (one.semantic.multi_label, both.semantic.multi_label) == (True, False)
    small = np.zeros((6, 8))
    small[2:4, 2:4] = 1
    # Judged by fewer categories than were learned: still a background, and cups on it.
    found = relabelled(one, both.semantic.categories).semantic
    assert found is not None
    assert not found.multi_label
    assert found.categories.names == ("background", "cup", "table")
    assert (found.subset([0]).read(0, (6, 8)) == small).all()
    # A model that was asked for cups alone: tables are background, and the map has the model's form.
    alone = with_maps_of(both, Categories.of(CATEGORIES[:1])).semantic
    assert alone is not None
    assert alone.multi_label
    assert (alone.read(0, (6, 8)) == small[None]).all()
    with pytest.raises(VisionTasksError, match="the semantic categories table are not among"):
        relabelled(both, one.semantic.categories)
    few = with_maps_of(both, Categories.of(["background", "cup"])).semantic
    assert few is not None
    assert (few.read(0, (6, 8)) == small).all()


def test_a_category_named_background_is_the_background(tmp_path: Path) -> None:
    named = [*CATEGORIES, {"id": 9, "name": "background"}]
    source = rendered(records_of(tmp_path, [LARGE], categories=named))
    assert source.categories.names == ("cup", "table", "background")
    found = source.read(0, (6, 8))
    assert found is not None
    assert (found[0, 0], found[2, 2]) == (2, 1)


def test_without_outlines_nothing_can_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="no object has a segmentation"):
        rendered(records_of(tmp_path, [{"category_id": 3}]))


def test_stuff_covers_all_and_what_it_leaves_is_ignored(tmp_path: Path) -> None:
    write(tmp_path, [LARGE | {"area": 16}, {"category_id": 3, "segmentation": square(5, 0, 3)}], "stuff_train.json")
    records = read_semantic(semantic_files("coco_stuff", ignore=[3]), "train", tmp_path)
    assert records.categories.names == ("table",)
    assert records.semantic is not None
    found = records.semantic.read(0, (6, 8))
    assert found is not None
    assert (found[0][1:5, 1:5] == 1).all()
    assert not records.has_boxes
    objects = read_coco(write(tmp_path, [SMALL]), tmp_path / "train")
    beside = with_semantic(objects, semantic_files("coco_stuff"), "train", tmp_path)
    assert beside.semantic is not None
    whole = beside.semantic.read(0, (6, 8))
    assert whole is not None
    assert (whole[0, 0], whole[2, 2], whole[1, 6]) == (-1, 1, 0)
    assert len(beside.labels) == 1


def test_other_labels_for_the_same_names(tmp_path: Path) -> None:
    records = with_rendered(records_of(tmp_path, [SMALL, LARGE]))
    other = relabelled(records, Categories.of(["table", "chair", "cup", "background"]))
    assert other.semantic is not None
    assert records.semantic is not None
    own, new = records.semantic.read(0, (6, 8)), other.subset([0]).semantic.read(0, (6, 8))  # type: ignore[union-attr]
    assert own is not None
    assert (np.array([3, 2, 0])[own] == new).all()
    with pytest.raises(VisionTasksError, match="the semantic categories table are not among"):
        relabelled(records, Categories.of(["cup"]))


def test_real_maps_equal_pycocotools(real_data: Path) -> None:
    root = real_data / "coco_mini"
    path = root / "annotations/instances_val2017.json"
    coco = COCO(str(path))
    records = read_semantic(semantic_files(annotations="annotations/instances_{split}.json"), "val", root)
    assert records.semantic is not None
    places = {name: i for i, name in enumerate(records.categories.names)}
    crowds = 0
    for row in range(0, len(records), 2):
        size = records.size(row)
        assert size is not None
        entries = coco.loadAnns(coco.getAnnIds(imgIds=[int(records.image_ids[row])]))
        masks = [coco.annToMask(a).astype(bool) for a in entries]
        truth = np.zeros(size, int)
        for i in sorted(range(len(entries)), key=lambda i: (entries[i]["iscrowd"] == 0, -int(masks[i].sum()))):
            if entries[i]["iscrowd"]:
                truth[masks[i]] = -1
                crowds += 1
            else:
                truth[masks[i]] = places[coco.cats[entries[i]["category_id"]]["name"]]
        assert (records.semantic.read(row, size) == truth).all()
    assert crowds
