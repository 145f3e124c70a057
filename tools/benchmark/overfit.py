"""Can every model learn eight real images by heart? AP50 above 0.9 says that its losses and its decoding agree.

    export VISION_TASKS_DATA=FOLDER
    python tools/benchmark/overfit.py                      # all models
    python tools/benchmark/overfit.py retinanet yolox      # some
    python tools/benchmark/overfit.py --draw FOLDER        # and pictures of what they learned

Each model is built small, from random weights, and trained without augmentation on eight COCO photos until its AP50 on
the same photos passes 0.9 or its minutes are over. Exit code 1 if a model did not get there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

import vision_tasks as vt
from vision_tasks.config import OptimizerConfig, Split
from vision_tasks.data.dataset import DetectionDataset, collate
from vision_tasks.data.layout import find_coco
from vision_tasks.data.records import Records
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.training.optimizer import make_optimizer, make_schedule
from vision_tasks.training.splits import read_split
from vision_tasks.training.truth import truth_of

GOAL = 0.9
IMAGES = 8
PYRAMID: dict[str, Any] = {"backbone": "resnet18", "channels": 64, "min_size": 256, "max_size": 320}
SMALL: dict[str, dict[str, Any]] = {
    "faster_rcnn": PYRAMID | {"hidden": 256, "rois_per_image": 128},
    "mask_rcnn": PYRAMID | {"hidden": 256, "rois_per_image": 128},
    "cascade_rcnn": PYRAMID | {"hidden": 256, "rois_per_image": 128},
    "retinanet": PYRAMID | {"min_size": 192, "max_size": 256},
    "fcos": PYRAMID,
    "ssd": {"backbone": "resnet18"},
    "ssdlite": {},
    "yolox": {"variant": "nano", "size": 256},
    "darknet": {"size": (256, 256)},
}
"""Options that make a model small; the rest is as published."""


def main() -> int:
    args = arguments()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; load {os.getloadavg()[0]:.2f}")
    files = find_coco(args.data / "coco_mini")["train"]
    records = read_split(Split(annotations=files.annotations, images=files.images), "train")
    records = records.subset(torch.tensor(first_clear(records)).numpy())
    print(f"{IMAGES} photos, image ids {records.image_ids.tolist()}, {len(records.boxes)} objects")
    print(f"{'model':<16s}{'parameters':>12s}{'steps':>8s}{'seconds':>9s}{'loss':>9s}{'AP50':>8s}{'mask AP50':>11s}")
    failed = False
    for name in args.models or SMALL:
        failed |= not learned(name, records, args)
    return int(failed)


def first_clear(records: Records) -> list[int]:
    """The first photos with 1 to 8 objects, none a crowd, none with a side below a twelfth of the photo's."""
    chosen = []
    for row in range(len(records)):
        target = records.target(row)
        assert target.boxes is not None
        assert target.is_crowd is not None
        sides = (target.boxes[:, 2:] - target.boxes[:, :2]) / max(target.size)
        if 1 <= len(sides) <= 8 and not target.is_crowd.any() and bool((sides > 1 / 12).all()):
            chosen.append(row)
        if len(chosen) == IMAGES:
            return chosen
    raise SystemExit(f"only {len(chosen)} photos are clear enough")


def learned(name: str, records: Records, args: argparse.Namespace) -> bool:
    """One row of the table; whether the goal was reached."""
    torch.manual_seed(0)
    options = dict(SMALL[name])
    if name == "darknet":
        options["cfg"] = str(args.data / "weights" / "yolo-fastest-1.1-xl.cfg")
    model = vt.create_model(name, records.categories, **options).to(args.device)
    dataset = DetectionDataset(records)
    raw = collate([dataset[i] for i in range(len(dataset))])
    settings = OptimizerConfig(name="adamw", rate=args.rate, weight_decay=1e-4, warmup_steps=20)
    optimizer = make_optimizer(model, settings, IMAGES)
    schedule = make_schedule(optimizer, settings.model_copy(update={"schedule": "constant"}), 10_000, 1)
    parameters = sum(p.numel() for p in model.parameters())
    started, steps, scores, last = time.perf_counter(), 0, {}, float("nan")
    half = IMAGES // 2
    while time.perf_counter() - started < args.minutes * 60:
        model.train()
        order = torch.randperm(IMAGES).tolist()
        for part in (order[:half], order[half:]):
            images = [raw.images[i].to(args.device) for i in part]
            batch = model.preprocess(images, [raw.targets[i].to(args.device) for i in part])
            total = torch.stack(list(model.losses(batch).values())).sum()
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            steps += 1
        last = float(total.detach())
        if steps % args.every == 0:
            scores = evaluated(model, records, raw)
            if min(scores.values()) > GOAL:
                break
    seconds = time.perf_counter() - started
    scores = scores or evaluated(model, records, raw)
    masks = f"{scores['masks']:11.3f}" if "masks" in scores else ""
    print(f"{name:<16s}{parameters:12,d}{steps:8d}{seconds:9.0f}{last:9.3f}{scores['boxes']:8.3f}{masks}", flush=True)
    if args.draw is not None:
        drawn(model, records, args.draw / name)
    return min(scores.values()) > GOAL


def evaluated(model: VisionModel, records: Records, raw: Any) -> dict[str, float]:
    """AP50 of boxes, and of masks where the model has them."""
    model.eval()
    with torch.inference_mode():
        predictions = [p.to("cpu") for i in raw.images for p in model.predict(model.preprocess([i.to(model.device)]))]
    kinds = {"boxes": "bbox"} | ({"masks": "segm"} if predictions[0].masks is not None else {})
    scores = {}
    for what, kind in kinds.items():
        metric = CocoMetric(truth_of(records, kind), kind)  # type: ignore[arg-type]
        metric.update(predictions, raw.image_ids)
        scores[what] = float(metric.compute()["AP50"])
    return scores


def drawn(model: VisionModel, records: Records, folder: Path) -> None:
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.training.report import draw_samples

    draw_samples(Predictor(model, model.device), records, range(len(records)), folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(SMALL)}; default all")
    parser.add_argument("--data", type=Path, default=os.environ.get("VISION_TASKS_DATA"), help="folder of real data")
    parser.add_argument("--minutes", type=float, default=4, help="for each model at most")
    parser.add_argument("--every", type=int, default=40, help="steps between evaluations")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--draw", type=Path, help="folder for pictures")
    args = parser.parse_args()
    if args.data is None:
        parser.error("set VISION_TASKS_DATA or give --data")
    args.data = Path(args.data)
    unknown = set(args.models) - SMALL.keys()
    if unknown:
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    return args


if __name__ == "__main__":
    sys.exit(main())
