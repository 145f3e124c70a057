"""Our Faster R-CNN beside torchvision's own, in one process, on real data and from the same weights.

    export VISION_TASKS_DATA=FOLDER
    python tools/benchmark/faster_rcnn.py losses                              # do the losses follow each other?
    python tools/benchmark/faster_rcnn.py finetune --seeds 0 1 2 --minutes 3 --out OUT    # is the AP as good?
    python tools/benchmark/faster_rcnn.py speed                               # seconds per step and per image

Both sides hold the same parameters, of which the same ones are frozen, frozen batch norm, the same optimiser, schedule
and batches (our loader's). `losses` also fixes which anchors and proposals are drawn; it exits with 1 if any loss ever
differs by more than 1e-3 of itself. `--steps` cuts every command short.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import torch
from rich.console import Console
from torch.utils.data import DataLoader
from torchvision.models.detection import FasterRCNN
from torchvision_twin import (
    LOSSES,
    Step,
    descend,
    duel,
    fix_draw,
    in_double,
    inference_steps,
    our_losses,
    spread_out,
    their_images,
    their_targets,
    training_steps,
    twin,
    twin_optimizers,
)

import vision_tasks as vt
from vision_tasks.config import Config, Split, load_config
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.layout import find_coco
from vision_tasks.data.records import Records
from vision_tasks.data.sampler import BatchSampler
from vision_tasks.inference.predictor import Predictor
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_truth import CocoTruth
from vision_tasks.structures import Categories, Prediction
from vision_tasks.training.building import model_for
from vision_tasks.training.loaders import data_module
from vision_tasks.training.optimizer import make_schedule
from vision_tasks.training.report import draw_samples
from vision_tasks.training.run import fit
from vision_tasks.training.splits import read_split, read_splits

TOLERANCE = 1e-3
Predict = Callable[[RawBatch], list[Prediction]]


def main() -> int:
    args = arguments()
    pl.seed_everything(0, verbose=False)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}; load {os.getloadavg()[0]:.2f}")
    code: int = {"losses": losses, "finetune": finetune, "speed": speed}[args.command](args)
    print(f"load {os.getloadavg()[0]:.2f}")
    return code


def recipe(args: argparse.Namespace, seed: int = 0, *more: str) -> Config:
    """Blood cells at 256 pixels on MobileNetV2-FPN."""
    return load_config(
        None,
        [
            f"data={args.data / 'bloodcells_coco'}", f"data.batch_size={args.batch_size}",
            "data.augment=[{HorizontalFlip: {p: 0.5}}]",
            "model=faster_rcnn", "model.backbone=mobilenet_v2", "model.norm=frozen", "model.trainable_stages=3",
            f"model.backbone_weights={args.data / 'weights' / 'mobilenet_v2.pth'}", "model.min_size=256",
            f"model.channels={args.channels}", f"model.rois_per_image={args.rois}",
            f"train.optimizer.name={args.optimizer}", f"train.optimizer.rate={args.rate}",
            f"train.seed={seed}", f"train.device={args.device}", *more,
        ],
    )  # fmt: skip


def endless(loader: DataLoader) -> Iterator[RawBatch]:
    """Batches of epoch 0, 1, 2, ...: those that training through Lightning gets."""
    for epoch in itertools.count():
        assert isinstance(loader.batch_sampler, BatchSampler)
        loader.batch_sampler.set_epoch(epoch)
        yield from loader


def losses(args: argparse.Namespace) -> int:
    """The four losses of both, step by step."""
    config = recipe(args)
    train, _ = read_splits(config.data)
    ours = model_for(config, train).to(args.device)
    if args.double:
        in_double()
        ours.double()
    theirs, names = twin(ours)
    ours.train()
    theirs.train()
    fix_draw(ours, theirs)
    optimizers = twin_optimizers(ours, theirs, names, config.train.optimizer)
    print("step" + "".join(f"{name.split('/')[1]:>16s} torchvision" for name in LOSSES.values()) + "  difference")
    worst = 0.0
    steps = range(args.steps or 20)
    for step, raw in zip(steps, endless(data_module(config, train, None).train_dataloader()), strict=False):
        raw = raw.to(args.device)
        if args.double:
            raw.targets = [replace(t, boxes=t.boxes.double()) for t in raw.targets if t.boxes is not None]
        found, expected = our_losses(ours, raw), theirs(their_images(raw), their_targets(raw))
        pairs = [(float(found[o].detach()), float(expected[t].detach())) for t, o in LOSSES.items()]
        difference = max(abs(a - b) / max(abs(b), 1e-12) for a, b in pairs)
        worst = max(worst, difference) if math.isfinite(difference) else math.inf
        print(f"{step:4d}" + "".join(f"{a:16.7f}{b:12.7f}" for a, b in pairs) + f"{difference:12.1e}", flush=True)
        descend(optimizers[0], found)
        descend(optimizers[1], expected)
    print(f"largest relative difference of any loss: {worst:.1e}; allowed: {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


def finetune(args: argparse.Namespace) -> int:
    """Train both from the same start, ours through `fit`, theirs in a plain loop; AP of both, seed by seed."""
    steps = args.steps or steps_within(args, recipe(args))
    print(
        f"{steps} steps of {args.batch_size} images, {args.optimizer}, rate {args.rate}, cosine; "
        f"{args.channels} channels, {args.rois} proposals an image"
    )
    columns = ("seconds", "steps/s", "AP valid", "AP50 valid", "AP test", "AP50 test")
    print(f"{'seed':>4s} {'side':<12s}" + "".join(f"{c:>12s}" for c in columns))
    rows: dict[str, list[list[float]]] = {"ours": [], "torchvision": []}
    for turn, seed in enumerate(args.seeds):
        epochs = math.ceil(steps * args.batch_size / 200) + 1
        config = recipe(
            args, seed, f"train.max_steps={steps}", f"train.epochs={epochs}", f"train.evaluate_every={epochs + 1}",
            f"run.folder={args.out}", f"run.name=seed-{seed}-{int(time.time())}",
        )  # fmt: skip
        sides = {"ours": train_ours, "torchvision": train_theirs}
        for side in list(sides)[:: 1 if turn % 2 == 0 else -1]:  # who comes first changes: machines slow down
            started = time.perf_counter()
            predict = sides[side](args, config)
            seconds = time.perf_counter() - started
            numbers = [evaluated(args, predict, split) for split in ("val", "test")]
            row = [seconds, steps / seconds, *(100 * n[key] for n in numbers for key in ("AP", "AP50"))]
            rows[side].append(row)
            print(f"{seed:4d} {side:<12s}" + "".join(f"{value:12.2f}" for value in row), flush=True)
        folder = args.out / str(config.run.name)
        records = split_records(args.data / "bloodcells_coco", "val")
        draw_samples(Predictor(folder / "best.ckpt", args.device), records, range(len(records)), folder / "samples")
    for name, summarise in (("mean", statistics.mean), ("low", min), ("high", max)):
        for side, found in rows.items():
            print(f"{name:>4s} {side:<12s}" + "".join(f"{summarise(c):12.2f}" for c in zip(*found, strict=True)))
    print(f"Pictures of our models: {args.out}/seed-*/samples")
    return 0


def train_ours(args: argparse.Namespace, config: Config) -> Predict:
    """The real path: `fit`, and the checkpoint it left."""
    run = fit(config, console=Console(file=io.StringIO()))
    assert run.best is not None
    model = vt.load(run.best).to(args.device)
    return lambda raw: model.predict(model.preprocess(raw.images))


def train_theirs(args: argparse.Namespace, config: Config) -> Predict:
    """A plain loop with what torchvision's reference training does: stop at a bad loss, a checkpoint every epoch."""
    pl.seed_everything(config.train.seed, verbose=False)
    train, _ = read_splits(config.data)
    ours = model_for(config, train).to(args.device)
    theirs, names = twin(ours)
    theirs.train()
    _, optimizer = twin_optimizers(ours, theirs, names, config.train.optimizer)
    loader = data_module(config, train, None).train_dataloader()
    assert config.train.max_steps is not None
    schedule = make_schedule(optimizer, config.train.optimizer, config.train.max_steps, len(loader))
    for step, raw in zip(range(config.train.max_steps), endless(loader), strict=False):
        raw = raw.to(args.device)
        found = theirs(their_images(raw), their_targets(raw))
        if not all(math.isfinite(float(loss.detach())) for loss in found.values()):
            raise SystemExit(f"torchvision's loss is not finite at step {step}")
        descend(optimizer, found, config.train.clip)
        schedule.step()
        if (step + 1) % len(loader) == 0 or step + 1 == config.train.max_steps:
            kept = {"model": theirs.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(kept, args.out / "torchvision.pth")
    theirs.eval()
    return lambda raw: predicted(theirs, raw, train.categories)


def predicted(theirs: FasterRCNN, raw: RawBatch, categories: Categories) -> list[Prediction]:
    """Their answers in our words."""
    return [
        Prediction(target.size, categories, boxes=r["boxes"], labels=r["labels"] - 1, scores=r["scores"])
        for r, target in zip(theirs(their_images(raw)), raw.targets, strict=True)
    ]


def evaluated(args: argparse.Namespace, predict: Predict, split: str) -> dict[str, float]:
    """The twelve numbers on a split of the blood cells."""
    metric = CocoMetric(CocoTruth.from_file(find_coco(args.data / "bloodcells_coco")[split].annotations))
    records = split_records(args.data / "bloodcells_coco", split)
    with torch.inference_mode():
        for raw in DataModule(val=records, batch_size=4, workers=0).val_dataloader():
            metric.update([p.to("cpu") for p in predict(raw.to(args.device))], raw.image_ids)
    return metric.compute()


def steps_within(args: argparse.Namespace, config: Config) -> int:
    """Steps that the slower side makes in the minutes given."""
    train, _ = read_splits(config.data)
    ours = model_for(config, train).to(args.device)
    loader = endless(data_module(config, train, None).train_dataloader())
    pace = duel(*training_steps(ours, [next(loader) for _ in range(4)]), rounds=4)
    return max(1, int(args.minutes * 60 / max(statistics.median(side) for side in pace)))


def speed(args: argparse.Namespace) -> int:
    """Seconds per training step and per image, in turn, medians. Images are decoded beforehand, theirs floats."""
    print(f"{'what':<44s}{'ours':>9s}{'torchvision':>13s}{'ratio':>7s}   lowest..highest, ours and theirs")
    train, _ = read_splits(recipe(args).data)
    ours = model_for(recipe(args), train).to(args.device)
    batches = some_batches(train, 4, count=4)
    timed(args, "MobileNetV2-FPN, 256 px, batch 4: training", training_steps(ours, batches))
    photos = split_records(args.data / "coco_mini", "train")
    photos = photos.subset(((photos.heights == 480) & (photos.widths == 640)).nonzero()[0])
    for size in (480, 800) if args.large else (480,):
        ours = vt.create_model(
            "faster_rcnn", photos.categories, backbone="resnet50", norm="frozen", trainable_stages=3,
            min_size=size, max_size=1333,
        ).to(args.device)  # fmt: skip
        batches = some_batches(photos, 2, count=4)
        spread_out(ours, batches[0].to(args.device))
        name = f"ResNet-50-FPN, {size}×{size * 640 // 480}"
        timed(args, f"{name}, batch 2: training", training_steps(ours, batches))
        singles = some_batches(photos, 1, count=8)
        timed(args, f"{name}, batch 1: inference", inference_steps(ours, singles))
    return 0


def split_records(folder: Path, split: str) -> Records:
    files = find_coco(folder)[split]
    return read_split(Split(annotations=files.annotations, images=files.images), split)


def some_batches(records: Records, batch_size: int, count: int) -> list[RawBatch]:
    """The first batches of the first epoch, decoded."""
    loader = DataModule(records, batch_size=batch_size, workers=0).train_dataloader()
    return list(itertools.islice((b for b in loader if all(len(t.boxes) for t in b.targets)), count))


def timed(args: argparse.Namespace, what: str, steps: tuple[Step, Step]) -> None:
    """One row of the table."""
    ours, theirs = duel(*steps, rounds=args.steps or 9, device=args.device)
    mine, other = statistics.median(ours), statistics.median(theirs)
    spread = "  ".join(f"{min(s):.3f}..{max(s):.3f}" for s in (ours, theirs))
    print(f"{what:<44s}{mine:9.3f}{other:13.3f}{mine / other:7.2f}   {spread}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VISION_TASKS_DATA"), help="folder of real data")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, rate, channels, rois in (
        ("losses", 0.002, 256, 512),
        ("finetune", 0.01, 128, 128),
        ("speed", 1, 256, 512),
    ):
        command = commands.add_parser(name)
        command.add_argument("--steps", type=int, help="training steps, or rounds of the clock")
        command.add_argument("--device", default="cpu")
        command.add_argument("--batch-size", type=int, default=2 if name == "losses" else 4)
        command.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
        command.add_argument("--rate", type=float, default=rate)
        command.add_argument("--channels", type=int, default=channels, help="width of the pyramid")
        command.add_argument("--rois", type=int, default=rois, help="proposals an image that the box head trains on")
        if name == "losses":
            command.add_argument("--single", dest="double", action="store_false", help="in float32, for the curious")
        if name == "finetune":
            command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
            command.add_argument("--minutes", type=float, default=3, help="of the slower side, each seed")
            command.add_argument("--out", type=Path, required=True, help="folder for runs and pictures")
        if name == "speed":
            command.add_argument("--large", action="store_true", help="also at 800 pixels")
    args = parser.parse_args()
    if args.data is None:
        parser.error("set VISION_TASKS_DATA or give --data")
    if args.command == "finetune":
        args.out.mkdir(parents=True, exist_ok=True)
    return args


if __name__ == "__main__":
    sys.exit(main())
