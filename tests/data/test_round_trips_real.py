"""Real sets to other formats and back: every object in its place, every outline covers the pixels it covered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vision_tasks.data.formats.registry import find_data, read_data, read_found
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.structures import Polygons, Rle, Size

PIXELS = 1e-3
"""Boxes may move by so much: outlines are float32, and YOLO makes boxes of them."""
# Real set -> formats that hold its boxes; and those of them that hold its outlines, too.
BOXES = {
    "coco_mini": ["lvis", "voc", "yolo", "labelme"],
    "balloon_coco": ["lvis", "voc", "yolo", "labelme"],
    "bloodcells_coco": ["lvis", "voc", "yolo", "labelme"],
    "bccd_voc": ["coco", "lvis", "yolo", "labelme"],
    "voc_quirks": ["coco", "lvis", "yolo", "labelme"],
    "coco128/object_detection": ["coco", "voc", "labelme"],
    "coco128/instance_segmentation": ["coco", "labelme"],
    "coco128/panoptic_segmentation": ["coco"],
}
QUICK = ("bccd_voc", "voc_quirks", "coco128/object_detection", "bloodcells_coco")
PAIRS = [
    pytest.param(name, via, marks=[] if name in QUICK else [pytest.mark.slow])
    for name, several in BOXES.items()
    for via in several
]


@pytest.mark.parametrize(("name", "via"), PAIRS)
def test_objects_come_back(real_data: Path, tmp_path: Path, name: str, via: str) -> None:
    found = find_data(real_data / name)
    split = "val" if "val" in found else "train"
    home, before = found[split].format, read_found(found[split], extras=True)
    source = {split: before}
    write_data(source, tmp_path / "there", via, "link")
    write_data(read_data(tmp_path / "there", extras=True), tmp_path / "back", home, "link")
    back = read_data(tmp_path / "back", extras=True)
    assert list(back) == [split]
    count = compare(before, back[split], 1.0 if via == "yolo" else PIXELS)
    assert count == int((~before.is_crowd).sum()), "every object was compared"


def compare(before: Records, after: Records, of_bitmaps: float) -> int:
    """Objects but crowds, which not every format has, image by image in their order. How many there were.

    Args:
        of_bitmaps: pixels by which the box may move of what is no single outline: YOLO's goes along its pixels.
    """
    row_of = {after.file_name(row): row for row in range(len(after))}
    count = 0
    for row in range(len(before)):
        other = row_of[before.file_name(row)]
        assert before.size(row) in (None, after.size(other))
        mine, theirs = objects(before, row), objects(after, other)
        names = [[r.categories.names[r.labels[i]] for i in own] for r, own in ((before, mine), (after, theirs))]
        if len(theirs) > len(mine):  # VOC calls crowds difficult
            theirs = [i for i in theirs if not is_difficult(after, i)]
            names[1] = [after.categories.names[after.labels[i]] for i in theirs]
        assert names[0] == names[1]
        loose = np.array([is_bitmap(before.segmentation(i)) for i in mine], bool)
        moved = np.abs(after.boxes[theirs] - before.boxes[mine]).max(1, initial=0)
        assert (moved <= np.where(loose, of_bitmaps, PIXELS)).all(), before.annotation_ids[mine][moved > PIXELS]
        size = after.size(other)
        if after.has_shapes and size is not None:
            for i, j in zip(mine, theirs, strict=True):
                one, two = before.segmentation(i), after.segmentation(j)
                assert (one is None) == (two is None)
                if one is not None and two is not None:
                    off = np.count_nonzero(bitmap(one, size) != bitmap(two, size))
                    # Lines that join parts, or cut holes open, may touch a pixel: 3, 6 and 3 of three objects here.
                    assert off <= (6 if is_bitmap(one) and of_bitmaps == 1 else 0), before.annotation_ids[i]
        count += len(mine)
    return count


def objects(records: Records, row: int) -> list[int]:
    own = range(int(records.first[row]), int(records.first[row + 1]))
    return [i for i in own if not records.is_crowd[i]]


def is_bitmap(shape: Polygons | Rle | None) -> bool:
    return isinstance(shape, dict) or (shape is not None and len(shape) > 1)


def is_difficult(records: Records, index: int) -> bool:
    assert records.extras is not None
    return bool(records.extras.of_annotation(index).get("difficult"))


def bitmap(shape: Polygons | Rle, size: Size) -> np.ndarray:
    if isinstance(shape, dict):
        return coco_mask.decode(shape)
    flat = [p.reshape(-1).astype(float).tolist() for p in shape]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, *size)))


@pytest.mark.slow
@pytest.mark.parametrize("via", ["coco", "coco_panoptic"])
def test_maps_come_back(real_data: Path, tmp_path: Path, via: str) -> None:
    """CamVid, whose maps have ignored pixels: as masks of objects and as segments."""
    source = {"val": read_data(real_data / "camvid", "masks")["val"]}
    write_data(source, tmp_path / "there", via, "link")
    write_data(read_data(tmp_path / "there", extras=True), tmp_path / "back", "masks", "link")
    before, after = source["val"], read_data(tmp_path / "back")["val"]
    assert before.semantic is not None
    assert after.semantic is not None
    assert len(before) == len(after) == 21
    named = [np.array([*r.semantic.categories.names, "ignored"]) for r in (before, after) if r.semantic is not None]
    for row in range(len(before)):
        assert before.file_name(row) == after.file_name(row)
        size = before.size(row) or (360, 480)
        one, two = before.semantic.read(row, size), after.semantic.read(row, size)
        assert np.array_equal(named[0][one], named[1][two])
