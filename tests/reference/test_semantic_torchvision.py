"""FCN, DeepLabV3 and LR-ASPP against torchvision's: the same file in, the same logits, maps and losses out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model_weights, segmentation

import vision_tasks as vt
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Target

LARGE = pytest.mark.slow
TWINS: dict[str, tuple[str, str]] = {
    "fcn_resnet50": ("fcn", "resnet50"),
    "fcn_resnet101": ("fcn", "resnet101"),
    "deeplabv3_resnet50": ("deeplabv3", "resnet50"),
    "deeplabv3_resnet101": ("deeplabv3", "resnet101"),
    "deeplabv3_mobilenet_v3_large": ("deeplabv3", "mobilenet_v3_large"),
    "lraspp_mobilenet_v3_large": ("lraspp", "mobilenet_v3_large"),
}
SMALL = [pytest.param(twin, marks=[] if twin.endswith("v3_large") else LARGE) for twin in TWINS]


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth random picture, (3, H, W) uint8."""
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1) * 255).to(torch.uint8)


@torch.no_grad()
def lively(twin: str, outputs: int = 21, auxiliary: bool = True) -> nn.Module:
    """torchvision's model with statistics of its own activations, made uneven, and logits that spread over 2."""
    torch.manual_seed(0)
    options = {} if twin.startswith("lraspp") else {"aux_loss": auxiliary}
    model = segmentation.__dict__[twin](weights=None, weights_backbone=None, num_classes=outputs, **options)
    named = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    norms = [norm for _, norm in named]
    for name, norm in named:
        norm.momentum = None
        # Residuals of full strength would make any rounding large in a deep random network.
        norm.weight.uniform_(0.8, 1.2).mul_(0.3 if name.endswith(".bn3") else 1)
    images = torch.cat([normalised(photo(97, 97, seed)) for seed in range(4)])
    model.train()(images)
    for norm in norms:
        norm.momentum = 0.1
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn(norm.num_features)
        # A channel that hardly moved here would make any rounding large in another image.
        norm.running_var.clamp_(min=float(norm.running_var.mean()))
        norm.running_var *= torch.empty(norm.num_features).uniform_(0.8, 1.25)
        norm.bias.normal_(0, 0.1)
    scale = 2 / model.eval()(images)["out"].std()
    for name, parameter in model.classifier.named_parameters():
        if name.startswith(("4.", "low_classifier.", "high_classifier.")):
            parameter *= scale
    return model


def saved(model: nn.Module, folder: Path) -> Path:
    path = folder / "twin.pth"
    torch.save(model.state_dict(), path)
    return path


