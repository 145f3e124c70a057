"""Making models by name, and what is said when that cannot be done."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

import vision_tasks as vt
from tests.tiny_model import OPTIONS, tiny_model
from vision_tasks.errors import VisionTasksError
from vision_tasks.models import registry
from vision_tasks.models.faster_rcnn import faster_rcnn
from vision_tasks.weights.torchvision import coco_categories


def test_known_models_and_their_options() -> None:
    assert vt.list_models() == sorted(vt.MODELS)
    assert "faster_rcnn" in vt.list_models()
    options = registry.model_options("faster_rcnn")
    assert list(options) == [p for p in inspect.signature(faster_rcnn).parameters if p != "categories"]
    assert options["hidden"].annotation is int
    assert all(p.default is not inspect.Parameter.empty for p in options.values())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("faster_rcn", {}, "Did you mean 'faster_rcnn'"),
        ("zzz", {}, "Known: .*faster_rcnn"),
        ("faster_rcnn", {"min_sice": 5}, "Did you mean 'min_size'"),
        ("faster_rcnn", {"backbone": "resnet5"}, "Did you mean 'resnet5"),
        ("faster_rcnn", {"backbone": "vgg"}, "There is no backbone 'vgg'.*Known"),
        ("faster_rcnn", OPTIONS | {"trainable_stages": 6}, r"must be 0\.\.5"),
        ("faster_rcnn", OPTIONS | {"anchor_sizes": (8, 16)}, "one anchor size per level"),
        ("faster_rcnn", OPTIONS | {"hidden": -3}, "cannot be built"),
        ("faster_rcnn", OPTIONS | {"columns": (1,)}, "2 categories need as many columns"),
        ("faster_rcnn", OPTIONS | {"columns": (0, 1)}, r"\[0, 1\] must be among the 3 outputs, of which 0 is the back"),
        ("fcos", {"backbone": "resnet_narrow", "columns": (0, 7)}, r"columns \[0, 7\] must be among the 2 outputs"),
        ("fcos", {"backbone": "resnet_narrow", "columns": (0, -1)}, r"\[0, -1\] must be among"),
        ("faster_rcnn", OPTIONS | {"outputs": 2}, "must be among the 2 outputs"),
        ("faster_rcnn", OPTIONS | {"norm": "btach"}, "'btach'"),
        ("faster_rcnn", OPTIONS | {"variant": "v3"}, "variant takes one of v1, v2,? ?.*not 'v3'"),
        ("retinanet", {"backbone": "resnet_narrow", "variant": "v3"}, "variant takes one of v1, v2,? ?.*not 'v3'"),
        ("faster_rcnn", OPTIONS | {"min_size": -5}, "at least 1 pixel"),
        ("faster_rcnn", {"backbone_weights": "imagenet", "backbone": "resnet_narrow"}, "no published ImageNet weights"),
        ("faster_rcnn", {"weights": "coco", "backbone": "resnet18"}, "no published COCO weights"),
        ("faster_rcnn", {"min_size": "big"}, r"min_size takes int.*, not 'big' \(input should be a valid integer"),
        ("faster_rcnn", {"train_proposals": 100}, r"train_proposals takes tuple\[int, int\], not 100"),
        ("faster_rcnn", OPTIONS | {"iou_threshold": 5}, r"thresholds must be in 0\.\.1, not 0.05 and 5"),
        ("faster_rcnn", OPTIONS | {"detections_per_image": 0}, "must be at least 1, not 0"),
        (
            "faster_rcnn",
            {"backbone": "resnet_narrow", "min_size": 300, "max_size": 200},
            "at least min_size, 300, not 200",
        ),
        ("yolox", {"size": (160, 160, 3)}, r"size takes int \| tuple\[int, int\]"),
        ("ssd", {"size": 512, "weights": "coco"}, "no published COCO weights for ssd size=512"),
        ("faster_rcnn", {"weights": "imagenet"}, "backbone_weights='imagenet'"),
        ("faster_rcnn", {"weights": "COCO"}, "weights='coco'"),
        ("faster_rcnn", {"weights": "nothing.pth"}, "There is no weight file nothing.pth"),
        ("faster_rcnn", {"backbone_weights": "nothing.pth"}, "There is no weight file nothing.pth"),
    ],
)
def test_what_cannot_be_made_says_why(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(vt.VisionTasksError, match=message):
        vt.create_model(name, ["cat", "dog"], **options)


def test_categories_must_be_names() -> None:
    for wrong in ("cat", 3, [{"name": "cat"}]):
        with pytest.raises(vt.VisionTasksError, match="categories must be a list of names"):
            vt.create_model("faster_rcnn", wrong, **OPTIONS)  # type: ignore[arg-type]


def test_options_are_brought_to_their_types() -> None:
    model = vt.create_model("faster_rcnn", ["a"], **(OPTIONS | {"min_size": np.int64(64), "test_proposals": [30, 20]}))
    assert model.blueprint.arguments["min_size"] == 64
    assert type(model.blueprint.arguments["min_size"]) is int
    assert model.blueprint.arguments["test_proposals"] == (30, 20)


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(tiny_model().state_dict(), path)
    with pytest.raises(vt.VisionTasksError, match="another backbone"):
        vt.create_model("faster_rcnn", ["cat", "dog"], weights=path, **(OPTIONS | {"backbone": "mobilenet_v2"}))


def test_a_publishers_file_is_loaded_by_what_it_says_itself(tmp_path: Path) -> None:
    theirs = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=91)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    model = vt.load(tmp_path / "theirs.pth")
    assert model.blueprint.arguments["backbone"] == "mobilenet_v3_large"
    assert len(model.categories) == 80
    head = model.heads["objects"].roi.scores.weight
    assert torch.equal(head, theirs.roi_heads.box_predictor.cls_score.weight)


def test_categories_must_be_there() -> None:
    with pytest.raises(vt.VisionTasksError, match=r"Give categories=\[\.\.\.\]"):
        vt.create_model("faster_rcnn", **OPTIONS)
    with pytest.raises(vt.VisionTasksError, match="at least one category"):
        vt.create_model("faster_rcnn", [], **OPTIONS)


def test_a_users_own_model_is_made_saved_and_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def mine(categories: vt.Categories, width: int = 16) -> Any:
        return faster_rcnn(categories, **(OPTIONS | {"channels": width}))

    monkeypatch.setitem(vt.MODELS, "mine", mine)
    model = vt.create_model("mine", ["a"], width=8)
    assert model.neck.channels["P2"] == 8
    assert vt.load(vt.save(model, tmp_path / "m.ckpt")).neck.channels["P2"] == 8
    with pytest.raises(vt.VisionTasksError, match="no option 'backbone'"):
        vt.create_model("mine", ["a"], backbone="resnet18")


def test_an_entry_point_offers_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> Any:
            return lambda categories, depth=1: faster_rcnn(categories, **OPTIONS)

    wanted = []

    def entry_points(**select: str) -> list[Entry]:
        wanted.append(select)
        return [Entry()] if select["name"] == "theirs" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(registry, "MODELS", dict(registry.MODELS))
    assert vt.create_model("theirs", ["a"], depth=3).blueprint.arguments == {"depth": 3}
    assert wanted == [{"group": "vision_tasks.models", "name": "theirs"}]


def test_pretrained_weights_freeze_norms_and_two_stages_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(tiny_model().state_dict(), path)
    model = vt.create_model("faster_rcnn", ["cat", "dog"], weights=path, **OPTIONS)
    assert model.blueprint.arguments["norm"] == "frozen"
    learning = {n.split(".")[1] for n, p in model.named_parameters() if p.requires_grad and n.startswith("backbone")}
    assert learning == {"layer2", "layer3", "layer4"}
    free = vt.create_model("faster_rcnn", ["cat", "dog"], weights=path, **OPTIONS, norm="batch", trainable_stages=5)
    assert all(p.requires_grad for p in free.parameters())


def test_weights_for_other_categories_keep_what_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, donor = tmp_path / "weights.pth", tiny_model()
    torch.save(donor.state_dict(), path)
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = vt.create_model("faster_rcnn", ["one", "two", "three"], weights=path, **OPTIONS)
    assert "start anew: heads.objects.roi.deltas.bias" in caplog.text
    assert torch.equal(model.backbone.conv1.weight, donor.backbone.conv1.weight)
    assert torch.equal(model.heads["objects"].rpn.conv.weight, donor.heads["objects"].rpn.conv.weight)
    assert model.heads["objects"].roi.scores.weight.shape[0] == 4


def test_categories_of_the_same_name_keep_their_class_outputs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    donor = tiny_model(("cat", "traffic light", "dog"))
    path = vt.save(donor, tmp_path / "ours.ckpt")
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = vt.create_model("faster_rcnn", ["Dog", "zebra", "Traffic_Light", "owl"], weights=path, **OPTIONS)
    assert "knows Dog, Traffic_Light" in caplog.text
    assert "does not know zebra, owl" in caplog.text
    ours, theirs = model.heads["objects"].roi, donor.heads["objects"].roi
    for mine, his in ((0, 0), (1, 3), (3, 2)):  # the background, dog, traffic light
        assert torch.equal(ours.scores.weight[mine], theirs.scores.weight[his])
        assert torch.equal(ours.deltas.bias.view(-1, 4)[mine], theirs.deltas.bias.view(-1, 4)[his])
        assert torch.equal(ours.deltas.weight.view(-1, 4, 32)[mine], theirs.deltas.weight.view(-1, 4, 32)[his])
    assert not torch.isin(ours.scores.weight[[2, 4]], theirs.scores.weight).any()


def test_the_same_categories_in_another_order_give_the_same_scores(tmp_path: Path) -> None:
    donor = tiny_model(("cat", "bird", "dog"))
    path = vt.save(donor, tmp_path / "ours.ckpt")
    again = vt.create_model("faster_rcnn", weights=path)  # the checkpoint says which backbone, how wide, how large
    assert again.categories == donor.categories
    assert again.preprocess == donor.preprocess
    turned = vt.create_model("faster_rcnn", ["dog", "cat", "bird"], weights=path, **OPTIONS)
    image = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255).to(torch.uint8)
    with torch.inference_mode():
        want, same, other = (m.predict(m.preprocess([image]))[0] for m in (donor, again, turned))
    assert len(want) >= 10
    torch.testing.assert_close(same.scores, want.scores)
    torch.testing.assert_close(other.scores, want.scores)
    names = [donor.categories.names[i] for i in want.labels]
    assert [turned.categories.names[i] for i in other.labels] == names


def test_coco_outputs_are_not_taken_for_ninety_others(tmp_path: Path) -> None:
    categories, columns, outputs = coco_categories()
    donor = tiny_model(categories, columns=columns, outputs=outputs)
    path = tmp_path / "coco.pth"
    theirs = donor.state_dict()
    renamed = {
        "roi_heads.box_predictor.cls_score.weight": theirs["heads.objects.roi.scores.weight"],
        "roi_heads.box_predictor.cls_score.bias": theirs["heads.objects.roi.scores.bias"],
    }
    torch.save(renamed, path)
    names = [f"class {i}" for i in range(89)] + ["person"]
    model = vt.create_model("faster_rcnn", names, weights=path, **OPTIONS)
    ours = model.heads["objects"].roi.scores.weight
    assert ours.shape == theirs["heads.objects.roi.scores.weight"].shape
    assert torch.equal(ours[90], theirs["heads.objects.roi.scores.weight"][1])
    assert not torch.equal(ours[1], theirs["heads.objects.roi.scores.weight"][1])


@pytest.mark.parametrize("categories", [["person", *(f"class {i}" for i in range(78))], None])
def test_eighty_outputs_with_a_background_are_not_cocos_eighty(categories: list[str] | None, tmp_path: Path) -> None:
    """Somebody's own 79 classes: torchvision's R-CNNs count the background, and their COCO files have 91 outputs."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.rand(80, 32, generator=generator), torch.rand(80, generator=generator)
    names = "roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.cls_score.bias"
    torch.save(dict(zip(names, (weight, bias), strict=True)), tmp_path / "own.pth")
    if categories is None:
        with pytest.raises(VisionTasksError, match="80 class outputs, whose names nobody knows"):
            vt.create_model("faster_rcnn", weights=tmp_path / "own.pth", **OPTIONS)
        return
    model = vt.create_model("faster_rcnn", categories, weights=tmp_path / "own.pth", **OPTIONS)
    assert torch.equal(model.heads["objects"].roi.scores.weight, weight)


