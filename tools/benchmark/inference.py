"""Prediction beside a peer's eager float32, in one process, in turn, from the same weights: how quick, and as good?

    export VISION_TASKS_DATA=FOLDER
    python tools/benchmark/inference.py                                        # all models, all speeds
    python tools/benchmark/inference.py --models retinanet unet --speeds exact --threads 1 --rounds 9
    python tools/benchmark/inference.py accuracy                               # what the speeds cost
    python tools/benchmark/inference.py accuracy --checkpoints runs/a/best.ckpt runs/b/best.ckpt --data-val FOLDER

A time goes from a decoded uint8 image to the answer: ours a `Prediction` (masks run-length encoded), the peer's its own
(masks pasted at full size). Ratios are the peer's median / ours: above 1 we are quicker. "dense" is the network up to
the scores of all anchors or cells. "found" is the share of the peer's detections that ours has again, of the same
category, at an IoU of 0.9 or more, with the mean difference of their scores; of maps the share of equal pixels. Boxes
are compared with a margin of one pixel, since one that clipping left without height overlaps nothing. Weights are
random, made to find dozens of boxes, which is harder on rounding than a trained network: `accuracy` tells more.
The memory is what a prediction adds to the process at its peak, without the model.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference_clock import StageClock, peak_mebibytes, synchronise
from inference_twins import NAMES, USUAL, Pair, pair
from models import batch_of, coco_photos
from torch import Tensor, nn

from vision_tasks.inference.speed.prepare import SPEEDS, prepare
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.masks import to_rles
from vision_tasks.structures import Prediction

PHOTOS = 4
WIDTHS = (12, 7, 7, 6)


def main() -> int:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(conditions(args))
    if args.checkpoints:
        import inference_checkpoints

        return inference_checkpoints.report(args)
    if args.what == "accuracy":
        from inference_accuracy import report

        return report(args)
    photos = batch_of(coco_photos(args.data), range(PHOTOS), args.device).images
    print(
        f"\n{'model':<14s}{'side':<13s}{'ms':>8s}{'ratio':>7s}{'dense ms':>10s}{'ratio':>7s}"
        f"{'preprocess':>12s}{'dense':>7s}{'heads':>7s}{'post':>6s}{'MiB':>6s}  found"
    )
    for name in args.models or USUAL:
        compare(name, photos, args)
    print(f"load {os.getloadavg()[0]:.2f}")
    return 0


def conditions(args: argparse.Namespace) -> str:
    """The machine in a few lines: what it can, what it reaches, and how busy it is."""
    features = [
        name
        for name, there in {
            "AVX2": torch.backends.cpu.get_cpu_capability() != "DEFAULT",
            "AVX512": "AVX512" in torch.backends.cpu.get_cpu_capability(),
            "AVX512-BF16": has("_is_avx512_bf16_supported"),
            "AMX": has("_is_amx_tile_supported"),
        }.items()
        if there
    ]
    peaks = ", ".join(f"{str(d).split('.')[-1]} {peak(d, args.device):.0f}" for d in (torch.float32, torch.bfloat16))
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}, {cpu_name()}\n"
        f"has {', '.join(features)}; a 3x3 convolution of 256 channels reaches {peaks} GFLOP/s; "
        f"load {os.getloadavg()[0]:.2f}"
    )


def cpu_name() -> str:
    """As the kernel calls it."""
    found = [line.split(":")[1].strip() for line in lines_of("/proc/cpuinfo") if line.lower().startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def lines_of(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def has(check: str) -> bool:
    ask = getattr(torch.cpu, check, None)
    return bool(ask()) if ask else False


@torch.inference_mode()
def peak(dtype: torch.dtype, device: str) -> float:
    """GFLOP/s of the convolution that detectors' heads are made of, channels-last: the most there is to be had."""
    layer = nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device, dtype, memory_format=torch.channels_last)
    x = torch.randn(1, 256, 60, 80).to(device, dtype, memory_format=torch.channels_last)
    seconds = []
    for _ in range(10):
        synchronise(device)
        started = time.perf_counter()
        layer(x)
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 2 * 256 * 256 * 9 * 60 * 80 / min(seconds) / 1e9


