"""SSD and SSDLite on batches that training meets sooner or later, on odd images, and on other backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import vision_tasks as vt
from tests.heads.test_faster_rcnn_edge_cases import BATCHES, BOX, OTHER, SIZE, target
from tests.tiny_models import tiny as tiny_of
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.structures import Target

MODELS = ("ssd", "ssdlite")


def tiny(name: str, seed: int = 0, **options: Any) -> VisionModel:
    """Random weights, with a classifier bold enough for scores all over 0..1."""
    torch.manual_seed(seed)
    model = vt.create_model(name, ("cat", "dog"), **({"backbone": "resnet_narrow", "size": 64} | options))
    head = model.heads["objects"]
    with torch.no_grad():
        for predictor in head.classes:
            (predictor if name == "ssd" else predictor[1]).weight *= 20
    return model


def pictures(count: int) -> list[Tensor]:
    return [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(count)]


# What SSDLite is tried on, too, in the fast part.
TOLD_APART = ("ordinary", "no boxes at all", "one pixel", "none annotated")


def losses(name: str, targets: list[Target], **options: Any) -> tuple[VisionModel, dict[str, Tensor]]:
    model = tiny(name, **options).train()
    for module in model.modules():  # a batch of one has no statistics on a map of one cell
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return model, model.losses(model.preprocess(pictures(len(targets)), targets))


@pytest.mark.parametrize(
    ("batch", "name"),
    [
        pytest.param(batch, name, marks=[] if name == "ssd" or batch in TOLD_APART else [pytest.mark.slow])
        for batch in BATCHES
        for name in MODELS
    ],
)
def test_losses_are_finite_and_every_parameter_gets_a_gradient(name: str, batch: str) -> None:
    # A parameter without one stops training on several processes.
    model, found = losses(name, BATCHES[batch])
    assert set(found) == {"objects/class", "objects/box"}
    assert all(loss.isfinite() and loss >= 0 and loss.ndim == 0 for loss in found.values()), found
    sum(found.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", MODELS)
def test_negatives_are_drawn_for_positives_only(name: str) -> None:
    for batch in ("no boxes at all", "none annotated", "crowds only", "only without area"):
        assert all(loss == 0 for loss in losses(name, BATCHES[batch])[1].values()), batch
    assert all(loss > 0 for loss in losses(name, BATCHES["one pixel"])[1].values())


@pytest.mark.parametrize("name", MODELS)
def test_an_image_nobody_looked_at_leaves_the_others_losses_alone(name: str) -> None:
    alone = losses(name, [target([BOX])])[1]
    torch.testing.assert_close(losses(name, [target([BOX]), target(None)])[1], alone)
    torch.testing.assert_close(losses(name, [target([BOX, OTHER], [False, True])])[1], alone)


def test_losses_computed_box_by_box() -> None:
    """Matching, mining and both losses in plain loops."""
    model = tiny("ssd", norm="frozen").train()
    head = model.heads["objects"]
    head.foreground = 0.4
    batch = model.preprocess(pictures(2), BATCHES["ordinary"])
    found = head.losses(model.features(batch.images), batch)
    out = head.outputs(model.features(batch.images), (64, 64))
    classification = box = torch.zeros(())
    count = 0
    assert batch.targets is not None
    for logits, deltas, truth in zip(out.logits, out.boxes, batch.targets, strict=True):
        overlaps = pairwise_iou(truth.boxes, out.references)
        owner = {a: int(overlaps[:, a].argmax()) for a in range(len(logits)) if overlaps[:, a].max() >= 0.4}
        owner |= {int(row.argmax()): t for t, row in enumerate(overlaps)}
        negative = []
        for a in range(len(logits)):
            wanted = int(truth.labels[owner[a]]) + 1 if a in owner else 0
            entropy = F.cross_entropy(logits[a], torch.tensor(wanted))
            if a not in owner:
                negative.append(entropy)
                continue
            count += 1
            classification = classification + entropy
            (x1, y1, x2, y2), (u1, v1, u2, v2) = out.references[a].tolist(), truth.boxes[owner[a]].tolist()
            code = torch.tensor(
                [
                    10 * ((u1 + u2) / 2 - (x1 + x2) / 2) / (x2 - x1),
                    10 * ((v1 + v2) / 2 - (y1 + y2) / 2) / (y2 - y1),
                    5 * torch.log(torch.tensor((u2 - u1) / (x2 - x1))),
                    5 * torch.log(torch.tensor((v2 - v1) / (y2 - y1))),
                ]
            )
            box = box + F.smooth_l1_loss(deltas[a], code, reduction="sum")
        classification = classification + sum(sorted(negative, reverse=True)[: 3 * len(owner)])
    assert count > 4
    torch.testing.assert_close(found["class"], classification / count)
    torch.testing.assert_close(found["box"], box / count)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_training_lowers_the_loss_on_its_own_batch(name: str) -> None:
    model = tiny(name, norm="frozen").train()
    batch = model.preprocess(pictures(2), BATCHES["ordinary"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(8):
        total = sum(model.losses(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(64, 80), (1, 1), (1, 300), (300, 1)])
def test_predictions_lie_inside_their_image(name: str, size: tuple[int, int]) -> None:
    model = tiny(name)
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.predict(model.preprocess([picture]))[0]
    assert len(found) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2] <= size[1]).all()
    assert (found.boxes[:, 3] <= size[0]).all()
    assert (found.scores > model.heads["objects"].rule.score_threshold).all()
    assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize(
    ("options", "maps"),
    [
        ({"size": 300}, [38, 19, 10, 5, 3, 1]),
        pytest.param({"size": 512}, [64, 32, 16, 8, 4, 2, 1], marks=pytest.mark.slow),
        ({"size": 300, "backbone": "mobilenet_v2"}, [38, 19, 10, 5, 3, 2]),
        ({"size": 512, "backbone": "resnet_narrow"}, [64, 32, 16, 8, 4, 2, 1]),
    ],
)
def test_maps_of_the_published_sizes(options: dict[str, Any], maps: list[int]) -> None:
    model = tiny("ssd", **({"backbone": "vgg16"} | options)).eval()
    size = options["size"]
    with torch.inference_mode():
        features = model.features(torch.zeros(1, 3, size, size))
        out = model.heads["objects"].outputs(features, (size, size))
    assert [tuple(features[level].shape[-2:]) for level in model.heads["objects"].levels] == [(m, m) for m in maps]
    ratios = [4, *[6] * (len(maps) - 3), 4, 4]
    assert out.lengths == [m * m * r for m, r in zip(maps, ratios, strict=True)]
    # Centres lie within the image; the paper's 38 cells of 8 pixels go 4 pixels beyond 300.
    centre = (out.references[:, :2] + out.references[:, 2:]) / 2
    assert centre.min() > 0
    assert centre.max() <= size + 4


def test_a_vgg_too_small_for_its_last_map_is_refused() -> None:
    with pytest.raises(vt.VisionTasksError, match="300 pixels or more"):
        vt.create_model("ssd", ["cat"], size=256)


@pytest.mark.parametrize("name", MODELS)
def test_other_categories_keep_what_the_file_knows_of_them(name: str, tmp_path: Path) -> None:
    old = vt.create_model(name, ["cat", "dog", "cow"], backbone="resnet_narrow", size=64)
    path = tmp_path / "old.ckpt"
    vt.save(old, path)
    new = vt.create_model(name, ["horse", "cow"], weights=path, backbone="resnet_narrow", size=64)
    for before, after, boxes in zip(
        old.heads["objects"].classes, new.heads["objects"].classes, new.heads["objects"].boxes_per_cell, strict=True
    ):
        mine, theirs = (m.weight if name == "ssd" else m[1].weight for m in (after, before))
        mine, theirs = mine.unflatten(0, (boxes, 3)), theirs.unflatten(0, (boxes, 4))
        assert torch.equal(mine[:, 0], theirs[:, 0])  # background
        assert torch.equal(mine[:, 2], theirs[:, 3])  # cow
        assert not torch.equal(mine[:, 1], theirs[:, 1])


def test_a_batch_of_one_image_can_be_learned_from() -> None:
    """SSDLite's last map is one cell: one value per channel, of which batch norm has no statistics."""
    model = tiny_of("ssdlite").train()
    image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    target = Target(1, (64, 64), boxes=torch.tensor([[8.0, 8, 40, 50]]), labels=torch.tensor([1]))
    losses = model.losses(model.preprocess([image], [target]))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_foreign_body_gets_the_pixels_of_its_imagenet_weights() -> None:
    """torchvision's SSDLite was trained from random weights on -1..1; ImageNet weights want ImageNet's mean."""
    assert tiny_of("ssdlite").preprocess.mean == tiny_of("ssd").preprocess.mean == (0.485, 0.456, 0.406)
    assert vt.create_model("ssdlite", ["a"]).preprocess.mean == (0.5, 0.5, 0.5)
