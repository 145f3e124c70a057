"""Several heads on one pyramid: mixed labels, one checkpoint, one prediction with all parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import vision_tasks as vt
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.models.checkpoint import load, save
from vision_tasks.models.multi_head import chosen_categories
from vision_tasks.models.registry import create_model
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Masks, Target

SMALL: dict[str, Any] = {"backbone": "resnet_narrow", "channels": 16, "min_size": 64, "max_size": 96}
OBJECTS = {
    "type": "mask_rcnn", "hidden": 16, "mask_channels": 8, "anchor_sizes": (8, 16, 32, 64, 128),
    "train_proposals": (40, 40), "test_proposals": (40, 40), "rois_per_image": 16, "score_threshold": 0.0,
}  # fmt: skip
NAMES = {"objects": ["cat", "dog"], "semantic": ["sky", "grass", "cat"]}
TYPES = [
    ("mask_rcnn", "semantic_fpn"), ("faster_rcnn", "fcn"), ("cascade_rcnn", "deeplabv3"), ("retinanet", "semantic_fpn"),
    ("fcos", "fcn"),
]  # fmt: skip


def joint(**options: Any) -> VisionModel:
    torch.manual_seed(0)
    return create_model(
        "panoptic_fpn", NAMES, **(SMALL | {"objects": {k: v for k, v in OBJECTS.items() if k != "type"}} | options)
    )


def target(image_id: int, boxes: bool = True, masks: bool = True, semantic: bool = True) -> Target:
    found: dict[str, Any] = {}
    if boxes:
        square = torch.tensor([[8.0, 8, 40, 40], [30, 20, 60, 60]])
        found = {"boxes": square, "labels": torch.tensor([0, 1]), "area": (square[:, 2:] - square[:, :2]).prod(1)}
        found["is_crowd"] = torch.zeros(2, dtype=torch.bool)
        if masks:
            corners = [b[[0, 1, 2, 1, 2, 3, 0, 3]].view(4, 2).numpy() for b in square]
            found["masks"] = Masks((64, 64), shapes=[[c] for c in corners])
    if semantic:
        found["semantic"] = torch.arange(64)[:, None].expand(64, 64).div(22, rounding_mode="floor").to(torch.int16)
    return Target(image_id, (64, 64), **found)


def images(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8) for _ in range(count)]


def losses_of(model: VisionModel, targets: list[Target], rows: list[int] | None = None) -> dict[str, torch.Tensor]:
    pictures = images(8)[: len(targets)] if rows is None else [images(8)[i] for i in rows]
    torch.manual_seed(7)
    return model.losses(model.preprocess(pictures, targets))


@pytest.mark.parametrize(("objects", "surface"), TYPES)
def test_any_head_beside_any_other(objects: str, surface: str) -> None:
    options = {k: v for k, v in OBJECTS.items() if k != "type"} if objects.endswith("rcnn") else {}
    if objects == "faster_rcnn":
        options.pop("mask_channels")
    model = create_model(
        "multi_head", NAMES, heads={"things": {**options, "type": objects}, "surface": {"type": surface}}, **SMALL
    )
    losses = losses_of(model.train(), [target(1), target(2)])
    assert {name.split("/")[0] for name in losses} == {"things", "surface"}
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    with torch.inference_mode():
        (prediction,) = model.eval().predict(model.preprocess(images(1)))
    assert prediction.categories.names == ("cat", "dog")
    assert prediction.semantic_categories is not None
    assert prediction.semantic_categories.names == ("sky", "grass", "cat")
    assert prediction.semantic is not None
    assert prediction.semantic.shape == (64, 64)
    assert prediction.boxes is not None
    assert (prediction.masks is not None) == (objects == "mask_rcnn")


def test_one_forward_pass_equals_the_models_apart() -> None:
    """The joint model's parts are those of Mask R-CNN and of the semantic head with the same weights."""
    model = joint()
    apart = create_model("mask_rcnn", NAMES["objects"], **SMALL, **{k: v for k, v in OBJECTS.items() if k != "type"})
    own = model.state_dict()
    apart.load_state_dict({k: own[k] for k in apart.state_dict()})
    with torch.inference_mode():
        batch = model.preprocess(images(2))
        joined, alone = model.predict(batch), apart.predict(batch)
        features = model.features(batch.images)
        surface = model.named_heads()["semantic"].predict(features, batch)
    for both, objects, maps in zip(joined, alone, surface, strict=True):
        assert both.boxes is not None
        assert len(both) > 5
        torch.testing.assert_close(both.boxes, objects.boxes, rtol=0, atol=0)
        torch.testing.assert_close(both.scores, objects.scores, rtol=0, atol=0)
        assert both.semantic is not None
        assert torch.equal(both.semantic, maps.semantic)
        assert both.panoptic is not None
        assert both.panoptic.ids.shape == (64, 64)


