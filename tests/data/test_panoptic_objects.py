"""COCO panoptic files as objects, and written again: compared with the reference's conversion, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.mask_images import segment_rles
from vision_tasks.data.formats.panoptic_objects import THINGS, find_panoptic, read_panoptic_objects
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.formats.shapes import encode_rle
from vision_tasks.data.layout import images_may_be_missing
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1}, {"id": 5, "name": "sky", "isthing": 0}, {"id": 9, "name": "dog"},
]  # fmt: skip


def put(root: Path, ids: np.ndarray, segments: list[dict[str, Any]], **more: Any) -> Path:
    """One image with a panoptic map (H, W) of ids."""
    (root / "annotations" / "panoptic_train").mkdir(parents=True)
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], 2).astype(np.uint8)
    Image.fromarray(colors).save(root / "annotations" / "panoptic_train" / "a.png")
    Image.fromarray(colors).save(root / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": ids.shape[0], "width": ids.shape[1]}],
        "annotations": [{"image_id": 7, "file_name": "a.png", "segments_info": segments}],
        "categories": CATEGORIES, **more,
    }  # fmt: skip
    (root / "annotations" / "panoptic_train.json").write_text(json.dumps(content))
    return root


def read_map(path: Path) -> np.ndarray:
    colors = np.asarray(Image.open(path)).astype(int)
    return colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]


def drawn(*objects: tuple[int, np.ndarray, bool], size: tuple[int, int]) -> Records:
    """Records of one image: label, bitmap, crowd."""
    builder = RecordsBuilder(Path("made"), Path("nowhere"), Categories.of(CATEGORIES))
    builder.add_image("a.png", *size)
    for label, bitmap, crowd in objects:
        rle = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
        builder.add_object(label, tuple(coco_mask.toBbox(rle)), shape=encode_rle(rle), is_crowd=crowd)
    return builder.finish()


def test_the_sample_equals_the_reference_conversion(real_data: Path) -> None:
    """panoptic_coco_detection_format.json is what the reference's panoptic2detection made of it."""
    folder = real_data / "panoptic_sample"
    records = read_data(folder / "panoptic_examples.json", extras=True)["train"]
    reference = COCO(folder / "panoptic_coco_detection_format.json")
    assert len(records.labels) == 50
    for row, number in enumerate(records.image_ids.tolist()):
        wanted = {
            (a["category_id"], reference.annToRLE(a)["counts"], *a["bbox"], a["area"], a["iscrowd"])
            for a in reference.imgToAnns[number]
        }
        found = set()
        for i in range(records.first[row], records.first[row + 1]):
            shape = records.segmentation(i)
            assert isinstance(shape, dict)
            category = records.categories.ids[records.labels[i]]
            found.add((category, shape["counts"], *records.boxes[i], records.areas[i], int(records.is_crowd[i])))
        assert found == {(c, k.encode() if isinstance(k, str) else k, *rest) for c, k, *rest in wanted}


@pytest.mark.parametrize(
    "name",
    [
        "panoptic_sample/panoptic_examples.json",
        pytest.param("coco128/panoptic_segmentation", marks=pytest.mark.slow),
    ],
)
def test_real_maps_come_back_to_the_pixel(real_data: Path, tmp_path: Path, name: str) -> None:
    given_ = read_data(real_data / name, extras=True)
    given_ = {split: records.subset(range(min(12, len(records)))) for split, records in given_.items()}
    losses = write_data(given_, tmp_path / "out", "coco_panoptic", "link")
    assert losses.lines() == []
    again = find_data(tmp_path / "out")
    for split, records in given_.items():
        old = json.loads(records.source.read_text())
        new = json.loads(again[split].annotations.read_text())
        segments = {a["image_id"]: a["segments_info"] for a in old["annotations"]}
        assert [i["id"] for i in new["images"]] == records.image_ids.tolist()
        for entry in new["annotations"]:
            png = records.source.with_suffix("") / entry["file_name"]
            np.testing.assert_array_equal(
                read_map(again[split].annotations.with_suffix("") / entry["file_name"]), read_map(png)
            )
            by_id = {s["id"]: s for s in entry["segments_info"]}
            assert by_id == {s["id"]: {**s, "area": by_id[s["id"]]["area"]} for s in segments[entry["image_id"]]}
        shown = {c["id"]: (c["name"], c["isthing"]) for c in new["categories"]}
        assert shown == {c["id"]: (c["name"], c["isthing"]) for c in old["categories"]}


