"""Every detector fine-tuned on real data from ImageNet weights, beside torchvision's own where it has one.

    export VISION_TASKS_DATA=FOLDER
    python tools/benchmark/finetune.py --out OUT                                    # all, some minutes each
    python tools/benchmark/finetune.py retinanet mask_rcnn --steps 150 --seeds 0 1 --out OUT

Ours trains through `training.run.fit`, torchvision's in a plain loop over the same loader's batches, from the same
weights, with the same optimiser groups, schedule, clip, frozen parameters and number of steps. AP of both is of the
last weights, by our CocoMetric. "loss" is each side's on the first batch before the first step: equal, but for what
R-CNNs draw. Models that torchvision does not have run alone. Blood cells for boxes, balloons for masks, 256 pixels.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from faster_rcnn import endless, split_records
from rich.console import Console
from torch import Tensor, nn
from torchvision_twin import descend, their_images, twin_optimizers
from twins import has_peer, predicted, their_truths, twin

import vision_tasks as vt
from vision_tasks.config import Config, load_config
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.layout import find_coco
from vision_tasks.data.records import Records
from vision_tasks.inference.predictor import Predictor
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.structures import Prediction
from vision_tasks.training.building import model_for
from vision_tasks.training.loaders import data_module
from vision_tasks.training.optimizer import make_schedule
from vision_tasks.training.report import draw_samples
from vision_tasks.training.run import fit
from vision_tasks.training.splits import read_splits
from vision_tasks.training.truth import truth_of

Predict = Callable[[RawBatch], list[Prediction]]

# Frozen batch norm below the heads, for batches of four; pyramids half as wide as published, for a processor.
IMAGENET = ("backbone=mobilenet_v2", "backbone_weights={weights}/mobilenet_v2.pth", "norm=frozen", "trainable_stages=3")
PYRAMID = (*IMAGENET, "min_size=256", "max_size=427", "channels=128")
RCNN = (*PYRAMID, "rois_per_image=128", "hidden=256")


@dataclass(frozen=True)
class Family:
    """How a model is built for this, on what data, and at what rate of AdamW."""

    options: tuple[str, ...]
    data: str = "bloodcells_coco"
    rate: float = 5e-4


FAMILIES = {
    "retinanet": Family(PYRAMID),
    "mask_rcnn": Family((*RCNN, "mask_channels=64"), "balloon_coco"),
    "fcos": Family(PYRAMID),
    "ssdlite": Family((*IMAGENET, "size=256"), rate=1e-3),
    "yolox": Family(("variant=nano", "size=256", *IMAGENET), rate=1e-3),
    "darknet": Family(
        ("cfg={weights}/yolo-fastest-1.1-xl.cfg", "weights={weights}/yolo-fastest-1.1-xl.weights", "size=[256,256]",
         "norm=frozen"),
        rate=1e-3,
    ),
    "cascade_rcnn": Family(RCNN),
    "faster_rcnn": Family(RCNN),
}  # fmt: skip


def main() -> int:
    args = arguments()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}; load {os.getloadavg()[0]:.2f}")
    print(f"batches of {args.batch_size}, AdamW, cosine, {args.steps} steps")
    columns = ("loss", "seconds", "AP val", "AP50 val", "AP test", "AP50 test", "mask AP", "mask AP50")
    print(f"{'model':<14s}{'seed':>4s} {'side':<12s}" + "".join(f"{c:>11s}" for c in columns))
    for name, seed in itertools.product(args.models or FAMILIES, args.seeds):
        compare(name, seed, args)
    print(f"load {os.getloadavg()[0]:.2f}")
    return 0


def compare(name: str, seed: int, args: argparse.Namespace) -> None:
    """One row of the table, or two."""
    config = recipe(name, seed, args)
    train, _ = read_splits(config.data)
    first = first_losses(config, train, args)
    sides = [("ours", train_ours), ("torchvision", train_theirs)] if has_peer(name) else [("ours", train_ours)]
    for (side, function), loss in zip(sides, first, strict=True):
        if args.only not in (None, side):
            continue
        started = time.perf_counter()
        predict = function(config, train, args)
        seconds = time.perf_counter() - started
        row = [loss, seconds, *evaluated(FAMILIES[name].data, predict, name == "mask_rcnn", args)]
        cells = "".join(f"{value:11.4f}" if i == 0 else f"{value:11.1f}" for i, value in enumerate(row))
        print(f"{name:<14s}{seed:4d} {side:<12s}{cells}", flush=True)
    if args.only != "torchvision":
        folder = args.out / str(config.run.name)
        records = split_records(args.data / FAMILIES[name].data, "val")
        draw_samples(
            Predictor(folder / "best.ckpt", args.device), records, range(min(8, len(records))), folder / "samples"
        )


def recipe(name: str, seed: int, args: argparse.Namespace) -> Config:
    family = FAMILIES[name]
    options = [f"model.{option.format(weights=args.data / 'weights')}" for option in family.options]
    epochs = 1000  # the number of steps ends it
    return load_config(
        None,
        [
            f"model={name}", *options, f"data={args.data / family.data}", f"data.batch_size={args.batch_size}",
            "data.augment=[{HorizontalFlip: {p: 0.5}}]", "data.workers=0",
            "train.optimizer.name=adamw", f"train.optimizer.rate={args.rate or family.rate}",
            f"train.seed={seed}", f"train.device={args.device}", f"train.max_steps={args.steps}",
            f"train.epochs={epochs}", f"train.evaluate_every={epochs}",
            f"run.folder={args.out}", f"run.name={name}-{seed}-{int(time.time())}",
        ],
    )  # fmt: skip


def fresh(config: Config, train: Records, args: argparse.Namespace) -> vt.VisionModel:
    """The model that `fit` begins with."""
    pl.seed_everything(config.train.seed, workers=False, verbose=False)
    return model_for(config, train).to(args.device)


def first_losses(config: Config, train: Records, args: argparse.Namespace) -> list[float]:
    """Sum of the losses on the first batch, of ours and of torchvision's: equal but for what is drawn at random."""
    ours = fresh(config, train, args).train()
    raw = next(endless(data_module(config, train, None).train_dataloader())).to(args.device)
    batch = ours.preprocess(raw.images, raw.targets, raw.min_size)
    with torch.no_grad():
        found: list[dict[str, Tensor]] = []
        if has_peer(config.model["name"]):
            theirs, _ = twin(ours)
            found.append(theirs.train()(their_images(raw), their_truths(raw, theirs)))
        found.insert(0, ours.losses(batch))
    return [float(torch.stack(list(losses.values())).sum()) for losses in found]


