"""Each kind of damage is the first finding, with its consequences beneath; sound data have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from doctor_damage import ANYWHERE, WITH_MASKS, unknown_image, xyxy
from doctor_sets import DATA, Coco, balloons, scenes, without_masks, written

from vision_tasks.data.doctor.diagnose import diagnose
from vision_tasks.data.doctor.findings import Diagnosis, Finding
from vision_tasks.data.patch_edits import apply_edits

SETS: dict[str, Callable[[], Coco]] = {
    "scenes": scenes,
    "scenes without masks": lambda: scenes(masks=False, seed=1),
}
if DATA:
    SETS |= {"balloons": balloons, "balloons without masks": lambda: without_masks(balloons())}
# Every damage is done to scenes with masks; all else is slow.
FURTHER = ("scenes without masks", "balloons", "balloons without masks")
CASES = [
    pytest.param(make, *case, id=f"{name}: {what}", marks=[pytest.mark.slow] if name in FURTHER else [])
    for name, make in SETS.items()
    for what, case in (ANYWHERE if "without" in name else ANYWHERE | WITH_MASKS).items()
]
BESIDE = {"category_gaps"}
"""What is there in its own right once a category is added with a high id."""


def examined(data: Coco, folder: Path) -> Diagnosis:
    return diagnose(written(data, folder / "instances.json"), quick=True)


@pytest.mark.parametrize("make", SETS.values(), ids=SETS)
def test_sound_data_have_no_finding(make: Callable[[], Coco], tmp_path: Path) -> None:
    diagnosis = examined(make(), tmp_path)
    assert diagnosis.is_clean, [str(f.examples[0]) for f in diagnosis]


@pytest.mark.parametrize(("make", "code", "damage"), CASES)
def test_damage_is_the_first_finding(
    make: Callable[[], Coco], code: str, damage: Callable[[Coco], None], tmp_path: Path
) -> None:
    data = make()
    damage(data)
    diagnosis = examined(data, tmp_path)
    assert diagnosis.codes()[0] == code
    assert set(diagnosis.codes()[1:]) <= BESIDE
    first = diagnosis.findings[0]
    assert first.count > 0
    assert first.examples
    assert all(e.detail for e in first.examples)
    assert diagnosis.breaks == (first.severity == "breaks")


@pytest.mark.parametrize("name", [n for n, (c, _) in ANYWHERE.items() if c.startswith("boxes_")])
@pytest.mark.parametrize(
    "make", [pytest.param(m, id=n, marks=[pytest.mark.slow] if n in FURTHER else []) for n, m in SETS.items()]
)
def test_forms_are_mended_by_their_edits(make: Callable[[], Coco], name: str, tmp_path: Path) -> None:
    """The edits give the boxes back, also where two forms were combined."""
    data = make()
    if name == "swapped" and not data["annotations"][0]["segmentation"]:
        ANYWHERE[name][1](data)
        first = diagnose(_read(written(data, tmp_path / "instances.json")), quick=True).findings[0]
        assert (first.code, first.edits) == ("boxes_swapped", ()), "or images' sides are: nothing here tells"
        return
    before = [a["bbox"] for a in data["annotations"]]
    ANYWHERE[name][1](data)
    path = written(data, tmp_path / "instances.json")
    diagnosis = diagnose(path, quick=True)
    records = _read(path)
    mended = apply_edits(records, diagnosis.findings[0].edits)
    order = {int(i): box for i, box in zip(mended.annotation_ids, mended.boxes.tolist(), strict=True)}
    assert [order[a["id"]] for a in data["annotations"]] == [pytest.approx(box, abs=1e-6) for box in before]
    assert diagnose(mended, quick=True).is_clean


def test_stray_errors_stand_beside_a_wrong_form(tmp_path: Path) -> None:
    data = scenes()
    xyxy(data)
    for a in data["annotations"][:3]:
        a["bbox"][2] = a["bbox"][0]  # no width, once read as corners
    diagnosis = examined(data, tmp_path)
    assert diagnosis.codes() == ["boxes_xyxy", "box_empty"]
    assert diagnosis.findings[1].count == 3
    beneath = {f.code for f in diagnosis.findings[0].consequences}
    assert beneath == {"box_far_beyond", "box_beyond", "box_amodal"}


def test_the_same_flaw_is_said_once_a_split(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    for split, seed in (("train", 0), ("val", 3)):
        data = scenes(seed=seed)
        xyxy(data)
        written(data, folder / f"instances_{split}.json")
    diagnosis = diagnose(tmp_path, quick=True)
    assert [(f.code, f.split) for f in diagnosis] == [("boxes_xyxy", "train"), ("boxes_xyxy", "val")]


def test_findings_lead_to_their_places(tmp_path: Path) -> None:
    data = scenes()
    moved = data["annotations"][7]
    moved["bbox"] = [5000.0, 10.0, 20.0, 20.0]
    finding = examined(data, tmp_path).findings[0]
    assert (finding.code, finding.count, finding.of) == ("box_outside", 1, len(data["annotations"]))
    example = finding.examples[0]
    image = next(i for i in data["images"] if i["id"] == moved["image_id"])
    assert (example.file, example.image_id) == (image["file_name"], image["id"])
    assert (example.annotation_id, example.split) == (moved["id"], "train")
    assert data["images"][example.row or 0] == image
    assert "[5000, 10, 20, 20]" in example.detail
    assert f"{image['width']} × {image['height']}" in example.detail
    assert finding.edits == ({"op": "boxes_from_masks", "ids": [moved["id"]], "why": "box_outside"},)


def test_what_the_reader_leaves_out_is_a_finding(tmp_path: Path) -> None:
    data = scenes()
    unknown_image(data)
    lost = [a for a in data["annotations"] if a["image_id"] == 999_999]
    finding: Finding = examined(data, tmp_path).findings[0]
    assert finding.count == len(lost)
    assert finding.examples[0].annotation_id == lost[0]["id"]
    assert finding.examples[0].image_id == 999_999


def _read(path: Path):  # type: ignore[no-untyped-def]
    from vision_tasks.data.formats.coco import read_coco

    return read_coco(path, path.parent, cache=False)
