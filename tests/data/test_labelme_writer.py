"""LabelMe written: nothing is lost that it can hold, what it cannot hold is said, and labelme's own rules read it."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from tests.data.test_labelme import TRIANGLE, content, png, put, shape
from tests.data.written_records import NAMES, build, by_name, data_sets
from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records

OF_OBJECT = st.fixed_dictionaries(
    {},
    optional={
        "difficult": st.just(1), "truncated": st.just(1), "pose": NAMES, "description": NAMES, "score": st.just(0.3),
        "flags": st.dictionaries(NAMES, st.booleans(), min_size=1, max_size=2), "keypoints": st.just([1.5, 2, 2]),
    },
)  # fmt: skip
OF_IMAGE = st.fixed_dictionaries({}, optional={"flags": st.just({"blurred": True}), "license": st.just(3)})


def again(splits: dict[str, Records], folder: Path) -> tuple[dict[str, Records], list[str]]:
    losses = write_data(splits, folder, "labelme", images="none")
    return read_data(folder, extras=True), losses.lines()


@settings(max_examples=25, deadline=None)
@given(splits=data_sets(OF_OBJECT, OF_IMAGE))
def test_boxes_and_other_keys_come_back(splits: dict[str, Records]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back, losses = again(splits, Path(folder) / "out")
    assert losses == []
    assert list(back) == list(splits)
    for split, records in splits.items():
        assert back[split].categories == records.categories
        assert by_name(back[split]) == by_name(records)


POINTS = st.tuples(st.floats(0, 300, width=32), st.floats(0, 200, width=32))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_outlines_come_back(data: st.DataObject) -> None:
    """Polygons of several parts to the last bit of float32, run lengths to the last pixel, crowds."""
    own: list[dict[str, Any]] = []
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            parts = data.draw(st.lists(st.lists(POINTS, min_size=3, max_size=6), min_size=1, max_size=3))
            entry = shapes.from_polygons([[v for point in part for v in point] for part in parts])[0]
            area = None
        else:
            bitmap = np.zeros((200, 300), np.uint8, order="F")
            for _ in range(data.draw(st.integers(1, 3))):
                x, y, w, h = (data.draw(st.integers(*span)) for span in ((0, 299), (0, 199), (1, 300), (1, 200)))
                bitmap[y : y + h, x : x + w] = 1
            entry, area = shapes.encode_rle(coco_mask.encode(bitmap)), float(bitmap.sum())
        box = shapes.box_around(entry)
        own.append({"label": 0, "box": box, "shape": entry, "area": area, "is_crowd": data.draw(st.booleans())})
    records = build(["k"], [("a.jpg", {}, own)])
    with tempfile.TemporaryDirectory() as folder:
        back, losses = again({"train": records}, Path(folder) / "out")
    assert [line for line in losses if "areas" not in line] == []
    found, made = (by_name(r)["a.jpg"]["objects"] for r in (back["train"], records))
    for one, other in zip(found, made, strict=True):
        assert one[0] == other[0]
        np.testing.assert_allclose(one[1], other[1], rtol=0, atol=1e-9)
        assert one[2:4] == other[2:4]


def test_as_labelme_reads_it(tmp_path: Path) -> None:
    """By the rules of its shapes_to_label: mask[y1 : y2 + 1, x1 : x2 + 1] is the PNG, instances are label and group."""
    bitmap = np.zeros((200, 300), np.uint8, order="F")
    bitmap[20:60, 30:35] = bitmap[50:55, 30:90] = 1
    mask = shapes.encode_rle(coco_mask.encode(bitmap))
    two = shapes.from_polygons([[1, 1, 9, 1, 9, 9], [20.1, 1, 29, 1, 29, 9]])[0]
    own = [
        {"label": 0, "box": (30.0, 20.0, 60.0, 40.0), "shape": mask, "area": 475.0, "is_crowd": True},
        {"label": 0, "box": (1.0, 1.0, 28.0, 8.0), "shape": two, "area": 67.6},
        {"label": 0, "box": (1.0, 1.0, 8.0, 8.0), "extras": {"group_id": 1}},
    ]
    losses = write_data({"val": build(["k"], [("d/a.jpg", {}, own)])}, tmp_path / "out", "labelme", images="none")
    assert losses.lines() == []
    read = json.loads((tmp_path / "out" / "val" / "d" / "a.json").read_text())
    assert (read["imagePath"], read["imageData"], read["imageHeight"], read["imageWidth"]) == ("a.jpg", None, 200, 300)
    first, *others = read["shapes"]
    (x1, y1), (x2, y2) = np.asarray(first["points"]).astype(int)
    full = np.zeros((200, 300), bool)
    full[y1 : y2 + 1, x1 : x2 + 1] = np.array(Image.open(io.BytesIO(base64.b64decode(first["mask"])))).astype(bool)
    np.testing.assert_array_equal(full, bitmap)
    assert (first["shape_type"], first["iscrowd"], first["group_id"]) == ("mask", 1, None)
    assert [(s["shape_type"], s["group_id"]) for s in others] == [("polygon", 2), ("polygon", 2), ("rectangle", 1)]
    assert others[1]["points"] == [[20.1, 1], [29, 1], [29, 9]]
    assert (tmp_path / "out" / "labels.txt").read_text() == "k\n"


def test_files_of_labelme_come_back(tmp_path: Path) -> None:
    """What LabelMe drew is LabelMe's again: circles, turned rectangles, lines, groups, flags."""
    bitmap = png(np.ones((6, 9), bool))
    file = content(
        shape("circle", (50.25, 40), (53, 44.5)), shape("polygon", *TRIANGLE, group_id=4, difficult=1),
        shape("oriented_rectangle", (1, 1), (9, 1), (9, 5), (1, 5)),
        shape("rectangle", (1, 1), (9, 5.5), flags={"x": True}), shape("mask", (2, 2), (10, 7), mask=bitmap),
        shape("linestrip", (1, 1), (2, 2)), flags={"seen": False}, checked=True,
    )  # fmt: skip
    read = read_data(put(tmp_path / "in", a=file), extras=True)
    losses = write_data(read, tmp_path / "out", "labelme")
    assert losses.lines() == []
    assert json.loads((tmp_path / "out" / "train" / "a.json").read_text()) == file | {"version": "5.5.0"}
    assert (tmp_path / "out" / "train" / "a.jpg").is_file()


