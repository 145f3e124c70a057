"""Halves of letters ("\\ud800"), which JSON and YAML can say and UTF-8 cannot: they become U+FFFD, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vision_tasks.categories import Categories, valid_text
from vision_tasks.data.formats.registry import find_data, read_data, read_found
from vision_tasks.data.operations.merge import merge
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.patch import SplitPatch, apply_patch, fingerprint, read_patch, write_patch

HALF = "x\ud800y"
WHOLE = "x\ufffdy"


def halves(root: Path) -> Path:
    """A set of two images, of which one is there, with half a letter wherever text may stand."""
    Image.new("RGB", (20, 10)).save(root / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 20, "height": 10, "license": HALF, HALF: [HALF, {HALF: HALF}]}
    item = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 1, 5, 5],
        "area": 25,
        "iscrowd": 0,
        "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]],
        "pose": HALF,
        "attributes": {HALF: HALF},
        HALF: HALF,
    }
    content = {
        "images": [image, {**image, "id": 2, "file_name": f"{HALF}.png"}],
        "annotations": [item],
        "categories": [{"id": 1, "name": HALF, "supercategory": HALF}],
        "info": {HALF: HALF},
    }
    (root / "train.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("form", ["coco", "lvis", "coco_panoptic", "voc", "yolo", "labelme", "masks"])
def test_they_can_be_written(tmp_path: Path, form: str) -> None:
    given = read_data(halves(tmp_path), extras=True)
    write_data(given, tmp_path / "out", form, "copy")
    again = read_data(tmp_path / "out", extras=True)["train"]
    found = again.categories if again.semantic is None else again.semantic.categories
    assert WHOLE in found.names


def test_pairs_of_halves_are_a_letter() -> None:
    assert valid_text("\ud83d\ude00 \ud83d") == "\N{GRINNING FACE} \ufffd"
    assert Categories.of([HALF]).names == (WHOLE,)


def test_names_still_meet(tmp_path: Path) -> None:
    found = find_data(halves(tmp_path))["train"]
    assert read_found(found, Categories.of([HALF])).labels.tolist() == [0]
    merged, _ = merge([{"train": read_found(found)}] * 2, {HALF: "z\udfff"})
    assert merged["train"].categories.names == ("z\ufffd",)


def test_a_patch_names_them(tmp_path: Path) -> None:
    records = read_data(halves(tmp_path))["train"]
    edit = {"op": "merge_categories", "names": [WHOLE], "into": HALF, "why": "x"}
    part = SplitPatch(HALF, fingerprint(records), (edit,))
    read = read_patch(write_patch(tmp_path / "patch.json", {"train": part}))
    assert read["train"].fingerprint == part.fingerprint
    assert apply_patch(records, {"train": part}, "train").categories.names == (WHOLE,)
