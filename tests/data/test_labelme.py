"""LabelMe files as people have them, read; what the numbers must be is worked out by hand or with PIL."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.labelme import find_labelme, read_labelme
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories


def content(*shapes: Any, image: str = "a.jpg", **others: Any) -> dict[str, Any]:
    """A file of an image of 100 × 80 pixels, as labelme 5 writes it."""
    return {
        "version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None,
        "imageHeight": 80, "imageWidth": 100, **others,
    }  # fmt: skip


def shape(kind: str, *points: tuple[float, float], label: Any = "cat", **others: Any) -> dict[str, Any]:
    given = {"label": label, "points": [list(p) for p in points], "shape_type": kind}
    return {"group_id": None, "description": "", "flags": {}, "mask": None, **given, **others}


def put(root: Path, **files: Any) -> Path:
    """A folder of these files, and an (empty) image beside each."""
    for stem, value in files.items():
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{stem}.json").write_text(json.dumps(value))
        (root / f"{stem}.jpg").write_text("")
    return root


def only(root: Path, extras: bool = True) -> Records:
    splits = read_data(root, "labelme", extras=extras)
    assert list(splits) == ["train"]
    return splits["train"]


def png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


TRIANGLE = ((10.0, 10.0), (20.0, 10.0), (20.0, 30.0))


def test_shapes(tmp_path: Path) -> None:
    """A rectangle from any corner to any other, a polygon, one without shape_type as old files have it, a circle."""
    old = shape("polygon", *TRIANGLE)
    del old["shape_type"], old["mask"], old["description"]
    shapes = (
        shape("rectangle", (30, 5.5), (10, 25), label="dog"), shape("polygon", *TRIANGLE), old,
        shape("circle", (50, 40), (53, 44)), shape("rotation", (1, 1), (9, 1), (9, 5), (1, 5)),
    )  # fmt: skip
    records = only(put(tmp_path, a=content(*shapes)))
    assert records.categories.names == ("cat", "dog")
    assert records.labels.tolist() == [1, 0, 0, 0, 0]
    boxes = [[10, 5.5, 20, 19.5], [10, 10, 10, 20], [10, 10, 10, 20], [45, 35, 10, 10], [1, 1, 8, 4]]
    np.testing.assert_allclose(records.boxes, boxes, atol=1e-12)
    assert records.segmentation(0) is None
    for index in (1, 2):
        np.testing.assert_array_equal(records.segmentation(index)[0], TRIANGLE)
    assert records.areas[:3].tolist() == [390, 100, 100]
    assert abs(records.areas[3] - 25 * math.pi) < 0.5
    circle = records.segmentation(3)[0]
    np.testing.assert_allclose(np.hypot(*(circle - [50, 40]).T), 5, atol=1e-5)
    assert (records.has_shapes, len(records.problems), records.size(0)) == (True, 0, (80, 100))


def test_masks(tmp_path: Path) -> None:
    """The last pixel is included; kinds of PNG; what does not fit is left out, and the box is kept."""
    bitmap = np.random.default_rng(0).random((6, 9)) > 0.4
    corners = ((20, 10), (28, 15))
    kinds = [png(bitmap), png(bitmap * np.uint8(255)), png(bitmap * np.uint8(1)), png(bitmap * np.uint16(700))]
    kinds.append(png(np.repeat(bitmap[..., None], 3, 2) * np.uint8(255)))
    flawed = [
        None,
        "?",
        "",
        png(bitmap)[:40],
        png(bitmap[:3]),
        png(bitmap[:, :3]),
        base64.b64encode(b"text").decode(),
        7,
    ]
    shapes = [shape("mask", *corners, mask=mask) for mask in (*kinds, *flawed)]
    shapes.append(shape("mask", (95, 10), (103, 15), mask=png(bitmap)))  # beyond the image
    records = only(put(tmp_path, a=content(*shapes)))
    for index in range(len(kinds)):
        full = np.zeros((80, 100), bool)
        full[10:16, 20:29] = bitmap
        np.testing.assert_array_equal(coco_mask.decode(records.segmentation(index)), full)
        assert records.areas[index] == bitmap.sum()
    assert (records.shape_starts[len(kinds) :] == -1).all()
    np.testing.assert_array_equal(records.boxes[:-1], [[20, 10, 9, 6]] * (len(shapes) - 1))
    assert records.problems["shape_mask_flaw"].count == len(flawed) + 1
    edge = shape("mask", (91, 74), (100, 80), mask=png(bitmap))  # cut off at the end of the image
    records = only(put(tmp_path, a=content(edge)))
    assert coco_mask.decode(records.segmentation(0))[74:, 91:].tolist() == bitmap.tolist()
    unknown = content(shape("mask", *corners, mask=png(bitmap)), imageHeight=None)
    assert only(put(tmp_path, a=unknown)).problems["shape_mask_flaw"].count == 1


def test_a_png_that_claims_to_be_vast_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    data = bytearray(base64.b64decode(png(np.ones((6, 9), bool))))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    bomb = shape("mask", (0, 0), (59_999, 59_999), mask=base64.b64encode(data).decode())
    records = only(put(tmp_path, a=content(bomb, imageHeight=60_000, imageWidth=60_000)))
    assert records.problems["shape_mask_flaw"].count == 1


def test_groups_are_objects(tmp_path: Path) -> None:
    """Parts of one label and number; a rectangle among them is the box; a mask among them makes all a mask."""
    other = ((40.0, 40.0), (50.0, 40.0), (50.0, 44.0))
    square = shape("mask", (60, 10), (61, 11), mask=png(np.ones((2, 2), bool)), label="m", group_id=3)
    shapes = (
        shape("polygon", *TRIANGLE, group_id=1), shape("polygon", *TRIANGLE, group_id=1, label="dog"),
        shape("polygon", *other, group_id=1), shape("polygon", *TRIANGLE, group_id="1"),
        shape("rectangle", (9, 9), (51, 45), group_id=2, label="box"),
        shape("polygon", *other, group_id=2, label="box"), square,
        shape("polygon", (10, 10), (14, 10), (14, 14), (10, 14), label="m", group_id=3),
    )  # fmt: skip
    records = only(put(tmp_path, a=content(*shapes)))
    names = [records.categories.names[i] for i in records.labels]
    assert names == ["cat", "dog", "cat", "box", "m"]
    assert [len(p) for p in (records.segmentation(i) for i in range(4))] == [2, 1, 1, 1]
    np.testing.assert_array_equal(records.boxes[:1], [[10, 10, 40, 34]])
    np.testing.assert_array_equal(records.boxes[3:], [[9, 9, 42, 36], [10, 10, 52, 4]])
    assert (records.areas[0], records.areas[4]) == (120, 20)
    assert records.extras is not None
    assert [records.extras.of_annotation(i).get("group_id") for i in range(5)] == [1, 1, "1", 2, 3]


def test_other_keys(tmp_path: Path) -> None:
    line = shape("linestrip", (1, 1), (2, 2))
    kept = {"flags": {"night": True}, "description": "d", "score": 0.5}
    odd = shape("polygon", *TRIANGLE, difficult=True, iscrowd=1, **kept)
    records = only(put(tmp_path, a=content(odd, line, shape("point", (3, 3)), flags={"blurred": True}, checked=1)))
    assert records.extras is not None
    assert records.extras.annotations == {
        0: {"difficult": 1, "flags": {"night": True}, "description": "d", "score": 0.5}
    }
    assert records.extras.images[0] == {
        "flags": {"blurred": True}, "checked": 1, "shapes": [line, shape("point", (3, 3))],
    }  # fmt: skip
    assert records.is_crowd.tolist() == [True]
    assert {p.code: p.count for p in records.problems} == {"shape_without_area": 2}


def test_flawed_shapes_are_left_out(tmp_path: Path) -> None:
    shapes = [
        shape("polygon", (1, 1), (2, 2)), shape("rectangle", (1, 1)), shape("polygon", *TRIANGLE, label=None),
        shape("polygon", *TRIANGLE, label=" "), shape("new_kind", *TRIANGLE), shape("circle", *TRIANGLE),
        {**shape("polygon"), "points": [[1, 2, 3]] * 3}, {**shape("polygon"), "points": None}, None, 3, [], "x",
        {**shape("polygon"), "points": [[1, "x"]] * 3}, shape("rectangle", (1, 1), (1e300, 2)), {},
    ]  # fmt: skip
    records = only(put(tmp_path, a=content(*shapes, shape("rectangle", (1, 1), (2, 2), label=5))))
    assert records.problems["shape_unreadable"].count == len(shapes)
    assert records.categories.names == ("5",)
    assert len(records.labels) == 1


def test_the_image_of_a_file(tmp_path: Path) -> None:
    """Where imagePath leads, from its own folder, with slashes of either kind; never out of the data set."""
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "images" / "x.png").write_text("")
    (tmp_path / "secret.jpg").write_text("")
    secret = str(tmp_path / "secret.jpg")
    put(root / "labels", a=content(image="../images/x.png"), b=content(image="..\\images\\x.png"))
    put(root / "labels", c=content(image="../../secret.jpg"), d=content(image=secret), e=content(image="C:\\e.jpg"))
    put(root / "labels", f=content(image="gone.png"), g=content(image="gone.png", imageData="aGVsbG8gd29ybGQgIQ=="))
    (root / "labels" / "d.jpg").unlink()
    (root / "labels" / "g.jpg").unlink()
    records = only(root)
    names = [records.file_name(row) for row in range(len(records))]
    beside = [f"labels/{n}" for n in ("c.jpg", "secret.jpg", "e.jpg", "f.jpg", "gone.png")]
    assert names == ["images/x.png", "images/x.png", *beside]
    assert records.image_root(0) == root
    counts = {
        code: records.problems[code].count for code in ("image_path_outside", "image_name_differs", "image_embedded")
    }
    assert counts == {"image_path_outside": 3, "image_name_differs": 1, "image_embedded": 1}
    images = read_labelme(Found("labelme", root / "labels", root / "images"))
    assert images.file_name(0) == "x.png"


def test_splits_categories_and_single_files(tmp_path: Path) -> None:
    rectangle = shape("rectangle", (1, 1), (5, 5))
    for folder, label in (("train/day", "b"), ("valid", "a"), ("more", "b")):
        put(tmp_path / folder, x=content({**rectangle, "label": label}, image="x.jpg"))
    splits = read_data(tmp_path)
    assert {s: [r.image_path(i) for i in range(len(r))] for s, r in splits.items()} == {
        "train": [tmp_path / "more" / "x.jpg", tmp_path / "train" / "day" / "x.jpg"],
        "val": [tmp_path / "valid" / "x.jpg"],
    }
    assert splits["val"].categories.names == ("b", "a")
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\na\nb\n")
    assert read_data(tmp_path)["train"].categories.names == ("a", "b")
    single = read_data(tmp_path / "valid" / "x.json")["train"]
    assert (len(single), single.image_path(0)) == (1, tmp_path / "valid" / "x.jpg")
    wanted = Categories.of(["z", "b"])
    known = read_labelme(find_data(tmp_path)["train"], wanted)
    assert (known.categories, known.labels.tolist()) == (wanted, [1, 1])
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert find_labelme(tmp_path / "coco.json") == {}
    assert find_data(tmp_path)["train"].format == "labelme"
    for name in ("a", "b", "c", "d"):  # more of another kind
        (tmp_path / f"coco_{name}.json").write_text((tmp_path / "coco.json").read_text())
    assert find_labelme(tmp_path) == {}


def test_unreadable_files_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, a=content(shape("rectangle", (1, 1), (5, 5))), b=[], c={"version": "5"}, d={"shapes": {}})
    (tmp_path / "e.json").write_text('{"shapes": [')
    (tmp_path / "f.json").write_bytes(b'\xef\xbb\xbf{"shapes": [], "imagePath": "\xff.jpg"}')
    (tmp_path / "g.json").write_text('{"shapes": ' + "[" * 100_000 + "]" * 100_000 + "}")
    records = only(tmp_path)
    assert len(records) == 2
    assert records.problems["file_unreadable"].count == 5
    assert records.problems["text_not_utf8"].examples == ("f.json",)
    for name in "af":
        (tmp_path / f"{name}.json").unlink()
    with pytest.raises(VisionTasksError, match="none of the 5 JSON files can be read"):
        read_labelme(Found("labelme", tmp_path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    | st.sampled_from(["polygon", "mask", "circle", "rectangle", "../x", "C:\\x", 10**400, [[1, 1], [9, 1], [9, 9]]]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_values_end_in_records_or_a_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    one = shape("mask", (2, 2), (10, 7), mask=png(np.ones((6, 9), bool)), group_id=1)
    value = content(one, shape("polygon", *TRIANGLE, group_id=1))
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(st.sampled_from([value, one]))
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
    put(tmp_path, a=value)
    try:
        records = only(tmp_path)
    except VisionTasksError:
        return
    records.target(0)
    records.image_path(0)
