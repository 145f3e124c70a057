"""What looks alike from afar: masks or boxes, boxes or sizes of images, a part of a file or all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import doctor_damage
import numpy as np
import pytest
from doctor_sets import Coco, coco, scenes, written
from PIL import Image

from vision_tasks.data.doctor.diagnose import diagnose
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.mending import mend
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records


def read(data: Coco, folder: Path) -> Records:
    return read_coco(written(data, folder / "instances.json"), folder / "images", cache=False)


def first_and_mended(data: Coco, folder: Path) -> tuple[Finding, Records]:
    records = read(data, folder)
    diagnosis = diagnose(records, quick=True)
    return diagnosis.findings[0], mend({"train": records}, diagnosis).records["train"]


def boxes(data: Coco) -> np.ndarray:
    return np.array([a["bbox"] for a in data["annotations"]], float)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (doctor_damage.halved_masks, "read times 2, .*cannot be told"),
        (doctor_damage.doubled_masks, "read times 0.5, .*masks are suspect"),
        (doctor_damage.relative_masks, "from the corner of their box, .*masks are suspect"),
        (doctor_damage.masks_in_shares, "as shares of the image, .*masks are suspect"),
        (doctor_damage.swapped_masks, "x and y exchanged, .*masks are suspect"),
        (doctor_damage.doubled, "read times 2, .*boxes are suspect"),
    ],
)
def test_sound_boxes_are_not_taken_from_wrong_masks(damage: Callable[[Coco], None], words: str, tmp_path: Path) -> None:
    data = scenes()
    damage(data)
    records = read(data, tmp_path)
    diagnosis = diagnose(records, quick=True)
    finding = next(f for f in diagnosis if f.code == "mask_beside_box")
    assert finding.severity == "breaks"
    assert re.search(words, finding.detail), finding.detail
    mended = mend({"train": records}, diagnosis).records["train"]
    assert np.array_equal(mended.boxes, boxes(data))
    assert np.array_equal(mended.shape_starts, records.shape_starts)


def test_masks_or_boxes_in_square_images_are_left_to_people(tmp_path: Path) -> None:
    data = scenes()
    for image in data["images"]:
        image["width"] = image["height"] = 640
    doctor_damage.swapped(data)
    finding, mended = first_and_mended(data, tmp_path)
    assert finding.code == "boxes_swapped"
    assert "cannot be told" in finding.detail
    assert np.array_equal(mended.boxes, boxes(data))


@pytest.mark.parametrize("every", [2, 10])
@pytest.mark.parametrize("masks", [True, False])
def test_a_part_in_corners(every: int, masks: bool, tmp_path: Path) -> None:
    """Of corners without masks those are known that leave their image; with masks all are."""
    data = scenes(images=80, masks=masks)
    before = boxes(data)
    chosen = np.arange(len(before)) % every == 0
    doctor_damage.xyxy({**data, "annotations": data["annotations"][::every]})
    finding, mended = first_and_mended(data, tmp_path)
    if not masks and every == 10:  # a twentieth of the boxes leave by far: too few to say more than that
        assert finding.code in ("boxes_xyxy", "box_beyond")
        return
    assert finding.code == "boxes_xyxy"
    assert finding.severity == ("breaks" if every == 2 else "hurts")
    mended_boxes = mended.boxes
    assert np.allclose(mended_boxes[~chosen], before[~chosen])
    right = np.isclose(mended_boxes, before).all(1)
    assert right[chosen].mean() > (0.95 if masks else 0.4)
    assert not [e for e in finding.edits if e["op"] != "boxes_from"]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("form", ["normalised", "yolo_shares"])
def test_a_part_in_shares(form: str, masks: bool, tmp_path: Path) -> None:
    data = scenes(masks=masks)
    before = boxes(data)
    getattr(doctor_damage, form)({**data, "annotations": data["annotations"][::2]})
    finding, mended = first_and_mended(data, tmp_path)
    assert finding.code == "boxes_normalised"
    assert np.allclose(mended.boxes, before)


def test_boxes_of_larger_images_are_not_clipped(tmp_path: Path) -> None:
    data = scenes(masks=False)
    doctor_damage.doubled(data)
    records = read(data, tmp_path)
    diagnosis = diagnose(records, quick=True)
    assert diagnosis.breaks
    assert np.array_equal(mend({"train": records}, diagnosis).records["train"].boxes, boxes(data))


@pytest.mark.parametrize("damage", ["boxes", "sizes"])
def test_a_few_heads_of_files_tell_what_is_exchanged(damage: str, tmp_path: Path) -> None:
    data = scenes(masks=False)
    (tmp_path / "images").mkdir()
    for image in data["images"]:
        Image.new("L", (image["width"], image["height"])).save(tmp_path / "images" / image["file_name"])
    before = boxes(data)
    if damage == "boxes":
        doctor_damage.swapped(data)
    else:
        for image in data["images"]:
            image["width"], image["height"] = image["height"], image["width"]
    finding, mended = first_and_mended(data, tmp_path)
    assert finding.code == ("boxes_swapped" if damage == "boxes" else "image_mis_sized")
    assert np.array_equal(mended.boxes, before)


def test_boxes_around_whole_objects_stay(tmp_path: Path) -> None:
    """Outlines show the seen part alone: boxes of a third of the objects reach twice as far down."""
    data = scenes()
    for a in data["annotations"][::2]:
        a["bbox"][3] *= 2
    finding, mended = first_and_mended(data, tmp_path)
    records = read(data, tmp_path)
    amodal = [f for f in diagnose(records, quick=True) if f.code == "box_amodal"]
    assert [(f.severity, f.edits) for f in amodal] == [("note", ())]
    assert finding.code != "mask_beside_box"
    inside = np.isclose(mended.boxes, boxes(data)).all(1)
    assert inside.mean() > 0.8, "but those that leave the image are clipped"


def test_so_many_are_no_stray_errors(tmp_path: Path) -> None:
    """A third of the boxes outside: deleting them would hide what is wrong."""
    data = scenes(masks=False)
    for a in data["annotations"][::3]:
        a["bbox"][0] += 5000
    finding, mended = first_and_mended(data, tmp_path)
    assert (finding.code, finding.edits) == ("box_outside", ())
    assert "look first" in finding.detail
    assert len(mended.labels) == len(data["annotations"])


def test_one_placeholder_is_a_note(tmp_path: Path) -> None:
    one = coco([[[0, 0, 640, 480]]], [(480, 640)], masks=False)
    finding = diagnose(read(one, tmp_path), quick=True).findings
    assert [(f.code, f.severity) for f in finding if f.code == "box_whole_image"] == [("box_whole_image", "note")]


@pytest.mark.parametrize("masks", [False, True])
def test_boxes_of_an_unknown_form_are_not_deleted(masks: bool, tmp_path: Path) -> None:
    data = scenes(masks=masks)
    for annotation in data["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y, x + w, y + h, x, y + h]
    found, mended = first_and_mended(data, tmp_path)
    assert (found.code, found.severity) == ("box_unreadable", "breaks")
    assert found.examples[0].detail == "it has no bbox of four numbers"
    assert len(mended.labels) == len(data["annotations"])
    assert [e["op"] for e in found.edits] == ["boxes_from_masks"] * masks
    assert ("look first" in found.detail) is not masks


def test_a_box_is_not_taken_back_from_a_mask_that_leaves_the_image(tmp_path: Path) -> None:
    data = scenes()
    for annotation in data["annotations"][::20]:
        image = next(i for i in data["images"] if i["id"] == annotation["image_id"])
        x, y, w, h = annotation["bbox"]
        off = image["width"] - x - w / 2
        annotation["bbox"] = [x + off, y, w, h]
        points = np.array(annotation["segmentation"]).reshape(-1, 2)
        annotation["segmentation"] = [np.add(points, [off, 0]).ravel().tolist()]
    records = read(data, tmp_path)
    mending = mend({"train": records}, diagnose(records, quick=True))
    assert {e["op"] for e in mending.edits["train"]} == {"clip_boxes"}
    assert mending.left.is_clean


def test_one_category_in_corners(tmp_path: Path) -> None:
    data = scenes(images=100, kinds=4, masks=False)
    for number, annotation in enumerate(data["annotations"]):
        annotation["category_id"] = 1 + (number % 20 > 0)
    meant = boxes(data)
    for annotation in data["annotations"][::20]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]
    found, mended = first_and_mended(data, tmp_path)
    assert (found.code, found.count) == ("boxes_xyxy", 30)
    assert "all 30 of 'cat'" in found.detail
    np.testing.assert_allclose(mended.boxes, meant)
