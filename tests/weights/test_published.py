"""Which file a name means. Nothing is downloaded here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torchvision.models import list_models

from vision_tasks.backbones.registry import BACKBONES
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.registry import MODELS, create_model, model_options
from vision_tasks.weights import published


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """File names that would have been downloaded."""
    names: list[str] = []
    monkeypatch.setattr(published, "fetch", lambda url: names.append(url) or Path("x"))
    return names


def test_every_torchvision_backbone_has_imagenet_weights(asked: list[str]) -> None:
    there = [name for name in BACKBONES if name in list_models()]
    assert len(there) >= 50
    for name in there:
        published.imagenet_file(name)
    assert all(re.match(r"https://download\.pytorch\.org/models/.*-[0-9a-f]{8}\.pth$", url) for url in asked)
    names = [url.rsplit("/", 1)[-1] for url in asked]
    # The digits that torchvision published with its first ImageNet weights.
    assert "resnet50-0676ba61.pth" in names
    assert "mobilenet_v2-b0353104.pth" in names


def test_the_second_recipe_of_imagenet(asked: list[str]) -> None:
    published.imagenet_file("resnet50", "imagenet_v2")
    assert asked == ["https://download.pytorch.org/models/resnet50-11ad3fa6.pth"]
    with pytest.raises(VisionTasksError, match=r"no published ImageNet weights 'imagenet_v2'.*'vgg16'.*'imagenet'"):
        published.imagenet_file("vgg16", "imagenet_v2")


def test_ssd_begins_with_the_vgg_whose_pixels_go_to_255(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(published, "fetch", lambda url: asked.append(url) or tmp_path / "vgg.pth")
    model = create_model("ssd", ["cat"])
    torch.save(
        model.backbone.state_dict() | {"classifier.0.bias": torch.full((4096,), torch.nan)}, tmp_path / "vgg.pth"
    )
    create_model("ssd", ["cat"], backbone_weights="imagenet")
    create_model("retinanet", ["cat"], backbone="vgg16", channels=8, backbone_weights="imagenet")
    assert [url.rsplit("/", 1)[-1] for url in asked] == ["vgg16_features-amdegroot-88682ab5.pth", "vgg16-397923af.pth"]


def test_every_published_detector_is_one_that_can_be_built(asked: list[str]) -> None:
    for model, variant, backbone in published.MODELS:
        assert model in MODELS
        options = model_options(model)
        for name, value in (("variant", variant), ("backbone", backbone)):
            assert name in options or value is None
        assert published.model_file(model, variant, backbone) == Path("x")
    assert len(set(asked)) == len(published.MODELS)
    ours = next(file for key, file in published.MODELS.items() if key[0] == "faster_rcnn")
    assert ours.url.endswith(f"fasterrcnn_resnet50_fpn_coco-{published.EPSILON_ZERO[0]}.pth")
    assert ours.box_ap == 37.0


def test_what_nobody_published() -> None:
    with pytest.raises(VisionTasksError, match=r"'resnet_narrow'.*Give backbone_weights a file"):
        published.imagenet_file("resnet_narrow")
    with pytest.raises(VisionTasksError, match=r"faster_rcnn resnet18.*faster_rcnn .*resnet50"):
        published.model_file("faster_rcnn", None, "resnet18")
