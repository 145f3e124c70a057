"""Semantic models trained on street scenes from ImageNet weights, beside segmentation_models_pytorch's twins.

    export VISION_TASKS_DATA=FOLDER
    python tools/benchmark/semantic_twin.py --out OUT                                  # both models, three seeds
    python tools/benchmark/semantic_twin.py --model unet --seeds 0 --steps 40 --out OUT

Ours trains through `training.run.fit`, the twin in a plain loop over the batches of the same loader: the same images in
the same order, cropped and flipped alike, normalised by our preprocess. Encoder weights, optimiser groups, schedule,
clip and number of steps are equal; architecture, first values of the decoder and loss are each side's own. Both are
judged after the last step by our SemanticMetric at the size of the files, their scores read off in the same way. The
number of steps comes from a short race: as many as the slower side makes in `--minutes`.
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
from pathlib import Path

import lightning.pytorch as pl
import segmentation_models_pytorch as smp
import torch
from faster_rcnn import endless
from rich.console import Console
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

import vision_tasks as vt
from vision_tasks.config import Config, OptimizerConfig, load_config
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.records import Records
from vision_tasks.inference.predictor import Predictor
from vision_tasks.metrics.semantic import SemanticMetric
from vision_tasks.ops.semantic import decide
from vision_tasks.structures import Batch, Prediction
from vision_tasks.training.building import model_for
from vision_tasks.training.loaders import data_module
from vision_tasks.training.optimizer import make_schedule
from vision_tasks.training.report import draw_samples
from vision_tasks.training.run import fit
from vision_tasks.training.splits import read_splits

Draw = Callable[[Batch], list[Prediction]]

MODELS: dict[str, tuple[tuple[str, ...], Callable[..., nn.Module]]] = {
    "unet": ((), smp.Unet),
    "deeplabv3plus": (("model.output_stride=16",), smp.DeepLabV3Plus),
}
"""Options of ours, and the peer's class."""

ENCODERS = {"mobilenet_v2": "mobilenet_v2.pth", "resnet18": "resnet18_stem_to_layer3.pth"}


def main() -> int:
    args = arguments()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}; load {os.getloadavg()[0]:.2f}")
    for model in args.models:
        config = recipe(model, 0, args)
        train, val = splits(config)
        steps = args.steps or affordable(config, train, args)
        print(
            f"\n{model} on {args.encoder}: {len(train)} training images, {steps} steps of {args.batch_size} at "
            f"{args.size[0]}×{args.size[1]}, AdamW {args.rate:g}, cosine"
        )
        print(f"{'seed':>4s} {'side':<6s}{'seconds':>9s}" + "".join(f"{n:>12s}" for n in ("mIoU val", "pixels val")))
        scores: dict[str, list[float]] = {}
        for seed, side in itertools.product(args.seeds, args.sides):
            config = recipe(model, seed, args, steps)
            started = time.perf_counter()
            draw = (train_ours if side == "ours" else train_twin)(config, train, args)
            seconds = time.perf_counter() - started
            numbers = judged(config, val, draw, args)
            scores.setdefault(side, []).append(numbers["mIoU"])
            row = "".join(f"{100 * numbers[key]:12.2f}" for key in ("mIoU", "pixel_accuracy"))
            print(f"{seed:4d} {side:<6s}{seconds:9.1f}{row}", flush=True)
        for side, values in scores.items():
            spread = f", lowest {100 * min(values):.2f}, highest {100 * max(values):.2f}" if len(values) > 1 else ""
            print(f"     {side:<6s} mean mIoU {100 * statistics.mean(values):.2f}{spread}")
    print(f"load {os.getloadavg()[0]:.2f}")
    return 0