def normalised(image: Tensor) -> Tensor:
    """As torchvision's preset does it, without the resize: (1, 3, H, W)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((image / 255 - mean[:, None, None]) / std[:, None, None])[None]


def full_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("twin", SMALL)
def test_logits_and_maps_equal_torchvision(twin: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name, backbone = TWINS[twin]
    theirs = lively(twin)
    with caplog.at_level(logging.WARNING, "vision_tasks"):
        ours = vt.create_model(name, weights=saved(theirs, tmp_path))  # what kind it is the file tells
    assert not caplog.records  # nothing was left over, nothing lacked
    assert ours.blueprint is not None
    assert ours.blueprint.arguments["backbone"] == backbone
    ours.preprocess = vt.create_model(name, ["a", "b"], backbone="resnet_narrow").preprocess  # images as they are
    head: Any = ours.heads["semantic"]
    for height, width in ((97, 150), (128, 64), (33, 41)):
        image = photo(height, width, height)
        batch = ours.preprocess([image])
        with torch.inference_mode():
            want = theirs(normalised(image))
            features = ours.features(batch.images)
            got = full_size(head.logits(features, (height, width)), (height, width))
            (prediction,) = ours.predict(batch)
            assert want["out"].std() > 0.3
            torch.testing.assert_close(got, want["out"], rtol=1e-5, atol=1e-4)
            if "aux" in want:
                got = full_size(head.auxiliary(features, (height, width)), (height, width))
                torch.testing.assert_close(got, want["aux"], rtol=1e-5, atol=1e-4)
        assert prediction.semantic is not None
        assert prediction.semantic.shape == (height, width)
        two = want["out"][0].topk(2, dim=0).values
        clear = two[0] - two[1] > 1e-3  # which of two equal scores wins is nobody's matter
        assert clear.float().mean() > 0.98
        assert torch.equal(prediction.semantic[clear].long(), want["out"][0].argmax(0)[clear])
        assert len(prediction.semantic.unique()) > 1


@pytest.mark.slow
def test_images_of_unequal_size_are_one_padded_batch(tmp_path: Path) -> None:
    theirs = lively("deeplabv3_mobilenet_v3_large")
    ours = vt.create_model("deeplabv3", weights=saved(theirs, tmp_path), min_size=None)
    images = [photo(70, 99, 1), photo(81, 60, 2)]
    batch = ours.preprocess(images)
    assert batch.images.shape == (2, 3, 81, 99)
    canvas = torch.zeros(2, 3, 81, 99)
    for row, image in zip(canvas, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = normalised(image)[0]
    head: Any = ours.heads["semantic"]
    with torch.inference_mode():
        want = theirs(canvas)["out"]
        got = full_size(head.logits(ours.features(batch.images), (81, 99)), (81, 99))
        maps = [p.semantic for p in ours.predict(batch)]
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)
    for map_, logits, image in zip(maps, want, images, strict=True):
        assert map_ is not None
        assert map_.shape == image.shape[1:]
        same = map_ == logits.argmax(0)[: image.shape[1], : image.shape[2]]
        assert same.float().mean() > 0.999


def test_a_resized_image_is_decided_at_its_own_size(tmp_path: Path) -> None:
    theirs = lively("lraspp_mobilenet_v3_large")
    ours = vt.create_model("lraspp", weights=saved(theirs, tmp_path), min_size=96)
    image = photo(64, 100)
    preset = F.interpolate(image[None] / 255, (96, 150), mode="bilinear", antialias=True)
    with torch.inference_mode():
        want = theirs(normalised(preset[0] * 255))["out"].argmax(1)[0]
        (got,) = ours.predict(ours.preprocess([image]))
    assert got.semantic is not None
    assert got.semantic.shape == (64, 100)
    nearest = F.interpolate(want[None, None].float(), (64, 100), mode="nearest-exact")[0, 0]
    assert (got.semantic == nearest).float().mean() > 0.97


@pytest.mark.parametrize(
    "twin", [pytest.param("deeplabv3_mobilenet_v3_large"), pytest.param("fcn_resnet50", marks=LARGE)]
)
def test_training_losses_are_those_of_torchvisions_reference(twin: str, tmp_path: Path) -> None:
    theirs = lively(twin)
    ours = vt.create_model(TWINS[twin][0], weights=saved(theirs, tmp_path), min_size=None)
    images = [photo(70, 90, 1), photo(70, 90, 2)]
    truth = torch.randint(0, 21, (2, 70, 90), generator=torch.Generator().manual_seed(0))
    truth[:, :9] = -1
    batch = ours.preprocess(images, [Target(i, (70, 90), semantic=t.to(torch.int16)) for i, t in enumerate(truth)])
    for model in (theirs, ours):
        model.train()
        for part in model.modules():  # chance is no part of the comparison
            if isinstance(part, nn.Dropout):
                part.p = 0
    want = {
        k: F.cross_entropy(v, truth, ignore_index=-1) for k, v in theirs(torch.cat([*map(normalised, images)])).items()
    }
    found = ours.losses(batch)
    assert found.keys() == {"semantic/cross_entropy", "semantic/auxiliary"}
    torch.testing.assert_close(found["semantic/cross_entropy"], want["out"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["semantic/auxiliary"], want["aux"], rtol=1e-4, atol=1e-5)
    sum(found.values()).backward()
    sum(want.values()).backward()
    mine, their = ours.backbone, theirs.backbone
    first = next(mine.parameters()).grad, next(their.parameters()).grad
    assert (first[0] - first[1]).abs().max() < 2e-2 * first[1].abs().max()  # fifty layers of batch norm away
    assert all(p.grad is not None for p in ours.parameters())


def test_the_categories_of_the_published_files_come_along(tmp_path: Path) -> None:
    model = vt.create_model("lraspp", weights=saved(lively("lraspp_mobilenet_v3_large"), tmp_path))
    (weights,) = get_model_weights("lraspp_mobilenet_v3_large")
    assert list(model.categories.names) == weights.meta["categories"]
    assert model.categories.names[0] == "__background__"
    assert list(model.categories.ids) == list(range(21))
    assert model.preprocess.min_size == weights.transforms().resize_size[0]


@pytest.mark.slow
def test_a_fine_tune_keeps_classes_of_the_same_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    theirs = lively("deeplabv3_mobilenet_v3_large")
    with caplog.at_level(logging.WARNING, "vision_tasks"):
        ours: VisionModel = vt.create_model(
            "deeplabv3", ["sky", "dining table", "diningtable", "person"], weights=saved(theirs, tmp_path)
        )
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "knows diningtable, person" in said
    assert "does not know sky, dining table" in said
    assert len(caplog.records) == 2
    head: Any = ours.heads["semantic"]
    for mine, their in ((head.decoder, theirs.classifier), (head.auxiliary, theirs.aux_classifier)):
        assert torch.equal(mine.classifier.weight[[2, 3]], their[4].weight[[11, 15]])
        assert torch.equal(mine.classifier.bias[[2, 3]], their[4].bias[[11, 15]])
        assert not torch.equal(mine.classifier.weight[0], their[4].weight[0])
    assert all(p.requires_grad for p in ours.parameters())


def test_all_of_a_model_learns_from_imagenet_weights(tmp_path: Path) -> None:
    body = vt.create_model("fcn", ["a", "b"], backbone="resnet_narrow").backbone
    torch.save(body.state_dict(), tmp_path / "body.pth")
    path = tmp_path / "body.pth"
    model = vt.create_model("fcn", ["a", "b"], backbone="resnet_narrow", backbone_weights=path)
    assert all(p.requires_grad for p in model.train().parameters())
    assert all(part.training for part in model.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in model.backbone.modules())
    model = vt.create_model("fcn", ["a", "b"], backbone="resnet_narrow", backbone_weights=path, trainable_stages=2)
    assert not next(model.backbone.parameters()).requires_grad


def test_a_file_of_other_classes_wants_their_names(tmp_path: Path) -> None:
    theirs = lively("deeplabv3_mobilenet_v3_large", outputs=3, auxiliary=False)
    path = saved(theirs, tmp_path)
    with pytest.raises(VisionTasksError, match="3 class outputs, whose names nobody knows"):
        vt.create_model("deeplabv3", weights=path)
    ours = vt.create_model("deeplabv3", ["ground", "cat", "dog"], weights=path)
    image = photo(64, 80)
    with torch.inference_mode():
        want = theirs(normalised(image))["out"]
        head: Any = ours.heads["semantic"]
        got = full_size(head.logits(ours.features(ours.preprocess([image]).images), (64, 80)), (64, 80))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-4)
    assert head.auxiliary is None
    # Background is a class of its own here, so two names for three outputs are not taken for its others.
    assert (
        vt.create_model("deeplabv3", ["cat", "dog"], weights=path).heads["semantic"].decoder.classifier.out_channels
        == 2
    )
    with pytest.raises(VisionTasksError, match="torchvision's DeepLabV3, which fit deeplabv3, not fcn"):
        vt.create_model("fcn", ["cat", "dog"], weights=path)


@pytest.mark.slow
def test_such_a_file_runs_by_itself_and_is_saved_whole(tmp_path: Path) -> None:
    path = saved(lively("lraspp_mobilenet_v3_large"), tmp_path)
    model = vt.load(path)
    assert model.blueprint is not None
    assert model.blueprint.builder == "lraspp"
    again = vt.load(vt.save(model, tmp_path / "ours.ckpt"))
    image = photo(60, 50)
    with torch.inference_mode():
        (one,), (other,) = (m.predict(m.preprocess([image])) for m in (model, again))
    assert torch.equal(one.semantic, other.semantic)
    assert other.semantic_categories == model.categories
