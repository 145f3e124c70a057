"""Judging semantic maps: SemanticMetric beside torchmetrics' JaccardIndex and ConfusionMatrix, time and peak memory.

All in one process, in turn, several rounds; of times the best counts, of memory the worst. The maps are the same:
labels of which a tenth is wrong and a hundredth is to be ignored, in regions as photos have them, and as noise.

    python tools/benchmark/semantic_metric.py [--height 1024] [--width 2048] [--categories 19] [--device cuda]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from vision_tasks.metrics import SemanticMetric
from vision_tasks.structures import Categories, Prediction, Target


def make_maps(height: int, width: int, k: int, block: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Truth and prediction, (H, W) int16, in blocks of this many pixels."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, k, (-(-height // block), -(-width // block)), generator=g, dtype=torch.int16)
    truth = coarse.repeat_interleave(block, 0).repeat_interleave(block, 1)[:height, :width].contiguous()
    noise = torch.randint(0, k, (height, width), generator=g, dtype=torch.int16)
    predicted = torch.where(torch.rand((height, width), generator=g) < 0.1, noise, truth)
    truth[torch.rand((height, width), generator=g) < 0.01] = -1
    return truth, predicted


Run = Callable[[], float]
"""Judges one image, gives its mIoU."""


def engines(truth: Tensor, predicted: Tensor, k: int) -> dict[str, Run]:
    """Each makes its metric anew, updates it with one image and computes."""
    categories = Categories.of([f"category {i}" for i in range(k)])
    height, width = truth.shape
    wide = truth.long(), predicted.long()

    def ours(boundary: float | None) -> Run:
        def run() -> float:
            metric = SemanticMetric(categories, boundary=boundary).to(truth.device)
            prediction = Prediction((height, width), categories, semantic=predicted)
            metric.update([prediction], [Target(1, (height, width), semantic=truth)])
            return metric.compute()["mIoU"]

        return run

    def jaccard(maps: tuple[Tensor, Tensor], check: bool) -> Run:
        def run() -> float:
            metric = MulticlassJaccardIndex(k, ignore_index=-1, validate_args=check).to(truth.device)
            metric.update(maps[1], maps[0])
            return float(metric.compute())

        return run

    def confusion(maps: tuple[Tensor, Tensor], check: bool) -> Run:
        def run() -> float:
            metric = MulticlassConfusionMatrix(k, ignore_index=-1, validate_args=check).to(truth.device)
            metric.update(maps[1], maps[0])
            table = metric.compute().double()
            return float((table.diag() / (table.sum(0) + table.sum(1) - table.diag())).nanmean())

        return run

    narrow = truth, predicted
    return {
        "SemanticMetric": ours(None),
        "torchmetrics JaccardIndex": jaccard(wide, True),
        "torchmetrics JaccardIndex, unchecked": jaccard(wide, False),
        "torchmetrics JaccardIndex, unchecked, int16": jaccard(narrow, False),
        "torchmetrics ConfusionMatrix": confusion(wide, True),
        "torchmetrics ConfusionMatrix, unchecked": confusion(wide, False),
        "SemanticMetric with boundaries": ours(0.02),
    }


def peak_megabytes(run: Run, device: torch.device) -> float:
    """Most memory a run takes above what the process, or the device, holds before it; NaN where that is not known."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else a run could use what another has freed
    reset.write_text("5")  # the peak is that from here on
    before = _status(status, "VmRSS")
    run()
    return (_status(status, "VmHWM") - before) / 1024


def _status(path: Path, field: str) -> int:
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(field))


def seconds(run: Run, device: torch.device) -> float:
    began = time.perf_counter()
    run()  # ends with numbers on the host, so a device has done its work
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--categories", type=int, default=19)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    for name, block in (("regions", 64), ("noise", 1)):
        maps = make_maps(options.height, options.width, options.categories, block)
        runs = engines(maps[0].to(device), maps[1].to(device), options.categories)
        times, memory = dict.fromkeys(runs, float("inf")), dict.fromkeys(runs, 0.0)
        values = {key: run() for key, run in runs.items()}
        for _ in range(options.rounds):
            for key, run in runs.items():
                times[key] = min(times[key], seconds(run, device))
                memory[key] = max(memory[key], peak_megabytes(run, device))
        mine = "SemanticMetric"
        print(f"{options.height}×{options.width}, {options.categories} categories, {name}, {device}")
        print(f"{'':<46}{'ms':>9}{'ratio':>8}{'MB':>8}{'ratio':>8}   mIoU")
        for key in runs:
            ratio = memory[key] / memory[mine] if memory[mine] else float("nan")
            print(
                f"{key:<46}{1000 * times[key]:>9.2f}{times[key] / times[mine]:>8.1f}"
                f"{memory[key]:>8.1f}{ratio:>8.1f}   {values[key]:.6f}"
            )


if __name__ == "__main__":
    main()
