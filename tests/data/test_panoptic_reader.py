"""COCO panoptic files as semantic and as panoptic maps; held to colours added up by hand."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.panoptic import PanopticFiles, read_panoptic, with_panoptic
from vision_tasks.data.formats.semantic import read_semantic, with_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.image_errors import MaskValueError
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1},
    {"id": 4, "name": "dog", "isthing": 1},
    {"id": 9, "name": "sky", "isthing": 0},
]
# 0 is void; 300 and 70000 need the second and third channel.
IDS = np.array([[0, 300, 300, 70000], [7, 7, 300, 70000], [7, 8, 8, 0]])
LABELS = {300: 0, 70000: 2, 7: 1, 8: 1}


def colors(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=2).astype(np.uint8)


def write(root: Path, **changes: Any) -> Path:
    segments = [
        {"id": 300, "category_id": 1},
        {"id": 70000, "category_id": 9},
        {"id": 7, "category_id": 4},
        {"id": 8, "category_id": 4, "iscrowd": 1},
    ]
    content = {
        "images": [
            {"id": 12, "file_name": "12.jpg", "height": 3, "width": 4},
            {"id": 13, "file_name": "13.jpg", "height": 3, "width": 4},
        ],
        "annotations": [{"image_id": 12, "file_name": "12.png", "segments_info": segments}],
        "categories": CATEGORIES,
    } | changes
    (root / "annotations/panoptic_train").mkdir(parents=True, exist_ok=True)
    (root / "train").mkdir(exist_ok=True)
    Image.fromarray(colors(IDS)).save(root / "annotations/panoptic_train/12.png")
    for name in ("12", "13"):
        Image.new("RGB", (4, 3)).save(root / f"train/{name}.jpg")
    path = root / "annotations/panoptic_train.json"
    path.write_text(json.dumps(content))
    return path


def source_of(records: Records) -> PanopticFiles:
    assert isinstance(records.semantic, PanopticFiles)
    return records.semantic


def test_ids_become_categories_and_void_is_ignored(tmp_path: Path) -> None:
    records = read_panoptic(write(tmp_path), tmp_path / "train")
    expected = np.vectorize(lambda i: LABELS.get(i, -1))(IDS)
    found = source_of(records).read(0, (3, 4))
    assert found is not None
    assert found.dtype == np.int16
    assert (found == expected).all()
    assert records.categories.names == ("cat", "dog", "sky")
    assert records.categories.is_thing == (True, True, False)
    assert (records.image_ids.tolist(), records.file_name(0), records.size(0)) == ([12], "12.jpg", (3, 4))
    assert not records.has_boxes
    assert records.problems["mask_missing"].examples == ("13.jpg",)
    again = pickle.loads(pickle.dumps(records)).subset([0, 0])
    assert (again.semantic.read(1, (3, 4)) == expected).all()


def test_segments_stay_apart_in_the_panoptic_map(tmp_path: Path) -> None:
    found = source_of(read_panoptic(write(tmp_path), tmp_path / "train")).panoptic(0, (3, 4))
    assert found is not None
    order = {0: 0, 300: 1, 70000: 2, 7: 3, 8: 4}
    assert found.ids.tolist() == [[order[i] for i in row] for row in IDS.tolist()]
    assert found.labels.tolist() == [0, 2, 1, 1]
    assert found.is_crowd is not None
    assert found.is_crowd.tolist() == [False, False, False, True]


def test_things_may_be_one_category_and_categories_planes(tmp_path: Path) -> None:
    path = write(tmp_path)
    merged = source_of(read_panoptic(path, tmp_path / "train", things="merge"))
    assert merged.categories.names == ("things", "sky")
    expected = np.vectorize(lambda i: {0: -1, 70000: 1}.get(i, 0))(IDS)
    assert (merged.read(0, (3, 4)) == expected).all()
    planes = source_of(read_panoptic(path, tmp_path / "train", multi_label=True)).read(0, (3, 4))
    assert planes is not None
    assert planes.shape == (3, 3, 4)
    assert planes[:, 0].tolist() == [[-1, 1, 1, 0], [-1, 0, 0, 0], [-1, 0, 0, 1]]


def test_ids_that_no_segment_has_are_named(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        annotations=[{"image_id": 12, "file_name": "12.png", "segments_info": [{"id": 300, "category_id": 1}]}],
    )
    with pytest.raises(MaskValueError, match=r"12\.png: ids 7, 8, 70000 .* are in no entry of segments_info"):
        source_of(read_panoptic(path, tmp_path / "train")).read(0, (3, 4))
    found = source_of(read_panoptic(path, tmp_path / "train", unknown="ignore")).read(0, (3, 4))
    assert (found == np.where(IDS == 300, 0, -1)).all()


def test_flaws_are_counted_or_refused(tmp_path: Path) -> None:
    segments = [{"id": 300, "category_id": 77}, {"id": 7, "category_id": 4}]
    entries = [
        {"image_id": 12, "file_name": "12.png", "segments_info": segments},
        {"image_id": 99, "file_name": "99.png", "segments_info": []},
        {"image_id": 13, "file_name": "../13.png", "segments_info": []},
    ]
    records = read_panoptic(write(tmp_path, annotations=entries), tmp_path / "train")
    assert records.problems["segment_unknown"].count == 3
    assert len(records) == 1
    with pytest.raises(VisionTasksError, match="none of its 1 annotations"):
        read_panoptic(write(tmp_path, annotations=entries[1:2]), tmp_path / "train")
    with pytest.raises(VisionTasksError, match=r"file_name '/x\.jpg' is not a relative path"):
        read_panoptic(write(tmp_path, images=[{"id": 12, "file_name": "/x.jpg"}]), tmp_path / "train")
    with pytest.raises(VisionTasksError, match="which is not there"):
        read_panoptic(write(tmp_path), tmp_path / "train", tmp_path / "elsewhere")
    with pytest.raises(VisionTasksError, match="no COCO panoptic annotations"):
        read_panoptic(write(tmp_path, annotations=[{"id": 1, "bbox": [0, 0, 1, 1]}]), tmp_path / "train")
    path = write(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(VisionTasksError, match="cut off"):
        read_panoptic(path, tmp_path / "train")
    with pytest.raises(VisionTasksError, match="cannot be read"):
        read_panoptic(tmp_path / "none.json", tmp_path / "train")


def test_segments_of_unknown_categories_are_ignored_pixels(tmp_path: Path) -> None:
    # The category of segment 300 is not listed; before and after it others are.
    path = write(tmp_path, categories=CATEGORIES[1:])
    records = read_panoptic(path, tmp_path / "train")
    source = source_of(records)
    assert records.problems["segment_unknown"].examples == ("image 12 segment 300",)
    labels = {70000: 1, 7: 0, 8: 0}
    expected = np.vectorize(lambda i: labels.get(i, -1))(IDS)
    assert (source.subset([0]).read(0, (3, 4)) == expected).all()
    panoptic = source.panoptic(0, (3, 4))
    assert panoptic is not None
    assert panoptic.labels.tolist() == [1, 0, 0]
    assert panoptic.is_crowd is not None
    assert panoptic.is_crowd.tolist() == [False, False, True]
    numbers = {70000: 1, 7: 2, 8: 3}
    assert (panoptic.ids.numpy() == np.vectorize(lambda i: numbers.get(i, 0))(IDS)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": [{"id": 1}]}, r"panoptic_train\.json: the category \{'id': 1\} needs an id .* and a name"),
        ({"categories": [{"name": "a"}]}, "needs an id"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "ids must be unique"),
        (
            {
                "annotations": [
                    {"image_id": 12, "file_name": "12.png", "segments_info": [{"id": 2**31, "category_id": 1}]}
                ]
            },
            r"panoptic_train\.json: image 12: segment id 2147483648 is no colour",
        ),
    ],
)
def test_entries_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(VisionTasksError, match=message):
        read_panoptic(path, tmp_path / "train")


def test_beside_objects_maps_are_matched_by_image_id(tmp_path: Path) -> None:
    path = write(tmp_path)
    instances = tmp_path / "annotations/instances_train.json"
    instances.write_text(
        json.dumps(
            {
                "images": json.loads(path.read_text())["images"][::-1],
                "annotations": [{"id": 1, "image_id": 12, "category_id": 1, "bbox": [1, 0, 2, 2]}],
                "categories": CATEGORIES[:2],
            }
        )
    )
    objects = read_coco(instances, tmp_path / "train")
    both = with_panoptic(objects, read_panoptic(path, tmp_path / "train"))
    rows = [both.row_of_id[i] for i in (12, 13)]
    assert both.semantic is not None
    assert [both.semantic.has(r) for r in rows] == [True, False]
    assert (both.semantic.read(rows[0], (3, 4)) == np.vectorize(lambda i: LABELS.get(i, -1))(IDS)).all()
    assert both.semantic.read(rows[1], (3, 4)) is None
    assert both.target(rows[0]).boxes is not None
    assert both.problems["mask_not_listed"].examples == ("13.jpg",)
    files = semantic_files("coco_panoptic")
    again = with_semantic(objects, files, "train", tmp_path)
    assert again.semantic is not None
    assert (again.semantic.read(rows[0], (3, 4)) == both.semantic.read(rows[0], (3, 4))).all()
    assert read_semantic(files, "train", tmp_path).root == tmp_path / "train"


@pytest.mark.parametrize("where", ["sample", "coco128"])
def test_real_files_equal_colours_added_up_by_hand(real_data: Path, where: str) -> None:
    if where == "sample":
        root = real_data / "panoptic_sample"
        path, images, masks = root / "panoptic_examples.json", root / "input_images", root / "panoptic_examples"
    else:
        root = real_data / "coco128"
        path = root / "panoptic_segmentation/annotations/panoptic_val2017.json"
        images, masks = root / "images/val2017", path.with_suffix("")
    records = read_panoptic(path, images)
    content = json.loads(path.read_text())
    places = {c["id"]: i for i, c in enumerate(content["categories"])}
    assert len(records) == len(content["annotations"])
    for entry in content["annotations"][:6]:
        pixels = np.asarray(Image.open(masks / entry["file_name"])).astype(int)
        ids = pixels @ [1, 256, 65536]
        truth = np.full(ids.shape, -1)
        for segment in entry["segments_info"]:
            truth[ids == segment["id"]] = places[segment["category_id"]]
        row = records.row_of_id[entry["image_id"]]
        size = (ids.shape[0], ids.shape[1])
        assert (source_of(records).read(row, size) == truth).all()
        found = source_of(records).panoptic(row, size)
        assert found is not None
        areas = np.bincount(found.ids.numpy().reshape(-1), minlength=len(found) + 1)[1:]
        assert areas.tolist() == [s["area"] for s in entry["segments_info"]]
