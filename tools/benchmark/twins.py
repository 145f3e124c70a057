"""torchvision's detectors made equal to ours, weights and all, on a MobileNetV2; for `finetune.py`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision_twin import copied, their_targets

from vision_tasks.data.dataset import RawBatch
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Categories, Masks, Prediction
from vision_tasks.weights.torchvision import rename_rcnn, renamed
from vision_tasks.weights.torchvision_dense import rename_fcos, rename_retinanet

_SSDLITE = (
    (r"backbone\.extra\.", "neck.blocks."),
    (r"head\.classification_head\.module_list\.", "heads.objects.classes."),
    (r"head\.regression_head\.module_list\.", "heads.objects.deltas."),
)
_STAGES = {3: 24, 6: 32, 13: 96, 18: 1280}
"""Last layer of each of MobileNetV2's stages C2 to C5, and its channels."""


class _SSDLiteBody(nn.Module):
    """MobileNetV2's C4 and C5, and torchvision's four further maps."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d).features
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        widths = (1280, 512, 256, 256, 128)
        self.extra = nn.ModuleList(_extra_block(a, b, norm) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in (13, 18):
                found.append(x)
        for block in self.extra:
            x = block(x)
            found.append(x)
        return OrderedDict((str(i), v) for i, v in enumerate(found))


def _pyramid(ours: VisionModel, first: int) -> BackboneWithFPN:
    """MobileNetV2 with a pyramid from C`first` to C5, and P6 and P7 above where it begins at C3."""
    stages = dict(list(_STAGES.items())[first - 2 :])
    width = next(iter(ours.neck.channels.values()))  # type: ignore[union-attr]
    return BackboneWithFPN(
        mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d).features,
        {str(layer): str(i) for i, layer in enumerate(stages)}, list(stages.values()), width,
        extra_blocks=LastLevelP6P7(width, width) if first == 3 else None,
    )  # fmt: skip


def _sizes(ours: VisionModel) -> dict[str, int]:
    return {"min_size": ours.preprocess.min_size, "max_size": ours.preprocess.max_size}


def _rcnn(ours: VisionModel, peer: Callable[..., nn.Module]) -> nn.Module:
    head: Any = ours.heads["objects"]
    body, outputs = _pyramid(ours, 2), len(head.categories) + 1
    theirs: Any = peer(body, outputs, box_batch_size_per_image=head.roi.batch_per_image, **_sizes(ours))
    theirs.roi_heads.box_head = TwoMLPHead(head.roi.fc6.in_features, head.roi.fc6.out_features)
    theirs.roi_heads.box_predictor = FastRCNNPredictor(head.roi.fc6.out_features, outputs)
    if peer is MaskRCNN:
        width = head.mask.logits.in_channels
        theirs.roi_heads.mask_head = MaskRCNNHeads(body.out_channels, (width,) * 4, 1)
        theirs.roi_heads.mask_predictor = MaskRCNNPredictor(width, width, outputs)
    return theirs  # type: ignore[no-any-return]


def _dense(ours: VisionModel, peer: Callable[..., nn.Module]) -> nn.Module:
    theirs = peer(_pyramid(ours, 3), len(ours.categories), **_sizes(ours))
    groups = [m.num_groups for m in ours.modules() if isinstance(m, nn.GroupNorm)]
    for module in theirs.modules():
        if isinstance(module, nn.GroupNorm):  # narrow towers have fewer groups here, 32 whatever the width there
            module.num_groups = groups[0]
    return theirs


def _ssdlite(ours: VisionModel, peer: Callable[..., nn.Module]) -> nn.Module:
    anchors = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    norm, outputs = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03), len(ours.categories) + 1
    assert ours.preprocess.size is not None
    return peer(
        _SSDLiteBody(), anchors, ours.preprocess.size, outputs,
        head=SSDLiteHead([96, 1280, 512, 256, 256, 128], anchors.num_anchors_per_location(), outputs, norm),
        score_thresh=0.001, nms_thresh=0.55, detections_per_img=300, topk_candidates=300,
        image_mean=list(ours.preprocess.mean), image_std=list(ours.preprocess.std),
    )  # fmt: skip


_PEERS: dict[str, tuple[Callable[..., nn.Module], type[nn.Module], Callable[[Any], Mapping[str, Tensor]]]] = {
    "faster_rcnn": (_rcnn, FasterRCNN, rename_rcnn),
    "mask_rcnn": (_rcnn, MaskRCNN, rename_rcnn),
    "retinanet": (_dense, RetinaNet, rename_retinanet),
    "fcos": (_dense, FCOS, rename_fcos),
    "ssdlite": (_ssdlite, SSD, lambda state: renamed(state, _SSDLITE)),
}
"""Our model -> how the peer is built, its class, and the table of names."""


def has_peer(model: str) -> bool:
    """Whether torchvision has this model."""
    return model in _PEERS


def twin(ours: VisionModel) -> tuple[nn.Module, dict[str, str]]:
    """torchvision's model with our weights, freezing and sizes; and our name for each of its parameters."""
    assert ours.blueprint is not None
    build, peer, rename = _PEERS[ours.blueprint.builder]
    theirs = build(ours, peer)
    return theirs, copied(theirs, ours, rename)


def their_truths(raw: RawBatch, theirs: nn.Module) -> list[dict[str, Tensor]]:
    """Truths as torchvision wants them: labels counted from 1 where there is a background, masks as full bitmaps."""
    targets = their_targets(raw)
    for found, target in zip(targets, raw.targets, strict=True):
        if isinstance(theirs, RetinaNet | FCOS):
            found["labels"] = found["labels"] - 1
        if isinstance(theirs, MaskRCNN):
            assert target.masks is not None
            assert len(target.masks) == len(found["boxes"]), "crowds and empty boxes are not expected here"
            found["masks"] = mask_ops.render(target.masks).to(torch.uint8)
    return targets


def predicted(theirs: nn.Module, raw: RawBatch, categories: Categories) -> list[Prediction]:
    """Their answers in our words."""
    first = 0 if isinstance(theirs, RetinaNet | FCOS) else 1
    predictions = []
    for r, target in zip(theirs([image.float() / 255 for image in raw.images]), raw.targets, strict=True):
        shapes = list(mask_ops.encode(r["masks"][:, 0] > 0.5)) if "masks" in r else None
        predictions.append(
            Prediction(
                target.size, categories, boxes=r["boxes"], labels=r["labels"] - first, scores=r["scores"],
                masks=None if shapes is None else Masks(target.size, shapes=shapes),
            )
        )  # fmt: skip
    return predictions
