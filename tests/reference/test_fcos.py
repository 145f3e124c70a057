"""FCOS against torchvision's: the same weights in, the same boxes and losses out."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import FCOS, fcos_resnet50_fpn

from tests.reference import dense_parity
from vision_tasks.models.vision_model import VisionModel

Pair = tuple[VisionModel, FCOS]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.manual_seed(0)
    theirs = fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=256, max_size=320)
    classes, boxes = theirs.head.classification_head, theirs.head.regression_head
    dense_parity.settle(theirs, [(classes.cls_logits, -8, 2.5), (boxes.bbox_reg, 2, 1), (boxes.bbox_ctrness, 0, 1)])
    dense_parity.silence_unused(classes.cls_logits.bias)
    return dense_parity.twin("fcos", theirs, tmp_path_factory.mktemp("weights")), theirs


@pytest.mark.slow
@pytest.mark.parametrize("which", [[1], [0, 2]])
def test_predictions_equal_torchvision(pair: Pair, which: list[int]) -> None:
    images = dense_parity.photos()
    dense_parity.assert_same_predictions(*pair, [images[i] for i in which])


@pytest.mark.slow
def test_losses_equal_torchvision(pair: Pair) -> None:
    names = {
        "classification": "objects/class",
        "bbox_regression": "objects/box",
        "bbox_ctrness": "objects/centerness",
    }
    dense_parity.assert_same_losses(*pair, names)
