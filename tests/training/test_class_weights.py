"""Weights of categories: what they do to the losses of every model, and how they are computed from data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_models import TINY, tiny
from vision_tasks.categories import Categories
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Masks, Target
from vision_tasks.training.class_weights import weigh_classes


def batch_of(labels: list[int]) -> RawBatch:
    boxes = torch.tensor([[4.0, 4.0, 40.0, 50.0], [30.0, 10.0, 90.0, 60.0]])[: len(labels)]
    size = (64, 96)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 255, (3, *size), generator=generator, dtype=torch.uint8)
    outlines = [[np.array([[b[0], b[1]], [b[2], b[1]], [b[2], b[3]]], np.float32)] for b in boxes.tolist()]
    n = len(labels)
    target = Target(
        image_id=1, size=size, boxes=boxes, labels=torch.tensor(labels), masks=Masks(size, shapes=outlines),
        area=torch.ones(n), is_crowd=torch.zeros(n, dtype=torch.bool),
    )  # fmt: skip
    return RawBatch([image], [target])


def class_loss(model: VisionModel, weights: list[float] | None, labels: list[int]) -> float:
    (head,) = model.named_heads().values()
    head.output_weights = None
    if weights is not None:
        head.weigh_classes(weights)
    torch.manual_seed(3)  # draws of proposals
    raw = batch_of(labels)
    losses = model.losses(model.preprocess(raw.images, raw.targets))
    return sum(float(v) for k, v in losses.items() if "class" in k and "rpn" not in k)


@pytest.mark.parametrize("name", ["faster_rcnn", "cascade_rcnn", "retinanet", "fcos", "ssd", "yolox", "darknet"])
def test_an_object_counts_as_often_as_its_category_weighs(name):
    """The loss is background + sum of weight × category's part: linear in the weights, and blind to absent ones."""
    model = tiny(name).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        plain = class_loss(model, None, [0, 1])
        one, first, second = (class_loss(model, w, [0, 1]) for w in ([1, 1, 1], [3, 1, 1], [1, 3, 1]))
        assert one == pytest.approx(plain, rel=1e-6)
        assert first > one * 1.0001
        assert second > one * 1.0001
        both = class_loss(model, [3, 3, 1], [0, 1])
        assert both - one == pytest.approx((first - one) + (second - one), rel=1e-4)
        assert class_loss(model, [1, 1, 9], [0, 1]) == pytest.approx(plain, rel=1e-6)
        assert class_loss(model, [7, 1, 1], []) == pytest.approx(class_loss(model, None, []), rel=1e-6)


def test_every_family_of_detectors_was_tried():
    assert {model for model, _ in TINY.values()} == {
        "faster_rcnn", "mask_rcnn", "cascade_rcnn", "retinanet", "fcos", "ssd", "ssdlite", "yolox", "darknet",
    }  # fmt: skip


def test_weights_come_from_the_objects_that_count():
    builder = RecordsBuilder(Path("made"), Path("."), Categories.of(["cat", "dog", "bird"]))
    builder.add_image("a.jpg", 100, 100)
    for label, count in ((0, 9), (1, 3)):
        for _ in range(count):
            builder.add_object(label, (1, 1, 5, 5))
    for _ in range(50):
        builder.add_object(1, (1, 1, 5, 5), is_crowd=True)
        builder.add_object(1, (1, 1, 0, 5))
    model = tiny("retinanet")
    weigh_classes(model, builder.finish(), "inverse")
    (head,) = model.named_heads().values()
    assert head.output_weights is not None
    np.testing.assert_allclose(head.output_weights[head.columns], [12 / 18, 12 / 6, 1], rtol=1e-6)
    assert "output_weights" not in "".join(model.state_dict())


def test_maps_are_weighed_by_pixels_where_the_recipe_gave_no_weights(scenes):
    from vision_tasks.config import DataConfig
    from vision_tasks.training.splits import read_splits

    train, _ = read_splits(DataConfig(path=scenes), ("semantic",))
    assert train.semantic is not None
    names = train.semantic.categories.names
    pixels = np.zeros(len(names))
    for row in range(len(train)):
        drawn = train.semantic.read(row, train.size(row))
        pixels += np.bincount(drawn[drawn >= 0], minlength=len(names))
    model = tiny("unet", names, losses={"cross_entropy": {}, "dice": {"class_weights": [2.0] * len(names)}})
    weigh_classes(model, train, "inverse")
    (head,) = model.named_heads().values()
    given = np.array(head.spec["cross_entropy"]["class_weights"])
    seen = pixels > 0
    np.testing.assert_allclose(given[seen], pixels.sum() / (seen.sum() * pixels[seen]))
    assert head.spec["dice"]["class_weights"] == [2.0] * len(names)
    with pytest.raises(VisionTasksError, match="takes weights"):
        weigh_classes(tiny("unet", names, losses={"lovasz": {}}), train, "sqrt")