def compare(name: str, photos: list[Tensor], args: argparse.Namespace) -> None:
    """The rows of one model: the peer, and ours at every speed."""
    both = pair(name, photos, args)
    clocks = {side: StageClock(args.device) for side in (both.peer, *args.speeds)}
    sides: dict[str, Callable[[Tensor], Any]] = {both.peer: both.theirs}
    for stage, modules in both.stages.items():
        clocks[both.peer].watch_modules(modules, stage)
    device = torch.device(args.device)
    for speed in args.speeds:
        model = copy.deepcopy(both.ours) if speed == "plain" else prepare(both.ours, speed, device)
        clocks[speed].watch(model)
        sides[speed] = answering(model)
    with torch.inference_mode():
        answers = {side: [answer(photo) for photo in photos] for side, answer in sides.items()}  # and warms up
        for clock in clocks.values():
            clock.clear()
        seconds = duel(sides, photos, args)
        parts = {side: dict(clock.seconds) for side, clock in clocks.items()}
        memory = {side: peak_mebibytes(answer, photos[0]) for side, answer in sides.items()}
    whole = {side: statistics.median(times) for side, times in seconds.items()}
    dense = {side: parts[side].get("dense", 0.0) / args.rounds for side in sides}
    for side, times in seconds.items():
        shares = {stage: parts[side].get(stage, 0.0) / sum(times) for stage in ("preprocess", "dense", "heads")}
        shares["post"] = 1 - sum(shares.values())
        known = bool(both.stages) or side != both.peer
        print(
            f"{name:<14s}{side:<13s}{1e3 * whole[side]:8.1f}{whole[both.peer] / whole[side]:7.2f}"
            + (f"{1e3 * dense[side]:10.1f}{dense[both.peer] / dense[side]:7.2f}" if known else f"{'':17s}")
            + ("".join(f"{share:{w}.0%}" for share, w in zip(shares.values(), WIDTHS, strict=True)) if known else "")
            + (f"{memory[side]:6.0f}  {likeness(both, answers, side, photos)}" if side != both.peer else
               f"{memory[side]:{6 if known else 38}.0f}"),
            flush=True,
        )  # fmt: skip


def duel(
    sides: dict[str, Callable[[Tensor], Any]], photos: list[Tensor], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of each side's predictions, one after the other in turn."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for i in range(args.rounds):
        for side, answer in sides.items():
            synchronise(args.device)
            started = time.perf_counter()
            answer(photos[i % len(photos)])
            synchronise(args.device)
            seconds[side].append(time.perf_counter() - started)
    return seconds


def answering(model: VisionModel) -> Callable[[Tensor], Prediction]:
    """From an image to a prediction whose masks are there, not only their grids."""

    def answer(image: Tensor) -> Prediction:
        found = model.predict(model.preprocess([image]))[0]
        if found.masks is not None:
            to_rles(found.masks)
        return found

    return answer


def likeness(both: Pair, answers: dict[str, list[Any]], side: str, photos: list[Tensor]) -> str:
    """How much of the peer's answers ours are."""
    total = found = 0.0
    apart: list[float] = []
    for theirs, mine, photo in zip(answers[both.peer], answers[side], photos, strict=True):
        wanted = both.read(theirs, (photo.shape[-2], photo.shape[-1]))
        if wanted.semantic is not None:
            total += wanted.semantic.numel()
            found += int((wanted.semantic == mine.semantic).sum())
            continue
        overlap = pairwise_iou(grown(wanted.boxes), grown(mine.boxes)) * (wanted.labels[:, None] == mine.labels[None])
        total += len(wanted.boxes)
        if len(mine.boxes) and len(wanted.boxes):
            best, at = overlap.max(1)
            again = best >= 0.9
            found += int(again.sum())
            apart += (wanted.scores - mine.scores[at]).abs()[again].tolist()
    scores = f" of {total:.0f}, scores {statistics.mean(apart):.0e} apart" if apart else ""
    return f"{found / max(total, 1):.2%}{scores}"


def grown(boxes: Tensor) -> Tensor:
    """(N, 4) corners a pixel further out."""
    return boxes + boxes.new_tensor([-1, -1, 1, 1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("speed", "accuracy"), default="speed")
    parser.add_argument("--models", nargs="+", choices=NAMES, metavar="MODEL", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--speeds", nargs="+", choices=("plain", *SPEEDS), default=list(SPEEDS), help="default all")
    parser.add_argument("--threads", type=int, help="of torch; default its own choice")
    parser.add_argument("--rounds", type=int, default=9, help="timed predictions of each side")
    parser.add_argument("--photos", type=int, default=16, help="images for the accuracy of models without real weights")
    parser.add_argument("--checkpoints", nargs="+", type=Path, metavar="FILE", help="trained, for accuracy")
    parser.add_argument("--data-val", type=Path, help="their validation data; default those they were trained with")
    parser.add_argument("--data", type=Path, default=os.environ.get("VISION_TASKS_DATA"), help="folder of real data")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--native", action="store_true", help="pyramid models at 800 pixels, not 480")
    args = parser.parse_args()
    if args.checkpoints and args.what != "accuracy":
        parser.error("--checkpoints go with: accuracy")
    if args.data is None and not args.checkpoints:
        parser.error("set VISION_TASKS_DATA or give --data")
    warnings.filterwarnings("ignore", category=UserWarning)  # of compilers and peers
    return args


if __name__ == "__main__":
    sys.exit(main())
