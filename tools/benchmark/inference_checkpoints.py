"""What the speeds cost trained networks, for `inference.py accuracy --checkpoints FILE...`.

Two questions of every checkpoint, on validation data: what are AP, mIoU and PQ by the annotations at each speed, and
how near does a speed stay to "exact"? For the second, exact's objects that score 0.3 or more, its maps and its panoptic
segments are the truth: an AP of 100 means that all are found again, in place and before anything else.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from inference_accuracy import judged, map_likeness, predicted
from torch import Tensor

import vision_tasks as vt
from vision_tasks.config import DataConfig
from vision_tasks.data.dataset import DetectionDataset, collate
from vision_tasks.data.records import Records
from vision_tasks.inference.speed.prepare import prepare
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_truth import IouType
from vision_tasks.metrics.panoptic import PanopticMetric
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import to_rles
from vision_tasks.structures import Masks, Prediction, Target
from vision_tasks.training.evaluation import default_data
from vision_tasks.training.panoptic_truth import panoptic_pairs
from vision_tasks.training.splits import read_parts, splits_of
from vision_tasks.training.truth import metrics_for

SCORE = 0.3
_NUMBERS = {
    "bbox": {"AP": "AP", "AP50": "AP50"},
    "segm": {"AP": "mask AP", "AP50": "mask AP50"},
    "semantic": {"mIoU": "mIoU", "pixel_accuracy": "pixels"},
    "panoptic": {"PQ": "PQ"},
}
"""Of each kind the metric's numbers that are shown, and as what."""


def report(args: argparse.Namespace) -> int:
    """Print the table."""
    speeds = ["exact", *(speed for speed in args.speeds if speed not in ("plain", "exact"))]
    print(f"\nby the annotations, and by what exact says (objects of {SCORE} or more); in per cent")
    titles = [*speeds, *(f"{speed}/exact" for speed in speeds[1:])]
    print(f"{'checkpoint':<24s}{'images':>7s}  {'number':<10s}" + "".join(f"{title:>12s}" for title in titles))
    for path in args.checkpoints:
        model = vt.load(path).eval()
        records = validation(path, model, args.data_val)
        images, targets = decoded(records)
        found = {speed: answers(model, speed, images, args.device) for speed in speeds}
        numbers = {speed: by_annotations(model, records, found[speed], targets) for speed in speeds}
        apart = [by_exact(found["exact"], found[speed]) for speed in speeds[1:]]
        for title in numbers["exact"]:
            row = [numbers[speed][title] for speed in speeds] + [by_title[title] for by_title in apart]
            print(
                f"{path.parent.name + '/' + path.name:<24s}{len(images):7d}  {title:<10s}"
                + "".join(f"{100 * value:12.2f}" for value in row),
                flush=True,
            )
    return 0


def validation(path: Path, model: VisionModel, folder: Path | None) -> Records:
    """Validation records of the data a checkpoint was trained on, or of a folder, in the labels of the model."""
    data = default_data(path) if folder is None else DataConfig(path=folder)
    if data is None:
        raise SystemExit(f"{path}: no config.yaml beside it says what it was trained on. Give --data-val FOLDER.")
    heads = model.named_heads().values()
    kinds = tuple(head.kind for head in heads)
    splits = splits_of(data, "val", kinds)
    if not splits:
        raise SystemExit(f"{path}: its data have no validation split. Give --data-val FOLDER.")
    categories = {head.kind: head.categories for head in heads}
    return read_parts(splits, "val", kinds, categories.get("objects"), categories.get("semantic"))


def decoded(records: Records) -> tuple[list[Tensor], list[Target]]:
    """All images, (3, H, W) uint8, and their truth."""
    data = DetectionDataset(records)
    batches = [collate([data[i]]) for i in range(len(data))]
    return [image for b in batches for image in b.images], [target for b in batches for target in b.targets]


@torch.inference_mode()
def answers(model: VisionModel, speed: str, images: list[Tensor], device: str) -> list[Prediction]:
    """A prediction of each image, masks as run lengths."""
    ready = prepare(model, speed, torch.device(device))
    found = [predicted(ready, image, device) for image in images]
    return [p if p.masks is None else replace(p, masks=Masks(p.size, shapes=[*to_rles(p.masks)])) for p in found]


def by_annotations(
    model: VisionModel, records: Records, found: list[Prediction], targets: list[Target]
) -> dict[str, float]:
    """The numbers shown, 0..1."""
    numbers: dict[str, float] = {}
    for judge in metrics_for(model, records, "val"):
        if judge.kind == "panoptic":
            judge.update(*panoptic_pairs(found, targets, model.panoptic.void if model.panoptic else ()))
        elif isinstance(judge, CocoMetric):
            judge.update(found, [target.image_id for target in targets])
        else:
            judge.update(found, targets)
        numbers |= shown(judge.kind, judge.summary().numbers)
    return numbers


def by_exact(exact: list[Prediction], found: list[Prediction]) -> dict[str, float]:
    """The same numbers, exact's answers being the truth."""
    numbers: dict[str, float] = {}
    kinds: tuple[IouType, ...] = ("bbox", "segm")
    for kind, there in zip(kinds, (exact[0].boxes, exact[0].masks), strict=True):
        if there is not None:
            numbers |= shown(kind, judged(exact, found, SCORE, kind))
    if exact[0].semantic is not None:
        pixels, miou = map_likeness(exact, found)
        numbers |= shown("semantic", {"mIoU": miou, "pixel_accuracy": pixels})
    if exact[0].panoptic is not None:
        metric = PanopticMetric(exact[0].panoptic.categories)
        metric.update([p.panoptic for p in found if p.panoptic], [p.panoptic for p in exact if p.panoptic])
        numbers |= shown("panoptic", metric.compute())
    return numbers


def shown(kind: str, numbers: dict[str, float]) -> dict[str, float]:
    """Of a kind's numbers those in the table, by their title there."""
    return {title: numbers[name] for name, title in _NUMBERS[kind].items()}
