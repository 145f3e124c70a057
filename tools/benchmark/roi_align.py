"""RoIAlign on a CPU: vision_tasks beside torchvision.ops.MultiScaleRoIAlign, in turn in the same process.

    python tools/benchmark/roi_align.py [--threads 2] [--rounds 7] [--dtype float32]

Prints the median milliseconds of each, the median over rounds of their ratio, and the load of the machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from vision_tasks.ops.roi_align import multilevel_roi_align

STRIDES = (4, 8, 16, 32)
# name: images, height, width, channels, boxes, whether it trains
CASES = {
    "a: 8 images 208×208, C=64, 4096 boxes": (8, 208, 208, 64, 4096, True),
    "b: 1 image 800×1088, C=256, 1000 boxes": (1, 800, 1088, 256, 1000, False),
    "c: 2 images 480×640, C=256, 1024 boxes": (2, 480, 640, 256, 1024, True),
}


def draw_boxes(n: int, height: int, width: int) -> Tensor:
    """Proposals as a trained RPN's: sides log-uniform from 8 pixels to the image's shorter one, clipped."""
    side = torch.empty(n).uniform_(math.log(8), math.log(min(height, width))).exp()
    aspect = torch.empty(n).normal_(0, 0.4).exp()
    half = torch.stack((side * aspect, side / aspect), dim=1) / 2
    centre = torch.rand(n, 2) * torch.tensor([width, height])
    corners = torch.stack((centre - half, centre + half), dim=1).clamp(min=0)
    return corners.minimum(torch.tensor([width, height])).flatten(1)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, rounds: int, dtype: torch.dtype) -> None:
    images, height, width, channels, n, trains = CASES[name]
    torch.manual_seed(0)
    maps = [torch.randn(images, channels, -(-height // s), -(-width // s)).to(dtype) for s in STRIDES]
    maps = [m.requires_grad_(trains) for m in maps]
    boxes = [draw_boxes(n // images, height, width) for _ in range(images)]
    together, image_index = torch.cat(boxes), torch.arange(images).repeat_interleave(n // images)
    pool = MultiScaleRoIAlign([str(i) for i in range(len(maps))], 7, 2)
    gradient = torch.randn(n, channels, 7, 7).to(dtype)

    def theirs() -> Tensor:
        # torchvision's CPU kernel refuses half precision: whoever has it converts.
        pooled: Tensor = pool({str(i): m.float() for i, m in enumerate(maps)}, boxes, [(height, width)] * images)
        return pooled.to(dtype)

    def ours() -> Tensor:
        return multilevel_roi_align(maps, STRIDES, together, image_index, 7)

    def trained(work: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(work(), maps, gradient, allow_unused=True)

    jobs = {"forward": (ours, theirs)} | ({"forward + backward": (trained(ours), trained(theirs))} if trains else {})
    for job, pair in jobs.items():
        with torch.set_grad_enabled(job != "forward"):
            times = [[seconds(work) for work in pair] for _ in range(rounds + 1)][1:]
        mine, other = (statistics.median(t) * 1e3 for t in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times)
        print(f"{name:40} {job:18} ours {mine:7.1f} ms  torchvision {other:7.1f} ms  {ratio:5.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} threads, {arguments.dtype}, load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores")
    for name in CASES:
        compare(name, arguments.rounds, getattr(torch, arguments.dtype))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
