"""Mask images as a format of annotations: read, made objects of, written; compared with PIL pixel by pixel."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from vision_tasks.data.formats.mask_images import find_masks, objects_of_maps
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError


def put(root: Path, pixels: np.ndarray, categories: list[dict[str, object]]) -> Records:
    """One image with its mask in the layout "folders"."""
    for folder in ("images", "masks"):
        (root / folder / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((*pixels.shape, 3), np.uint8)).save(root / "images" / "train" / "a.png")
    Image.fromarray(pixels).save(root / "masks" / "train" / "a.png")
    (root / "masks" / "categories.json").write_text(json.dumps({"categories": categories, "ignore": [255]}))
    return read_data(root)["train"]


def bitmaps(records: Records, row: int = 0) -> list[tuple[int, np.ndarray]]:
    """Label and mask of each object of an image."""
    out = []
    for i in range(records.first[row], records.first[row + 1]):
        shape = records.segmentation(i)
        assert isinstance(shape, dict)
        assert list(coco_mask.toBbox(shape)) == records.boxes[i].tolist()
        assert coco_mask.area(shape) == records.areas[i]
        out.append((int(records.labels[i]), coco_mask.decode(shape).astype(bool)))
    return out


def read_map(records: Records, row: int = 0) -> np.ndarray:
    assert records.semantic is not None
    size = records.size(row)
    assert size is not None
    found = records.semantic.read(row, size)
    assert found is not None
    return found


def test_camvid_through_coco_has_the_same_pixels(real_data: Path, tmp_path: Path) -> None:
    given_ = {split: r.subset(range(6)) for split, r in read_data(real_data / "camvid").items()}
    losses = write_data(given_, tmp_path / "coco", "coco", "link").lines()
    assert [line.split(" (")[0] for line in losses] == [
        "18 × images with ignored pixels in their maps: no object says so"
    ]
    objects = read_data(tmp_path / "coco")
    assert objects["train"].has_boxes
    write_data(objects, tmp_path / "masks", "masks", "link")
    assert list(find_masks(tmp_path / "masks")) == ["train", "val", "test"]
    again = read_data(tmp_path / "masks")
    for split, records in given_.items():
        assert again[split].semantic is not None
        for row in range(len(records)):
            own = np.asarray(Image.open(real_data / "camvid" / f"{split}annot" / records.file_name(row)))
            written = np.asarray(Image.open(tmp_path / "masks" / "masks" / split / records.file_name(row)))
            np.testing.assert_array_equal(written, np.where(own == 11, 255, own))
            np.testing.assert_array_equal(read_map(again[split], row), read_map(records, row))


@pytest.mark.slow
def test_nuclei_are_one_object_a_file(real_data: Path, tmp_path: Path) -> None:
    given_ = read_data(real_data / "dsb2018_nuclei", "masks")
    assert [len(r) for r in given_.values()] == [27, 7]
    assert sum(len(r.labels) for r in given_.values()) == sum(
        1 for _ in (real_data / "dsb2018_nuclei").glob("stage1_train/*/masks/*.png")
    )
    records = given_["val"]
    overlapping = 0
    for row in range(len(records)):
        folder = records.image_path(row).parent.parent / "masks"
        files = [np.asarray(Image.open(p).convert("L")) > 0 for p in sorted(folder.glob("*.png"))]
        found = [mask for _, mask in bitmaps(records, row)]
        assert len(found) == len(files)
        assert all((a == b).all() for a, b in zip(found, files, strict=True))
        overlapping += int(np.sum(files, 0).max() > 1)
    write_data({"val": records}, tmp_path / "yolo", "yolo", "link")
    again = read_data(tmp_path / "yolo")["val"]
    order = np.argsort([records.file_name(row) for row in range(len(records))])
    assert again.boxes.tolist() == records.subset(order).boxes.tolist()
    assert again.areas.tolist() == records.subset(order).areas.tolist()


def test_ignored_pixels_and_parts(tmp_path: Path) -> None:
    pixels = np.array([[3, 3, 0, 255], [0, 3, 0, 3], [0, 0, 0, 3]], np.uint8)
    records = put(tmp_path, pixels, [{"id": 0, "name": "road"}, {"id": 3, "name": "car", "isthing": 1}])
    made = objects_of_maps(records)
    assert made.semantic is None
    assert made.categories.is_thing == (False, True)
    assert {label: mask.tolist() for label, mask in bitmaps(made)} == {
        0: (pixels == 0).tolist(), 1: (pixels == 3).tolist(),
    }  # fmt: skip
    parts = bitmaps(objects_of_maps(records, components=True))
    assert [label for label, _ in parts] == [0, 1, 1]
    assert [int(mask.sum()) for _, mask in parts] == [6, 3, 2]
    assert np.array_equal(np.sum([mask for _, mask in parts], 0), pixels != 255)


@settings(max_examples=25, deadline=None)
@given(pixels=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=6))
def test_maps_come_back_through_objects(tmp_path_factory: pytest.TempPathFactory, pixels: list[list[int]]) -> None:
    """3 stands for ignored."""
    folder = tmp_path_factory.mktemp("maps")
    values = np.array([[255 if v == 3 else 10 * v for v in line] for line in pixels], np.uint8)
    entries = [{"id": 0, "name": "a"}, {"id": 10, "name": "b"}, {"id": 20, "name": "c", "isthing": 1}]
    records = put(folder, values, entries)
    if (values == 255).all():
        return
    write_data({"train": objects_of_maps(records)}, folder / "out", "masks", "none")
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "out/masks/train/a.png")), values)


@pytest.mark.parametrize(("number", "kind", "ignored"), [(254, np.uint8, 255), (300, np.uint16, 65535)])
def test_many_categories_need_16_bits(tmp_path: Path, number: int, kind: type, ignored: int) -> None:
    pixels = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    entries = [{"id": i, "name": f"n{i}"} for i in (0, 1, 2)]
    records = objects_of_maps(put(tmp_path / "in", pixels, [*entries, {"id": number, "name": "last"}]))
    write_data({"train": records}, tmp_path / "out", "masks", "copy")
    written = np.asarray(Image.open(tmp_path / "out/masks/train/a.png"))
    assert written.astype(int).tolist() == [[0, 1, 2], [2, ignored, 0]]
    assert written.dtype == kind
    again = read_data(tmp_path / "out")["train"]
    assert again.categories.ids == (0, 1, 2, number)
    assert read_map(again).tolist() == [[0, 1, 2], [2, -1, 0]]


def test_one_category_is_there_or_not(tmp_path: Path) -> None:
    pixels = np.array([[0, 5, 255], [5, 5, 0]], np.uint8)
    records = put(tmp_path / "in", pixels, [{"id": 5, "name": "road"}])
    write_data({"train": records}, tmp_path / "out", "masks", "copy")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/masks/train/a.png")), pixels)
    ((label, mask),) = bitmaps(objects_of_maps(records))
    assert (label, mask.tolist()) == (0, (pixels == 5).tolist())


def test_instances_are_drawn_on_a_background(real_data: Path, tmp_path: Path) -> None:
    given_ = read_data(real_data / "balloon_coco")
    given_ = {"val": given_["val"].subset(range(3)), "train": given_["train"].subset(range(2))}
    losses = write_data(given_, tmp_path / "out", "masks", "link").lines()
    assert any("objects: maps tell their categories" in line for line in losses)
    again = read_data(tmp_path / "out")["val"]
    assert again.categories.names == ("balloon",)
    by_name = {again.file_name(row): row for row in range(len(again))}
    old = given_["val"]
    for row in range(len(old)):
        union = np.zeros(old.size(row), bool)  # type: ignore[arg-type]
        for i in range(old.first[row], old.first[row + 1]):
            flat = [polygon.reshape(-1).tolist() for polygon in old.segmentation(i)]  # type: ignore[union-attr]
            union |= coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *union.shape))).astype(bool)
        np.testing.assert_array_equal(read_map(again, by_name[old.file_name(row)])[0] == 1, union)


def test_boxes_alone_make_no_maps(real_data: Path, tmp_path: Path) -> None:
    given_ = read_data(real_data / "bccd_voc")
    with pytest.raises(VisionTasksError, match="no object has an outline"):
        write_data(given_, tmp_path / "out", "masks", "none")
    assert not (tmp_path / "out").exists()


def test_damaged_masks_are_left_out(tmp_path: Path) -> None:
    records = put(tmp_path, np.zeros((4, 4), np.uint8), [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}])
    (tmp_path / "masks" / "train" / "a.png").write_bytes(b"no image at all, but long enough for a header")
    with pytest.raises(VisionTasksError, match="not one map can be read"):
        objects_of_maps(records)
    assert find_data(tmp_path)["train"].format == "masks"


def test_objects_of_maps_leave_images_where_they_lie(tmp_path: Path) -> None:
    """Images of several folders, as of splits that are put together, are all copied."""
    from vision_tasks.data.operations.gathering import gather
    from vision_tasks.data.operations.writing import write_data

    parts = []
    for number, folder in enumerate(("train", "val")):
        (tmp_path / "city" / folder).mkdir(parents=True)
        (tmp_path / "city" / f"{folder}annot").mkdir()
        Image.new("RGB", (6, 4), (number, 0, 0)).save(tmp_path / "city" / folder / f"{folder}.png")
        Image.new("L", (6, 4), number).save(tmp_path / "city" / f"{folder}annot" / f"{folder}.png")
    for records in read_data(tmp_path / "city").values():
        parts.append(records)
    parts[1] = dataclasses.replace(parts[1], image_ids=parts[1].image_ids + 10)
    losses = write_data({"train": gather(parts)}, tmp_path / "out", "coco")
    assert not [line for line in losses.lines() if "not there" in line]
    for folder in ("train", "val"):
        (copied,) = (tmp_path / "out/images/train").rglob(f"{folder}.png")
        assert copied.read_bytes() == (tmp_path / "city" / folder / f"{folder}.png").read_bytes()
