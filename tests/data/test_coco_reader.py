"""The COCO reader against pycocotools, on real files and on a file with every flaw."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vision_tasks.data.formats import json_stream
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

DATA = os.environ.get("VISION_TASKS_DATA")
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in pycocotools, with numpy 2
needs_data = pytest.mark.skipif(not DATA, reason="VISION_TASKS_DATA is not set")
CLEAN = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "segmentation": []}
IMAGES = [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}]
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]


def written(path: Path, annotations: list[Any], images: Any = IMAGES, categories: Any = CATEGORIES) -> Path:
    file = path / "a.json"
    file.write_text(json.dumps({"annotations": annotations, "images": images, "categories": categories}))
    return file


def one(**changes: Any) -> dict[str, Any]:
    """A clean annotation but for these changes; a key set to ... is left out."""
    return {key: value for key, value in {**CLEAN, **changes}.items() if value is not ...}


def equal_to_pycocotools(records: Records, path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    assert records.image_ids.tolist() == [i["id"] for i in coco.dataset["images"]]
    assert records.categories.to_list()[0]["name"] == coco.dataset["categories"][0]["name"]
    assert len(records.labels) == len(coco.anns)
    for row, image_id in enumerate(records.image_ids.tolist()):
        image = coco.imgs[image_id]
        assert records.file_name(row) == image["file_name"]
        assert records.size(row) == (image["height"], image["width"])
        truth = coco.imgToAnns[image_id]
        part = slice(int(records.first[row]), int(records.first[row + 1]))
        assert records.annotation_ids[part].tolist() == [a["id"] for a in truth]
        assert [records.categories.ids[k] for k in records.labels[part]] == [a["category_id"] for a in truth]
        assert records.boxes[part].tolist() == [a["bbox"] for a in truth]
        assert records.areas[part].tolist() == [a["area"] for a in truth]
        assert records.is_crowd[part].tolist() == [bool(a["iscrowd"]) for a in truth]
        for index, annotation in zip(range(part.start, part.stop), truth, strict=True):
            shape = records.segmentation(index)
            if not annotation["segmentation"]:
                assert shape is None
            elif isinstance(shape, dict):
                assert (coco_mask.decode(shape) == coco.annToMask(annotation)).all()
            else:
                assert shape is not None
                for ours, theirs in zip(shape, annotation["segmentation"], strict=True):
                    assert ours.dtype == np.float32
                    np.testing.assert_array_equal(ours.ravel(), np.float32(theirs))


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        "coco_mini/annotations/instances_train2017.json",
        "coco_mini/annotations/instances_val2017.json",
        "bloodcells_coco/train/_annotations.coco.json",
        "balloon_coco/annotations/custom_val.json",
        "panoptic_sample/panoptic_coco_detection_format.json",
    ],
)
@pytest.mark.parametrize("block", [json_stream.BLOCK, 700])
def test_content_equals_pycocotools(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    path = Path(str(DATA)) / name
    if block == 700 and path.stat().st_size > 2_000_000:
        path = Path(str(DATA)) / "bloodcells_coco/test/_annotations.coco.json"
    records = read_coco(path)
    equal_to_pycocotools(records, path)
    assert len(records.problems) == 0
    assert records.usable.all()


@needs_data
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("coco_mini/annotations/captions_val2017.json", "captions"),
        ("panoptic_sample/panoptic_examples.json", "panoptic"),
        ("panoptic_sample/images_info_examples.json", 'without "annotations"'),
        ("panoptic_sample/panoptic_coco_categories.json", "list of categories"),
    ],
)
def test_other_kinds_are_named(name: str, says: str) -> None:
    with pytest.raises(VisionTasksError, match=says):
        read_coco(Path(str(DATA)) / name)


def test_real_flaws_of_real_kinds(tmp_path: Path) -> None:
    images = [
        {"id": 30, "file_name": "c.jpg", "width": 100, "height": 80},
        {"id": 1, "file_name": "a.jpg", "width": "100", "height": 80.0},
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80},
        {"id": 5, "file_name": "b.jpg"},
        {"id": 6, "file_name": "d.jpg", "width": 9, "height": 9},
        {"id": 6, "file_name": "e.jpg", "width": 9, "height": 9},
        {"id": 8, "width": 9, "height": 9},
        {"file_name": "f.jpg", "width": 9, "height": 9},
        {"id": 9, "coco_url": "http://images.example.org/val/g.jpg", "width": 9, "height": 9},
        {"id": 10, "file_name": "c.jpg", "width": 100, "height": 80},
        None,
    ]
    square = [[0, 0, 10, 0, 10, 10, 0, 10]]
    annotations = [
        one(id=1, image_id=30),
        one(id=2, image_id=77),
        one(id=3, category_id=2),
        one(id=4, bbox=[5, 5, 0, 3]),
        one(id=5, bbox=[5, 5, -2, 3]),
        one(id=6, bbox=[float("nan"), 5, 2, 3]),
        one(id=7, bbox=[200, 5, 2, 3]),
        one(id=8, bbox=[90, 5, 20, 3]),
        one(id=9, bbox=["1", "2", "3", "4"], category_id="7"),
        one(id=10, bbox=..., segmentation=square),
        one(id=11, bbox=None),
        one(id=12, area=...),
        one(id=13, iscrowd=...),
        one(id=..., area="12"),
        one(id=1),
        one(id=14, segmentation=[[0, 0, 1, 1, 2]]),
        one(id=15, segmentation=[[0, 0, 1, 1], *square]),
        one(id=16, segmentation=square[0]),
        one(id=17, segmentation=[[0, 0, None, 1, 2, 3]]),
        one(id=18, segmentation={"size": [80, 100], "counts": [10, 20]}),
        one(id=19, segmentation={"size": [8, 10], "counts": [10, 70]}),
        one(id=20, segmentation={"size": [80, 100], "counts": "\u0001bad"}),
        one(id=21, segmentation="none"),
        one(id=22, keypoints=[1, 1, 2]),
        one(id=23, image_id=5, bbox=[5000, 5000, 5, 5], iscrowd=1),
        one(id=24, image_id=6),
        "nothing",
    ]
    records = read_coco(written(tmp_path, annotations, images))
    assert records.image_ids.tolist() == [30, 1, 5, 9, 10]
    assert [records.file_name(r) for r in range(5)] == ["c.jpg", "a.jpg", "b.jpg", "g.jpg", "c.jpg"]
    counts = {p.code: p.count for p in records.problems}
    # image_size_unknown counts image 5 (no size); text numbers: image 1, four box numbers and a category id, an area
    assert counts == {
        "unknown_image": 2,
        "unknown_category": 1,
        "entry_unreadable": 2,
        "image_repeated": 1,
        "image_ambiguous": 2,
        "image_without_file": 1,
        "image_without_id": 1,
        "image_file_from_url": 1,
        "image_file_shared": 1,
        "image_size_unknown": 1,
        "number_as_text": 7,
        "annotation_without_id": 1,
        "annotation_id_repeated": 1,
        "box_missing": 1,
        "box_unreadable": 2,
        "box_inverted": 1,
        "box_empty": 1,
        "box_outside": 1,
        "box_clipped": 1,
        "area_missing": 1,
        "crowd_missing": 1,
        "polygon_flaw": 3,
        "polygon_flat": 1,
        "rle_flaw": 2,
        "rle_size": 1,
        "segmentation_flaw": 1,
        "keypoints_ignored": 1,
    }
    assert "annotation 5 (image 1)" in str(records.problems["box_inverted"])
    usable = {int(i): bool(u) for i, u in zip(records.annotation_ids, records.usable, strict=True)}
    assert [i for i, u in usable.items() if not u] == [4, 5, 6, 7, 11]
    by_id = {int(i): k for k, i in enumerate(records.annotation_ids)}
    assert records.boxes[by_id[10]].tolist() == [0, 0, 10, 10]
    assert records.boxes[by_id[5]].tolist() == [5, 5, -2, 3]
    assert records.categories.names[records.labels[by_id[9]]] == "dog"
    assert records.areas[by_id[12]] == 12
    for flawed in (14, 17, 18, 19, 20, 21):
        assert records.segmentation(by_id[flawed]) is None
    assert len(records.segmentation(by_id[15]) or ()) == 1
    assert [90, 5, 100, 8] in records.target(1).boxes.tolist()
    lines = records.problems.summary().splitlines()
    assert len(lines) == 9
    assert lines[0].startswith("warning")


def test_both_kinds_of_run_lengths_render_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [np.asfortranarray(rng.random((80, 100)) < p, np.uint8) for p in (0, 0.01, 0.5, 1)]
    annotations = []
    for number, mask in enumerate(masks):
        packed = coco_mask.encode(mask)
        flat = mask.ravel(order="F")
        runs = np.diff(np.flatnonzero(np.concatenate([[1], np.diff(flat), [1]]))).tolist()
        plain = [0, *runs] if flat[0] else runs
        text = {"size": [80, 100], "counts": packed["counts"].decode()}
        annotations += [
            one(id=2 * number, segmentation=text),
            one(id=2 * number + 1, segmentation={**text, "counts": plain}),
        ]
    records = read_coco(written(tmp_path, annotations))
    assert len(records.problems) == 0
    for index in range(8):
        shape = records.segmentation(index)
        assert isinstance(shape, dict)
        assert (coco_mask.decode(shape) == masks[index // 2]).all()


def test_text_ids_are_numbered_alike_everywhere(tmp_path: Path) -> None:
    images = [{"id": name, "file_name": f"{name}.jpg", "width": 9, "height": 9} for name in ("x", "y", 10**30, 4)]
    categories = [{"id": "c", "name": "cat"}, {"id": 3, "name": "dog"}]
    annotations = [
        one(id=1, image_id="y", category_id=3),
        one(id=2, image_id="x", category_id="c"),
        one(id=3, image_id=10**30, category_id="c"),
    ]
    records = read_coco(written(tmp_path, annotations, images, categories))
    assert records.image_ids.tolist() == [5, 6, 7, 4]
    assert records.annotation_ids.tolist() == [2, 1, 3]
    assert records.first.tolist() == [0, 1, 2, 3, 3]
    assert records.labels.tolist() == [0, 1, 0]
    assert records.categories.ids == (4, 3)


def test_category_ids_from_zero_and_unused_ones_stay(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "parent"}, {"id": 2, "name": "cell"}]
    records = read_coco(written(tmp_path, [one(category_id=2)], categories=categories))
    assert records.categories.names == ("parent", "cell")
    assert records.labels.tolist() == [1]


def test_wanted_categories_are_matched_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, [one(), one(id=2, category_id=7)])
    records = read_coco(file, categories=["dog", "bird"])
    assert records.categories.names == ("dog", "bird")
    assert records.labels.tolist() == [0]
    assert records.problems["unknown_category"].count == 1
    assert records.problems["category_renumbered"].count == 1
    with pytest.raises(VisionTasksError, match=r"cat.*dog.*fish"):
        read_coco(file, categories=["fish"])
    assert read_coco(written(tmp_path, [one()], categories=None), categories=["cat"]).labels.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("hello", "no JSON"),
        ("null", "no JSON"),
        ("[]", "a list"),
        ('[{"image_id": 1, "score": 0.5}]', "detections"),
        ("{}", "no COCO annotations"),
        ('{"shapes": [], "imagePath": "x"}', "LabelMe"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "no usable image"),
        ('{"images": null, "annotations": []}', '"images" is not a list'),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": []}', 'no "categories"'),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id"', "cut off"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations"', "cut off"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"id": 1, "bbox": [1, 2', "after 0 complete"),
        ('{"images": [{"id": 1 "file_name": "a"}], "annotations": []}', "no valid JSON at entry 0 of images"),
        ('{"images": [{"id": 1, "file_name": "a"} oops], "annotations": []}', "no valid JSON"),
        ('{"images": [{"id": 1, "file_name": "a"}}, "annotations": []}', "not closed"),
        ('{"images": [], "info": {"a": [1, 2', "cut off"),
        ('{"images": [], "info": "abc', "cut off"),
    ],
)
def test_hopeless_files_say_why(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(VisionTasksError, match=says) as caught:
        read_coco(file)
    assert str(file) in str(caught.value)


def test_missing_file_and_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="cannot be read"):
        read_coco(tmp_path / "none.json")
    with pytest.raises(VisionTasksError, match="is a folder"):
        read_coco(tmp_path)


def test_annotations_that_fit_nothing_are_an_error_with_ids(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match=r"annotation 12 \(image 5\)"):
        read_coco(written(tmp_path, [one(id=12, image_id=5)]))
    with pytest.raises(VisionTasksError, match="category id 1 is both 'a' and 'b'"):
        read_coco(written(tmp_path, [one()], categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]))


def test_byte_order_mark_odd_letters_and_order_of_keys(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    images = json.dumps(
        [{"id": 1, "file_name": 'ü "\\"]}[{ é.jpg'.replace("\\", ""), "width": 9, "height": 9}], ensure_ascii=False
    )
    odd = '"info": "a \\\\\\" ]", "extra": [[{}], 1, "]"]'
    text = (
        f'{{{odd}, "categories": {json.dumps(CATEGORIES)}, "images": {images}, "annotations": [{json.dumps(one())}]}}'
    )
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    records = read_coco(file)
    assert records.file_name(0) == 'ü ""]}[{ é.jpg'
    assert len(records.labels) == 1
    file.write_bytes(text.replace("ü", "u").encode("latin-1"))
    assert read_coco(file).problems["text_not_utf8"].count == 1


def test_numbers_beyond_64_bits_spoil_only_their_entry(tmp_path: Path) -> None:
    images = [*IMAGES, {"id": 2, "file_name": "b.jpg", "width": 2**63, "height": 9}]
    flawed = one(id=2, segmentation=[[0, 0, 1, 1]])
    records = read_coco(
        written(tmp_path, [one(), flawed, one(id=2**63, area=1e300, bbox=[1e308, 0, 1e308, 1])], images)
    )
    assert records.image_ids.tolist() == [1, 2]
    assert records.size(1) is None
    counts = {p.code: p.count for p in records.problems}
    assert counts == {
        "polygon_flaw": 1,
        "image_size_unknown": 1,
        "annotation_without_id": 1,
        "area_missing": 1,
        "box_unreadable": 1,
    }
