"""torchvision's R-CNNs with lively random weights beside ours, the same draw for both, and how to compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection import _utils as tv_utils

import vision_tasks as vt
import vision_tasks.weights.torchvision
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import render
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.structures import Prediction, Target

SIZES = [(240, 320), (256, 200), (320, 320)]


def photo(size: tuple[int, int], seed: int) -> Tensor:
    """A smooth random picture, (3, H, W) uint8."""
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]
    return (fine.clamp(0, 1) * 255).to(torch.uint8)


def lively(model: FasterRCNN, columns: list[int]) -> None:
    """Random weights that yield dozens of varied boxes: batch-norm statistics from a batch, a bolder classifier."""
    generator = torch.Generator().manual_seed(7)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None
    model.backbone.train()
    with torch.no_grad():
        model.backbone(torch.randn(2, 3, 192, 192, generator=generator))
        model.eval()
        images = [photo(SIZES[0], 0) / 255]
        all_kept = model.rpn._post_nms_top_n["testing"]
        model.rpn._post_nms_top_n["testing"] = min(all_kept, 250)  # enough to measure spreads by, and quick
        for part in (model.roi_heads.box_head, getattr(model.roi_heads, "mask_head", None)):
            if part is not None and any(isinstance(m, torch.nn.BatchNorm2d) for m in part.modules()):
                part.train()
                model(images)
                part.eval()
        head = model.rpn.head
        predictor = model.roi_heads.box_predictor
        # (layer, wanted spread of its outputs), in the order in which they feed each other
        layers = [
            (head.cls_logits, 2.0), (head.bbox_pred, 0.3), (predictor.cls_score, 2.5), (predictor.bbox_pred, 1.0),
        ]  # fmt: skip
        if isinstance(model, MaskRCNN):
            layers.append((model.roi_heads.mask_predictor.mask_fcn_logits, 2.0))
        for layer, spread in layers:
            outputs: list[Tensor] = []
            hook = layer.register_forward_hook(lambda _m, _i, out, o=outputs: o.append(out.transpose(0, 1).flatten(1)))
            model(images)
            hook.remove()
            output = torch.cat(outputs, 1)  # (channels, samples)
            scale = spread / (output - output.mean(1, keepdim=True)).std()
            layer.weight *= scale
            layer.bias.copy_(-output.mean(1) * scale)
        model.rpn._post_nms_top_n["testing"] = all_kept
        unused = [i for i in range(1, 91) if i not in columns]
        predictor.cls_score.bias[unused] = -50


def pair(name: str, theirs: FasterRCNN, folder: Path, **options: Any) -> tuple[VisionModel, FasterRCNN]:
    """Ours by name, from a file of theirs."""
    _, columns, _ = vt.weights.torchvision.coco_categories()
    lively(theirs, list(columns))
    path = folder / "twin.pth"
    torch.save(theirs.state_dict(), path)
    return vt.create_model(name, weights=path, **options), theirs


def compare_predictions(
    ours: VisionModel, theirs: FasterRCNN, sizes: list[tuple[int, int]], at_least: int = 24
) -> None:
    """Each of theirs has its own of ours: same label, box within 1e-4 of the side, score within 1e-4, same mask.

    Variant v2 is allowed 3e-4 of a score: with random weights torchvision's own scores, on one thread and on two,
    differ by up to 1.1e-4 (v1: 2e-5), as its deeper heads carry rounding further.
    """
    close = 3e-4 if ours.blueprint is not None and ours.blueprint.arguments.get("variant") == "v2" else 1e-4
    images = [photo(size, seed) for seed, size in enumerate(sizes)]
    with torch.inference_mode():
        expected = theirs([image / 255 for image in images])
        found = ours.predict(ours.preprocess(images))
    ids = torch.tensor(ours.categories.ids)
    assert len(set(torch.cat([want["labels"] for want in expected]).tolist())) >= 5
    total = odd = 0
    for want, got, size in zip(expected, found, sizes, strict=True):
        assert got.boxes is not None
        assert got.labels is not None
        assert got.scores is not None
        assert len(want["boxes"]) >= at_least, "the comparison needs dozens of boxes"
        assert not set(want["labels"].tolist()) - set(ids.tolist())
        apart = (want["boxes"][:, None] - got.boxes[None]).abs().amax(-1) / max(size)
        same = (apart < 1e-4) & (want["labels"][:, None] == ids[got.labels][None])
        same &= (want["scores"][:, None] - got.scores[None]).abs() < close
        total += len(want["boxes"])
        odd += int((~same.any(1)).sum()) + abs(len(got) - len(want["boxes"]))
        if "masks" in want:
            _compare_masks(want["masks"][:, 0] > 0.5, got, same)
    assert odd / total < 0.02, f"{odd} of {total} detections differ"


def _compare_masks(want: Tensor, got: Prediction, same: Tensor) -> None:
    assert got.masks is not None
    assert want.shape[1:] == got.masks.size
    rows = same.any(1).nonzero().flatten()
    ours = render(got.masks)[same[rows].int().argmax(1)]
    assert 0.02 < want.float().mean() < 0.9, "masks must be neither empty nor full"
    equal = (want[rows] == ours).float().mean()
    assert equal >= 0.999, f"{1 - equal:.2%} of the masks' pixels differ"


def fix_sampling(ours: VisionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both programs draw the same anchors and proposals: the first positives, the first negatives."""

    def first_come(labels: Tensor, count: int, fraction: float) -> tuple[Tensor, Tensor]:
        positive = (labels >= 1).nonzero().flatten()[: int(count * fraction)]
        negative = (labels == 0).nonzero().flatten()[: count - len(positive)]
        return positive, negative

    def draw(matches: Tensor, count: int, fraction: float) -> tuple[Tensor, Tensor]:
        labels = torch.where(matches >= 0, 1, torch.where(matches == BACKGROUND, 0, -1))
        index = torch.cat(first_come(labels, count, fraction))
        return index, torch.ones(len(index), dtype=torch.bool)

    def their_draw(self: tv_utils.BalancedPositiveNegativeSampler, matched: list[Tensor]) -> tuple[list, list]:
        masks: tuple[list, list] = ([], [])
        for labels in matched:
            for chosen, kind in zip(
                first_come(labels, self.batch_size_per_image, self.positive_fraction), masks, strict=True
            ):
                kind.append(torch.zeros_like(labels, dtype=torch.uint8).index_fill(0, chosen, 1))
        return masks

    head = ours.heads["objects"]
    monkeypatch.setattr(head.rpn, "sample", draw)
    monkeypatch.setattr(head.roi, "sample", draw)
    monkeypatch.setattr(tv_utils.BalancedPositiveNegativeSampler, "__call__", their_draw)


