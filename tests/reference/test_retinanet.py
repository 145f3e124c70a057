"""RetinaNet against torchvision's: the same weights in, the same boxes and losses out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2

import vision_tasks as vt
from tests.reference import dense_parity
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.weights.torchvision_dense import rename_retinanet

Pair = tuple[VisionModel, RetinaNet]
BUILDERS = {"v1": retinanet_resnet50_fpn, "v2": retinanet_resnet50_fpn_v2}


@pytest.fixture(scope="module", params=["v1", "v2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    torch.manual_seed(0)
    theirs = BUILDERS[request.param](weights=None, weights_backbone=None, min_size=256, max_size=320)
    dense_parity.settle(
        theirs,
        [(theirs.head.classification_head.cls_logits, -11, 2.5), (theirs.head.regression_head.bbox_reg, 0, 0.3)],
    )
    dense_parity.silence_unused(theirs.head.classification_head.cls_logits.bias)
    # No variant is asked for: the file itself shows it.
    ours = dense_parity.twin("retinanet", theirs, tmp_path_factory.mktemp("weights"))
    assert ours.heads["objects"].box_loss == {"v1": "l1", "v2": "giou"}[request.param]
    return ours, theirs


@pytest.mark.slow
@pytest.mark.parametrize("which", [[1], [0, 2]])
def test_predictions_equal_torchvision(pair: Pair, which: list[int]) -> None:
    images = dense_parity.photos()
    dense_parity.assert_same_predictions(*pair, [images[i] for i in which])


@pytest.mark.slow
def test_losses_equal_torchvision(pair: Pair) -> None:
    names = {"classification": "objects/class", "bbox_regression": "objects/box"}
    dense_parity.assert_same_losses(*pair, names)


@pytest.mark.slow
def test_the_published_files_older_names(pair: Pair) -> None:
    """Files older than torchvision 0.13 number a tower's layers in one row, and convolutions of the pyramid plainly."""
    _, theirs = pair
    if "head.classification_head.conv.0.1.weight" in theirs.state_dict():
        pytest.skip("v2 is younger than the names")
    new = theirs.state_dict()
    old = {}
    for name, value in new.items():
        name = re.sub(r"(conv)\.(\d)\.0\.", lambda m: f"conv.{2 * int(m[2])}.", name)
        old[re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name)] = value
    assert old.keys() != new.keys()
    torchvisions_own = BUILDERS["v1"](weights=None, weights_backbone=None)
    torchvisions_own.load_state_dict(old)  # torchvision reads them so, too
    renamed = rename_retinanet(old)
    assert renamed.keys() == rename_retinanet(new).keys()
    assert all(torch.equal(renamed[name], value) for name, value in rename_retinanet(new).items())


def test_begins_as_torchvision_does() -> None:
    """Distributions of the first weights, and one probability everywhere."""
    from vision_tasks.heads.towers import output_layer, tower

    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=7).head
    ours = tower(256, norm=False, bias=True)
    for mine, yours in (
        (ours[0], theirs.classification_head.conv[0][0]),
        (output_layer(256, 63, classes=True), theirs.classification_head.cls_logits),
        (output_layer(256, 36), theirs.regression_head.bbox_reg),
    ):
        assert isinstance(mine, nn.Conv2d)
        assert mine.weight.shape == yours.weight.shape
        assert mine.bias is not None
        assert torch.equal(mine.bias, yours.bias)
        assert mine.weight.std().item() == pytest.approx(yours.weight.std().item(), rel=0.02)


@pytest.mark.slow
def test_a_fine_tune_whose_classes_count_from_one_keeps_them(tmp_path: Path) -> None:
    """torchvision's users train K classes as K + 1 outputs, 0 unused, also without a background output."""
    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    head = vt.create_model("retinanet", ["cat", "dog"], weights=tmp_path / "theirs.pth").heads["objects"]
    assert head.columns.tolist() == [1, 2]
    assert torch.equal(head.class_logits.weight, theirs.head.classification_head.cls_logits.weight)
