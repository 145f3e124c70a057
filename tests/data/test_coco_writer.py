"""COCO files written from records: judged by the JSON they came from, by pycocotools and by the standard parser."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from vision_tasks.data.formats import coco_writer
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.coco_writer import shortest, write_instances
from vision_tasks.data.formats.interface import Losses
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

FULL: dict[str, Any] = {
    "info": {"year": 2026, "description": "Ünïcode “quotes”"},
    "licenses": [{"id": 4, "name": "CC", "url": "http://x"}],
    "images": [
        {"id": 70, "file_name": "deep/er/b ü.jpg", "width": 60, "height": 40, "license": 4, "date_captured": "2020"},
        {"id": 9, "file_name": "a.jpg", "width": 50, "height": 30, "meta": {"camera": [1, 2.5, None]}},
        {"id": 11, "file_name": "empty.png", "width": 5, "height": 5},
    ],
    "annotations": [
        {"id": 5, "image_id": 9, "category_id": 90, "bbox": [1.1, 2.25, 10.123456789012345, 8], "area": 33.337,
         "iscrowd": 0, "segmentation": [[1.1, 2.25, 11.22, 2.25, 11.22, 10.25], [2, 3, 4, 3, 4, 5.5, 2, 5.5]],
         "keypoints": [1, 2, 2, 0, 0, 0], "num_keypoints": 1},
        {"id": 900100001, "image_id": 70, "category_id": 3, "bbox": [0, 0, 4, 3], "area": 7, "iscrowd": 1,
         "segmentation": {"size": [40, 60], "counts": [0, 3, 37, 3, 2357]}},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [-5.5, 2, 100, -3], "area": 9, "iscrowd": 0,
         "segmentation": [], "attributes": {"occluded": True, "note": "é"}},
    ],
    "categories": [
        {"id": 90, "name": "tooth brush", "supercategory": "indoor", "skeleton": [[1, 2]], "keypoints": ["a", "b"]},
        {"id": 3, "name": "car"},
    ],
    "split": "train",
}  # fmt: skip


def read(folder: Path, content: dict[str, Any]) -> Records:
    path = folder / "source.json"
    path.write_text(json.dumps(content), "utf-8")
    return read_coco(path, folder, extras=True)


def written(records: Records, losses: Losses | None = None) -> dict[str, Any]:
    """What is written, by a parser that refuses NaN."""
    stream = io.BytesIO()
    write_instances(records, stream, Losses() if losses is None else losses)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(stream.getvalue().decode("utf-8"), parse_constant=refuse)


def by_id(entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    assert len({e["id"] for e in entries}) == len(entries)
    return {e["id"]: e for e in entries}


@pytest.mark.parametrize("piece", [1, 2, 4096])
def test_all_is_written_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(coco_writer, "_PIECE", piece)
    out = written(read(tmp_path, FULL))
    assert set(out) == set(FULL)
    assert out["info"] == FULL["info"]
    assert out["licenses"] == FULL["licenses"]
    assert out["split"] == "train"
    assert by_id(out["images"]) == by_id(FULL["images"])
    assert by_id(out["categories"]) == by_id(FULL["categories"])
    want, got = by_id(FULL["annotations"]), by_id(out["annotations"])
    crowd = got.pop(900100001)
    assert crowd | {"segmentation": want[900100001]["segmentation"]} == want.pop(900100001)  # its mask: see below
    assert got == want


def test_run_lengths_have_the_pixels_they_had(tmp_path: Path) -> None:
    entry = by_id(written(read(tmp_path, FULL))["annotations"])[900100001]
    assert isinstance(entry["segmentation"]["counts"], str)
    coco = COCO()
    coco.imgs = {70: {"height": 40, "width": 60}}
    bitmap = coco.annToMask(entry)
    expected = np.zeros((40, 60), np.uint8)
    expected[0:3, 0] = 1  # counts 0, 3, 37, 3: down the first column, then the second
    expected[0:3, 1] = 1
    assert np.array_equal(bitmap, expected)


def test_extras_stay_with_their_entries_when_others_are_left_out(tmp_path: Path) -> None:
    """Images that are listed twice, annotations without image, and an order by image change all places."""
    content = json.loads(json.dumps(FULL))
    content["images"].insert(1, content["images"][0] | {"meta": "of a repetition"})
    content["images"].insert(0, {"id": 1, "width": 3, "height": 3, "note": "no name"})
    for i in range(3):
        content["annotations"].insert(
            i, {"id": 50 + i, "image_id": 4444, "category_id": 3, "bbox": [0, 0, 1, 1], "lost": i}
        )
    content["annotations"].append(7)
    out = written(read(tmp_path, content))
    assert by_id(out["images"]) == by_id(FULL["images"])
    kept = {i: {k for k in e if k not in FULL["annotations"][1]} for i, e in by_id(out["annotations"]).items()}
    assert kept == {5: {"keypoints", "num_keypoints"}, 900100001: set(), 2: {"attributes"}}


def test_without_extras_nothing_is_invented(tmp_path: Path) -> None:
    read(tmp_path, FULL)
    records = read_coco(tmp_path / "source.json", tmp_path)
    assert records.extras is None
    out = written(records)
    assert set(out) == {"images", "annotations", "categories"}
    assert {key for e in out["annotations"] for key in e} == set(FULL["annotations"][1])
    assert all(set(e) == {"id", "name"} for e in out["categories"])


def test_boxes_that_are_no_numbers_make_no_invalid_json(tmp_path: Path) -> None:
    content = json.loads(json.dumps(FULL))
    content["annotations"] += [
        {"id": 61, "image_id": 11, "category_id": 3, "bbox": [0, 0, float("nan"), 1], "area": 1, "iscrowd": 0},
        {"id": 62, "image_id": 11, "category_id": 3, "bbox": [0, 0, float("inf"), 1], "area": float("nan"),
         "iscrowd": 0, "segmentation": [[1, 1, 4, 1, 4, 3]], "score": float("nan")},
    ]  # fmt: skip
    losses = Losses()
    out = by_id(written(read(tmp_path, content), losses)["annotations"])
    assert 61 not in out
    assert out[62]["bbox"] == [1, 1, 3, 2]
    assert out[62]["score"] is None
    assert [line.split(" (")[0] for line in losses.lines()] == [
        "1 × annotations whose box is not four numbers, without outline: left out",
        "1 × boxes that are not four numbers: the box around the outline is written",
    ]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_have_the_digits_that_float32_needs(values: list[float]) -> None:
    numbers = np.array(values, np.float32)
    wide = shortest(numbers)
    assert np.array_equal(wide.astype(np.float32), numbers)
    for number, out in zip(numbers, wide.tolist(), strict=True):
        if 1e-4 <= abs(number) < 1e6:  # beyond, the two write exponents at different places
            assert len(repr(out)) <= len(str(number)), (str(number), repr(out))


def test_decimals_of_annotation_tools_come_back() -> None:
    typed = [0.1, 123.45, 510.66, 423.01, 7.125, 639.99, 0.333, 1999.9]
    assert shortest(np.array(typed, np.float32)).tolist() == typed


@pytest.mark.parametrize("annotations", [[], FULL["annotations"][:1]])
def test_a_data_set_of_little(tmp_path: Path, annotations: list[Any]) -> None:
    records = read(tmp_path, FULL | {"annotations": annotations})
    assert len(written(records)["annotations"]) == len(annotations)
    none = records.subset([])
    out = written(none)
    assert (out["images"], out["annotations"]) == ([], [])
    assert len(out["categories"]) == 2


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    content = json.loads(json.dumps(FULL))
    content["images"][0]["file_name"] = "../../secret.jpg"
    records = read(tmp_path, content)
    for images in ("copy", "none"):
        with pytest.raises(VisionTasksError, match=r"image 70: file_name '\.\./\.\./secret\.jpg' leads out"):
            write_data({"train": records}, tmp_path / "out", "coco", images)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["source.json"], "nothing half written stays"


@pytest.mark.parametrize("name", ["coco_mini", "balloon_coco", "bloodcells_coco"])
def test_real_sets_come_back_whole(real_data: Path, tmp_path: Path, name: str) -> None:
    source = find_data(real_data / name)
    losses = write_data(read_data(real_data / name, extras=True), tmp_path / "out", "coco", "link")
    assert not losses.lines()
    target = find_data(tmp_path / "out")
    assert list(target) == list(source)
    for split in source:
        assert target[split].images == tmp_path / "out/images" / split
        before, after = (_loaded(found[split].annotations) for found in (source, target))
        assert before.dataset.keys() == after.dataset.keys()
        assert before.imgs == after.imgs
        assert before.cats == after.cats
        assert before.anns.keys() == after.anns.keys()
        for number, entry in before.anns.items():
            if isinstance(entry["segmentation"], dict):
                assert np.array_equal(before.annToMask(entry), after.annToMask(after.anns[number]))
                entry["segmentation"] = after.anns[number]["segmentation"]
        assert before.anns == after.anns
        assert all((tmp_path / "out/images" / split / e["file_name"]).is_file() for e in after.imgs.values())


def _loaded(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))