def test_flaws_are_told(tmp_path: Path) -> None:
    ids = np.zeros((4, 6), int)
    ids[:2, :3], ids[2:, :3], ids[:, 4], ids[:, 5] = 10, 300, 70_000, 999
    segments = [
        {"id": 10, "category_id": 1, "bbox": [0, 0, 3, 2.5], "area": 6.5, "iscrowd": 1},
        {"id": 300, "category_id": 5},
        {"id": 70_000, "category_id": 77},
        {"id": 4, "category_id": 9},
    ]
    root = put(tmp_path, ids, segments)
    records = read_data(root, extras=True)["train"]
    assert records.boxes.tolist() == [[0, 0, 3, 2.5], [0, 2, 3, 2]]
    assert records.areas.tolist() == [6.5, 6]
    assert records.is_crowd.tolist() == [True, False]
    assert {p.code: p.examples for p in records.problems} == {
        "segment_unknown": ("image 7 segment 70000",),
        "segment_unlisted": ("image 7 segment 999",),
        "mask_empty": ("image 7 segment 4",),
    }
    found = find_panoptic(root)["train"]
    things = read_panoptic_objects(Found("coco_panoptic", found.annotations, found.images, THINGS))
    assert things.categories.names == ("cat", "dog")
    assert len(things.labels) == 1
    wanted = read_panoptic_objects(found, Categories.of(["dog", "cat"]))
    assert wanted.labels.tolist() == [1]
    assert not wanted.problems["unknown_category"].count
    with pytest.raises(VisionTasksError, match="none of its categories"):
        read_panoptic_objects(found, Categories.of(["horse"]))


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "c:/a.png"])
def test_png_outside_the_folder_are_not_read(tmp_path: Path, name: str) -> None:
    entry = {"image_id": 7, "file_name": name, "segments_info": [{"id": 1, "category_id": 1}]}
    root = put(tmp_path, np.ones((4, 4), int), [], annotations=[entry])
    with pytest.raises(VisionTasksError, match="not one of its maps"):
        read_data(root, "coco_panoptic")


