"""COCO mAP of files: vision_tasks beside faster-coco-eval and pycocotools, time and peak memory.

Each engine runs in a process of its own (so memory is its own), in turn, several rounds; the best round counts.

    python tools/benchmark/coco_metric.py [--images 5000] [--rounds 3] [--skip pycocotools]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

NUMBERS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def generate(folder: Path, n_images: int, seed: int = 0) -> None:
    """COCO-like: 80 categories of unequal frequency, 7.4 objects and 100 detections an image, 1% crowds.

    About three detections in ten are jittered truths (several per truth, as after a lenient suppression); the others
    lie anywhere and mostly name categories that the image holds, as a detector's do.
    """
    r = np.random.default_rng(seed)
    frequency = 1 / (np.arange(80) + 2.0)
    frequency /= frequency.sum()
    n_truths = r.poisson(36934 / 5000, n_images)
    n = int(n_truths.sum())
    image = np.repeat(np.arange(n_images), n_truths)
    # An image shows few kinds of thing: each object has one of three categories drawn for its image.
    kinds = r.choice(80, (n_images, 3), p=frequency)
    category = kinds[image, r.integers(0, 3, n)]
    size = np.exp(r.normal(4.0, 0.9, (n, 2))).clip(4, 400)
    corner = r.random((n, 2)) * (np.array([640, 480]) - size).clip(1)
    boxes = np.concatenate([corner, size], axis=1).round(2)
    crowd = r.random(n) < 0.01
    fill = r.uniform(0.4, 0.95, n)
    gt = {
        "images": [{"id": 3 * i + 1, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in range(n_images)],
        "categories": [{"id": i + 1, "name": str(i)} for i in range(80)],
        "annotations": [
            {"id": i + 1, "image_id": 3 * int(image[i]) + 1, "category_id": int(category[i]) + 1}
            | {"bbox": boxes[i].tolist(), "area": float(size[i].prod() * fill[i]), "iscrowd": int(crowd[i])}
            for i in range(n)
        ],
    }
    start = np.cumsum(n_truths) - n_truths
    owner = np.repeat(np.arange(n_images), 100)
    m = len(owner)
    near = (r.random(m) < 0.3) & (n_truths[owner] > 0)
    target = np.where(near, start[owner] + (r.random(m) * n_truths[owner]).astype(int), 0)
    jitter = boxes[target] + r.normal(0, 1, (m, 4)) * np.tile(boxes[target][:, 2:], 2) * r.exponential(0.1, (m, 1))
    anywhere = np.concatenate([r.random((m, 2)) * [500, 350], np.exp(r.normal(4, 0.9, (m, 2))).clip(4, 400)], axis=1)
    found = np.where(near[:, None], jitter, anywhere)
    found[:, 2:] = np.abs(found[:, 2:])
    local = np.where(r.random(m) < 0.7, kinds[owner, r.integers(0, 3, m)], r.choice(80, m, p=frequency))
    kind = np.where(near, category[target], local)
    score = np.where(near, r.beta(3, 2, m), r.beta(1, 4, m)).round(4)
    results = [
        {"image_id": 3 * i + 1, "category_id": k + 1, "bbox": b, "score": s}
        for i, k, b, s in zip(owner.tolist(), kind.tolist(), found.round(2).tolist(), score.tolist(), strict=True)
    ]
    (folder / "gt.json").write_text(json.dumps(gt))
    (folder / "results.json").write_text(json.dumps(results))
    print(f"{n_images} images, {n} objects ({int(crowd.sum())} crowds), {m} detections")


def ours(gt: str, results: str) -> list[float]:
    from vision_tasks.metrics import coco_evaluate

    return list(coco_evaluate(gt, results).values())


def ours_by_batch(gt: str, results: str, batch: int = 8) -> list[float]:
    """The torchmetrics metric, updated eight images at a time (includes importing torch)."""
    from vision_tasks.metrics import CocoMetric, CocoTruth, Detections, read_results

    truth = CocoTruth.from_file(gt)
    found = read_results(results, truth)
    metric = CocoMetric(truth)
    order = np.argsort(found.image_ids, kind="stable")
    bounds = [*np.searchsorted(found.image_ids[order], truth.image_ids[::batch]).tolist(), len(order)]
    started = time.perf_counter()
    for i, (begin, end) in enumerate(pairwise(bounds)):
        rows = order[begin:end]
        part = Detections(found.image_ids[rows], found.category_ids[rows], found.scores[rows], found.boxes[rows])
        metric.update(part, truth.image_ids[i * batch : (i + 1) * batch])
    updated = time.perf_counter()
    values = list(metric.compute().values())
    print(f"  updates {updated - started:.2f} s, compute {time.perf_counter() - updated:.2f} s", file=sys.stderr)
    return values


def faster_coco_eval(gt: str, results: str) -> list[float]:
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(gt)
    return _evaluated(COCOeval_faster(truth, truth.loadRes(results), "bbox"))


def pycocotools(gt: str, results: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(gt)
    return _evaluated(COCOeval(truth, truth.loadRes(results), "bbox"))


def _evaluated(evaluation) -> list[float]:  # type: ignore[no-untyped-def]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(v) for v in evaluation.stats[:12]]


ENGINES: dict[str, Callable[[str, str], list[float]]] = {
    "vision_tasks": ours,
    "vision_tasks metric, batches of 8": ours_by_batch,
    "faster-coco-eval": faster_coco_eval,
    "pycocotools": pycocotools,
}


def run_engine(name: str, gt: str, results: str) -> None:
    """In the child: print one JSON line with seconds (imports included), peak MB and the numbers."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        values = ENGINES[name](gt, results)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    print(json.dumps({"seconds": seconds, "megabytes": peak, "numbers": values}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3, help="of all engines but pycocotools, which runs once")
    parser.add_argument("--skip", nargs="*", default=[], choices=list(ENGINES))
    parser.add_argument("--generate", metavar="FOLDER", help="only write the data set there")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_engine(*options.child)
        return
    if options.generate:
        generate(Path(options.generate), options.images)
        return
    best: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        # In a child too: Linux lets a child begin with its parent's peak memory, so this process must stay small.
        make = [sys.executable, __file__, "--generate", folder, "--images", str(options.images)]
        subprocess.run(make, check=True)
        paths = [f"{folder}/gt.json", f"{folder}/results.json"]
        for turn in range(options.rounds):
            for name in ENGINES:
                if name in options.skip or (turn and name == "pycocotools"):
                    continue
                command = [sys.executable, __file__, "--child", name, *paths]
                child = subprocess.run(command, check=True, stdout=subprocess.PIPE)
                outcome = json.loads(child.stdout)
                if name not in best or outcome["seconds"] < best[name]["seconds"]:
                    best[name] = outcome
    reference = "pycocotools" if "pycocotools" in best else "faster-coco-eval"
    yardstick = best.get("faster-coco-eval", best[reference])
    print(f"{'engine':<36}{'seconds':>9}{'ratio':>8}{'MB':>8}{'ratio':>8}   largest difference from {reference}")
    for name, row in best.items():
        difference = np.abs(np.subtract(row["numbers"], best[reference]["numbers"])).max()
        print(
            f"{name:<36}{row['seconds']:>9.2f}{row['seconds'] / yardstick['seconds']:>8.2f}"
            f"{row['megabytes']:>8.0f}{row['megabytes'] / yardstick['megabytes']:>8.2f}   {difference:.1e}"
        )
    print("  ".join(f"{n} {v:.4f}" for n, v in zip(NUMBERS, best["vision_tasks"]["numbers"], strict=True)))


if __name__ == "__main__":
    main()
