"""Every detector beside torchvision's own, in one process, in turn, with the same weights: who is quicker, and where?

    export VISION_TASKS_DATA=FOLDER
    python tools/benchmark/models.py                                # all, two to three minutes a model on two cores
    python tools/benchmark/models.py retinanet ssdlite --rounds 9
    python tools/benchmark/models.py --profile ssdlite              # and the ten dearest operators of both
    python tools/benchmark/models.py --device cuda --batch 8 --bf16 --native

Images are decoded beforehand: uint8 for ours, floats for torchvision, as their loaders would give them. Pyramid models
run at 480 pixels on a CPU unless `--native` is given; SSD and SSDLite always at their own size. "backbone" is the
backbone with its pyramid alone; "inference" goes from the image to boxes in its pixels; "training" is one whole step.
Weights are random, then made to find dozens of boxes. The ratio is ours / torchvision's median: below 1 we are quicker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torchvision.models import detection as tv
from torchvision_twin import Step, duel, their_images

import vision_tasks as vt
from vision_tasks.config import Split
from vision_tasks.data.dataset import DetectionDataset, RawBatch, collate
from vision_tasks.data.layout import find_coco
from vision_tasks.data.records import Records
from vision_tasks.models.registry import model_options
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import render
from vision_tasks.training.splits import read_split


@dataclass(frozen=True)
class Row:
    """A model of ours and torchvision's builder of the same."""

    model: str
    twin: Callable[..., nn.Module]
    pyramid: bool = True
    options: dict[str, Any] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "faster_rcnn": Row("faster_rcnn", tv.fasterrcnn_resnet50_fpn),
    "faster_rcnn_v2": Row("faster_rcnn", tv.fasterrcnn_resnet50_fpn_v2, options={"variant": "v2"}),
    "faster_rcnn_mobilenet": Row(
        "faster_rcnn", tv.fasterrcnn_mobilenet_v3_large_fpn, options={"backbone": "mobilenet_v3_large"}
    ),
    "mask_rcnn": Row("mask_rcnn", tv.maskrcnn_resnet50_fpn),
    "mask_rcnn_v2": Row("mask_rcnn", tv.maskrcnn_resnet50_fpn_v2, options={"variant": "v2"}),
    "retinanet": Row("retinanet", tv.retinanet_resnet50_fpn),
    "retinanet_v2": Row("retinanet", tv.retinanet_resnet50_fpn_v2, options={"variant": "v2"}),
    "fcos": Row("fcos", tv.fcos_resnet50_fpn),
    "ssd": Row("ssd", tv.ssd300_vgg16, pyramid=False),
    "ssdlite": Row("ssdlite", tv.ssdlite320_mobilenet_v3_large, pyramid=False),
}


def main() -> int:
    args = arguments()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}; load {os.getloadavg()[0]:.2f}")
    records = coco_photos(args.data)
    print(f"{'model':<22s}{'what':<11s}{'ours s':>9s}{'theirs s':>9s}{'ratio':>7s}   lowest..highest, ours and theirs")
    for name in args.models or ROWS:
        compare(name, records, args)
    print(f"load {os.getloadavg()[0]:.2f}")
    return 0


def compare(name: str, records: Records, args: argparse.Namespace) -> None:
    """The rows of one model."""
    row = ROWS[name]
    theirs = twin_of(row, args)
    raws = [batch_of(records, range(i, i + args.batch), args.device) for i in range(0, 4 * args.batch, args.batch)]
    spread_logits(theirs, their_images(raws[0]))
    ours = reloaded(row, theirs, args)
    found, expected = agreement(ours, theirs, raws)
    print(f"{name:<22s}boxes on {len(raws) * args.batch} images: ours {found}, torchvision {expected}")
    for what, steps in (
        ("backbone", backbone_steps(ours, theirs, raws, args)),
        ("inference", inference_steps(ours, theirs, raws, args)),
        ("training", training_steps(ours, theirs, raws, records, args)),
    ):
        seconds = duel(*steps, rounds=args.rounds, device=args.device)
        mine, other = (statistics.median(side) for side in seconds)
        spread = "  ".join(f"{min(s):.3f}..{max(s):.3f}" for s in seconds)
        print(f"{'':<22s}{what:<11s}{mine:9.3f}{other:9.3f}{mine / other:7.2f}   {spread}", flush=True)
        if args.profile and what != "backbone":
            for side, step in zip(("ours", "torchvision"), steps, strict=True):
                print_dearest(f"{what}, {side}", step)


