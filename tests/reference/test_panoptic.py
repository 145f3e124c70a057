"""PanopticMetric against panopticapi's numbers, and on real panoptic files against a slow computation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vision_tasks.structures import Categories, Panoptic

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from panoptic_reference import check, judged, panoptic


def png_ids(path: Path) -> np.ndarray:
    """(H, W) int64 ids of a panoptic PNG: red + 256 green + 65536 blue."""
    blue, green, red = cv2.split(cv2.imread(str(path), cv2.IMREAD_COLOR).astype(np.int64))
    return red + 256 * green + 65536 * blue


def rows_of(ids: np.ndarray, segments: list[dict[str, Any]]) -> np.ndarray:
    rows = np.zeros(ids.shape, dtype=np.int32)
    for row, segment in enumerate(segments):
        rows[ids == segment["id"]] = row + 1
    return rows


def read(folder: Path, annotation: dict[str, Any], known: Categories) -> Panoptic:
    segments = annotation["segments_info"]
    return panoptic(
        rows_of(png_ids(folder / annotation["file_name"]), segments),
        [known.label_of_id[s["category_id"]] for s in segments],
        known,
        [bool(s["iscrowd"]) for s in segments],
    )


def spoilt(truth: Panoptic) -> Panoptic:
    """Two pixels down and three to the left; every fifth segment gone, every seventh of the next category."""
    ids = np.roll(truth.ids.numpy(), (2, -3), axis=(0, 1))
    kept = [i for i in range(len(truth)) if i % 5 != 4 and (ids == i + 1).any()]
    table = np.zeros(len(truth) + 1, dtype=np.int32)
    table[[i + 1 for i in kept]] = np.arange(len(kept)) + 1
    labels = [(int(truth.labels[i]) + (i % 7 == 6)) % len(truth.categories) for i in kept]
    return panoptic(table[ids], labels, truth.categories)


# What panopticapi's evaluation.py (commit fb309bb) computes for its sample data, with `spoilt` of them as predictions,
# and the ids as read here. It publishes no numbers of its own for them.
PANOPTICAPI = {
    "PQ": 0.4757514811744679, "SQ": 0.569536623078932, "RQ": 0.585024154589372,
    "PQ_things": 0.2720834336307895, "SQ_things": 0.37554311654030137, "RQ_things": 0.3639291465378422,
    "PQ_stuff": 0.7812535524899855, "SQ_stuff": 0.860526882886878, "RQ_stuff": 0.9166666666666666,
}  # fmt: skip
PANOPTICAPI_CATEGORIES = {  # sum of IoU, right, wrong, missed
    "person": (11.725800495825592, 17, 3, 9), "bicycle": (0.0, 0, 4, 0), "truck": (0.8403914019890921, 1, 0, 1),
    "horse": (5.061800288370238, 7, 0, 4), "sheep": (0.0, 0, 2, 0), "sports ball": (0.0, 0, 0, 1),
    "gravel": (0.7790479301053319, 1, 0, 0), "tree-merged": (0.9512799647627082, 1, 0, 1),
    "sky-other-merged": (1.65534350727407, 2, 0, 0), "grass-merged": (1.768215766084873, 2, 0, 0),
}  # fmt: skip


def test_equals_panopticapi_on_its_sample_data(real_data):
    folder = real_data / "panoptic_sample"
    content = json.loads((folder / "panoptic_examples.json").read_text())
    known = Categories.of(content["categories"])
    truths = [read(folder / "panoptic_examples", a, known) for a in content["annotations"]]
    perfect = check([(t, t) for t in truths], known)
    assert set(perfect.values()) == {1.0}
    pairs = [(spoilt(t), t) for t in truths]
    numbers = check(pairs, known)
    assert numbers == pytest.approx(PANOPTICAPI, abs=1e-11)
    for row in judged(pairs, known).summary().per_category:
        overlap, *counts = PANOPTICAPI_CATEGORIES.get(row["name"], (0.0, 0, 0, 0))
        assert [row["right"], row["wrong"], row["missed"]] == counts
        expected = overlap / (counts[0] + counts[1] / 2 + counts[2] / 2) if sum(counts) else -1
        assert row["PQ"] == pytest.approx(expected, abs=1e-11)


def test_the_form_of_two_channels_says_the_same(real_data):
    """The sample's other form, category in red and number in green, taken for a prediction, is perfect."""
    folder = real_data / "panoptic_sample"
    content = json.loads((folder / "panoptic_examples.json").read_text())
    known = Categories.of(content["categories"])
    pairs = []
    for annotation in content["annotations"]:
        path = folder / "panoptic_examples_2ch_format" / annotation["file_name"]
        both = cv2.imread(str(path), cv2.IMREAD_COLOR).astype(np.int64)
        values, rows = np.unique(256 * both[..., 2] + both[..., 1], return_inverse=True)
        labels = [known.label_of_id[int(v) // 256] for v in values[1:]]
        truth = read(folder / "panoptic_examples", annotation, known)
        pairs.append((panoptic(rows.reshape(both.shape[:2]), labels, known), truth))
    assert set(check(pairs, known).values()) == {1.0}


def test_photos_of_coco(real_data):
    folder = real_data / "coco128" / "panoptic_segmentation" / "annotations"
    content = json.loads((folder / "panoptic_val2017.json").read_text())
    known = Categories.of(content["categories"])
    truths = [read(folder / "panoptic_val2017", a, known) for a in content["annotations"][:16]]
    assert any(bool(t.is_crowd.any()) for t in truths if t.is_crowd is not None)
    numbers = check([(spoilt(t), t) for t in truths], known)
    assert 0.2 < numbers["PQ"] < 0.8
    assert set(check([(t, t) for t in truths], known).values()) == {1.0}
