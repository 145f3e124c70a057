"""Predictions in other programs' words. What is not installed is stood in for by what it was seen to take."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

import vision_tasks as vt
from tests.inference.small_results import CATEGORIES, SIZE, found
from vision_tasks.structures import Prediction


def test_coco_rows() -> None:
    prediction = found(1, 3, masks=True, tracks=True)
    rows = vt.to_coco(prediction, 42)
    json.dumps(rows)
    assert [row["image_id"] for row in rows] == [42] * 3
    assert [row["category_id"] for row in rows] == [CATEGORIES.ids[label] for label in prediction.labels]
    assert [row["track_id"] for row in rows] == [5, 6, 7]
    for i, row in enumerate(rows):
        x, y, w, h = row["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(prediction.boxes[i].tolist(), abs=1e-5)
        inside = coco_mask.decode(row["segmentation"])
        assert inside.shape == SIZE
        assert inside[int(y) + 1 : int(y + h), int(x) + 1 : int(x + w)].all()
        assert inside.sum() <= (w + 4) * (h + 4)


def test_labelme_of_boxes_and_masks() -> None:
    content = vt.to_labelme(found(1, 2), "a.jpg")
    assert json.loads(json.dumps(content)) == content
    assert content["imagePath"] == "a.jpg"
    assert [shape["shape_type"] for shape in content["shapes"]] == ["rectangle"] * 2
    assert [shape["group_id"] for shape in content["shapes"]] == [None] * 2
    content = vt.to_labelme(found(1, 2, masks=True, tracks=True), "a.jpg")
    assert [shape["shape_type"] for shape in content["shapes"]] == ["polygon"] * 2
    assert [shape["group_id"] for shape in content["shapes"]] == [5, 6]
    assert content["shapes"][0]["description"] == f"score {found(1, 2).scores[0]:.3f}"
    assert content["shapes"][0]["label"] == CATEGORIES.names[found(1, 2).labels[0]]


def test_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = found(1, 2, masks=True, tracks=True)
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    table = vt.to_pandas(prediction)
    assert list(table) == ["category", "category_id", "score", "x1", "y1", "x2", "y2", "area", "track_id"]
    assert {len(column) for column in table.values()} == {2}
    assert np.stack([table[key] for key in ("x1", "y1", "x2", "y2")], 1).tolist() == prediction.boxes.tolist()
    assert table["category"] == [CATEGORIES.names[label] for label in prediction.labels]
    assert "track_id" not in vt.to_pandas(found(1, 0))


def test_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    prediction = found(1, 3, masks=True, tracks=True)
    told = vt.to_supervision(prediction)
    assert told.xyxy.tolist() == prediction.boxes.tolist()
    assert (told.mask.dtype, told.mask.shape) == (np.dtype(bool), (3, *SIZE))
    assert (told.class_id.dtype, told.tracker_id.tolist()) == (np.dtype(np.int64), [5, 6, 7])
    assert told.data["class_name"].tolist() == [CATEGORIES.names[label] for label in prediction.labels]
    plain = vt.to_supervision(found(1, 0))
    assert (plain.mask, plain.tracker_id, plain.xyxy.shape) == (None, None, (0, 4))
    assert plain.data["class_name"].shape == (0,)


@pytest.mark.parametrize("name", ["pandas", "supervision"])
def test_what_is_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(vt.VisionTasksError, match=f"{name} is not installed.*pip install {name}"):
        getattr(vt, f"to_{name}")(found(1))


def test_what_a_program_needs_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, line, said in (
        ("pandas", "import no_such_module_here", "installed, but not the module no_such_module_here.*pip install"),
        ("supervision", "from json import no_such_name", "installed, but cannot be loaded.*--force-reinstall superv"),
    ):
        (tmp_path / f"{module}.py").write_text(line)
        monkeypatch.delitem(sys.modules, module, raising=False)
        with pytest.raises(vt.VisionTasksError, match=f"{module} is {said}"):
            getattr(vt, f"to_{module}")(found(1))


@pytest.mark.parametrize("name", ["coco", "labelme", "pandas", "supervision"])
def test_maps_are_no_objects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pandas", "supervision"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace())
    only_map = Prediction((2, 2), CATEGORIES, semantic=torch.zeros(2, 2, dtype=torch.int16))
    arguments = {"coco": (1,), "labelme": ("a.jpg",)}.get(name, ())
    with pytest.raises(vt.VisionTasksError, match="no objects: its model draws maps"):
        getattr(vt, f"to_{name}")(only_map, *arguments)


def test_the_real_programs() -> None:
    """Where they are installed."""
    supervision = pytest.importorskip("supervision")
    told = vt.to_supervision(found(1, 3, masks=True))
    assert isinstance(told, supervision.Detections)
    assert len(told[told.confidence > 2]) == 0
    assert told.area.sum() == told.mask.sum()
