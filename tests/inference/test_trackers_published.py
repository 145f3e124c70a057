"""The same tracks as the published programs make of the same detections.

The figures below were made once by other programs, never by ours. SORT: a plain loop after its authors' `sort.py`
around filterpy's Kalman filter. ByteTrack: the package `bytetracker` 0.3.2, a copy of the authors' code, with three
slips mended (corners taken for centres, low scores cut short, what was given up stays in the list of what is lost
for one more picture). OC-SORT: Roboflow's `trackers` 2.6.1, from the fifth picture on, as it treats the first ones in
another way. docs/tracking.md says what differs where anything does.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.inference.tracked_scenes import CATEGORIES, crowd
from vision_tasks.inference.tracking.registry import create_tracker
from vision_tasks.structures import Prediction

Summary = tuple[int, int, str]
"""Rows; identities; a digest of when each begins and ends, how often it is seen, and two of its coordinates."""


def _summary(name: str, scene: list[np.ndarray]) -> Summary:
    tracker = create_tracker(name, **({"threshold": 0} if name == "sort" else {}))
    rows: dict[int, list[tuple[int, float, float]]] = {}
    for number, found in enumerate(scene, 1):
        corners, scores = torch.from_numpy(found[:, :4]), torch.from_numpy(found[:, 4])
        out = tracker.update(Prediction((1080, 1920), CATEGORIES, boxes=corners, scores=scores))
        assert out.track_ids is not None
        assert out.boxes is not None
        if name == "ocsort" and number <= 4:
            continue
        for track, (x1, y1, _, _) in zip(out.track_ids.tolist(), out.boxes.tolist(), strict=True):
            rows.setdefault(track, []).append((number, x1, y1))
    lines = sorted((own[0][0], own[-1][0], len(own), round(own[0][1]), round(own[-1][2])) for own in rows.values())
    return sum(map(len, rows.values())), len(rows), hashlib.sha256(repr(lines).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "seed", "published"),
    [
        ("sort", 0, (1050, 43, "22a44d56b8e67a70")),
        ("sort", 2, (1119, 40, "9de991910be80e3a")),
        ("bytetrack", 0, (911, 24, "b830fdc3043b305a")),
        ("bytetrack", 2, (952, 26, "b885385b4265ca25")),
        ("ocsort", 0, (1017, 26, "14a4d56cb1c82fe4")),
        ("ocsort", 2, (1081, 27, "0350f5a0d27e11da")),
    ],
)
def test_of_a_crowd(name: str, seed: int, published: Summary) -> None:
    scene = crowd(seed)
    if name == "ocsort":  # which takes no low scores
        for found in scene:
            found[:, 4] = 0.6 + 0.4 * found[:, 4]
    assert _summary(name, scene) == published


@pytest.mark.parametrize(
    ("name", "published"),
    [
        pytest.param("sort", (27911, 150, "50fb5966eb9d25aa"), marks=pytest.mark.slow),
        ("bytetrack", (27840, 101, "b99d830f2bdda83e")),
        pytest.param("ocsort", (27314, 103, "a43d48e0023a0909"), marks=pytest.mark.slow),
    ],
)
def test_of_all_frames_of_mot17_04(name: str, published: Summary, real_data: Path) -> None:
    rows = np.loadtxt(real_data / "mot17_mini/train/MOT17-04-FRCNN/det/det.txt", delimiter=",")
    rows[:, 4:6] += rows[:, 2:4]
    order = np.argsort(rows[:, 0], kind="stable")
    parts = np.split(rows[order, 2:7], np.searchsorted(rows[order, 0], np.arange(2, 1051)))
    assert len(parts) == 1050
    assert _summary(name, parts) == published
