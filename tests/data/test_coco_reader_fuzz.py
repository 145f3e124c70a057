"""Any file at all gives Records or a VisionTasksError, never another exception; and good ones give what json gives."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from vision_tasks.data.formats import json_stream
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import run_lengths

SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
RLE = coco_mask.encode(np.asfortranarray(np.eye(20, 30), np.uint8))
GOOD: dict[str, Any] = {
    "info": {"text": 'brackets ]}[{ and "quotes" \\'},
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 30, "height": 20} for i in (5, 2, 9)],
    "annotations": [
        {"id": 1, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4.5], "area": 9, "iscrowd": 0, "segmentation": []},
        {"id": 2, "image_id": 9, "category_id": 0, "bbox": [0, 0, 30, 20], "area": 600, "iscrowd": 0,
         "segmentation": [[0, 0, 30, 0, 30, 20.25], [1, 1, 2, 1, 2, 2, 1, 2]]},
        {"id": 3, "image_id": 2, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 9, "iscrowd": 1,
         "segmentation": {"size": [20, 30], "counts": RLE["counts"].decode()}},
        {"id": 4, "image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4], "area": 9, "iscrowd": 1,
         "segmentation": {"size": [20, 30], "counts": [300, 10, 290]}},
    ],
    "categories": [{"id": 0, "name": "parent"}, {"id": 3, "name": "ü", "color": [1, 2, 3], "isthing": 1}],
}  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 10), st.floats(), st.text(max_size=5),
    st.sampled_from([2**31, 2**62, 2**63, -(2**63), 10**400, 1e308, 3.5e38, 5e9]),
    st.sampled_from(["3", " 7 ", "-1", "1e999", "nan", "../a", "\0", "\udc80"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=7) | st.dictionaries(st.sampled_from(["size", "counts", "id", "x"]), inner, max_size=3)
    ),
    max_leaves=10,
)


def use_all(records: Records) -> None:
    """Whatever was accepted must be usable to the end."""
    for row in range(len(records)):
        target = records.target(row)
        assert target.boxes is not None
        assert np.isfinite(target.boxes.numpy()).all()
        assert bool((target.boxes[:, 2:] > target.boxes[:, :2]).all())
        assert target.area is not None
        records.file_name(row)
        for shape in target.masks.shapes or () if target.masks is not None else ():
            if isinstance(shape, dict):
                assert coco_mask.area(shape) >= 0
            elif shape is not None:
                assert all(
                    p.dtype == np.float32 and p.shape[1] == 2 and len(p) >= 3 and np.isfinite(p).all() for p in shape
                )
    assert int(records.first[-1]) == len(records.labels)
    if len(records.labels):
        assert 0 <= int(records.labels.min()) <= int(records.labels.max()) < len(records.categories)
    assert len(set(records.image_ids.tolist())) == len(records)
    use_pickled = pickle.loads(pickle.dumps(records.subset(np.arange(len(records))[::-1])))
    assert len(use_pickled) == len(records)
    records.problems.summary()


def attempt(file: Path, raw: bytes) -> Records | None:
    file.write_bytes(raw)
    try:
        records = read_coco(file)
    except VisionTasksError as error:
        told = str(error)
    else:
        use_all(records)
        return records
    assert str(file) in told
    return None


def paths(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(p for key, v in inner for p in paths(v, (*above, key)))]


PATHS = [p for p in paths(GOOD) if p]


@SETTINGS
@given(data=st.data(), block=st.sampled_from([7, 200, 1 << 20]))
def test_any_values_anywhere(data: st.DataObject, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    content = copy.deepcopy(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        path = data.draw(st.sampled_from(PATHS))
        try:
            place: Any = content
            for key in path[:-1]:
                place = place[key]
            action = data.draw(st.sampled_from(["set", "delete", "double"]))
            if action == "delete":
                del place[path[-1]]
            elif action == "double" and isinstance(place, list):
                place.append(copy.deepcopy(place[path[-1]]))
            else:
                place[path[-1]] = data.draw(VALUES)
        except (KeyError, IndexError, TypeError):
            continue
    attempt(tmp_path / "a.json", json.dumps(content).encode("utf-8", "replace"))


@SETTINGS
@given(data=st.data(), block=st.sampled_from([7, 200, 1 << 20]))
def test_any_damage_to_the_bytes(
    data: st.DataObject, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    raw = bytearray(json.dumps(GOOD, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(raw)))
        stop = min(len(raw), start + data.draw(st.sampled_from([0, 1, 2, 10, 10_000])))
        raw[start:stop] = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b"NaN", b"-", b"\xff", b"\0", b"null"])
        )
    attempt(tmp_path / "a.json", bytes(raw))


@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_every_truncation_is_an_error(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    raw = json.dumps(GOOD).encode()
    for end in range(0, len(raw), 13):
        assert attempt(tmp_path / "a.json", raw[:end]) is None


@SETTINGS
@given(
    indent=st.sampled_from([None, 0, 2]),
    order=st.permutations(list(GOOD)),
    block=st.integers(1, 400),
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
    ascii_only=st.booleans(),
)
def test_form_makes_no_difference(
    indent: int | None,
    order: list[str],
    block: int,
    name: str,
    ascii_only: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_stream, "BLOCK", block)
    content = {key: copy.deepcopy(GOOD[key]) for key in order}
    content["images"][0]["file_name"] = name
    records = attempt(tmp_path / "a.json", json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode())
    assert records is not None
    assert len(records.problems) == 0
    assert records.file_name(0) == name.replace("\\", "/")
    assert records.annotation_ids.tolist() == [4, 1, 3, 2]
    assert [len(records.segmentation(3) or ()), records.segmentation(1)] == [2, None]
    assert records.segmentation(2) == {"size": [20, 30], "counts": RLE["counts"]}


@SETTINGS
@given(
    mask=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=9),
    zoom=st.sampled_from([1, 300]),
)
def test_run_lengths_are_those_of_pycocotools(mask: list[list[bool]], zoom: int) -> None:
    bitmap = np.kron(np.array(mask, np.uint8), np.ones((zoom, 1), np.uint8))
    flat = np.concatenate([[0], bitmap.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat))
    runs = np.diff(edges, prepend=0)
    if edges[-1] != bitmap.size:
        runs = np.append(runs, bitmap.size - edges[-1])
    found = run_lengths.decompress(coco_mask.encode(np.asfortranarray(bitmap))["counts"])
    assert found.sum() == bitmap.size
    assert found[found > 0].tolist() == runs[runs > 0].tolist()