def recipe(model: str, seed: int, args: argparse.Namespace, steps: int = 1) -> Config:
    height, width = args.size
    epochs = 100_000  # the number of steps ends it
    return load_config(
        None,
        [
            f"model={model}", f"model.backbone={args.encoder}", f"model.min_size={min(args.size)}", *MODELS[model][0],
            f"model.backbone_weights={args.data / 'weights' / ENCODERS[args.encoder]}",
            f"data={args.data / 'camvid'}", f"data.batch_size={args.batch_size}", "data.workers=0",
            f"data.crop=[{height},{width}]", "data.crop_scale=[0.75,1.5]", "data.augment=[{HorizontalFlip: {p: 0.5}}]",
            "train.optimizer.name=adamw", f"train.optimizer.rate={args.rate}", "train.optimizer.weight_decay=0.01",
            "train.optimizer.warmup_steps=20", f"train.seed={seed}", f"train.device={args.device}",
            f"train.max_steps={steps}", f"train.epochs={epochs}", f"train.evaluate_every={epochs}",
            f"run.folder={args.out}", f"run.name={model}-{seed}-{time.time_ns()}",
        ],
    )  # fmt: skip


def splits(config: Config) -> tuple[Records, Records]:
    train, val = read_splits(config.data, ("semantic",))
    assert val is not None
    return train, val


def train_ours(config: Config, train: Records, args: argparse.Namespace) -> Draw:
    """The real path: `fit`, and the checkpoint it left; validation after the last step is part of it."""
    run = fit(config, console=Console(file=io.StringIO()))
    assert run.best is not None
    assert run.val is not None
    draw_samples(Predictor(run.best, args.device), run.val, range(min(6, len(run.val))), run.folder / "samples")
    return vt.load(run.best).to(args.device).predict


def train_twin(config: Config, train: Records, args: argparse.Namespace) -> Draw:
    """A plain loop over the batches that `fit` would see."""
    twin = fresh_twin(config, train, args)
    steps = config.train.max_steps
    assert steps is not None
    batches = loader(config, train, args)
    optimizer = twin_optimizer(twin, config.train.optimizer)
    schedule = make_schedule(optimizer, config.train.optimizer, steps, len(train) / config.data.batch_size)
    for step, batch in zip(range(steps), batches, strict=False):
        loss = twin_step(twin, optimizer, batch, config.train.clip)
        if not math.isfinite(loss):
            raise SystemExit(f"the twin's loss is not finite at step {step}")
        schedule.step()
    twin.eval()
    categories = categories_of(train)

    def draw(batch: Batch) -> list[Prediction]:
        canvas = (batch.images.shape[-2], batch.images.shape[-1])
        return [
            Prediction(size, categories, semantic=decide(logits, size, scale, offset, canvas))
            for logits, size, scale, offset in zip(
                twin(batch.images), batch.original_sizes, batch.scales, batch.offsets, strict=True
            )
        ]

    return draw


def fresh_twin(config: Config, train: Records, args: argparse.Namespace) -> nn.Module:
    """The peer's model with our encoder weights, in training mode."""
    torch.manual_seed(config.train.seed)
    make = MODELS[config.model["name"]][1]
    twin = make(args.encoder, encoder_weights=None, classes=len(categories_of(train)))
    state = torch.load(config.model["backbone_weights"], weights_only=True)
    own = twin.encoder.state_dict()
    known = {name: value for name, value in state.items() if name in own}
    lacking = [name for name in own if name not in known and not name.endswith("num_batches_tracked")]
    if lacking and not all(name.startswith("layer4") for name in lacking):
        raise SystemExit(f"the weights lack {lacking[:4]} of the peer's encoder")
    twin.encoder.load_state_dict(own | known)
    return twin.to(args.device).train()


