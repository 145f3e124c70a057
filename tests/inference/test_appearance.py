"""Vectors of what objects look like, of maps painted by hand and of a real street."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vision_tasks.inference.tracking.appearance import embed


def _painted() -> dict[str, Tensor]:
    """Two images of 128 × 128 network pixels: in the first, one look at the top left and the bottom right."""
    generator = torch.Generator().manual_seed(0)
    fine = torch.randn(2, 6, 16, 16, generator=generator) * 0.1
    look, other = torch.tensor([3.0, 0, 0, 1, 0, 0]), torch.tensor([0.0, 2, 0, 0, 0, 2])
    fine[0, :, :5, :5] += look[:, None, None]
    fine[0, :, 11:, 11:] += look[:, None, None]
    fine[0, :, :5, 11:] += other[:, None, None]
    fine[1, :, :5, :5] += other[:, None, None]
    coarse = torch.nn.functional.avg_pool2d(fine, 2).repeat(1, 2, 1, 1)
    return {"C2": torch.zeros(2, 3, 32, 32), "C3": fine, "C4": coarse, "C5": torch.zeros(2, 9, 4, 4), "P3": -fine}


BOXES = torch.tensor([[0.0, 0, 32, 32], [92, 92, 124, 124], [92, 0, 124, 32], [0, 0, 32, 32]])
INDEX = torch.tensor([0, 0, 0, 1])


def test_equal_looks_are_near_and_others_far() -> None:
    made = embed(_painted(), (128, 128), BOXES, INDEX)
    assert made.shape == (4, 18)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.norm(dim=1), torch.ones(4))
    alike = made @ made.T
    assert alike[0, 1] > 0.95
    assert alike[0, 2] < 0.3
    assert alike[1, 2] < 0.3
    assert alike[2, 3] > 0.6  # the same look in the other image, against another background


def test_against_sums_by_hand() -> None:
    """One map, a box over 2 × 2 whole cells far from the others: its mean, in deviations of the picture."""
    cells = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    cells[:, :, 2:6, 2:6] = cells[:, :, 4:5, 4:5]  # even, so that it does not matter where samples fall
    made = embed({"P3": cells}, (64, 64), torch.tensor([[28.0, 28, 36, 36]]), torch.tensor([0]))
    flat = cells[0].flatten(1).numpy()
    expected = (cells[0, :, 4, 4].numpy() - flat.mean(axis=1)) / flat.std(axis=1)
    np.testing.assert_allclose(made[0].numpy(), expected / np.linalg.norm(expected), rtol=1e-4, atol=1e-6)


def test_which_maps() -> None:
    features = _painted()
    both = embed(features, (128, 128), BOXES, INDEX)
    kept = {name: features[name] for name in ("C3", "C4")}
    assert torch.equal(embed(kept, (128, 128), BOXES, INDEX), both)
    neck = embed({"P3": features["P3"]}, (128, 128), BOXES, INDEX)
    torch.testing.assert_close(neck, embed({"C3": -features["C3"]}, (128, 128), BOXES, INDEX))
    assert embed({"C5": torch.randn(2, 9, 4, 4)}, (128, 128), BOXES, INDEX).shape == (4, 9)


def test_no_boxes_and_boxes_that_are_none() -> None:
    assert embed(_painted(), (128, 128), torch.empty(0, 4), torch.empty(0, dtype=torch.int64)).shape == (0, 18)
    boxes = BOXES.clone()
    boxes[1] = float("nan")
    made = embed(_painted(), (128, 128), boxes, INDEX)
    assert made.isfinite().all()
    assert (made[1] == 0).all()
    outside = embed(_painted(), (128, 128), torch.tensor([[-50.0, -50, -10, -10]]), torch.tensor([0]))
    assert outside.isfinite().all()


def test_half_precision_maps() -> None:
    half = {name: values.to(torch.bfloat16) for name, values in _painted().items()}
    made = embed(half, (128, 128), BOXES, INDEX)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, embed(_painted(), (128, 128), BOXES, INDEX), rtol=0, atol=0.03)


def test_people_are_told_apart_in_a_real_street(real_data: Path) -> None:
    """Pedestrians of MOT17-04 in frames 1 and 8, by their true boxes: each is most like itself."""
    import vision_tasks as vt

    model = vt.create_model("yolox", variant="nano", weights=real_data / "weights/yolox_nano.pth").eval()
    folder = real_data / "mot17_mini/train/MOT17-04-FRCNN"
    truth = np.loadtxt(folder / "gt/gt.txt", delimiter=",")
    vectors, people = [], []
    for number in (1, 8):
        picture = cv2.imread(str(folder / f"img1/{number:06d}.jpg"))[:, :, ::-1].copy()
        rows = truth[(truth[:, 0] == number) & (truth[:, 6] == 1) & (truth[:, 8] > 0.3)]
        corners = np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), axis=1)
        with torch.inference_mode():
            batch = model.preprocess([torch.from_numpy(picture).permute(2, 0, 1)])
            features = model.features(batch.images)
            boxes = torch.tensor(corners * np.tile(batch.scales[0], 2), dtype=torch.float32)
            vectors.append(embed(features, batch.images.shape[-2:], boxes, torch.zeros(len(boxes), dtype=torch.int64)))
        people.append(rows[:, 1])
    alike = (vectors[0] @ vectors[1].T).numpy()
    same = people[0][:, None] == people[1][None]
    here = same.any(axis=1)
    assert here.sum() > 20
    assert same[np.arange(len(alike)), alike.argmax(axis=1)][here].mean() > 0.9
    assert alike[same].mean() > 0.9
    assert alike[~same].mean() < 0.6
