"""Every model of semantic maps: all of it learns, one image suffices, maps are of the images' sizes, tensors agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import vision_tasks as vt
from tests.tiny_models import TINY_JOINT, TINY_MAPS, tiny
from vision_tasks.models.tensor_model import TensorModel
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Masks, Target


def images_of(*sizes: tuple[int, int], channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (channels, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def truth_of(size: tuple[int, int], layers: int | None = None) -> Target:
    shape = size if layers is None else (layers, *size)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(-1, 3 if layers is None else 2, shape, generator=generator)
    return Target(1, size, semantic=labels.to(torch.int16 if layers is None else torch.int8))


@pytest.mark.parametrize("name", TINY_MAPS)
def test_all_of_a_model_learns_from_one_image(name: str) -> None:
    model = tiny(name).train()
    losses = model.losses(model.preprocess(images_of((64, 96)), [truth_of((64, 96))]))
    assert all(name.startswith("semantic/") and value.isfinite() for name, value in losses.items())
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", TINY_MAPS)
def test_nothing_annotated_teaches_nothing(name: str) -> None:
    model = tiny(name).train()
    target = Target(1, (64, 96), semantic=torch.full((64, 96), -1, dtype=torch.int16))
    losses = model.losses(model.preprocess(images_of((64, 96)), [target]))
    torch.stack(list(losses.values())).sum().backward()
    assert all(value == 0 for value in losses.values())
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())


@torch.inference_mode()
@pytest.mark.parametrize(("name", "multi_label"), [(name, i % 2 == 0) for i, name in enumerate(TINY_MAPS)])
def test_maps_have_the_sizes_of_their_images(name: str, multi_label: bool) -> None:
    model = tiny(name, multi_label=multi_label, in_channels=4)
    sizes = [(50, 70), (64, 40)]
    predictions = model.predict(model.preprocess(images_of(*sizes, channels=4)))
    layers = (3,) if multi_label else ()
    assert [p.semantic.shape for p in predictions] == [(*layers, *size) for size in sizes]
    assert {p.semantic.dtype for p in predictions} == {torch.bool if multi_label else torch.int16}
    assert all(p.semantic_categories is p.categories for p in predictions)


@torch.no_grad()
def undecided(model: VisionModel, images: list[Tensor]) -> VisionModel:
    """Centre the scores of every category, so that random weights do not see one category everywhere."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    head, batch = model.heads["semantic"], model.preprocess(images)
    canvas = (batch.images.shape[-2], batch.images.shape[-1])
    model.train().features(batch.images)
    head.logits(model.features(batch.images), canvas)
    logits = head.logits(model.eval().features(batch.images), canvas)
    biases = dict(head.decoder.named_parameters())
    bias = next(n for n, place in head.decoder.class_parameters().items() if biases[n].ndim == 1)
    biases[bias] -= logits.mean(dim=(0, 2, 3))
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", TINY_MAPS)
def test_tensors_say_what_predictions_say(name: str) -> None:
    images = images_of((64, 96), (64, 96))
    model = undecided(tiny(name), images)
    found = TensorModel(model)(torch.stack(images), torch.tensor([[64, 96]] * 2))["semantic"]
    expected = torch.stack([p.semantic for p in model.predict(model.preprocess(images))])
    assert torch.bincount(expected.flatten().long(), minlength=3).min() > 20
    assert (found == expected).float().mean() > 0.999  # two categories may score alike to the last bit


@pytest.mark.parametrize("name", TINY_JOINT)
def test_joint_models_learn_from_both_kinds_of_labels(name: str) -> None:
    model = tiny(name).train()
    size = (64, 96)
    target = truth_of(size)
    target.boxes, target.labels = torch.tensor([[8.0, 8, 60, 50], [50, 20, 90, 60]]), torch.tensor([0, 2])
    corners = [[(x1, y1), (x2, y1), (x2, y2), (x1, y2)] for x1, y1, x2, y2 in target.boxes.tolist()]
    target.masks = Masks(size, shapes=[[torch.tensor(c).numpy()] for c in corners])
    losses = model.losses(model.preprocess(images_of(size), [target]))
    assert len({name.partition("/")[0] for name in losses}) == 2
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.inference_mode():
        (prediction,) = model.eval().predict(model.preprocess(images_of((50, 70))))
    assert prediction.semantic is not None
    assert prediction.boxes is not None
    assert (prediction.panoptic is not None) == (name == "panoptic_fpn")


def test_class_weights_by_name(tmp_path: Path) -> None:
    names, spec = ["sky", "road", "tree"], {"class_weights": {"road": 5, "tree": 0.5}}

    def made(weights: dict) -> VisionModel:
        torch.manual_seed(0)
        return vt.create_model("unet", names, backbone="unet_16", losses={"cross_entropy": weights, "dice": weights})

    losses = []
    for model in (made(spec), made({"class_weights": [1, 5, 0.5]}), made({})):
        model.eval()
        losses.append(model.losses(model.preprocess(images_of((64, 96)), [truth_of((64, 96))])))
    for name in losses[0]:
        assert torch.equal(losses[0][name], losses[1][name])
        assert not torch.equal(losses[0][name], losses[2][name])
    again = vt.load(vt.save(made(spec), tmp_path / "a.ckpt"))
    assert again.heads["semantic"].spec["dice"] == {"class_weights": [1.0, 5, 0.5]}
    with pytest.raises(
        vt.VisionTasksError, match=r"names 'rood', which is no category. Did you mean 'road'\? There are: s"
    ):
        made({"class_weights": {"rood": 2}})
    for wrong in ("x", {"road": "much"}, ["much"]):
        with pytest.raises(
            vt.VisionTasksError, match=r"takes a list of one number .* names of categories with numbers"
        ):
            made({"class_weights": wrong})
