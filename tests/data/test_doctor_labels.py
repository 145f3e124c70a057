"""What the doctor says of categories, within splits and between them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from doctor_sets import Coco, scenes, written

from vision_tasks.data.doctor.diagnose import diagnose
from vision_tasks.data.doctor.findings import Diagnosis, Finding
from vision_tasks.data.doctor.labels import alike
from vision_tasks.data.formats.coco import read_coco


def renamed(data: Coco, **names: str) -> Coco:
    out = copy.deepcopy(data)
    for category in out["categories"]:
        category["name"] = names.get(category["name"], category["name"])
    return out


def between(train: Coco, val: Coco, folder: Path) -> Diagnosis:
    for name, data in (("train", train), ("val", val)):
        written(data, folder / "annotations" / f"instances_{name}.json")
    return diagnose(folder, quick=True)


def told(finding: Finding) -> str:
    return " | ".join(e.detail for e in finding.examples)


@pytest.mark.parametrize(
    ("names", "same"),
    [
        (("Car", "car "), True),
        (("traffic light", "Traffic_Light"), True),
        (("traffic light", "traffic-light"), True),
        (("cars", "car"), True),
        (("café", "cafe\u0301"), True),  # é as one letter, and as e with an accent
        (("car", "cart"), False),
        (("bus", "bu"), False),
        (("glass", "glas"), False),
        (("cat 1", "cat 2"), False),
        (("v1.2", "v12"), False),
        (("grade A", "grade A-"), False),
        (("猫", "犬"), False),
    ],
)
def test_names_that_are_nearly_the_same(names: tuple[str, str], same: bool, tmp_path: Path) -> None:
    data = renamed(scenes(kinds=2), cat=names[0], dog=names[1])
    records = read_coco(written(data, tmp_path / "a.json"), tmp_path, cache=False)
    assert bool(alike({"train": records})) == same


def test_alike_names_become_the_more_frequent_one(tmp_path: Path) -> None:
    data = scenes(kinds=3)
    for a in data["annotations"][::2]:
        a["category_id"] = 1
    data = renamed(data, cat="cat", dog="Cat")
    finding = diagnose(written(data, tmp_path / "a.json"), quick=True).findings[0]
    own = [sum(a["category_id"] == k for a in data["annotations"]) for k in (1, 2)]
    assert (finding.code, finding.count, finding.of) == ("category_alike", 1, 3)
    assert finding.edits == (
        {"op": "merge_categories", "names": ["cat", "Cat"], "into": "cat", "why": "category_alike"},
    )
    assert told(finding) == f"'cat': {own[0]:,} objects, and 'Cat' ({own[1]:,} objects)"


def test_alike_names_of_two_splits_are_one_cause(tmp_path: Path) -> None:
    """Of 'cat' in training and 'Cat' in validation it is not said as well that they conflict and are absent."""
    diagnosis = between(scenes(), renamed(scenes(seed=1), cat="Cat"), tmp_path)
    assert [(f.code, f.split) for f in diagnosis] == [("category_alike", "val")]
    assert diagnosis.findings[0].edits[0]["into"] == "cat"


def test_names_that_only_one_split_has_conflict(tmp_path: Path) -> None:
    diagnosis = between(scenes(), renamed(scenes(seed=1), cat="horse"), tmp_path)
    first = diagnosis.findings[0]
    assert (first.code, first.split, first.severity) == ("category_conflict", "val", "breaks")
    assert "not listed in train, where its id 1 is 'cat'" in told(first)
    assert diagnosis.breaks


def test_other_ids_for_the_same_names_are_a_note(tmp_path: Path) -> None:
    val = scenes(seed=1)
    for entry in val["categories"]:
        entry["id"] = 4 - entry["id"]
    for a in val["annotations"]:
        a["category_id"] = 4 - a["category_id"]
    diagnosis = between(scenes(), val, tmp_path)
    assert [(f.code, f.severity, f.count) for f in diagnosis] == [("category_renumbered", "note", 2)]


def test_a_category_without_objects_in_one_split_is_absent(tmp_path: Path) -> None:
    val = scenes(seed=1)
    val["annotations"] = [a for a in val["annotations"] if a["category_id"] != 2]
    diagnosis = between(scenes(), val, tmp_path)
    absent = next(f for f in diagnosis if f.code == "category_absent")
    count = sum(a["category_id"] == 2 for a in scenes()["annotations"])
    assert (absent.split, absent.count, told(absent)) == ("val", 1, f"'dog': {count} objects in train, none in val")


def test_a_split_that_nobody_annotated_lacks_nothing(tmp_path: Path) -> None:
    val = scenes(seed=1)
    val["annotations"] = []
    assert {f.code for f in between(scenes(), val, tmp_path)} == {"split_empty"}


def test_frequencies(tmp_path: Path) -> None:
    """Of 1,100 objects 10 are few beside the others, and 9 are too few."""
    data = scenes(images=200, kinds=4)
    assert len(data["annotations"]) > 1100
    for i, a in enumerate(data["annotations"]):
        a["category_id"] = 2 if i < 10 else 3 if i < 19 else 1
    diagnosis = diagnose(written(data, tmp_path / "a.json"), quick=True)
    found = {f.code: told(f) for f in diagnosis}
    assert set(found) == {"category_rare", "category_imbalance", "category_unused"}
    assert found["category_rare"] == "'bird': 9 objects"
    assert found["category_imbalance"].startswith("'dog': 10 objects, 'cat' has 1,")
    assert found["category_unused"] == "'tree': no annotation in any split"


def test_statistics_add_up(tmp_path: Path) -> None:
    data = scenes()
    own = diagnose(written(data, tmp_path / "a.json"), quick=True).statistics["train"]
    assert (own["images"], own["annotations"], own["masks"]) == (40, len(data["annotations"]), len(data["annotations"]))
    assert own["small"] + own["medium"] + own["large"] == len(data["annotations"])
    assert own["small"] == sum(a["area"] < 32**2 for a in data["annotations"])
    for category in own["categories"]:
        mine = [a for a in data["annotations"] if a["category_id"] == category["id"]]
        assert category["objects"] == len(mine)
        assert category["images"] == len({a["image_id"] for a in mine})
    for name, histogram in own["histograms"].items():
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1
        assert sum(histogram["counts"]) == (40 if name.startswith(("image", "objects_per")) else own["annotations"])