def test_losses_are_said(tmp_path: Path) -> None:
    triangle = shapes.from_polygons([[1, 1, 9, 1, 9, 9]])[0]
    nothing = shapes.encode_rle(coco_mask.encode(np.zeros((200, 300), np.uint8, order="F")))
    own = [
        {"label": 0, "box": (1.0, 1.0, 20.0, 8.0), "shape": triangle, "area": 32.0},
        {"label": 0, "box": (1.0, 1.0, 8.0, 8.0), "shape": triangle, "area": 40.0},
        {"label": 0, "box": (1.0, 1.0, 8.0, 8.0), "area": 7.0},
        {"label": 0, "box": (1.0, 1.0, -8.0, 8.0)},
        {"label": 0, "box": (float("nan"), 1.0, 8.0, 8.0)},
        {"label": 0, "box": (1.0, 1.0, 8.0, 8.0), "shape": nothing, "area": 64.0, "extras": {"group_id": 5}},
        {"label": 0, "box": (1.0, 1.0, 4.0, 8.0), "extras": {"group_id": 5}},
    ]
    back, losses = again({"train": build(["k"], [("a.jpg", {}, own)])}, tmp_path / "out")
    assert len(back["train"].labels) == 6
    assert losses == [
        "1 × 'group_id' of several objects of a category: LabelMe would take them for one (annotation 7)",
        "1 × areas that differ from their outline's: LabelMe keeps the outline (annotation 2)",
        "1 × areas: LabelMe has none, that of the box will count (annotation 3)",
        "1 × boxes of negative width or height: LabelMe puts their corners in order (annotation 4)",
        "1 × boxes that are no numbers: left out (annotation 5)",
        "1 × boxes that lie elsewhere than their outline: LabelMe keeps the outline (annotation 1)",
        "1 × masks without a pixel: only the box is kept (annotation 6)",
    ]


@pytest.mark.parametrize("name", ["balloon_coco", "coco_mini"])
def test_real_masks_come_back(name: str, real_data: Path, tmp_path: Path) -> None:
    """Every outline of COCO's, polygons and run lengths, and crowds; boxes to a tenth of a pixel, or it is said: COCO's
    boxes of crowds end a pixel early."""
    splits = read_data(real_data / name, extras=True)
    losses = write_data(splits, tmp_path / "out", "labelme", images="link")
    said = [line for line in losses.lines() if "boxes" in line or "masks" in line]
    assert {found.format for found in find_data(tmp_path / "out").values()} == {"labelme"}
    back = read_data(tmp_path / "out", extras=True)
    moved = 0
    for split, records in splits.items():
        found, made = by_name(back[split]), by_name(records)
        assert set(found) == set(made)
        for image, of_image in made.items():
            for one, other in zip(found[image]["objects"], of_image["objects"], strict=True):
                assert one[0] == other[0]
                assert one[2:4] == other[2:4]
                moved += not np.allclose(one[1], other[1], rtol=0, atol=0.1)
                assert np.allclose(one[1], other[1], rtol=0, atol=0.1) or (one[2] and name == "coco_mini")
    assert [int(line.split()[0]) for line in said] == ([moved] if moved else [])
