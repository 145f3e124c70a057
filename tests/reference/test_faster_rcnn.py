"""Faster R-CNN against torchvision's: the same weights in, the same boxes and losses out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection import FasterRCNN

import vision_tasks as vt
from tests.reference.rcnn_twins import (
    SIZES,
    compare_losses,
    compare_predictions,
    fix_sampling,
    pair,
    photo,
    random_boxes,
)
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.structures import Target

Pair = tuple[VisionModel, FasterRCNN]

# Proposals and draws of the deep head are cut, alike for both, as it would take a minute.
FEW = {"rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 50, "box_batch_size_per_image": 48}
OUR_FEW: dict[str, Any] = {"test_proposals": (300, 50), "rois_per_image": 48}
SIDES: dict[str, Any] = {"min_size": 256, "max_size": 320}
TWINS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "v1": ("fasterrcnn_resnet50_fpn", SIDES | {"box_batch_size_per_image": 128}, SIDES | {"rois_per_image": 128}),
    "v2": ("fasterrcnn_resnet50_fpn_v2", SIDES | FEW, SIDES | OUR_FEW),
    "mobile": ("fasterrcnn_mobilenet_v3_large_fpn", SIDES, SIDES),
    "320px": ("fasterrcnn_mobilenet_v3_large_320_fpn", {}, {"variant": "320px"}),
}
"""Name -> torchvision's twin, its options, ours. Variant v2 and the backbone are read off the file."""


@pytest.fixture(scope="module", params=TWINS)
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.manual_seed(0)
    twin, their_options, our_options = TWINS[request.param]
    theirs = getattr(detection, twin)(weights=None, weights_backbone=None, **their_options)
    return pair("faster_rcnn", theirs, tmp_path_factory.mktemp("weights"), **our_options)


@pytest.mark.slow
def test_predictions_equal_torchvision(twins: Pair) -> None:
    compare_predictions(*twins, SIZES[:2])


@pytest.mark.slow
def test_losses_equal_torchvision(twins: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = twins
    fix_sampling(ours, monkeypatch)
    generator = torch.Generator().manual_seed(3)
    truths, targets = [], []
    for i, (size, n) in enumerate(zip(SIZES, (5, 1, 0), strict=True)):
        boxes = random_boxes(size, n, generator)
        labels = torch.randint(0, 80, (n,), generator=generator)
        truths.append({"boxes": boxes, "labels": torch.tensor(ours.categories.ids)[labels]})
        targets.append(Target(i, size, boxes=boxes, labels=labels))
    compare_losses(ours, theirs, [photo(size, seed) for seed, size in enumerate(SIZES)], truths, targets)


def test_overlap_is_torchvisions() -> None:
    from torchvision.ops import box_iou

    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(1)) * 100
    boxes[:, 2:] += boxes[:, :2]
    torch.testing.assert_close(pairwise_iou(boxes[:20], boxes[20:]), box_iou(boxes[:20], boxes[20:]))


def test_reads_file(tmp_path: Path) -> None:
    with pytest.raises(vt.VisionTasksError, match=r"no weight file"):
        vt.create_model("faster_rcnn", weights=tmp_path / "nothing.pth")
