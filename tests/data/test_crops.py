"""SSD's crop, held to its rules with the windows found in the pixels."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from test_transforms import SIZE, check_hugs, painted

from vision_tasks.data import crops
from vision_tasks.data.crops import IoUCrop
from vision_tasks.data.dataset import Sample
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import Transforms
from vision_tasks.structures import Target


def overlap(box: np.ndarray, window: np.ndarray) -> float:
    """Intersection over union, written out."""
    w = min(box[2], window[2]) - max(box[0], window[0])
    h = min(box[3], window[3]) - max(box[1], window[1])
    both = max(w, 0) * max(h, 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, window)]
    return both / (sum(areas) - both)


def test_crops_obey_the_rules():
    """Every pixel holds its own place, so the crop itself says which window it is."""
    rows, columns = np.indices((200, 240))
    image = np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8)
    boxes = np.array([[10, 10, 60, 80], [100, 90, 230, 190], [150, 5, 170, 25]], dtype=np.float32)
    target = Target(1, (200, 240), torch.from_numpy(boxes), torch.arange(3))
    whole, best, sizes = 0, [], []
    for seed in range(400):
        crop, moved = IoUCrop()(image, target, np.random.default_rng(seed))
        if crop.shape == image.shape:
            whole += 1
            continue
        y1, x1, _ = crop[0, 0].astype(int)
        y2, x2, _ = crop[-1, -1].astype(int) + 1
        assert moved.size == crop.shape[:2] == (y2 - y1, x2 - x1)
        sizes.append(((x2 - x1) / 240, (y2 - y1) / 200))
        assert 0.5 <= (x2 - x1) / (y2 - y1) <= 2
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((middles > [x1, y1]) & (middles < [x2, y2])).all(1)
        assert moved.labels.tolist() == np.flatnonzero(inside).tolist() != []
        expected = boxes[inside].clip([x1, y1, x1, y1], [x2, y2, x2, y2]) - [x1, y1, x1, y1]
        np.testing.assert_allclose(moved.boxes.numpy(), expected, atol=1e-4)
        best.append(max(overlap(b, np.array([x1, y1, x2, y2])) for b in boxes[inside]))
    assert 30 < whole < 150  # one in seven, and where the larger overlaps cannot be found
    assert min(np.min(sizes, axis=0)) >= 0.29
    assert min(best) < 0.2


def test_some_object_has_the_overlap_asked_for(monkeypatch):
    sample = painted("box")
    for least in (0.1, 0.3, 0.5):
        monkeypatch.setattr(crops, "_OVERLAPS", (least,))
        best = []
        for seed in range(60):
            crop, moved = IoUCrop()(sample.image, sample.target, np.random.default_rng(seed))
            window = np.array([0, 0, crop.shape[1], crop.shape[0]])
            full = dict(zip(sample.target.labels.tolist(), sample.target.boxes.numpy(), strict=True))
            if crop.shape != sample.image.shape:
                # The box as it was, seen from the crop: what is cut off still counts in its area.
                ious = []
                for label, box in zip(moved.labels.tolist(), moved.boxes.numpy(), strict=True):
                    seen = (box[2] - box[0]) * (box[3] - box[1])
                    area = np.prod(full[label][2:] - full[label][:2])
                    ious.append(seen / (window[2] * window[3] + area - seen))
                best.append(max(ious))
        assert len(best) > 3
        assert min(best) >= least - 1e-5


def test_crops_keep_labels_on_the_paint():
    for form in ("polygon", "rle"):
        for seed in range(30):
            sample = painted(form, seed=seed)
            after = Transforms(["IoUCrop"])(sample, np.random.default_rng(seed))
            # Objects cut off at their middle leave the truth, but not the picture.
            gone = [label - 4 for label in (4, 5, 6) if label not in after.target.labels.tolist()]
            after.image[..., gone] = 0
            after.target.semantic = torch.from_numpy((after.image > 0).any(-1).astype(np.int16))
            check_hugs(after)


def test_images_without_objects_stay_whole():
    image = np.zeros((*SIZE, 3), np.uint8)
    for boxes in (None, torch.zeros(0, 4)):
        sample = Sample(image, Target(1, SIZE, boxes), Request(0))
        for seed in range(10):
            assert Transforms(["IoUCrop"])(sample, np.random.default_rng(seed)).image.shape == image.shape


def test_probability_is_the_share():
    sample = painted("polygon")
    untouched = dataclasses.replace(sample)
    cropped = [
        Transforms([{"IoUCrop": {"p": 0.5}}])(untouched, np.random.default_rng(i)).image.shape[:2] != SIZE
        for i in range(100)
    ]
    assert 20 < sum(cropped) < 60
