"""A photo of 48 million pixels with thousands of small things on it: tiles find them, in little memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import vision_tasks as vt
from vision_tasks.models.preprocess import Preprocess

_STATUS = Path("/proc/self/status")


def most_memory() -> int:
    """Bytes that this process has held at most since `forget`."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget() -> None:
    """From now on `most_memory` counts anew."""
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("antialias", [False, True])
def test_large_images_are_shrunk_channel_by_channel(
    order: str, antialias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = torch.randint(0, 256, (3, 200, 300), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rule = Preprocess(min_size=60, max_size=100, channel_order=order, antialias=antialias)
    whole = rule([image]).images
    monkeypatch.setattr("vision_tasks.models.preprocess._LARGE", 1000)
    torch.testing.assert_close(rule([image]).images, whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(rule([image.permute(1, 2, 0).contiguous().permute(2, 0, 1)]).images, whole)


@pytest.mark.slow
@pytest.mark.skipif(not _STATUS.exists(), reason="memory is read from Linux's /proc")
def test_a_mosaic_of_photos(real_data: Path) -> None:
    files = sorted((real_data / "coco_mini" / "val2017").glob("*.jpg"))
    photos = [cv2.resize(cv2.imread(str(f))[:, :, ::-1], (400, 300), interpolation=cv2.INTER_AREA) for f in files]
    image = np.concatenate(
        [np.concatenate([photos[(20 * row + i) % len(photos)] for i in range(20)], axis=1) for row in range(20)]
    )
    assert image.shape == (6000, 8000, 3)
    model = vt.create_model("yolox", weights=real_data / "weights" / "yolox_nano.pth")
    # What the photos show when they are looked at one by one, if it is sure and small; each is there five times.
    alone = vt.Predictor(model, device="cpu", threshold=0.6)
    expected = [alone(photo) for photo in photos]
    expected = [p[(p.boxes[:, 2:] - p.boxes[:, :2]).amax(dim=1) < 100] for p in expected]
    whole = vt.Predictor(model, device="cpu", threshold=0.3)(image)
    forget()
    before = most_memory()
    found = vt.Predictor(model, device="cpu", threshold=0.3, tile=416, overlap=0.25, batch_size=4)(image)
    grown = most_memory() - before
    assert grown < 500e6, f"{grown / 1e6:.0f} MB"  # one channel of the image takes 192 MB as float32
    hits = total = seen_whole = 0
    for number in range(400):
        row, column = divmod(number, 20)
        corner = torch.tensor([400.0 * column, 300.0 * row] * 2)
        truth = expected[number % len(photos)]
        total += len(truth)
        hits += _matched(truth.boxes + corner, truth.labels, found)
        seen_whole += _matched(truth.boxes + corner, truth.labels, whole)
    assert total > 200
    assert hits > 0.8 * total
    assert seen_whole < 0.02 * total


def _matched(boxes: torch.Tensor, labels: torch.Tensor, found: vt.Prediction) -> int:
    """How many of these have a box of their label that overlaps them by half."""
    from vision_tasks.ops.boxes import pairwise_iou

    same = labels[:, None] == found.labels
    return int(((pairwise_iou(boxes, found.boxes) > 0.5) & same).any(dim=1).sum())