def twin_of(row: Row, args: argparse.Namespace) -> nn.Module:
    """torchvision's model, at the size that is asked for."""
    torch.manual_seed(0)
    sizes = {} if args.native or not row.pyramid else {"min_size": 480, "max_size": 800}
    theirs = row.twin(weights=None, weights_backbone=None, num_classes=91, **sizes)
    return theirs.to(args.device).eval()


def reloaded(row: Row, theirs: nn.Module, args: argparse.Namespace) -> VisionModel:
    """Ours with their weights; both train the same parameters, with batch norm as it is in theirs."""
    sizes = {} if args.native or not row.pyramid else {"min_size": 480, "max_size": 800}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "twin.pth"
        torch.save({k: v.cpu() for k, v in theirs.state_dict().items()}, path)
        allowed = model_options(row.model)
        free = {k: v for k, v in {"norm": "batch", "trainable_stages": 5}.items() if k in allowed}
        if any("FrozenBatchNorm" in type(m).__name__ for m in theirs.modules()):
            free["norm"] = "frozen"
        return vt.create_model(row.model, weights=path, **(free | sizes | row.options)).to(args.device)


@torch.no_grad()
def spread_logits(theirs: nn.Module, images: list[Tensor]) -> None:
    """Give random weights the scores of a trained detector: most of them low, some high.

    Batch norm takes its statistics from these images; then the layers that score classes are scaled and shifted.
    """
    norms = [m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 0.5
    theirs(images)
    for norm in norms:
        norm.eval()
    last = [
        m
        for name, m in theirs.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear)
        and ("cls" in name or "classification_head" in name)
        and (m.weight.shape[0] % 91 == 0 or name == "rpn.head.cls_logits")
    ]
    sigmoid = type(theirs).__name__ in ("RetinaNet", "FCOS")
    for layer in last:
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _m, _i, out, kept=outputs: kept.append(out.detach()))
        theirs(images)
        hook.remove()
        values = torch.cat([o.transpose(0, 1).flatten(1) if o.ndim == 4 else o.t() for o in outputs], 1)
        scale = (1.2 if sigmoid else 2.0) / (values - values.mean(1, keepdim=True)).std().clamp(min=1e-6)
        shift = torch.full_like(layer.bias, -6.0 if sigmoid else 0.0)
        if not sigmoid and len(shift) % 91 == 0:
            shift.view(-1, 91)[:, 0] = 5.0  # most of what a detector looks at is background
        layer.weight *= scale
        layer.bias.copy_(shift - (values.mean(1) - layer.bias) * scale)


@torch.inference_mode()
def agreement(ours: VisionModel, theirs: nn.Module, raws: list[RawBatch]) -> tuple[int, int]:
    """How many boxes either finds: they must have the same work."""
    found = sum(len(p) for raw in raws for p in ours.eval().predict(ours.preprocess(raw.images)))
    return found, sum(len(r["boxes"]) for raw in raws for r in theirs.eval()(their_images(raw)))


def precision(args: argparse.Namespace) -> AbstractContextManager[Any]:
    kind = args.device.split(":")[0]
    return torch.autocast(kind, dtype=torch.bfloat16) if args.bf16 else nullcontext()


def backbone_steps(ours: VisionModel, theirs: Any, raws: list[RawBatch], args: argparse.Namespace) -> tuple[Step, Step]:
    images = [ours.preprocess(raw.images).images for raw in raws]

    def mine(i: int) -> None:
        with torch.inference_mode(), precision(args):
            ours.eval().features(images[i % len(images)])

    def other(i: int) -> None:
        with torch.inference_mode(), precision(args):
            theirs.eval().backbone(images[i % len(images)])

    return mine, other