LOSSES = {
    "loss_objectness": "objects/rpn_objectness",
    "loss_rpn_box_reg": "objects/rpn_box",
    "loss_classifier": "objects/roi_class",
    "loss_box_reg": "objects/roi_box",
    "loss_mask": "objects/mask",
}
"""torchvision's name -> ours."""


def random_boxes(size: tuple[int, int], n: int, generator: torch.Generator) -> Tensor:
    """(n, 4) boxes of 10 to 90 pixels."""
    corner = torch.rand(n, 2, generator=generator) * torch.tensor([size[1] * 0.6, size[0] * 0.6])
    return torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=generator) * 80), 1).reshape(-1, 4)


def compare_losses(
    ours: VisionModel, theirs: FasterRCNN, images: list[Tensor], truths: list[dict[str, Tensor]], targets: list[Target]
) -> None:
    """Every loss equal to 1e-4; batch statistics are not what is compared, so both keep the gathered ones."""
    theirs.train()
    ours.train()
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    try:
        with torch.no_grad():
            expected = theirs([i / 255 for i in images], truths)
            found = ours.losses(ours.preprocess(images, targets))
    finally:
        theirs.eval()
        ours.eval()
    assert {LOSSES[name] for name in expected} == set(found)
    for name, loss in expected.items():
        assert loss > 0
        torch.testing.assert_close(found[LOSSES[name]], loss, rtol=1e-4, atol=1e-5)
