"""Mask targets against torchvision: bitmaps resized by nearest neighbour, then RoIAlign."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from vision_tasks.ops import masks as mask_ops
from vision_tasks.ops.mask_targets import mask_targets
from vision_tasks.structures import Masks

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def objects(size: tuple[int, int], n: int, seed: int, rle: bool) -> Masks:
    """Random stars, some in two parts, some leaving the image."""
    r = np.random.default_rng(seed)
    shapes = []
    for _ in range(n):
        polygons = []
        for _ in range(int(r.integers(1, 3))):
            angle = np.sort(r.random(12)) * 2 * np.pi
            radius = r.uniform(0.05, 0.5) * min(size) * r.uniform(0.3, 1, 12)
            centre = r.uniform(0, 1, 2) * size[::-1]
            polygons.append((centre + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]).astype(np.float32))
        shapes.append(mask_ops.from_polygons(polygons, size) if rle else polygons)
    return Masks(size, shapes=shapes)


def proposals(masks: Masks, network: tuple[int, int], n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes around the objects, moved a little and clipped; a few anywhere, at the borders, and less than a pixel."""
    r = np.random.default_rng(seed)
    matched = torch.from_numpy(r.integers(0, len(masks), n))
    tight = mask_ops.boxes(mask_ops.to_rles(masks))[matched].numpy()
    tight *= np.tile([network[1] / masks.size[1], network[0] / masks.size[0]], 2)
    side = np.tile(tight[:, 2:] - tight[:, :2], 2)
    boxes = tight + r.normal(0, 0.15, (n, 4)) * side
    boxes[: n // 8] = r.random((n // 8, 4)) * np.tile(network[::-1], 2)
    boxes[0] = [0, 0, network[1], network[0]]
    boxes[1] = [network[1] - 0.3, network[0] - 0.2, network[1], network[0]]
    boxes[2] = [network[1], network[0], network[1], network[0]]
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    return torch.from_numpy(boxes.clip(0, np.tile(network[::-1], 2)).astype(np.float32)), matched


def torchvisions(masks: Masks, boxes: torch.Tensor, matched: torch.Tensor, network: tuple[int, int], m: int = 28):
    bitmaps = mask_ops.decode(mask_ops.to_rles(masks)).to(torch.uint8)
    resized = F.interpolate(bitmaps[:, None].float(), size=network)[:, 0].byte()
    return project_masks_on_boxes(resized, boxes, matched, m)


@pytest.mark.parametrize("rle", [False, True])
@pytest.mark.parametrize(
    ("size", "network"),
    [
        ((120, 160), (200, 267)),
        ((300, 211), (113, 79)),
        ((90, 90), (90, 90)),
        ((64, 50), (128, 100)),
        ((70, 300), (99, 223)),
    ],
)
def test_targets_equal_torchvision(size, network, rle):
    masks = objects(size, 7, seed=sum(size), rle=rle)
    boxes, matched = proposals(masks, network, 80, seed=network[0])
    scale = (network[1] / size[1], network[0] / size[0])
    targets, valid = mask_targets(masks, boxes, matched, scale)
    assert bool(valid.all())
    expected = torchvisions(masks, boxes, matched, network)
    assert ((expected > 0) & (expected < 1)).float().mean() > 0.01
    torch.testing.assert_close(targets, expected, rtol=0, atol=1e-5)


def test_another_grid_and_an_offset():
    masks = objects((100, 120), 4, seed=3, rle=False)
    boxes, matched = proposals(masks, (150, 180), 30, seed=3)
    targets, _ = mask_targets(masks, boxes + torch.tensor([7.0, 30, 7, 30]), matched, (1.5, 1.5), 14, offset=(7, 30))
    expected = torchvisions(masks, boxes, matched, (150, 180), 14)
    # The offset itself is rounded, and a sample on the edge of two pixels may fall to the other.
    assert ((targets - expected).abs() < 1e-4).float().mean() > 0.999
    assert (targets - expected).abs().max() < 0.05


def test_rows_without_a_mask_are_not_valid():
    square = np.array([[10, 10], [30, 10], [30, 40], [10, 40]], dtype=np.float32)
    nothing = mask_ops.empty((50, 60))
    masks = Masks((50, 60), shapes=[None, [square], [], [square[:2]], nothing])
    boxes = torch.tensor([[10.0, 10, 30, 40]]).repeat(7, 1)
    targets, valid = mask_targets(masks, boxes, torch.tensor([0, 1, 2, 3, 4, -1, 1]), (1.0, 1.0))
    assert valid.tolist() == [False, True, False, False, False, False, True]
    assert (targets[valid] > 0).all()
    assert not targets[~valid].any()


@pytest.mark.parametrize(("n_objects", "n_boxes"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_gives_nothing(n_objects, n_boxes):
    masks = objects((50, 60), n_objects, seed=0, rle=False)
    matched = torch.full((n_boxes,), -1)
    targets, valid = mask_targets(masks, torch.zeros(n_boxes, 4), matched, (1.0, 1.0))
    assert targets.shape == (n_boxes, 28, 28)
    assert valid.tolist() == [False] * n_boxes
