"""Faster R-CNN against torchvision's: the same weights in, the same boxes and losses out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn
from torchvision.models.detection import _utils as tv_utils

import vision_tasks as vt
import vision_tasks.weights.torchvision
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.structures import Target

SIZES = [(240, 320), (256, 200), (320, 320)]


def lively(model: FasterRCNN, columns: list[int]) -> None:
    """Random weights that yield dozens of varied boxes: batch-norm statistics from a batch, a bolder classifier."""
    generator = torch.Generator().manual_seed(7)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    model.backbone.train()
    with torch.no_grad():
        model.backbone(torch.randn(4, 3, 256, 256, generator=generator))
        model.eval()
        images = [photo(size, seed) / 255 for seed, size in enumerate(SIZES)]
        head = model.rpn.head
        predictor = model.roi_heads.box_predictor
        # (layer, wanted spread of its outputs), in the order in which they feed each other
        for layer, spread in (
            (head.cls_logits, 2.0),
            (head.bbox_pred, 0.3),
            (predictor.cls_score, 2.5),
            (predictor.bbox_pred, 1.0),
        ):
            outputs: list[Tensor] = []
            hook = layer.register_forward_hook(lambda _m, _i, out, o=outputs: o.append(out.transpose(0, 1).flatten(1)))
            model(images)
            hook.remove()
            output = torch.cat(outputs, 1)  # (channels, samples)
            scale = spread / (output - output.mean(1, keepdim=True)).std()
            layer.weight *= scale
            layer.bias.copy_(-output.mean(1) * scale)
        unused = [i for i in range(1, 91) if i not in columns]
        predictor.cls_score.bias[unused] = -50


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[VisionModel, FasterRCNN]:
    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=256, max_size=320)
    _, columns, _ = vt.weights.torchvision.coco_categories()
    lively(theirs, list(columns))
    path = tmp_path_factory.mktemp("weights") / "twin.pth"
    torch.save(theirs.state_dict(), path)
    ours = vt.create_model("faster_rcnn", weights=path, min_size=256, max_size=320)
    return ours, theirs


def photo(size: tuple[int, int], seed: int) -> Tensor:
    """A smooth random picture, (3, H, W) uint8."""
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]
    return (fine.clamp(0, 1) * 255).to(torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES[1:2], SIZES])
def test_predictions_equal_torchvision(pair: tuple[VisionModel, FasterRCNN], sizes: list[tuple[int, int]]) -> None:
    ours, theirs = pair
    images = [photo(size, seed) for seed, size in enumerate(sizes)]
    with torch.inference_mode():
        expected = theirs([image / 255 for image in images])
        found = ours.predict(ours.preprocess(images))
    ids = torch.tensor(ours.categories.ids)
    total = odd = 0
    for want, got, size in zip(expected, found, sizes, strict=True):
        assert got.boxes is not None
        assert got.labels is not None
        assert got.scores is not None
        assert len(want["boxes"]) >= 24, "the comparison needs dozens of boxes"
        assert len(set(want["labels"].tolist())) >= 5
        assert not set(want["labels"].tolist()) - set(ids.tolist())
        # Each of theirs has its own of ours: same label, box within 1e-4 of the side, score within 1e-4.
        apart = (want["boxes"][:, None] - got.boxes[None]).abs().amax(-1) / max(size)
        same = (apart < 1e-4) & (want["labels"][:, None] == ids[got.labels][None])
        same &= (want["scores"][:, None] - got.scores[None]).abs() < 1e-4
        total += len(want["boxes"])
        odd += int((~same.any(1)).sum()) + abs(len(got) - len(want["boxes"]))
    assert odd / total < 0.02, f"{odd} of {total} detections differ"


def first_come(labels: Tensor, count: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Draws the first positives and the first negatives: no chance in it."""
    positive = (labels >= 1).nonzero().flatten()[: int(count * fraction)]
    negative = (labels == 0).nonzero().flatten()[: count - len(positive)]
    return positive, negative


def fix_sampling(ours: VisionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both programs draw the same anchors and proposals."""

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


@pytest.mark.slow
def test_losses_equal_torchvision(pair: tuple[VisionModel, FasterRCNN], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    fix_sampling(ours, monkeypatch)
    generator = torch.Generator().manual_seed(3)
    images = [photo(size, seed) for seed, size in enumerate(SIZES)]
    truths, targets = [], []
    for i, (h, w) in enumerate(SIZES):
        n = (5, 1, 0)[i]
        corner = torch.rand(n, 2, generator=generator) * torch.tensor([w * 0.6, h * 0.6])
        boxes = torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=generator) * 80), 1)
        labels = torch.randint(0, 80, (n,), generator=generator)
        ids = torch.tensor(ours.categories.ids)[labels]
        truths.append({"boxes": boxes.reshape(-1, 4), "labels": ids})
        targets.append(Target(i, (h, w), boxes=boxes.reshape(-1, 4), labels=labels))
    theirs.train()
    ours.train()
    for model in (ours, theirs):  # batch statistics are not what is compared, and both share the frozen ones
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    try:
        expected = theirs([i / 255 for i in images], truths)
        found = ours.losses(ours.preprocess(images, targets))
    finally:
        theirs.eval()
        ours.eval()
    names = {
        "loss_objectness": "objects/rpn_objectness",
        "loss_rpn_box_reg": "objects/rpn_box",
        "loss_classifier": "objects/roi_class",
        "loss_box_reg": "objects/roi_box",
    }
    for theirs_name, ours_name in names.items():
        torch.testing.assert_close(found[ours_name], expected[theirs_name], rtol=1e-4, atol=1e-5)


def test_overlap_is_torchvisions() -> None:
    from torchvision.ops import box_iou

    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(1)) * 100
    boxes[:, 2:] += boxes[:, :2]
    torch.testing.assert_close(pairwise_iou(boxes[:20], boxes[20:]), box_iou(boxes[:20], boxes[20:]))


def test_reads_file(tmp_path: Path) -> None:
    with pytest.raises(vt.VisionTasksError, match=r"no weight file"):
        vt.create_model("faster_rcnn", weights=tmp_path / "nothing.pth")