def test_a_map_of_another_size_is_left_out(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.png", "height": 50_000, "width": 50_000}]
    root = put(tmp_path, np.ones((4, 4), int), [{"id": 1, "category_id": 1}], images=images)
    with pytest.raises(VisionTasksError, match="the mask has 4 × 4 pixels"):
        read_data(root, "coco_panoptic")


def test_smaller_objects_lie_on_larger_ones_and_crowds_beneath(tmp_path: Path) -> None:
    size = (10, 12)
    big, small, hidden, crowd, sky_a, sky_b = (np.zeros(size, bool) for _ in range(6))
    big[:8, :8], small[2:4, 2:4], hidden[2:4, 2:4], crowd[6:, :] = True, True, True, True
    sky_a[0, 9:], sky_b[4, 9:] = True, True
    records = drawn(
        (0, small, False), (0, big, False), (2, crowd, True), (1, sky_a, False), (1, sky_b, False), size=size
    )  # fmt: skip
    losses = write_data({"train": records}, tmp_path / "out", "coco_panoptic", "none")
    content = json.loads((tmp_path / "out/annotations/panoptic_train.json").read_text())
    ids = read_map(tmp_path / "out/annotations/panoptic_train/a.png")
    (entry,) = content["annotations"]
    by_category = {(s["category_id"], s["area"]): s for s in entry["segments_info"]}
    assert set(by_category) == {(1, 4), (1, 60), (9, 32), (5, 6)}
    assert by_category[9, 32]["iscrowd"] == 1
    assert by_category[5, 6]["bbox"] == [9, 0, 3, 5]
    expected = np.zeros(size, int)
    for part, key in ((crowd, (9, 32)), (big, (1, 60)), (small, (1, 4)), (sky_a | sky_b, (5, 6))):
        expected[part] = by_category[key]["id"]
    np.testing.assert_array_equal(ids, expected)
    assert [line.split(" (")[0] for line in losses.lines()] == [
        "4 × annotation ids: segments get ids that are colours",
        "2 × objects partly beneath smaller ones: a pixel is of one segment, the smaller one's",
        "1 × objects of one stuff in one image: they are one segment",
    ]


def test_what_has_no_pixel_left_and_what_has_no_outline(tmp_path: Path) -> None:
    size = (6, 6)
    spot = np.zeros(size, bool)
    spot[1:3, 1:3] = True
    records = drawn((0, spot, False), (2, spot, False), size=size)
    losses = write_data({"train": records}, tmp_path / "a", "coco_panoptic", "none").lines()
    assert any(line.startswith("1 × objects that lie beneath smaller ones entirely") for line in losses)
    builder = RecordsBuilder(Path("made"), Path("nowhere"), Categories.of(CATEGORIES))
    builder.add_image("a.png", *size)
    builder.add_object(0, (0, 0, 3, 3))
    bare = builder.finish()
    with pytest.raises(VisionTasksError, match=r"no object has an outline.*coco, voc, yolo"):
        write_data({"train": bare}, tmp_path / "none", "coco_panoptic", "none")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    spot[:] = [[False] * 5 + [True]] * 6
    rle = encode_rle(coco_mask.encode(np.asfortranarray(spot.astype(np.uint8))))
    builder = RecordsBuilder(Path("made"), Path("nowhere"), Categories.of(CATEGORIES))
    builder.add_image("a.png", *size)
    builder.add_object(0, (0, 0, 3, 3))
    builder.add_object(0, (4.5, 0, 1.5, 6), shape=rle)
    losses = write_data({"train": builder.finish()}, tmp_path / "b", "coco_panoptic", "none").lines()
    assert any(line.startswith("1 × objects without an outline") for line in losses)
    assert any(line.startswith("1 × boxes and areas as they were") for line in losses)
    assert any(line.startswith("1 × annotation ids") for line in losses)
    assert ((read_map(tmp_path / "b/annotations/panoptic_train/a.png") > 0) == spot).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_masks_of_all_segments_at_once_are_those_of_each(height: int, width: int, data: st.DataObject) -> None:
    cells = data.draw(st.lists(st.integers(-2, 3), min_size=height * width, max_size=height * width))
    segments = np.array(cells, np.int16).reshape(height, width)
    for number, rle in enumerate(segment_rles(segments, 5)):
        own = segments == number
        if not own.any():
            assert rle is None
        else:
            assert rle == coco_mask.encode(np.asfortranarray(own.astype(np.uint8)))


def test_sizes_that_are_lies_take_no_memory(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 2_000_000, "height": 2_000_000}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5],
                         "segmentation": [[0, 0, 5, 0, 5, 5]]}],
        "categories": CATEGORIES,
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(content))
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    records = read_data(tmp_path)
    for form, what in (("coco_panoptic", "left out"), ("masks", "left out"), ("yolo", "without their objects")):
        losses = write_data(records, tmp_path / form, form, "none").lines()
        assert any(line.startswith("1 × ") and what in line for line in losses), form


def test_maps_are_no_images(tmp_path: Path) -> None:
    root = put(tmp_path / "a" / "set", np.full((4, 6), 1), [{"id": 1, "category_id": 1}])
    (root / "a.png").unlink()
    with pytest.raises(VisionTasksError, match="in none of these folders"):
        find_panoptic(root)
    (root / "images" / "train").mkdir(parents=True)
    Image.new("RGB", (6, 4)).save(root / "images" / "train" / "a.png")
    found = find_panoptic(root)["train"]
    assert found.images == root / "images" / "train"


def test_images_beside_the_folder_are_found_where_images_may_be_missing(tmp_path: Path) -> None:
    """What training finds the doctor finds, too: leniency is only for images that are nowhere."""
    root = put(tmp_path / "a" / "set", np.full((4, 6), 1), [{"id": 1, "category_id": 1}])
    (root / "a.png").unlink()
    with images_may_be_missing():
        assert find_panoptic(root)["train"].images == root / "annotations"
    folder = tmp_path / "a" / "images" / "train"
    folder.mkdir(parents=True)
    Image.new("RGB", (6, 4)).save(folder / "a.png")
    with images_may_be_missing():
        assert find_panoptic(root)["train"].images == folder
    assert find_panoptic(root)["train"].images == folder