def train_ours(config: Config, train: Records, args: argparse.Namespace) -> Predict:
    """The real path: `fit`, and the checkpoint it left."""
    run = fit(config, console=Console(file=io.StringIO()))
    assert run.best is not None
    model = vt.load(run.best).to(args.device)
    return lambda raw: model.predict(model.preprocess(raw.images))


def train_theirs(config: Config, train: Records, args: argparse.Namespace) -> Predict:
    """A plain loop that stops at a bad loss."""
    ours = fresh(config, train, args)
    theirs, names = twin(ours)
    theirs.train()
    settings, steps = config.train.optimizer, config.train.max_steps
    assert steps is not None
    _, optimizer = twin_optimizers(ours, theirs, names, settings)
    loader = data_module(config, train, None).train_dataloader()
    schedule = make_schedule(optimizer, settings, steps, len(loader))
    for step, raw in zip(range(steps), endless(loader), strict=False):
        raw = raw.to(args.device)
        found = theirs(their_images(raw), their_truths(raw, theirs))
        if not all(math.isfinite(float(loss.detach())) for loss in found.values()):
            raise SystemExit(f"torchvision's loss is not finite at step {step}")
        descend(optimizer, found, config.train.clip)
        schedule.step()
    return predictor_of(theirs.eval(), train)


def predictor_of(theirs: nn.Module, train: Records) -> Predict:
    return lambda raw: predicted(theirs, raw, train.categories)


def evaluated(data: str, predict: Predict, masks: bool, args: argparse.Namespace) -> list[float]:
    """AP and AP50 in per cent: of boxes on val and on test (nan where there is none), of masks on val."""
    row: list[float] = []
    of_masks = [math.nan, math.nan]
    for split in ("val", "test"):
        if split not in find_coco(args.data / data):
            row += [math.nan, math.nan]
            continue
        records = split_records(args.data / data, split)
        metrics = [CocoMetric(truth_of(records))] + ([CocoMetric(truth_of(records, "segm"), "segm")] if masks else [])
        with torch.inference_mode():
            for raw in DataModule(val=records, batch_size=4, workers=0).val_dataloader():
                predictions = [p.to("cpu") for p in predict(raw.to(args.device))]
                for metric in metrics:
                    metric.update(predictions, raw.image_ids)
        numbers = [metric.compute() for metric in metrics]
        row += [100 * numbers[0][key] for key in ("AP", "AP50")]
        if masks:
            of_masks = [100 * numbers[1][key] for key in ("AP", "AP50")]
    return row + of_masks


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(FAMILIES)}; default all")
    parser.add_argument("--data", type=Path, default=os.environ.get("VISION_TASKS_DATA"), help="folder of real data")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rate", type=float, help="of AdamW, instead of the model's here")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("ours", "torchvision"), help="train one side alone")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and pictures")
    args = parser.parse_args()
    if args.data is None:
        parser.error("set VISION_TASKS_DATA or give --data")
    if unknown := set(args.models) - FAMILIES.keys():
        parser.error(f"no such model: {', '.join(sorted(unknown))}")
    args.data = Path(args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


if __name__ == "__main__":
    sys.exit(main())
