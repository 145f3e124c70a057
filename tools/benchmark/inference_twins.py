"""Pairs of one network, ours and a peer's, from the same weights, for `inference.py`: an image in, an answer out."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from models import ROWS as DETECTORS
from models import reloaded, spread_logits, twin_of
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation
from torchvision_twin import their_images

import vision_tasks as vt
from vision_tasks.data.dataset import RawBatch
from vision_tasks.models.preprocess import IMAGENET_MEAN, IMAGENET_STD
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Prediction
from vision_tasks.weights.torchvision import coco_categories

Answer = Callable[[Tensor], Any]

OUTPUTS = 21
"""Categories of the models of maps: PASCAL VOC's, which torchvision's weights have."""


@dataclass(frozen=True)
class Pair:
    """One network twice.

    Attributes:
        ours: as `create_model` gives it. peer: who the other side is.
        theirs: (3, H, W) uint8 -> the peer's answer; `theirs_module` is the network within.
        stages: the peer's modules by stage: "preprocess", "dense", "heads"; what is left is "post".
        read: the peer's answer in our words, for comparison only: (answer, size of the image) -> prediction.
    """

    ours: VisionModel
    peer: str
    theirs: Answer
    theirs_module: nn.Module
    stages: Mapping[str, tuple[nn.Module, ...]]
    read: Callable[[Any, tuple[int, int]], Prediction]


@dataclass(frozen=True)
class MapRow:
    """A model of maps: its name here, the peer, and the layers whose outputs are made to spread."""

    model: str
    build: Callable[..., nn.Module]
    options: dict[str, Any] = field(default_factory=dict)


MAPS: dict[str, MapRow] = {
    "deeplabv3": MapRow("deeplabv3", segmentation.deeplabv3_resnet50),
    "fcn": MapRow("fcn", segmentation.fcn_resnet50),
    "lraspp": MapRow("lraspp", segmentation.lraspp_mobilenet_v3_large),
    "unet": MapRow("unet", smp.Unet, {"backbone": "resnet34"}),
}

NAMES = (*DETECTORS, *MAPS, "yolox")
"""All that there is a pair of."""

USUAL = ("faster_rcnn", "mask_rcnn", "retinanet", "fcos", "ssd", "ssdlite", *MAPS, "yolox")
"""What is run if nothing is named."""


def pair(name: str, photos: list[Tensor], args: argparse.Namespace) -> Pair:
    """Both sides of a model, with the scores of a trained one on these (3, H, W) uint8 photos."""
    if name == "yolox":
        return _yolox(args)
    return _map_pair(MAPS[name], photos) if name in MAPS else _detector_pair(name, photos, args)


def _detector_pair(name: str, photos: list[Tensor], args: argparse.Namespace) -> Pair:
    row = DETECTORS[name]
    theirs: Any = twin_of(row, args)
    floats = their_images(RawBatch(photos, []))
    _settle(theirs, floats)
    spread_logits(theirs, floats)
    _still(theirs)
    ours = reloaded(row, theirs, args).eval()
    if hasattr(theirs, "roi_heads"):
        theirs.roi_heads.score_thresh, stages = 0.05, {"dense": (theirs.backbone, theirs.rpn.head)}
        stages["heads"] = (theirs.roi_heads,)
    else:
        stages = {"dense": (theirs.backbone, theirs.head)}
    label_of = {number: label for label, number in enumerate(ours.categories.ids)}

    def answer(image: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = theirs([image.float() / 255])[0]
        return found

    def read(found: dict[str, Tensor], size: tuple[int, int]) -> Prediction:
        real = torch.tensor([int(v) in label_of for v in found["labels"]], dtype=torch.bool)
        labels = torch.tensor([label_of[int(v)] for v in found["labels"][real]], dtype=torch.int64)
        return Prediction(
            size, ours.categories, boxes=found["boxes"][real], labels=labels, scores=found["scores"][real]
        )

    return Pair(ours, "torchvision", answer, theirs, {"preprocess": (theirs.transform,), **stages}, read)


@torch.no_grad()
def _settle(theirs: nn.Module, images: list[Tensor]) -> None:
    """Batch norm's statistics from these images, all of them; boxes of FCOS and RetinaNet that are not empty.

    From all that are asked about: on another photo all scores of a random network may be 1, and which boxes are kept
    is then chance.
    """
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
    theirs(images)
    theirs.eval()
    regressor = getattr(getattr(theirs, "head", None), "regression_head", None)
    layer = getattr(regressor, "bbox_reg", None)
    if isinstance(layer, nn.Conv2d):
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(lambda _m, _i, out: outputs.append(out.transpose(0, 1).flatten(1)))
        theirs(images)
        hook.remove()
        values = torch.cat(outputs, 1)
        middle, spread = (3.0, 0.8) if type(theirs).__name__ == "FCOS" else (0.0, 0.3)
        scale = spread / (values - values.mean(1, keepdim=True)).std()
        layer.weight *= scale
        layer.bias.copy_(middle - (values.mean(1) - layer.bias) * scale)  # type: ignore[union-attr]


@torch.no_grad()
def _still(theirs: nn.Module) -> None:
    """Outputs that are no category of COCO never score: ours leaves them out before the best are picked."""
    _, columns, outputs = coco_categories()
    unused = [i for i in range(outputs) if i not in columns and (i or type(theirs).__name__ in ("FCOS", "RetinaNet"))]
    for name, module in theirs.named_modules():
        scores = "cls_score" in name or "cls_logits" in name or "classification_head" in name
        if scores and isinstance(module, nn.Conv2d | nn.Linear) and module.weight.shape[0] % outputs == 0:
            module.weight.view(-1, outputs, *module.weight.shape[1:])[:, unused] = 0
            module.bias.view(-1, outputs)[:, unused] = -50  # type: ignore[union-attr]


@torch.no_grad()
def _map_pair(row: MapRow, photos: list[Tensor]) -> Pair:
    torch.manual_seed(0)
    if row.build is smp.Unet:
        theirs: Any = row.build("resnet34", encoder_weights=None, classes=OUTPUTS)
    else:
        theirs = row.build(weights=None, weights_backbone=None, num_classes=OUTPUTS)
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))

    def logits(image: Tensor) -> Tensor:
        found = theirs(((image.float() / 255 - mean) / std)[None])
        scores: Tensor = found["out"] if isinstance(found, dict) else found
        return scores

    # Statistics of these photos, and scores that spread over 2 and do not depend on one category's mean.
    norms = [module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    theirs.train()(
        torch.stack([(F.interpolate(p[None].float(), (256, 256))[0] / 255 - mean) / std for p in photos[:2]])
    )
    theirs.eval()
    scores = logits(photos[0])
    spread, middle = 2 / scores.std(), scores.mean((0, 2, 3))
    last = theirs.segmentation_head[0] if row.build is smp.Unet else None
    for module in (last,) if last is not None else _last_layers(theirs):
        module.weight *= spread
        module.bias.copy_((module.bias - middle / (1 if last is not None else len(_last_layers(theirs)))) * spread)
    ours = _ours(row, theirs)
    categories = ours.categories

    def answer(image: Tensor) -> Tensor:
        return logits(image).argmax(1)[0]

    def read(found: Tensor, size: tuple[int, int]) -> Prediction:
        return Prediction(size, categories, semantic=found.to(torch.int16), semantic_categories=categories)

    unet = row.build is smp.Unet
    dense = (theirs.encoder, theirs.decoder, theirs.segmentation_head) if unet else (theirs.backbone, theirs.classifier)
    return Pair(ours, "smp" if unet else "torchvision", answer, theirs, {"dense": dense}, read)


def _last_layers(theirs: Any) -> list[nn.Conv2d]:
    return [m for m in theirs.classifier.modules() if isinstance(m, nn.Conv2d) and m.out_channels == OUTPUTS]


def _ours(row: MapRow, theirs: nn.Module) -> VisionModel:
    """Ours with their weights: from their file where we read it, else in order, every shape being the same."""
    plain = vt.create_model(row.model, [f"c{i}" for i in range(OUTPUTS)], **row.options).eval()
    if not isinstance(theirs, smp.Unet):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "twin.pth"
            torch.save(theirs.state_dict(), path)
            ours = vt.create_model(row.model, weights=path, **row.options).eval()
        ours.preprocess = plain.preprocess  # images as they are
        return ours
    mine, other = plain.state_dict(), theirs.state_dict()
    assert [v.shape for v in mine.values()] == [v.shape for v in other.values()], "the two U-Nets differ"
    plain.load_state_dict(dict(zip(mine, other.values(), strict=True)))
    return plain


def _yolox(args: argparse.Namespace) -> Pair:
    """The real YOLOX-nano. No library here has it: the other side is our own network, nothing of it prepared."""
    weights = Path(args.data) / "weights" / "yolox_nano.pth"
    ours = vt.create_model("yolox", weights=weights).eval()
    plain = vt.create_model("yolox", weights=weights).eval()

    def answer(image: Tensor) -> Prediction:
        return plain.predict(plain.preprocess([image]))[0]

    return Pair(ours, "unprepared", answer, plain, {}, lambda found, _: found)