def twin_optimizer(twin: nn.Module, settings: OptimizerConfig) -> Optimizer:
    """The groups that ours has: norms and biases are not decayed, the encoder has its own rate."""
    encoder = {id(p) for p in twin.encoder.parameters()}
    groups = [
        {
            "params": [p for p in twin.parameters() if (id(p) in encoder) is inside and (p.ndim > 1) is decayed],
            "lr": settings.rate * (settings.backbone_factor if inside else 1),
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for inside, decayed in itertools.product((True, False), repeat=2)
    ]
    if settings.name == "adamw":
        return AdamW(groups, lr=settings.rate)
    return SGD(groups, lr=settings.rate, momentum=settings.momentum, nesterov=settings.nesterov)


def twin_step(twin: nn.Module, optimizer: Optimizer, batch: Batch, clip: float | None) -> float:
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(twin(batch.images), truth_of(batch), ignore_index=-1)
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_(twin.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


def truth_of(batch: Batch) -> Tensor:
    """(B, H, W) int64 on the canvas, -1 where nothing counts."""
    truth = torch.full((len(batch), *batch.images.shape[-2:]), -1, device=batch.images.device)
    for i, target in enumerate(batch.targets or []):
        if target.semantic is not None:
            height, width = target.semantic.shape
            truth[i, :height, :width] = target.semantic
    return truth


def loader(config: Config, train: Records, args: argparse.Namespace) -> Iterator[Batch]:
    """The batches of a run, preprocessed, for ever."""
    preprocess = model_for(config, train).preprocess
    for raw in endless(data_module(config, train, None, preprocess).train_dataloader()):
        yield prepared(raw.to(args.device), preprocess)


def prepared(raw: RawBatch, preprocess: vt.Preprocess) -> Batch:
    return preprocess(raw.images, raw.targets, raw.min_size, raw.size)


def categories_of(records: Records) -> vt.Categories:
    assert records.semantic is not None
    return records.semantic.categories


def affordable(config: Config, train: Records, args: argparse.Namespace) -> int:
    """Steps that the slower side makes in the time given, decoding and cropping included; medians of six."""
    pl.seed_everything(0, workers=False, verbose=False)
    ours = model_for(config, train).to(args.device).train()
    twin = fresh_twin(config, train, args)
    optimizers = AdamW(ours.parameters(), lr=1e-5), twin_optimizer(twin, config.train.optimizer)
    batches = loader(config, train, args)
    seconds: dict[str, list[float]] = {"decode": [], "ours": [], "twin": []}
    for _ in range(8):
        marks = [time.perf_counter()]
        batch = next(batches)
        marks.append(time.perf_counter())
        optimizers[0].zero_grad()
        torch.stack(list(ours.losses(batch).values())).sum().backward()
        optimizers[0].step()
        synchronise(args)
        marks.append(time.perf_counter())
        twin_step(twin, optimizers[1], batch, None)
        synchronise(args)
        marks.append(time.perf_counter())
        for name, (start, end) in zip(seconds, itertools.pairwise(marks), strict=True):
            seconds[name].append(end - start)
    pace = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    print("seconds a step: " + ", ".join(f"{name} {value:.3f}" for name, value in pace.items()))
    return max(1, int(args.minutes * 60 / (pace["decode"] + max(pace["ours"], pace["twin"]))))


def synchronise(args: argparse.Namespace) -> None:
    if args.device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.inference_mode()
def judged(config: Config, val: Records, draw: Draw, args: argparse.Namespace) -> dict[str, float]:
    preprocess = model_for(config, val).preprocess
    metric = SemanticMetric(categories_of(val))
    for raw in DataModule(val=val, batch_size=4, workers=0).val_dataloader():
        batch = preprocess(raw.to(args.device).images)
        metric.update([p.to("cpu") for p in draw(batch)], raw.targets)
    return metric.compute()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", dest="models", choices=MODELS, nargs="+", default=list(MODELS))
    parser.add_argument("--encoder", choices=ENCODERS, default="mobilenet_v2")
    parser.add_argument("--side", choices=("ours", "twin", "both"), default="both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=3.5, help="of training, a run")
    parser.add_argument("--steps", type=int, help="instead of --minutes")
    parser.add_argument("--size", type=int, nargs=2, default=[192, 256], help="height and width; multiples of 32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data", type=Path, default=os.environ.get("VISION_TASKS_DATA"), help="folder of real data")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and pictures")
    args = parser.parse_args()
    if args.data is None:
        parser.error("set VISION_TASKS_DATA or give --data")
    args.data = Path(args.data)
    args.sides = ("ours", "twin") if args.side == "both" else (args.side,)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


if __name__ == "__main__":
    sys.exit(main())
