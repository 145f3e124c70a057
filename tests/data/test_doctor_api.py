"""`vision_tasks.data.diagnose`: what it takes, what it tells while it works, and that no data make it stumble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doctor_damage import ANYWHERE, WITH_MASKS
from doctor_sets import DATA, balloons, coco, scenes, without_masks, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vision_tasks as vt
from vision_tasks.data.doctor.boxes import check_duplicated
from vision_tasks.data.doctor.conventions import check_conventions
from vision_tasks.data.doctor.kinds import KINDS
from vision_tasks.data.doctor.objects import Objects
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError


def read(data: dict[str, Any], folder: Path) -> Records:
    return read_coco(written(data, folder / "a.json"), folder, cache=False)


def test_files_records_and_splits_are_taken_alike(tmp_path: Path) -> None:
    data = scenes()
    data["annotations"][0]["bbox"][2] = 0
    records = read(data, tmp_path)
    of_file = vt.data.diagnose(tmp_path / "a.json", quick=True)
    of_records = vt.data.diagnose(records, quick=True)
    of_splits = vt.data.diagnose({"train": records, "val": records}, quick=True)
    assert of_file.codes() == of_records.codes() == ["box_empty"]
    assert [f.split for f in of_splits] == ["train", "val"]
    assert of_file.looked_at == [f"{len(data['annotations']):,} annotations"]
    assert set(of_splits.statistics) == {"train", "val"}
    assert repr(of_splits) == "Diagnosis(train:box_empty×1, val:box_empty×1)"
    first = of_splits.findings[0]
    said = f"{first.severity}: train: 1 of {len(data['annotations'])} boxes has no area [box_empty]"
    assert str(of_splits).splitlines()[0] == said
    assert "to do: " in str(of_splits)


def test_missing_images_are_a_finding_and_no_error(tmp_path: Path) -> None:
    diagnosis = vt.data.diagnose(written(scenes(images=4), tmp_path / "data" / "annotations" / "a.json"))
    assert diagnosis.codes()[0] == "image_missing"
    assert diagnosis.breaks
    assert diagnosis.looked_at[1] == "4 images"


def test_images_of_another_folder(tmp_path: Path) -> None:
    import cv2

    data = scenes(images=3)
    for image in data["images"]:
        pixels = np.random.default_rng(image["id"]).integers(0, 255, (image["height"], image["width"], 3), np.uint8)
        (tmp_path / "elsewhere" / "deep").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "elsewhere" / "deep" / image["file_name"]), pixels)
    path = written(data, tmp_path / "mine" / "data" / "annotations" / "a.json")
    assert "image_missing" in vt.data.diagnose(path).codes()
    assert "image_missing" not in vt.data.diagnose(path, tmp_path / "elsewhere" / "deep").codes()


@pytest.mark.skipif(not DATA, reason="VISION_TASKS_DATA is not set")
@pytest.mark.parametrize("masks", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_wrong_sizes_explain_boxes_that_lie_elsewhere(masks: bool, tmp_path: Path) -> None:
    """With height and width exchanged, boxes leave their images just as if x and y were: the files tell which it is."""
    data = balloons() if masks else without_masks(balloons())
    for image in data["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    path = written(data, tmp_path / "a.json")
    assert vt.data.diagnose(path, quick=True).codes()[0] == ("image_mis_sized" if masks else "boxes_swapped")
    assert not vt.data.diagnose(path, quick=True).findings[0].edits, "the files alone know"
    heads = vt.data.diagnose(path, Path(DATA or "") / "balloon_coco" / "train2017", quick=True)
    assert heads.codes()[0] == "image_mis_sized"
    diagnosis = vt.data.diagnose(path, Path(DATA or "") / "balloon_coco" / "train2017")
    assert diagnosis.codes() == ["image_mis_sized"]
    assert diagnosis.findings[0].consequences


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    vt.data.diagnose(
        written(scenes(), tmp_path / "a.json"), quick=True, progress=lambda *step: told.append(step)
    )  # fmt: skip
    assert ("checking annotations", 1, 1) in told


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="no such file or folder"):
        vt.data.diagnose(tmp_path / "nothing")


def test_names_are_found_and_others_are_not() -> None:
    assert {"diagnose", "read_data", "write_data"} <= set(dir(vt.data))
    with pytest.raises(AttributeError, match="no attribute 'diagnosis'"):
        _ = vt.data.diagnosis  # type: ignore[attr-defined]


def test_duplicates_in_a_row_repeat_the_first(tmp_path: Path) -> None:
    """Boxes a, a, b, a: b lies a pixel away, and a larger one on top of a is another object."""
    a, b = [100.0, 100, 50, 60], [101.0, 100, 50, 60]
    data = coco([[a, a, b, a, [100.0, 100, 50, 90]], [a]], [(480, 640)] * 2, masks=False)
    finding = check_duplicated(Objects.of(read(data, tmp_path), "train"))[0]
    assert finding.count == 2
    assert finding.edits[0]["ids"] == [2, 4]
    assert all("as annotation 1 at" in e.detail for e in finding.examples)


def test_masks_prove_what_boxes_alone_do_not_show(tmp_path: Path) -> None:
    """In square images no box with x and y swapped leaves its image; their masks tell."""
    data = scenes(images=30)
    for image in data["images"]:
        image["width"] = image["height"] = 640
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [y, x, h, w]
    findings, meant = check_conventions(Objects.of(read(data, tmp_path), "train"))
    assert [f.code for f in findings] == ["boxes_swapped"]
    assert "100% of" in findings[0].detail
    assert meant.boxes[0].tolist() == [data["annotations"][0]["bbox"][k] for k in (1, 0, 3, 2)]


def test_every_kind_is_told_in_full() -> None:
    for code, kind in KINDS.items():
        assert kind.title, code
        assert kind.remedy, code
        assert kind.severity in ("breaks", "hurts", "note")


numbers = st.sampled_from([0, -1, 1e-9, 3.5, 400, 1e8, 1e300, -1e308, 2**53])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damages=st.lists(st.sampled_from(sorted({**ANYWHERE, **WITH_MASKS})), max_size=3, unique=True),
    boxes=st.lists(st.lists(numbers, min_size=4, max_size=4), max_size=6),
    seed=st.integers(0, 5),
)
def test_nothing_makes_it_stumble(tmp_path: Path, damages: list[str], boxes: list[list[float]], seed: int) -> None:
    """Several flaws at once and boxes of any numbers: findings that can be told, and no warning of numpy."""
    data = scenes(images=6, seed=seed)
    for annotation, box in zip(data["annotations"], boxes, strict=False):
        annotation["bbox"] = list(box)
    for name in damages:
        try:
            {**ANYWHERE, **WITH_MASKS}[name][1](data)
        except (TypeError, IndexError, KeyError):  # one damage may leave nothing for the next
            return
    try:
        diagnosis = vt.data.diagnose(written(data, tmp_path / "a.json"), quick=True)
    except VisionTasksError:
        return
    for finding in diagnosis:
        assert finding.count > 0
        assert all(isinstance(str(e), str) for e in finding.examples)