def test_categories_of_equal_names_keep_their_own_outputs(tmp_path: Path) -> None:
    donor = tiny_model(("cat", "dog", "Cat"))
    path = vt.save(donor, tmp_path / "ours.ckpt")
    model = vt.create_model("faster_rcnn", ["dog", "cat", "cat", "cat"], weights=path)
    ours, theirs = model.heads["objects"].roi.scores.weight, donor.heads["objects"].roi.scores.weight
    assert torch.equal(ours[:4], theirs[[0, 2, 1, 3]])
    assert not torch.isin(ours[4], theirs).any()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = vt.save(tiny_model(), tmp_path / "ours.ckpt")
    content = torch.load(path, weights_only=True)
    content["vision_tasks"]["builder"] = "retinanet"
    torch.save(content, path)
    with pytest.raises(vt.VisionTasksError, match="holds a retinanet, not a faster_rcnn"):
        vt.create_model("faster_rcnn", ["cat"], weights=path, **OPTIONS)


@pytest.mark.parametrize("averaged", [False, True])
def test_ones_own_checkpoint_is_a_weight_file_too(averaged: bool, tmp_path: Path) -> None:
    donor = tiny_model()
    path = vt.save(donor, tmp_path / "best.ckpt")
    if averaged:
        content = torch.load(path, weights_only=True)
        state = content["state_dict"]
        mean = {k.replace("model.", "averaged.module.", 1): v for k, v in state.items()}
        torch.save(content | {"state_dict": {k: v * 0 for k, v in state.items()} | mean}, path)
    model = vt.create_model("faster_rcnn", ["other", "things", "now"], weights=path, **OPTIONS)
    assert torch.equal(model.backbone.conv1.weight, donor.backbone.conv1.weight)
    assert torch.equal(model.heads["objects"].roi.fc6.weight, donor.heads["objects"].roi.fc6.weight)


