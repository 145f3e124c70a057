"""Mask R-CNN against torchvision's: the same weights in, the same boxes, masks and losses out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import vision_tasks as vt
from tests.reference.rcnn_twins import SIZES, compare_losses, compare_predictions, fix_sampling, pair, photo
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import render
from vision_tasks.structures import Masks, Target
from vision_tasks.weights.torchvision import rename_rcnn

Pair = tuple[VisionModel, MaskRCNN]

# Few proposals and masks, alike for both: the mask head would take a minute.
FEW: dict[str, Any] = {
    "min_size": 256, "max_size": 320, "rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 50,
    "box_batch_size_per_image": 32, "box_detections_per_img": 25,
}  # fmt: skip
OUR_FEW: dict[str, Any] = {
    "min_size": 256, "max_size": 320, "test_proposals": (300, 50), "rois_per_image": 32, "detections_per_image": 25,
}  # fmt: skip


@pytest.fixture(scope="module", params=["v1", "v2"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.manual_seed(0)
    build = maskrcnn_resnet50_fpn if request.param == "v1" else maskrcnn_resnet50_fpn_v2
    theirs = build(weights=None, weights_backbone=None, **FEW)
    return pair("mask_rcnn", theirs, tmp_path_factory.mktemp("weights"), **OUR_FEW)


@pytest.mark.slow
def test_boxes_and_masks_equal_torchvision(twins: Pair) -> None:
    # One is scaled down, so that masks travel back to a larger original.
    compare_predictions(*twins, [SIZES[0], (300, 360)], at_least=20)


@pytest.mark.slow
def test_losses_equal_torchvision(twins: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = twins
    fix_sampling(ours, monkeypatch)
    # Images that neither program resizes: torchvision resizes bitmaps, we do not.
    sizes = [(256, 320), (300, 256)]
    rng = np.random.default_rng(0)
    truths, targets = [], []
    for i, (size, n) in enumerate(zip(sizes, (4, 2), strict=True)):
        masks = Masks(size, shapes=[[star(rng, size)] for _ in range(n)])
        corners = [np.concatenate((p.min(0), p.max(0))) for [p] in masks.shapes or []]
        boxes = torch.from_numpy(np.stack(corners)).float()
        labels = torch.from_numpy(rng.integers(0, 80, n))
        bitmaps = render(masks)
        truths.append(
            {"boxes": boxes, "labels": torch.tensor(ours.categories.ids)[labels], "masks": bitmaps.to(torch.uint8)}
        )
        targets.append(Target(i, size, boxes=boxes, labels=labels, masks=masks))
    compare_losses(ours, theirs, [photo(size, seed) for seed, size in enumerate(sizes)], truths, targets)


def star(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A spiky outline of some 40 to 120 pixels, (14, 2) float32, inside the image."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, 14))
    radius = rng.uniform(20, 60) * rng.uniform(0.4, 1, 14)
    centre = rng.uniform(60, np.array(size[::-1]) - 60)
    return (centre + radius[:, None] * np.stack((np.cos(angle), np.sin(angle)), 1)).astype(np.float32)


@pytest.mark.slow
def test_a_fine_tune_keeps_what_the_file_knows_of_a_category(tmp_path: Path) -> None:
    torch.manual_seed(0)
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    theirs = MaskRCNN(body, 91)
    path = tmp_path / "coco.pth"
    torch.save(theirs.state_dict(), path)
    ours = vt.create_model("mask_rcnn", ["unicorn", "dog"], weights=path, backbone="resnet18")
    head, roi = ours.heads["objects"], theirs.roi_heads
    dog = 18  # COCO's id, and torchvision's output
    for mine, other, parts in (
        (head.mask.logits.weight, roi.mask_predictor.mask_fcn_logits.weight, 1),
        (head.mask.logits.bias, roi.mask_predictor.mask_fcn_logits.bias, 1),
        (head.roi.scores.weight, roi.box_predictor.cls_score.weight, 1),
        (head.roi.deltas.weight, roi.box_predictor.bbox_pred.weight, 4),
        (head.roi.deltas.bias, roi.box_predictor.bbox_pred.bias, 4),
    ):
        assert len(mine) == 3 * parts
        assert torch.equal(mine[2 * parts :], other[dog * parts : (dog + 1) * parts])
        unicorn, known = mine[parts : 2 * parts].flatten(), other.reshape(91, -1)
        assert not (known == unicorn).all(dim=1).any(), "nobody knows unicorns"
    assert torch.equal(head.roi.scores.weight[0], roi.box_predictor.cls_score.weight[0]), "the background is known"


def test_a_file_with_masks_is_not_taken_for_one_without(tmp_path: Path) -> None:
    path = tmp_path / "mask.pth"
    names = ("roi_heads.box_predictor.cls_score.weight", "roi_heads.mask_head.0.0.weight")
    torch.save({name: torch.zeros(91, 4) for name in names}, path)
    with pytest.raises(vt.VisionTasksError, match="torchvision's Mask R-CNN, which fit mask_rcnn"):
        vt.create_model("faster_rcnn", weights=path)


def test_the_spelling_before_torchvision_0_13_is_read() -> None:
    """The published Mask R-CNN file was written then."""
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    now = theirs.state_dict()
    old = {}
    for name, value in now.items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        name = re.sub(r"mask_head\.(\d)\.0\.", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}.", name)
        old[name] = value
    assert old.keys() != now.keys()
    fresh = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    without_versions = dict(old)  # a plain dictionary has no version numbers: torchvision takes it for an old file
    fresh.load_state_dict(without_versions)
    assert {k: v.data_ptr() for k, v in rename_rcnn(old).items()} == {
        k: v.data_ptr() for k, v in rename_rcnn(now).items()
    }
