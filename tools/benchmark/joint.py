"""One model for boxes, masks and maps against a model for each: accuracy, parameters, time per image.

    python tools/benchmark/joint.py scenes --steps 250
    python tools/benchmark/joint.py balloons --data "$VISION_TASKS_DATA" --steps 120

All three see the same images in the same batches for the same number of steps, from the same start. About two minutes a
model on two cores. `scenes` trains narrow models from nothing on generated scenes; `balloons` MobileNetV2 from ImageNet
weights on photographs whose maps are drawn of the outlines.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import vision_tasks as vt
from vision_tasks.config import load_config
from vision_tasks.data.images import read_image
from vision_tasks.data.scenes import generate_scenes
from vision_tasks.training.judging import numbers_of
from vision_tasks.training.run import fit

PROPOSALS = {"train_proposals": [300, 300], "test_proposals": [300, 300], "rois_per_image": 96, "hidden": 128}
SHOWN = ("AP", "AP50", "segm/AP", "segm/AP50", "mIoU", "PQ")


def options(data: str, root: Path | None, out: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], Path]:
    """Options of the trunk, of the object head, of the run; and a folder of images to time."""
    run = {"data.workers": 0, "train.device": "cpu", "train.optimizer.name": "adamw", "run.samples": 4}
    if data == "scenes":
        folder = generate_scenes(out / "scenes")
        trunk = {"backbone": "resnet_narrow", "channels": 64, "min_size": 192, "max_size": 256}
        run |= {"data.path": folder, "data.semantic": {"layout": "scenes"}, "data.batch_size": 8}
        run |= {"train.optimizer.rate": 0.002}
        return (
            trunk,
            {**PROPOSALS, "anchor_sizes": [16, 32, 64, 128, 256], "mask_channels": 32},
            run,
            folder / "images/val",
        )
    assert root is not None, "give --data"
    folder = root / "balloon_coco"
    trunk = {
        "backbone": "mobilenet_v2", "backbone_weights": str(root / "weights" / "mobilenet_v2.pth"), "channels": 96,
        "norm": "frozen", "min_size": 256, "max_size": 384,
    }  # fmt: skip
    maps = {"annotations": "annotations/custom_{split}.json"}
    run |= {"data.path": folder, "data.semantic": maps, "data.batch_size": 4, "train.optimizer.rate": 0.0005}
    return trunk, {**PROPOSALS, "mask_channels": 64}, run, folder / "val2017"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=["scenes", "balloons"])
    parser.add_argument("--data", type=Path, help="folder of the real data")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where runs go; a temporary folder if left out")
    args = parser.parse_args()
    out = args.out or Path(tempfile.mkdtemp())
    trunk, objects, run, images = options(args.dataset, args.data, out)
    no_maps = {"data.semantic": "null"}
    heads = {"objects": {"type": "mask_rcnn", **objects}, "surface": {"type": "semantic_fpn", "width": 64}}
    joint: dict[str, Any] = {"name": "multi_head", "heads": heads}
    if args.dataset == "scenes":
        joint = {"name": "panoptic_fpn", "objects": objects, "semantic_width": 64, "panoptic_stuff_area": 256}
    models: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "mask_rcnn": ({**trunk, **objects}, no_maps),
        "semantic_fpn": ({**{k: v for k, v in trunk.items() if k != "max_size"}, "width": 64}, {}),
        "joint": ({**trunk, **joint}, {}),
    }
    made = {}
    print(f"{'model':14} {'Mparams':>8} {'seconds':>8}  " + "  ".join(f"{name:>9}" for name in SHOWN), flush=True)
    for name, (model, changes) in models.items():
        values = {"model": {"name": name} | model, **run, **changes, "train.max_steps": args.steps,
                  "train.epochs": 10_000, "train.evaluate_every": 10_000, "train.seed": args.seed, "run.folder": out,
                  "run.name": f"{args.dataset}-{name}-{args.seed}-{int(time.time())}"}  # fmt: skip
        began = time.monotonic()
        done = fit(load_config(None, [f"{key}={value}" for key, value in values.items()]))
        took = time.monotonic() - began
        assert done.best is not None
        made[name] = vt.load(done.best)
        numbers = numbers_of(done.summaries)
        size = sum(p.numel() for p in made[name].parameters()) / 1e6
        cells = "  ".join(f"{numbers[n]:9.3f}" if n in numbers else f"{'':9}" for n in SHOWN)
        print(f"{name:14} {size:8.2f} {took:8.0f}  {cells}", flush=True)
    compare_times(made, images)


def compare_times(models: dict[str, Any], images: Path) -> None:
    """Median milliseconds an image, alternately, each model of its own best checkpoint, without drawing."""
    pictures = [read_image(path) for path in sorted(images.glob("*.jpg"))[:8]]
    predictors = {name: vt.Predictor(model, device="cpu") for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in predictors}
    for turn in range(4):
        for picture in pictures:
            for name, predictor in predictors.items():
                began = time.perf_counter()
                predictor(picture)
                if turn:  # the first warms up
                    times[name].append(time.perf_counter() - began)
    medians = {name: 1e3 * statistics.median(t) for name, t in times.items()}
    apart = medians["mask_rcnn"] + medians["semantic_fpn"]
    print("ms per image: " + ", ".join(f"{name} {ms:.1f}" for name, ms in medians.items()))
    print(f"the joint model takes {medians['joint'] / apart:.2f} of the time of the other two together")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