def test_weights_without_categories_ask_for_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"roi_heads.box_predictor.cls_score.weight": torch.zeros(3, 32)}, path)
    with pytest.raises(vt.VisionTasksError, match=r"3 class outputs.*Give categories="):
        vt.create_model("faster_rcnn", weights=path, **OPTIONS)


@pytest.mark.parametrize(
    ("channels", "words"),
    [(1, "1 channel(s): the weights of conv1.weight for red, green and blue were summed up."),
     (4, "4 channel(s): the weights of conv1.weight for red, green and blue were repeated in turn and scaled by 3/4."),
     (3, "")],
)  # fmt: skip
def test_weights_of_a_backbone_are_told(
    channels: int, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_colours = vt.create_model("semantic_fpn", ["a", "b"], backbone="resnet_narrow").backbone
    torch.save(of_colours.state_dict(), tmp_path / "backbone.pth")
    caplog.clear()
    with caplog.at_level("INFO", logger="vision_tasks"):
        vt.create_model("semantic_fpn", ["a", "b"], backbone="resnet_narrow", in_channels=channels,
                        backbone_weights=tmp_path / "backbone.pth")  # fmt: skip
    told = "\n".join(r.getMessage() for r in caplog.records)
    assert f"The backbone resnet_narrow starts from {tmp_path / 'backbone.pth'}: " in told
    assert (words in told) if words else "red, green" not in told