def test_missing_labels_switch_off_their_losses_and_nothing_else() -> None:
    model = joint().train()
    torch.nn.init.normal_(model.get_parameter("heads.objects.mask.logits.weight"))  # masks begin undecided, all alike
    for module in model.modules():  # statistics of a batch would tie its images together
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    all_labels = losses_of(model, [target(1), target(2)])
    # Image 2 without boxes: the losses of objects are those of image 1 alone, the maps' do not notice.
    mixed = losses_of(model, [target(1), target(2, boxes=False)])
    alone = losses_of(model, [target(1)])
    for name in all_labels:
        expected = all_labels if name.startswith("semantic/") else alone
        torch.testing.assert_close(mixed[name], expected[name], rtol=1e-5, atol=1e-7)
        assert name.startswith("semantic/") or not torch.isclose(alone[name], all_labels[name], rtol=1e-4), name
    # Image 1 without a map.
    mixed = losses_of(model, [target(1, semantic=False), target(2)])
    second = losses_of(model, [target(2)], rows=[1])
    for name in all_labels:
        torch.testing.assert_close(
            mixed[name], (second if name.startswith("semantic/") else all_labels)[name], rtol=1e-5, atol=1e-7
        )
    # Image 2 with boxes but no masks: only the mask loss changes.
    mixed = losses_of(model, [target(1), target(2, masks=False)])
    changed = {name for name in all_labels if not torch.equal(mixed[name], all_labels[name])}
    assert changed == {"objects/mask"}


@pytest.mark.parametrize("lacks", ["boxes", "semantic", "both"])
def test_a_batch_without_a_kind_of_label_still_reaches_every_parameter(lacks: str) -> None:
    """DDP waits for a gradient of every parameter on every rank."""
    model = joint().train()
    kinds = {"boxes": lacks == "semantic", "semantic": lacks == "boxes"}
    losses = losses_of(model, [target(1, **kinds), target(2, **kinds)])
    for name, loss in losses.items():
        silent = lacks == "both" or name.startswith("objects/" if lacks == "boxes" else "semantic/")
        assert torch.isfinite(loss)
        assert (loss == 0) if silent else (loss != 0), name
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_one_checkpoint_holds_all(tmp_path: Path) -> None:
    model = joint(panoptic_stuff_area=10, panoptic_void=("grass",))
    again = load(save(model, tmp_path / "joint.ckpt"))
    with torch.inference_mode():
        batch = model.preprocess(images(1))
        (first,), (second,) = model.predict(batch), again.predict(batch)
    assert {name: head.categories for name, head in again.named_heads().items()} == {
        name: head.categories for name, head in model.named_heads().items()
    }
    torch.testing.assert_close(first.boxes, second.boxes, rtol=0, atol=0)
    assert torch.equal(first.semantic, second.semantic)  # type: ignore[arg-type]
    assert again.panoptic == model.panoptic
    assert "grass" not in second.panoptic.categories.names  # type: ignore[union-attr]
    # Started from for other categories: what both know by name is carried, head by head.
    started = create_model(
        "panoptic_fpn", {"objects": ["dog"], "semantic": ["cat", "sky"]}, weights=tmp_path / "joint.ckpt"
    )
    mine, theirs = started.state_dict(), model.state_dict()
    torch.testing.assert_close(mine["heads.objects.roi.scores.weight"][1], theirs["heads.objects.roi.scores.weight"][2])
    classifier = next(
        k for k in mine if k.startswith("heads.semantic.decoder.") and mine[k].shape[0] == 2 and k.endswith("weight")
    )
    torch.testing.assert_close(mine[classifier], theirs[classifier][[2, 0]])


def test_loss_weights_by_default_and_by_recipe() -> None:
    model = joint(semantic={"losses": {"cross_entropy": {}, "dice": {}}}).train()
    assert {"semantic/cross_entropy", "semantic/dice", "objects/mask"} <= set(losses_of(model, [target(1)]))
    assert vt.create_model("pspnet", ["a", "b"], backbone="resnet_narrow").loss_weights == {"semantic/auxiliary": 0.4}