def inference_steps(
    ours: VisionModel, theirs: nn.Module, raws: list[RawBatch], args: argparse.Namespace
) -> tuple[Step, Step]:
    floats = [their_images(raw) for raw in raws]

    def mine(i: int) -> None:
        with torch.inference_mode(), precision(args):
            ours.eval().predict(ours.preprocess(raws[i % len(raws)].images))

    def other(i: int) -> None:
        with torch.inference_mode(), precision(args):
            theirs.eval()(floats[i % len(raws)])

    return mine, other


def training_steps(
    ours: VisionModel, theirs: nn.Module, raws: list[RawBatch], records: Records, args: argparse.Namespace
) -> tuple[Step, Step]:
    inputs = [(their_images(raw), [their_truth(t, ours, records) for t in raw.targets]) for raw in raws]
    label_of = torch.tensor([ours.categories.names.index(n) for n in records.categories.names], device=args.device)
    for raw in raws:
        for target in raw.targets:
            target.labels = label_of[target.labels]
    optimizers = [torch.optim.SGD([p for p in m.parameters() if p.requires_grad], 1e-5) for m in (ours, theirs)]

    def step(optimizer: torch.optim.Optimizer, losses: Callable[[], dict[str, Tensor]]) -> None:
        optimizer.zero_grad()
        with precision(args):
            total = torch.stack(list(losses().values())).sum()
        total.backward()
        optimizer.step()

    def mine(i: int) -> None:
        raw = raws[i % len(raws)]
        step(optimizers[0], lambda: ours.train().losses(ours.preprocess(raw.images, raw.targets)))

    def other(i: int) -> None:
        step(optimizers[1], lambda: theirs.train()(*inputs[i % len(raws)]))

    return mine, other


def their_truth(target: Any, ours: VisionModel, records: Records) -> dict[str, Tensor]:
    """COCO ids are torchvision's labels; masks as full bitmaps."""
    real = ~target.is_crowd
    ids = torch.tensor(records.categories.ids, device=target.labels.device)
    masks = render(target.masks[real.cpu()]) if target.masks is not None else torch.zeros(0)
    return {
        "boxes": target.boxes[real],
        "labels": ids[target.labels[real]],
        "masks": masks.to(device=target.boxes.device, dtype=torch.uint8),
    }


def coco_photos(data: Path) -> Records:
    """640×480 photos with objects."""
    files = find_coco(data / "coco_mini")["train"]
    records = read_split(Split(annotations=files.annotations, images=files.images), "train")
    rows = ((records.heights == 480) & (records.widths == 640)).nonzero()[0]
    return records.subset(rows)


def batch_of(records: Records, rows: range, device: str) -> RawBatch:
    dataset = DetectionDataset(records)
    return collate([dataset[i % len(dataset)] for i in rows]).to(device)


def print_dearest(what: str, step: Step) -> None:
    """Where the time goes, by operator."""
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        step(0)
    table = sorted(watched.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in table)
    print(f"  {what}: {total / 1e6:.3f} s of operators")
    for entry in table[:10]:
        print(f"    {entry.self_cpu_time_total / total:6.1%} {entry.key} ({entry.count})")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(ROWS)}; default all")
    parser.add_argument("--data", type=Path, default=os.environ.get("VISION_TASKS_DATA"), help="folder of real data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2, help="images per batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="both under autocast to bfloat16")
    parser.add_argument("--native", action="store_true", help="pyramid models at 800 pixels")
    parser.add_argument("--profile", action="store_true", help="list the dearest operators")
    args = parser.parse_args()
    if args.data is None:
        parser.error("set VISION_TASKS_DATA or give --data")
    if set(args.models) - ROWS.keys():
        parser.error(f"no such model: {', '.join(sorted(set(args.models) - ROWS.keys()))}")
    return args


if __name__ == "__main__":
    sys.exit(main())
