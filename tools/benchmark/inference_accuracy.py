"""What the speeds cost: AP of a real detector on real photos; of others, how near they stay to "exact".

For `inference.py accuracy`. The second part takes the objects that "exact" finds with a score of 0.5 or more as truth:
an AP of 1 means that all of them are found again, in the right order of scores and before anything else. Boxes without
area, which clipping leaves of those beyond the image, overlap nothing, themselves included, and are left out. Weights
are random, so scores crowd together and layers enlarge rounding; trained networks: `inference_checkpoints.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
import torch
from inference_twins import pair
from models import batch_of, coco_photos
from torch import Tensor

import vision_tasks as vt
from vision_tasks.config import Split
from vision_tasks.data.dataset import DetectionDataset, collate
from vision_tasks.data.layout import find_coco
from vision_tasks.inference.speed.prepare import prepare
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_truth import CocoTruth, IouType
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import area, to_rles
from vision_tasks.structures import Prediction, Rle
from vision_tasks.training.splits import read_split

_SCORE = 0.5


def report(args: argparse.Namespace) -> int:
    """Print both tables."""
    speeds = [speed for speed in args.speeds if speed != "plain"]
    yolox(args, speeds)
    others(args, speeds)
    return 0


@torch.inference_mode()
def yolox(args: argparse.Namespace, speeds: list[str]) -> None:
    """The real YOLOX-nano on all validation photos, by their true annotations."""
    files = find_coco(args.data / "coco_mini")["val"]
    truth = CocoTruth.from_file(files.annotations)
    records = read_split(Split(annotations=files.annotations, images=files.images), "val")
    data = DetectionDataset(records)
    images = [collate([data[i]]).images[0] for i in range(len(data))]
    model = vt.create_model("yolox", weights=args.data / "weights" / "yolox_nano.pth").eval()
    print(f"\nYOLOX-nano, {len(records)} photos\n{'speed':<8s}{'AP':>8s}{'AP50':>8s}{'AP75':>8s}{'APs':>8s}{'APl':>8s}")
    for speed in speeds:
        ready = prepare(model, speed, torch.device(args.device))
        metric = CocoMetric(truth)
        for i, image_id in enumerate(records.image_ids.tolist()):
            metric.update([predicted(ready, images[i], args.device)], [image_id])
        numbers = metric.compute()
        shown = "".join(f"{100 * numbers[key]:8.2f}" for key in ("AP", "AP50", "AP75", "APs", "APl"))
        print(f"{speed:<8s}{shown}", flush=True)


@torch.inference_mode()
def others(args: argparse.Namespace, speeds: list[str]) -> None:
    """Every other model against its own "exact"."""
    photos = batch_of(coco_photos(args.data), range(args.photos), args.device).images
    print(f"\nagainst exact's own answers on {len(photos)} photos, weights random")
    print(f"{'model':<14s}{'speed':<8s}{'AP':>8s}{'AP50':>8s}{'pixels':>9s}{'mIoU':>8s}")
    for name in args.models or _DEFAULT:
        ours = pair(name, photos, args).ours
        device = torch.device(args.device)
        exact = [predicted(prepare(ours, "exact", device), photo, args.device) for photo in photos]
        for speed in speeds:
            if speed == "exact":
                continue
            ready = prepare(ours, speed, device)
            found = [predicted(ready, photo, args.device) for photo in photos]
            if exact[0].semantic is not None:
                pixels, miou = map_likeness(exact, found)
                print(f"{name:<14s}{speed:<8s}{'':16s}{100 * pixels:9.2f}{100 * miou:8.2f}", flush=True)
            else:
                numbers = judged(exact, found)
                print(f"{name:<14s}{speed:<8s}{100 * numbers['AP']:8.2f}{100 * numbers['AP50']:8.2f}", flush=True)


_DEFAULT = ("faster_rcnn", "retinanet", "fcos", "ssd", "ssdlite", "deeplabv3", "fcn", "lraspp", "unet", "yolox")


def predicted(model: VisionModel, image: Tensor, device: str) -> Prediction:
    """On the CPU."""
    return model.predict(model.preprocess([image.to(device)]))[0].to("cpu")


def judged(
    exact: list[Prediction], found: list[Prediction], score: float = _SCORE, iou_type: IouType = "bbox"
) -> dict[str, float]:
    """COCO's numbers of what was found, exact's objects of at least this score being the truth.

    For "segm" masks must be run lengths.
    """
    sure = [with_area(p.filter(score), iou_type) for p in exact]
    found = [with_area(p, iou_type) for p in found]
    boxes = np.concatenate([np.asarray(p.boxes, np.float64).reshape(-1, 4) for p in sure])
    boxes[:, 2:] -= boxes[:, :2]
    ids = list(exact[0].categories.ids)
    truth = CocoTruth.from_arrays(
        image_ids=np.arange(1, len(exact) + 1),
        category_ids=np.asarray(ids),
        category_names=list(exact[0].categories.names),
        annotation_image_ids=np.repeat(np.arange(1, len(exact) + 1), [len(p) for p in sure]),
        annotation_category_ids=np.asarray([ids[label] for p in sure for label in labels_of(p)]),
        boxes=boxes,
        area=boxes[:, 2] * boxes[:, 3],
        is_crowd=np.zeros(len(boxes), bool),
        rles=[dict(rle) for p in sure for rle in rles_of(p)] if iou_type == "segm" else None,
    )
    metric = CocoMetric(truth, iou_type)
    metric.update(found, list(range(1, len(found) + 1)))
    return metric.compute()


def with_area(prediction: Prediction, iou_type: IouType) -> Prediction:
    """Only objects that can overlap something."""
    if iou_type == "segm":
        return prediction[area(rles_of(prediction)) > 0]
    assert prediction.boxes is not None
    return prediction[(prediction.boxes[:, 2:] > prediction.boxes[:, :2]).all(1)]


def rles_of(prediction: Prediction) -> list[Rle]:
    return [] if prediction.masks is None else to_rles(prediction.masks)


def labels_of(prediction: Prediction) -> Iterable[int]:
    assert prediction.labels is not None
    labels: list[int] = prediction.labels.tolist()
    return labels


def map_likeness(exact: list[Prediction], found: list[Prediction]) -> tuple[float, float]:
    """Share of equal pixels, and the mean over categories of the overlap of both maps, all images together."""
    count = len(exact[0].semantic_categories or exact[0].categories)
    table = torch.zeros(count, count, dtype=torch.int64)
    for one, other in zip(exact, found, strict=True):
        assert one.semantic is not None
        assert other.semantic is not None
        both = one.semantic.long() * count + other.semantic.long()
        table += both.flatten().bincount(minlength=count * count).view(count, count)
    same = table.diagonal()
    union = table.sum(0) + table.sum(1) - same
    return float(same.sum() / table.sum()), float((same / union)[union > 0].mean())
