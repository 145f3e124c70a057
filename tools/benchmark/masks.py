"""Masks beside torchvision and pycocotools: grids to run lengths at inference, polygons to targets in training.

    python tools/benchmark/masks.py [--threads 1] [--masks 100] [--rounds 5]

Inference: 28×28 grids to RLE; the peer pastes full canvases (`paste_masks_in_image`), thresholds and encodes them.
Times alternate in one process; peak memory is what a process of its own grows by. Training: targets of a mask head;
the peer rasterises full bitmaps, resizes them to the network's grid and runs `project_masks_on_boxes`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from vision_tasks.ops import masks as mask_ops
from vision_tasks.ops.mask_targets import mask_targets
from vision_tasks.structures import Masks, Size

SIZES = ((480, 640), (3000, 4000))


def predicted(n: int, size: Size) -> Masks:
    """Blobs in boxes whose sides are log-uniform from 2 % to all of the image's shorter one, as a detector finds."""
    torch.manual_seed(0)
    short = min(size)
    side = torch.exp(torch.empty(n, 2).uniform_(float(np.log(0.02 * short)), float(np.log(short))))
    corner = torch.rand(n, 2) * (torch.tensor([size[1], size[0]]) - side)
    axis = torch.linspace(-1, 1, 28)
    radius = 0.8 + 0.2 * torch.rand(n, 1, 1)
    bumps = 0.1 * torch.sin(8 * axis[None, :, None] + 6 * torch.rand(n, 1, 1))
    grid = torch.sigmoid(12 * (radius + bumps - (axis[:, None] ** 2 + axis[None] ** 2).sqrt()))
    return Masks(size, grid=grid, boxes=torch.cat((corner, corner + side), dim=1))


def encoded_canvases(masks: Masks) -> list[Any]:
    """torchvision's way to COCO results."""
    assert masks.grid is not None
    pasted = paste_masks_in_image(masks.grid[:, None], masks.boxes, masks.size)
    return [coco_mask.encode(np.asfortranarray(m[0].numpy() > 0.5)) for m in pasted]


def annotated(n: int, size: Size) -> Masks:
    """Polygons of 40 corners around the same boxes."""
    boxes = predicted(n, size).boxes
    assert boxes is not None
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    wobble = np.random.default_rng(0).uniform(0.7, 1, (n, 40, 1))
    centre, half = ((boxes[:, 2:] + boxes[:, :2]) / 2).numpy(), ((boxes[:, 2:] - boxes[:, :2]) / 2).numpy()
    outlines = (centre[:, None] + circle * wobble * half[:, None]).astype(np.float32)
    return Masks(size, shapes=[[outline] for outline in outlines])


def proposals(masks: Masks, scale: float, n: int) -> tuple[Tensor, Tensor]:
    """Positive boxes, a few around each object, in network pixels."""
    torch.manual_seed(1)
    matched = torch.arange(n) % len(masks)
    boxes = mask_ops.boxes(mask_ops.to_rles(masks))[matched] * scale
    side = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    limit = torch.tensor([masks.size[1], masks.size[0]] * 2) * scale
    return (boxes + 0.1 * side * torch.randn(n, 4)).clamp(min=0).minimum(limit), matched


def projected_bitmaps(masks: Masks, boxes: Tensor, matched: Tensor, network: Size) -> Tensor:
    """torchvision's way to targets, from the annotations."""
    bitmaps = mask_ops.decode(mask_ops.to_rles(masks)).to(torch.uint8)
    resized = F.interpolate(bitmaps[:, None].float(), size=network)[:, 0].byte()
    targets: Tensor = project_masks_on_boxes(resized, boxes, matched, 28)
    return targets


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> None:
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds + 1)][1:]
    mine, other = (statistics.median(t) * 1e3 for t in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    print(f"{name:52} ours {mine:8.1f} ms  torchvision's way {other:8.1f} ms  {ratio:6.1f} times as fast", flush=True)


def grown_memory(side: str, n: int, size: Size) -> float:
    """MiB by which a fresh process grows."""
    command = [sys.executable, __file__, "--masks", str(n), "--grow", side, *map(str, size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def grow(side: str, n: int, size: Size) -> None:
    work = mask_ops.to_rles if side == "ours" else encoded_canvases
    work(predicted(2, (64, 64)))  # load what is loaded on first use
    masks = predicted(n, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(masks)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grow", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n = arguments.masks
    if arguments.grow:
        grow(arguments.grow[0], n, (int(arguments.grow[1]), int(arguments.grow[2])))
        return
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    # First, while this process is small: on Linux a child's peak begins at that of its parent.
    for size in SIZES:
        mine, other = (grown_memory(side, n, size) for side in ("ours", "theirs"))
        print(
            f"{n} grids on {size[1]}×{size[0]}, peak memory: ours +{mine:.0f} MiB, torchvision's way +{other:.0f} MiB"
        )
    for size in SIZES:
        masks = predicted(n, size)
        assert mask_ops.to_rles(masks) == encoded_canvases(masks), "not byte-equal"
        rounds = arguments.rounds if size == SIZES[0] else min(arguments.rounds, 2)
        where = f"{n} grids on {size[1]}×{size[0]}"
        compare(f"{where} to RLE", lambda: mask_ops.to_rles(masks), lambda: encoded_canvases(masks), rounds)  # noqa: B023
    network = (800, 1066)
    for size, objects in ((SIZES[0], 8), (SIZES[0], 40), (SIZES[1], 8)):
        truth = annotated(objects, size)
        scale = network[0] / size[0]
        exact = (network[1] / size[1], scale)
        boxes, matched = proposals(truth, scale, 128)
        ours, _ = mask_targets(truth, boxes, matched, exact)
        difference = (ours - projected_bitmaps(truth, boxes, matched, network)).abs().max()
        assert difference < 1e-5, difference
        compare(
            f"targets of 128 boxes, {objects} objects, {size[1]}×{size[0]}",
            lambda: mask_targets(truth, boxes, matched, exact),  # noqa: B023
            lambda: projected_bitmaps(truth, boxes, matched, network),  # noqa: B023
            arguments.rounds,
        )


if __name__ == "__main__":
    main()
