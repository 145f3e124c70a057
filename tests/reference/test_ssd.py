"""SSD300 and SSDLite320 against torchvision's: the same weights in, the same boxes and losses out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD
from torchvision.models.mobilenetv3 import mobilenet_v3_large

import vision_tasks as vt
from tests.reference import dense_parity
from vision_tasks.models.vision_model import VisionModel

Pair = tuple[VisionModel, SSD]
BUILDERS = {"ssd": ssd300_vgg16, "ssdlite": ssdlite320_mobilenet_v3_large}


@pytest.fixture(scope="module", params=["ssd", "ssdlite"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.manual_seed(0)
    theirs = BUILDERS[request.param](weights=None, weights_backbone=None)
    head = theirs.head
    classes = [last_convolution(m) for m in head.classification_head.module_list]
    deltas = [last_convolution(m) for m in head.regression_head.module_list]
    dense_parity.settle(theirs, [(c, 0, 2.5) for c in classes] + [(d, 0, 1.0) for d in deltas], side=320)
    for layer in classes:
        dense_parity.silence_unused(layer.bias)
        with torch.no_grad():
            layer.bias.view(-1, 91)[:, 0] = 8  # most boxes are background
    path = tmp_path_factory.mktemp("weights") / "twin.pth"
    torch.save(theirs.state_dict(), path)
    return vt.create_model(request.param, weights=path), theirs


def last_convolution(predictor: nn.Module) -> nn.Conv2d:
    *_, last = (m for m in predictor.modules() if isinstance(m, nn.Conv2d))
    return last


@pytest.mark.slow
@pytest.mark.parametrize("which", [[1], [0, 2]])
def test_predictions_equal_torchvision(pair: Pair, which: list[int]) -> None:
    images = dense_parity.photos()
    dense_parity.assert_same_predictions(*pair, [images[i] for i in which])


@pytest.mark.slow
def test_losses_equal_torchvision(pair: Pair) -> None:
    dense_parity.assert_same_losses(*pair, {"classification": "objects/class", "bbox_regression": "objects/box"})


@pytest.mark.slow
def test_every_weight_of_the_file_has_its_place(pair: Pair) -> None:
    """Counters that only training reads apart; our frozen norms have none."""
    ours, theirs = pair
    counted = sum(v.numel() for n, v in theirs.state_dict().items() if not n.endswith("num_batches_tracked"))
    assert sum(v.numel() for n, v in ours.state_dict().items() if not n.endswith("num_batches_tracked")) == counted
    published = {"SSD300": 35641826, "SSDLite320": 3440060}  # num_params of torchvision's published files
    assert sum(p.numel() for p in theirs.parameters()) in published.values()


def test_full_tail_takes_torchvisions_classifier_weights(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    classifier = mobilenet_v3_large(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "imagenet.pth")
    ours = vt.create_model("ssdlite", ["cat"], backbone_weights=tmp_path / "imagenet.pth", size=64)
    own = ours.backbone.state_dict()
    theirs = {n: v for n, v in classifier.state_dict().items() if n in own}
    assert theirs.keys() == own.keys()
    assert all(torch.equal(own[name], value) for name, value in theirs.items())
