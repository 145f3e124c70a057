"""Darknet networks against OpenCV's own reader of `.cfg` and `.weights`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import vision_tasks as vt
from tests.small_darknet import CFGS, CLASSES, picture, write_darknet
from vision_tasks.models.vision_model import VisionModel

OPENCV_EPS = 1e-6  # what OpenCV adds to the variance; AlexeyAB's Darknet adds 1e-5


def decoded(model: VisionModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """Per yolo layer: (cells × anchors, 5 + K) centre and sides relative to the canvas, objectness, class scores."""
    head = model.heads["objects"]
    height, width = images.shape[-2:]
    with torch.inference_mode():
        out = head.outputs(model.features(torch.from_numpy(images)), (height, width))
        boxes = head.decode(out.boxes, out.references)[0]
        scores = head.scores(out.logits, out.quality)[0]
    sides = boxes[:, 2:] - boxes[:, :2]
    relative = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, sides), 1) / torch.tensor([width, height] * 2)
    rows: Tensor = torch.cat((relative, out.quality[0].sigmoid(), scores), 1)
    return {level: part.numpy() for level, part in zip(head.levels, rows.split(out.lengths), strict=True)}


def load_small(folder: Path, name: str) -> tuple[VisionModel, np.ndarray, Path, Path]:
    cfg, weights = write_darknet(folder, name)
    model = vt.create_model("darknet", ["a", "b", "c"], weights=weights, norm_eps=OPENCV_EPS)
    assert model.preprocess.size is not None
    return model, picture(*model.preprocess.size), cfg, weights


# Centre x of every 7th prediction, width of every 5th, objectness of every 3rd and the score of the first class of all,
# summed, for each yolo layer. From OpenCV 4.14.0: cv2.dnn.readNetFromDarknet, the output of each yolo layer on
# `picture`, where a score that is not above 0.2 is 0.
OPENCV_SUMS = {
    "v3": {
        "yolo10": (3.385269, 64.190135, 7.107938, 7.233687),
        "yolo17": (14.164875, 11.311046, 54.457877, 29.758225),
    },
    "v3-tiny": {
        "yolo13": (5.428479, 6.594490, 8.581222, 0.691640),
        "yolo19": (20.913730, 20.087213, 47.037602, 95.506378),
    },
    "v4": {
        "yolo23": (21.018450, 12.928005, 55.950224, 99.876027),
        "yolo28": (4.823967, 18.127203, 19.516345, 18.328746),
    },
    "csp": {
        "yolo10": (3.778580, 4.448970, 7.249632, 11.473090),
    },
}


@pytest.mark.parametrize("name", CFGS)
def test_equals_what_opencv_said(name: str, tmp_path: Path) -> None:
    model, images, _, _ = load_small(tmp_path, name)
    found = decoded(model, images)
    assert found.keys() == OPENCV_SUMS[name].keys()
    for level, rows in found.items():
        assert fingerprint(rows) == pytest.approx(OPENCV_SUMS[name][level], abs=2e-3, rel=2e-5), level


def fingerprint(rows: np.ndarray) -> tuple[float, ...]:
    scores = np.where(rows[:, 5] > 0.2, rows[:, 5], 0)
    return tuple(float(part.astype(np.float64).sum()) for part in (rows[::7, 0], rows[::5, 2], rows[::3, 4], scores))


def opencv_network(cfg: Path, weights: Path) -> cv2.dnn.Net:
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        pytest.skip(f"OpenCV {cv2.__version__} has no Darknet reader; 4.x has one")
    return cv2.dnn.readNetFromDarknet(str(cfg), str(weights))


def assert_equals_opencv(model: VisionModel, images: np.ndarray, network: cv2.dnn.Net) -> dict[str, np.ndarray]:
    """Decoded boxes, objectness and scores of all yolo layers, to 1e-4."""
    network.setInput(images)
    names = network.getUnconnectedOutLayersNames()
    expected = {name.replace("_", ""): rows for name, rows in zip(names, network.forward(names), strict=True)}
    found = decoded(model, images)
    assert found.keys() == expected.keys()
    for level, rows in expected.items():
        np.testing.assert_allclose(found[level][:, :5], rows[:, :5], rtol=1e-4, atol=1e-4, err_msg=level)
        # OpenCV blanks what is not above 0.2.
        kept = rows[:, 5:] > 0
        np.testing.assert_allclose(found[level][:, 5:][kept], rows[:, 5:][kept], atol=1e-4, err_msg=level)
        assert found[level][:, 5:][~kept].max(initial=0) < 0.2001
    return expected


@pytest.mark.parametrize("name", CFGS)
def test_equals_opencv(name: str, tmp_path: Path) -> None:
    model, images, cfg, weights = load_small(tmp_path, name)
    expected = assert_equals_opencv(model, images, opencv_network(cfg, weights))
    for level, rows in expected.items():
        assert rows.shape[1] == 5 + CLASSES
        assert (rows[:, 5:] > 0).sum() >= 5, "the comparison needs lively scores"
        # The constants above were made by this line.
        assert fingerprint(rows) == pytest.approx(OPENCV_SUMS[name][level], abs=1e-4, rel=1e-6)
