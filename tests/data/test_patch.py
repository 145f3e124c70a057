"""Patches: each edit against numbers worked out by hand, files read, written and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vision_tasks.data import outlines
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.patch import SplitPatch, apply_edits, apply_patch, fingerprint, read_patch, write_patch
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]]
TWO = [[1.0, 2.0, 5.0, 2.0, 1.0, 6.0], [8.0, 2.0, 8.0, 9.0, 12.0, 9.0]]  # areas 8 and 14


def _rle() -> dict[str, Any]:
    bitmap = np.zeros((50, 100), np.uint8)
    bitmap[5:9, 20:23] = 1
    runs = coco_mask.encode(np.asfortranarray(bitmap))
    return {"size": [50, 100], "counts": runs["counts"].decode()}


def _write(folder: Path, **changes: Any) -> Path:
    """Images 1 (100×50), 2 (200×80) and 3 (the file of 1); annotations 11..16 of cat, dog, Dog."""
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 50},
        {"id": 2, "file_name": "b.jpg", "width": 200, "height": 80},
        {"id": 3, "file_name": "a.jpg", "width": 100, "height": 50},
    ]
    rows = [  # id, image, category, box, area, segmentation
        (11, 1, 1, [10, 10, 20, 10], 200, SQUARE),
        (12, 1, 2, [1, 2, 11, 7], 22, TWO),
        (13, 2, 2, [-5, 10, 20, 30], 600, []),
        (14, 2, 3, [50, 60, -20, -10], 200, []),
        (15, 2, 3, [300, 10, 20, 10], 200, []),
        (16, 3, 1, [20, 5, 3, 4], 12, _rle()),
    ]
    keys = ("id", "image_id", "category_id", "bbox", "area", "segmentation")
    annotations = [dict(zip(keys, row, strict=True)) | {"iscrowd": 0} for row in rows]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "Dog"}]
    file = folder / "instances_train.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories} | changes))
    return file


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return read_coco(_write(tmp_path))


def _box(records: Records, number: int) -> list[float]:
    box: list[float] = records.boxes[_at(records, number)].tolist()
    return box


def _at(records: Records, number: int) -> int:
    return records.annotation_ids.tolist().index(number)


def _edited(records: Records, *edits: dict[str, Any]) -> Records:
    return apply_edits(records, edits)


@pytest.mark.parametrize(
    ("form", "written", "meant", "area"),
    [
        ("xyxy", [10, 20, 40, 45], [10, 20, 30, 25], 750),
        ("normalised", [0.1, 0.2, 0.3, 0.5], [20, 16, 60, 40], 2400),  # of 200 × 80
        ("percent", [10, 20, 30, 50], [20, 16, 60, 40], 2400),
        ("yxyx", [2, 1, 6, 4], [1, 2, 3, 4], 12),
        ("swapped", [1, 2, 3, 4], [2, 1, 4, 3], 12),
        ("centred", [30, 20, 10, 4], [25, 18, 10, 4], 40),
        ("from_zero", [-1, 4, 10, 4], [0, 5, 10, 4], 40),
    ],
)
def test_forms_of_boxes(tmp_path: Path, form: str, written: list[float], meant: list[float], area: float) -> None:
    entry = {"id": 13, "image_id": 2, "category_id": 1, "bbox": written, "iscrowd": 0}
    annotations = [
        entry | {"area": written[2] * written[3]},  # derived: follows the box
        entry | {"id": 17, "area": 7.5},  # an area of its own: stays
    ]
    records = read_coco(_write(tmp_path, annotations=annotations))
    edited = _edited(records, {"op": "boxes_from", "form": form})
    assert np.allclose(edited.boxes, [meant, meant])
    assert np.allclose(edited.areas, [area, 7.5])
    one = _edited(records, {"op": "boxes_from", "form": form, "ids": [17]})
    assert _box(one, 13) == written
    assert np.allclose(_box(one, 17), meant)


def test_forms_follow_each_other(tmp_path: Path) -> None:
    corners = [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [0.2, 0.1, 0.7, 0.6], "area": 1, "iscrowd": 0}]
    records = read_coco(_write(tmp_path, annotations=corners))  # y1, x1, y2, x2 as shares... of width and height
    edited = _edited(records, {"op": "boxes_from", "form": "normalised"}, {"op": "boxes_from", "form": "xyxy"})
    assert np.allclose(edited.boxes, [[40, 8, 100, 40]])


def test_geometry_is_judged_anew(records: Records) -> None:
    assert {p.code: p.count for p in records.problems} == {
        "box_inverted": 1, "box_outside": 1, "box_clipped": 1, "image_file_shared": 1
    }  # fmt: skip
    assert records.usable.tolist() == [True, True, True, False, False, True]
    edited = _edited(
        records,
        {"op": "order_corners", "ids": [14]},
        {"op": "clip_boxes", "ids": [13]},
        {"op": "set_box", "id": 15, "was": [300, 10, 20, 10], "to": [100, 10, 20, 10]},
    )
    assert [_box(edited, i) for i in (13, 14, 15)] == [[0, 10, 15, 30], [30, 50, 20, 10], [100, 10, 20, 10]]
    assert edited.usable.all()
    assert {p.code for p in edited.problems} == {"image_file_shared"}
    assert edited.areas.tolist() == [200, 22, 450, 200, 200, 12]
    assert records.usable.tolist() == [True, True, True, False, False, True], "the source is as it was"
    assert not edited.boxes.flags.writeable


def test_masks(records: Records) -> None:
    edited = _edited(
        records,
        {"op": "set_box", "id": 12, "was": [1, 2, 11, 7], "to": [0, 0, 1, 1]},
        {"op": "set_box", "id": 16, "was": [20, 5, 3, 4], "to": [0, 0, 1, 1]},
        {"op": "boxes_from_masks", "ids": [11, 12, 16]},
    )
    assert [_box(edited, i) for i in (11, 12, 16)] == [[10, 10, 20, 10], [1, 2, 11, 7], [20, 5, 3, 4]]
    edited = _edited(records, {"op": "areas_from_masks", "ids": [12, 16]}, {"op": "drop_masks", "ids": [11, 16]})
    assert edited.areas[[1, 5]].tolist() == [22, 12]
    assert edited.segmentation(0) is None
    assert edited.segmentation(1) is not None
    assert edited.has_shapes
    assert not _edited(records, {"op": "drop_masks", "ids": [11, 12, 16]}).has_shapes


def test_outlines_are_those_of_pycocotools(records: Records) -> None:
    starts = records.shape_starts[records.shape_starts >= 0]
    boxes = [coco_mask.toBbox(r) for r in coco_mask.frPyObjects(SQUARE, 50, 100)]
    assert outlines.extents(records.shape_bytes, starts)[0].tolist() == np.asarray(boxes[0]).tolist()
    assert outlines.areas(records.shape_bytes, starts).tolist() == [200, 22, 12]
    assert outlines.areas(records.shape_bytes, starts[:0]).shape == (0,)


def test_drops(records: Records) -> None:
    edited = _edited(records, {"op": "drop_annotations", "ids": [12, 15]}, {"op": "drop_images", "ids": [1]})
    assert edited.image_ids.tolist() == [2, 3]
    assert edited.first.tolist() == [0, 2, 3]
    assert edited.annotation_ids.tolist() == [13, 14, 16]
    assert edited.file_name(0) == "b.jpg"
    assert isinstance(edited.segmentation(2), dict)
    assert {p.code for p in edited.problems} == {"box_inverted", "box_clipped"}


def test_one_file_under_two_ids(records: Records) -> None:
    edited = _edited(records, {"op": "join_images", "ids": [1, 3]})
    assert edited.image_ids.tolist() == [1, 2]
    assert edited.first.tolist() == [0, 3, 6]
    assert edited.annotation_ids.tolist() == [11, 12, 16, 13, 14, 15]
    assert not edited.problems["image_file_shared"].count


def test_categories(records: Records) -> None:
    edited = _edited(records, {"op": "merge_categories", "names": ["dog", "Dog"], "into": "dog"})
    assert edited.categories.names == ("cat", "dog")
    assert edited.categories.ids == (1, 2)
    assert edited.labels.tolist() == [0, 1, 1, 1, 1, 0]
    renamed = _edited(records, {"op": "merge_categories", "names": ["cat", "dog"], "into": "animal"})
    assert renamed.categories.names == ("animal", "Dog")
    assert renamed.labels.tolist() == [0, 0, 0, 1, 1, 0]
    dropped = _edited(records, {"op": "drop_categories", "names": ["cat"]})
    assert dropped.categories.names == ("dog", "Dog")
    assert dropped.annotation_ids.tolist() == [12, 13, 14, 15]
    assert dropped.labels.tolist() == [0, 0, 1, 1]
    assert dropped.categories.ids == (2, 3)


def test_sizes(records: Records) -> None:
    scaled = {"op": "set_size", "image": 1, "was": [50, 100], "to": [100, 200], "scale_boxes": True}
    edited = _edited(records, scaled, {"op": "boxes_from_masks", "ids": [11]})
    assert edited.size(0) == (100, 200)
    assert _box(edited, 11) == [20, 20, 40, 20]
    assert _box(edited, 12) == [2, 4, 22, 14]
    assert edited.areas[:2].tolist() == [800, 88]
    runs = _edited(records, scaled | {"image": 3}, {"op": "areas_from_masks", "ids": [16]})
    assert runs.segmentation(_at(runs, 16))["size"] == [100, 200]  # type: ignore[call-overload, index]
    assert runs.areas[5] == 48
    assert _box(runs, 16) == [40, 10, 6, 8]
    plain = _edited(records, {"op": "set_size", "image": 2, "was": [80, 200], "to": [80, 400]})
    assert plain.usable[_at(plain, 15)], "the box is inside now"
    other = _edited(records, {"op": "set_size", "image": 3, "was": [50, 100], "to": [50, 101]})
    assert other.segmentation(_at(other, 16)) is None, "run lengths of another size cannot be drawn"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"op": "drop_image", "ids": [1]}, "no operation 'drop_image'; did you mean 'drop_images'"),
        ({"op": "drop_images", "id": [1]}, "no key 'id'; did you mean 'ids'"),
        ({"op": "drop_images"}, "'ids' is missing; it is a list of whole numbers"),
        ({"op": "drop_images", "ids": ["1"]}, r"must be a list of whole numbers, at least one, not \['1'\]"),
        ({"op": "drop_images", "ids": [7, 8]}, r"edit 1 \(drop_images\): there is no image 7, 8"),
        ({"op": "drop_images", "ids": [1, 2, 3]}, "no image would be left"),
        ({"op": "drop_annotations", "ids": list(range(90, 100))}, r"annotation 90, 91, 92, 93, 94, ... \(10 in all\)"),
        ({"op": "set_box", "id": 11, "was": [1, 1, 1, 1], "to": [1, 1, 1, 1]}, r"is \[10.0, 10.0, 20.0, 10.0\], not"),
        ({"op": "set_box", "id": 11, "was": [10, 10, 20, 10], "to": [1, 1, 1]}, "four numbers"),
        ({"op": "set_size", "image": 1, "was": [1, 1], "to": [5, 5]}, r"size of image 1 is \[50, 100\]"),
        ({"op": "boxes_from_masks", "ids": [13]}, "annotation 13 has no mask"),
        ({"op": "boxes_from", "form": "yxhw"}, "one of xyxy, yxyx, normalised"),
        ({"op": "merge_categories", "names": ["bird"], "into": "cat"}, "there is no category 'bird'"),
        ({"op": "join_images", "ids": [1]}, "two or more different image ids"),
        ([], "is no edit"),
    ],
)  # fmt: skip
def test_edits_that_do_not_fit(records: Records, edit: Any, said: str) -> None:
    with pytest.raises(VisionTasksError, match=said):
        apply_edits(records, [edit])


def test_ids_that_occur_twice(tmp_path: Path) -> None:
    entry = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, -1, -1], "area": 1, "iscrowd": 0}
    records = read_coco(_write(tmp_path, annotations=[entry, entry]))
    assert _edited(records, {"op": "order_corners", "ids": [5]}).usable.all(), "what does good to both"
    twice = read_coco(_write(tmp_path, annotations=[entry, entry | {"id": 4}, entry, entry | {"id": 6}]))
    edited = _edited(twice, {"op": "drop_annotations", "ids": [4, 5], "keep_first": True})
    assert edited.annotation_ids.tolist() == [5, 6]
    with pytest.raises(VisionTasksError, match="annotation 5 occurs more than once"):
        _edited(records, {"op": "drop_annotations", "ids": [5]})


def _patch(records: Records, *edits: dict[str, Any]) -> dict[str, SplitPatch]:
    return {"train": SplitPatch(records.source.name, fingerprint(records), edits)}


def test_file_and_back(records: Records, tmp_path: Path) -> None:
    edits = ({"op": "drop_annotations", "ids": np.array([11])}, {"op": "drop_masks", "ids": [12], "why": "mask_empty"})
    path = write_patch(tmp_path / "new folder" / "pätch.json", _patch(records, *edits))
    lines = path.read_text("utf-8").splitlines()
    assert sum('"op"' in line for line in lines) == 2, "one edit a line"
    assert read_patch(path)["train"].edits[1] == edits[1]
    assert apply_patch(records, path, "train").annotation_ids.tolist() == [12, 13, 14, 15, 16]
    assert len(apply_patch(records, path, "val").labels) == 5, "told by the data, whatever the split is called"
    assert write_patch(path, _patch(records)).stat().st_mode & 0o777 == 0o644
    assert apply_patch(records, path, "train") is records
    assert not list(path.parent.glob(".*"))


def test_an_edit_can_be_deleted_by_its_line(records: Records, tmp_path: Path) -> None:
    edits = ({"op": "drop_annotations", "ids": [11]}, {"op": "drop_annotations", "ids": [12]})
    path = write_patch(tmp_path / "patch.json", _patch(records, *edits))
    lines = path.read_text().splitlines()
    del lines[next(n for n, line in enumerate(lines) if "[12]" in line)]
    path.write_text("\n".join(lines))
    assert apply_patch(records, path, "train").annotation_ids.tolist() == [12, 13, 14, 15, 16]


def test_patches_of_other_data(records: Records, tmp_path: Path) -> None:
    path = write_patch(tmp_path / "patch.json", _patch(records, {"op": "drop_annotations", "ids": [11]}))
    other = apply_edits(records, [{"op": "drop_annotations", "ids": [12]}])
    with pytest.raises(VisionTasksError, match=r"patch\.json, split train: the data changed since"):
        apply_patch(other, path, "train")
    with pytest.raises(VisionTasksError, match=r"has no edits for .* \(val\), only for instances_train.json \(train\)"):
        apply_patch(other, path, "val")


def test_fingerprint(records: Records, tmp_path: Path) -> None:
    again = read_coco(_write(tmp_path), cache=tmp_path / "cache")
    assert again.folder is not None
    assert fingerprint(again) == fingerprint(records)
    assert fingerprint(read_coco(_write(tmp_path), None, ["Dog", "cat", "dog"])) == fingerprint(records)
    assert apply_edits(again, [{"op": "order_corners", "ids": [14]}]).usable.sum() == 5, "mapped arrays are copied"
    for edit in (
        {"op": "set_box", "id": 11, "was": [10, 10, 20, 10], "to": [10, 10, 20, 11]},
        {"op": "areas_from_masks", "ids": [12]},
        {"op": "join_images", "ids": [1, 3]},
        {"op": "set_size", "image": 2, "was": [80, 200], "to": [80, 201]},
        {"op": "drop_masks", "ids": [12]},
        {"op": "merge_categories", "names": ["dog"], "into": "cat"},
    ):
        changed = fingerprint(apply_edits(records, [edit])) != fingerprint(records)
        assert changed == (edit["op"] != "areas_from_masks")