@pytest.mark.parametrize(
    ("heads", "says"),
    [
        ({"a": {"type": "mask_rcnn"}, "b": {"type": "fcos"}}, "one of objects"),
        ({"a": {"type": "mask_rcn"}}, "needs a type"),
        ({"a": {"type": "fcn", "widht": 3}}, "no option 'widht'"),
        ({}, "one of objects"),
        ({"a": {"type": "mask_rcnn", "hidden": "big"}}, "hidden takes int"),
    ],
)
def test_heads_that_cannot_be(heads: dict[str, Any], says: str) -> None:
    with pytest.raises(VisionTasksError, match=says):
        create_model("multi_head", NAMES, heads=heads, **SMALL)


@pytest.mark.parametrize("name", ["multi_head", "panoptic_fpn"])
def test_heads_choose_categories_by_name(name: str, tmp_path: Path) -> None:
    things, maps = OBJECTS | {"categories": ["dog"]}, {"categories": ["cat", "sky"]}
    if name == "multi_head":
        options: dict[str, Any] = {"heads": {"objects": things, "semantic": maps | {"type": "semantic_fpn"}}}
    else:
        options = {"objects": {k: v for k, v in things.items() if k != "type"}, "semantic": maps}
    assert chosen_categories(options) == {"objects": ["dog"], "semantic": ["cat", "sky"]}
    model = create_model(name, NAMES, **options, **SMALL)
    path = save(model, tmp_path / "chosen.ckpt")
    for one in (model, load(path)):
        known = {kind: head.categories for kind, head in one.named_heads().items()}
        assert known["objects"].names == ("dog",)
        assert known["semantic"].names == ("cat", "sky")
        assert known["objects"].ids == (2,), "ids stay those of the data"
    assert isinstance(model.head_of("semantic"), SemanticHead)
    # Data that were restricted beforehand, as a run's, lose nothing; other data may follow a checkpoint.
    again = create_model(name, {"objects": ["dog"], "semantic": ["cat", "sky"]}, **options, **SMALL)
    assert again.state_dict().keys() == model.state_dict().keys()
    other = create_model(name, {"objects": ["cow"], "semantic": ["sky", "sea"]}, weights=path)
    assert other.named_heads()["semantic"].categories.names == ("sky", "sea")


def test_chosen_categories_that_cannot_be() -> None:
    heads = {"surface": {"type": "fcn", "categories": ["sky", "sea"]}}
    with pytest.raises(VisionTasksError, match=r"surface.categories: there is no sea among sky, grass, cat"):
        create_model("multi_head", NAMES, heads=heads, **SMALL)
    for wrong in ("sky", [], [1], {"sky": 1}):
        with pytest.raises(VisionTasksError, match=r"heads.surface.categories must be a list of names"):
            chosen_categories({"heads": {"surface": {"type": "fcn", "categories": wrong}}})


def test_categories_of_every_kind_must_be_given() -> None:
    with pytest.raises(VisionTasksError, match="heads for objects and semantic"):
        create_model("panoptic_fpn", ["cat"], **SMALL)


def test_panoptic_needs_one_category_for_every_pixel() -> None:
    with pytest.raises(VisionTasksError, match="every pixel one category"):
        create_model("panoptic_fpn", NAMES | {"semantic": ["road"]}, **SMALL)


@pytest.mark.slow
def test_panoptic_fpn_starts_from_a_published_mask_rcnn(tmp_path: Path) -> None:
    twin = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    torch.save(twin.state_dict(), tmp_path / "maskrcnn.pth")
    model = create_model(
        "panoptic_fpn", {"objects": ["dog", "kite"], "semantic": ["sky", "sea"]}, weights=tmp_path / "maskrcnn.pth"
    )
    theirs, own = twin.state_dict(), model.state_dict()
    assert torch.equal(own["backbone.layer4.2.conv3.weight"], theirs["backbone.body.layer4.2.conv3.weight"])
    assert torch.equal(own["neck.output.0.weight"], theirs["backbone.fpn.layer_blocks.0.0.weight"])
    scores = theirs["roi_heads.box_predictor.cls_score.weight"]
    assert torch.equal(own["heads.objects.roi.scores.weight"], scores[[0, 18, 38]])  # background, dog, kite


def test_masks_begin_undecided() -> None:
    """Every pixel at one half, a loss of ln 2, however few classes there are."""
    loss = losses_of(joint().train(), [target(1), target(2)])["objects/mask"].detach()
    assert float(loss) == pytest.approx(0.6931, abs=0.02)
