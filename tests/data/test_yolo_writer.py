"""YOLO labels written: what comes back, and outlines of masks, compared with pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.formats.rings import joined, single_outline
from vision_tasks.data.operations.writing import write_data
from vision_tasks.ops.masks import from_polygons


def picture(path: Path, width: int = 200, height: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)


def test_coco_comes_back_from_yolo(real_data: Path, tmp_path: Path) -> None:
    given = read_data(real_data / "coco_mini", extras=True)
    losses = write_data(given, tmp_path / "out", "yolo", "link").lines()
    again = read_data(tmp_path / "out")
    assert any(line.startswith("13 × crowds") for line in losses)
    about = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert about["train"] == "images/train"
    for split, old in given.items():
        new = again[split]
        assert sorted(new.image_ids.tolist()) == sorted(old.image_ids.tolist())
        for row, number in enumerate(old.image_ids.tolist()):
            own = [i for i in range(old.first[row], old.first[row + 1]) if not old.is_crowd[i]]
            place = new.row_of_id[number]
            assert new.first[place + 1] - new.first[place] == len(own)
            size = old.size(row)
            assert size is not None
            for i, k in zip(own, range(new.first[place], new.first[place + 1]), strict=True):
                assert old.labels[i] == new.labels[k]
                before, after = old.segmentation(i), new.segmentation(k)
                assert isinstance(before, list)
                assert isinstance(after, list)
                assert from_polygons(before, size) == from_polygons(after, size)
                if len(before) == 1:
                    np.testing.assert_array_equal(before[0], after[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_an_outline_covers_the_pixels_of_any_mask(height: int, width: int, data: st.DataObject) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    bitmap = np.asfortranarray(np.array(cells, np.uint8).reshape(height, width))
    rle = coco_mask.encode(bitmap)
    outline, _, _ = single_outline(rle, (height, width))
    if outline is None:
        assert not bitmap.any()
        return
    flat = [outline.reshape(-1).tolist()]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)))
    np.testing.assert_array_equal(drawn, bitmap)
    low, high = outline.min(0), outline.max(0)
    assert [*low, *(high - low)] == coco_mask.toBbox(rle).tolist()


def test_parts_that_lie_on_each_other_stay_filled() -> None:
    square = np.array([[1, 1], [9, 1], [9, 9], [1, 9]], np.float32)
    both = [square, square + 4]
    outline, parts, holes = single_outline(both, (20, 20))
    assert outline is not None
    assert (parts, holes) == (1, 0)
    assert from_polygons([outline], (20, 20)) == from_polygons(both, (20, 20))
    assert from_polygons([joined(both)], (20, 20)) != from_polygons(both, (20, 20))


_PLACES = st.integers(-50_000, 700_000).map(lambda v: v / 1000)
_SIDES = st.integers(0, 300_000).map(lambda v: v / 1000)
_NUMBERS = st.tuples(_PLACES, _PLACES, _SIDES, _SIDES)


@settings(max_examples=25, deadline=None)
@given(boxes=st.lists(_NUMBERS, max_size=5), size=st.tuples(st.integers(1, 800), st.integers(1, 800)))
def test_boxes_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[float, ...]], size: tuple[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("boxes")
    picture(folder / "i" / "a.png", *size)
    entries = [{"id": n, "image_id": 1, "category_id": 4, "bbox": box} for n, box in enumerate(boxes)]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
        "annotations": entries, "categories": [{"id": 4, "name": "a: b"}],
    }  # fmt: skip
    (folder / "train.json").write_text(json.dumps(content))
    given_ = read_data(folder)
    write_data(given_, folder / "out", "yolo")
    again = read_data(folder / "out")["train"]
    assert again.boxes.tolist() == given_["train"].boxes.tolist()
    assert again.categories.names == ("a: b",)


def test_images_of_one_stem_and_folders_called_images(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("all/a.png", "all/a.jpg", "all/x/images/b.png"):
        picture(root / name)
    (root / "data.yaml").write_text("names: [cat]\ntrain: all\n")
    (root / "all" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    write_data(read_data(root), tmp_path / "out", "yolo")
    again = read_data(tmp_path / "out")["train"]
    assert sorted(again.file_name(row) for row in range(3)) == ["a.jpg", "a_png.png", "x/b.png"]
    assert sorted(np.diff(again.first).tolist()) == [0, 1, 1]
    assert again.problems["label_missing"].count == 0
