"""Comparing one-stage detectors with torchvision's: lively random weights, equal pictures, equal truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vision_tasks as vt
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Target
from vision_tasks.weights.torchvision import coco_categories

SIZES = [(240, 320), (256, 200), (320, 320)]


def photo(size: tuple[int, int], seed: int) -> Tensor:
    """A smooth random picture, (3, H, W) uint8."""
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    fine = nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]
    return (fine.clamp(0, 1) * 255).to(torch.uint8)


def photos(count: int = len(SIZES)) -> list[Tensor]:
    return [photo(size, seed) for seed, size in enumerate(SIZES[:count])]


def settle(model: nn.Module, layers: list[tuple[nn.Module, float, float]], side: int = 128) -> None:
    """Batch-norm statistics from a batch; then outputs of the wanted (mean, spread), so that many boxes come out.

    layers: (layer, mean of its outputs, their standard deviation). side: pixels of the batch.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.backbone.train()
    outputs: dict[nn.Module, list[Tensor]] = {layer: [] for layer, _, _ in layers}
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, o=outputs[layer]: o.append(out.transpose(0, 1).flatten(1)))
        for layer in outputs
    ]
    with torch.no_grad():
        model.backbone(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7)))
        model.eval()
        model([image / 255 for image in photos(2)])
        for layer, mean, spread in layers:
            output = torch.cat(outputs[layer], 1)  # (channels, samples)
            scale = spread / (output - output.mean(1, keepdim=True)).std()
            layer.weight *= scale
            layer.bias.copy_(mean - (output.mean(1) - layer.bias) * scale)
    for hook in hooks:
        hook.remove()


def silence_unused(bias: Tensor) -> None:
    """Outputs that are no category of COCO never score: ours leaves them out before the best are picked."""
    _, columns, outputs = coco_categories()
    unused = [i for i in range(outputs) if i not in columns]
    with torch.no_grad():
        bias.view(-1, outputs)[:, unused] = -50


def twin(name: str, theirs: nn.Module, folder: Path, **options: Any) -> VisionModel:
    """Ours, from torchvision's state dict."""
    path = folder / "twin.pth"
    torch.save(theirs.state_dict(), path)
    return vt.create_model(name, weights=path, min_size=256, max_size=320, **options)


def assert_same_predictions(ours: VisionModel, theirs: nn.Module, images: list[Tensor]) -> None:
    """Each of theirs has its own of ours: same label, box within 1e-4 of the side, score within 1e-4."""
    with torch.inference_mode():
        expected = theirs([image / 255 for image in images])
        found = ours.predict(ours.preprocess(images))
    ids = torch.tensor(ours.categories.ids)
    total = odd = 0
    for want, got, image in zip(expected, found, images, strict=True):
        assert got.boxes is not None
        assert got.labels is not None
        assert got.scores is not None
        assert len(want["boxes"]) >= 60, "the comparison needs dozens of boxes"
        assert len(set(want["labels"].tolist())) >= 10
        apart = (want["boxes"][:, None] - got.boxes[None]).abs().amax(-1) / max(image.shape)
        same = (apart < 1e-4) & (want["labels"][:, None] == ids[got.labels][None])
        same &= (want["scores"][:, None] - got.scores[None]).abs() < 1e-4
        total += len(want["boxes"])
        odd += int((~same.any(1)).sum()) + abs(len(got) - len(want["boxes"]))
    assert odd / total < 0.02, f"{odd} of {total} detections differ"


def assert_same_losses(ours: VisionModel, theirs: nn.Module, names: dict[str, str]) -> None:
    """Of two images with twelve truths and one, and of one without; names: theirs -> ours.

    One truth is so narrow that no anchor overlaps it by half, and the classifier is bold: that an anchor is background,
    or ignored, must show. An image without truth would drown that in the mean: its loss is divided by one.
    """
    generator = torch.Generator().manual_seed(3)
    images, truths, targets = photos(2), [], []
    for i, ((h, w), n) in enumerate(zip(SIZES, (12, 1), strict=False)):
        corner = torch.rand(n, 2, generator=generator) * torch.tensor([w * 0.6, h * 0.6])
        boxes = torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=generator) * 80), 1)
        boxes[:1, 2:] = boxes[:1, :2] + torch.tensor([90.0, 9])
        labels = torch.randint(0, 80, (n,), generator=generator)
        truths.append({"boxes": boxes, "labels": torch.tensor(ours.categories.ids)[labels]})
        targets.append(Target(i, (h, w), boxes=boxes, labels=labels))
    no_boxes, no_labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    nothing = Target(1, SIZES[1], boxes=no_boxes, labels=no_labels)
    classifiers = []
    if hasattr(ours.heads["objects"], "class_logits"):  # of a sigmoid; SSD's softmax does not feel it
        classifiers = [ours.heads["objects"].class_logits.bias, theirs.head.classification_head.cls_logits.bias]
    theirs.train()
    ours.train()
    for model in (ours, theirs):  # batch statistics are not what is compared, and both share the frozen ones
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    try:
        with torch.no_grad():
            for bias in classifiers:
                bias += 8
            expected = theirs([i / 255 for i in images], truths)
            found = ours.losses(ours.preprocess(images, targets))
            expected_of_nothing = theirs([images[1] / 255], [{"boxes": no_boxes, "labels": no_labels}])
            found_of_nothing = ours.losses(ours.preprocess(images[1:], [nothing]))
    finally:
        with torch.no_grad():
            for bias in classifiers:
                bias -= 8
        theirs.eval()
        ours.eval()
    assert set(expected) == set(names)
    assert set(found) == set(names.values())
    for theirs_name, ours_name in names.items():
        assert expected[theirs_name] > 0.05, "too small to compare"
        torch.testing.assert_close(found[ours_name], expected[theirs_name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found_of_nothing[ours_name], expected_of_nothing[theirs_name], rtol=1e-4, atol=1e-6)
