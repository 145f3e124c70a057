"""torchvision's Faster R-CNN made equal to one of ours, and steps of both to compare; for `faster_rcnn.py`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torchvision.models import mobilenet_v2
from torchvision.models.detection import FasterRCNN, transform
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

from vision_tasks.config import OptimizerConfig
from vision_tasks.data.dataset import RawBatch
from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.heads.rpn import learnable
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.structures import Target
from vision_tasks.training.optimizer import parameter_groups
from vision_tasks.weights.torchvision import rename_rcnn

LOSSES = {
    "loss_objectness": "objects/rpn_objectness",
    "loss_rpn_box_reg": "objects/rpn_box",
    "loss_classifier": "objects/roi_class",
    "loss_box_reg": "objects/roi_box",
}
"""torchvision's name of each loss, and ours."""


def twin(ours: VisionModel) -> tuple[FasterRCNN, dict[str, str]]:
    """torchvision's Faster R-CNN with our weights, freezing and sizes; and our name for each of its parameters."""
    preprocess, head = ours.preprocess, ours.heads["objects"]
    assert isinstance(head, FasterRCNNHead)
    assert ours.blueprint is not None
    width = head.rpn.conv.in_channels
    if ours.blueprint.arguments["backbone"] == "mobilenet_v2":
        features = mobilenet_v2(weights=None, norm_layer=FrozenBatchNorm2d).features
        body = BackboneWithFPN(features, {"3": "0", "6": "1", "13": "2", "18": "3"}, [24, 32, 96, 1280], width)
    else:
        body = resnet_fpn_backbone(backbone_name=ours.blueprint.arguments["backbone"], weights=None)
    theirs = FasterRCNN(
        body, len(head.categories) + 1, min_size=preprocess.min_size, max_size=preprocess.max_size,
        box_batch_size_per_image=head.roi.batch_per_image,
    )  # fmt: skip
    return theirs, copied(theirs, ours, rename_rcnn)


def copied(theirs: nn.Module, ours: VisionModel, rename: Callable[[Any], Mapping[str, Tensor]]) -> dict[str, str]:
    """Give theirs our weights, freezing, type and device; our name for each of its parameters."""
    state, own = theirs.state_dict(), ours.state_dict()
    names = dict(zip(state, rename(state), strict=True))
    names = {t: re.sub(r"^backbone\.(?=\d)", "backbone.features.", o) for t, o in names.items()}
    unlike = sorted(set(names.values()) ^ set(own))
    assert not unlike, f"the two models do not have the same parameters: {unlike[:6]}"
    theirs.to(next(ours.parameters()).dtype).load_state_dict({t: own[o] for t, o in names.items()})
    learns = {name: p.requires_grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_(learns[names[name]])
    theirs.to(ours.device)
    return names


def twin_optimizers(
    ours: VisionModel, theirs: nn.Module, names: dict[str, str], config: OptimizerConfig
) -> tuple[Optimizer, Optimizer]:
    """One optimiser each, with the same groups."""
    groups = parameter_groups(ours, config, config.rate)
    our_name = {id(p): name for name, p in ours.named_parameters()}
    counterpart = {names[name]: p for name, p in theirs.named_parameters()}
    their_groups = [{**g, "params": [counterpart[our_name[id(p)]] for p in g["params"]]} for g in groups]
    if config.name == "adamw":
        return AdamW(groups, lr=config.rate), AdamW(their_groups, lr=config.rate)
    return (
        SGD(groups, lr=config.rate, momentum=config.momentum),
        SGD(their_groups, lr=config.rate, momentum=config.momentum),
    )


def their_images(raw: RawBatch) -> list[Tensor]:
    """Floats in 0..1, as torchvision wants them."""
    return [image.float() / 255 for image in raw.images]


def their_targets(raw: RawBatch) -> list[dict[str, Tensor]]:
    """Truths as torchvision wants them: no crowds, no empty boxes, labels counted from 1."""
    targets = []
    for target in raw.targets:
        assert target.boxes is not None
        assert target.labels is not None
        real = learnable(target)[1] if len(target.boxes) else slice(None)
        targets.append({"boxes": target.boxes[real], "labels": target.labels[real] + 1})
    return targets


def in_double() -> None:
    """Compute in float64 from now on, also where either program asks for float32.

    In float32 the last bit of a score decides which of two overlapping proposals survives, and the steps that follow
    take such a difference further. torchvision's box scale is taken out of float32, too: anchors that lie equally well
    on a truth would no longer tie.
    """

    def resize_boxes(boxes: Tensor, original: list[int], new: list[int]) -> Tensor:
        y, x = (n / o for n, o in zip(new, original, strict=True))
        return boxes * boxes.new_tensor((x, y, x, y))

    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    transform.resize_boxes = resize_boxes


class FixedDraw:
    """Anchors and proposals by a fixed lottery, the same in both programs.

    An anchor's number goes by its place, a proposal's by its box (to 2 pixels): the last bits of two nearly equal
    scores decide which proposal comes first, and that must not decide who is drawn. The numbers change with every call,
    so calls must come in the same order in both programs.
    """

    def __init__(self, count: int, fraction: float) -> None:
        self.count, self.positives = count, int(count * fraction)
        self.generator = torch.Generator().manual_seed(0)
        self.boxes: list[Tensor] = []

    def __call__(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Two masks (N,) -> indices of what is drawn."""
        place = torch.arange(len(positive), device=positive.device)
        if self.boxes:
            cells = ((self.boxes.pop(0) + 0.37) / 2).floor().long()
            place = (cells * cells.new_tensor((1, 137, 18_773, 2_571_353))).sum(1)
        numbers = torch.rand(500_009, generator=self.generator).to(place.device)[place % 500_009]
        first = torch.where(positive, numbers, 2).argsort()[: min(self.positives, int(positive.sum()))]
        rest = torch.where(negative, numbers, 2).argsort()[: min(self.count - len(first), int(negative.sum()))]
        return torch.cat((first, rest))

    def ours(self, matches: Tensor, count: int, fraction: float) -> tuple[Tensor, Tensor]:
        """In place of `sample_balanced`."""
        index = self(matches >= 0, matches == BACKGROUND)
        return index, torch.ones(len(index), dtype=torch.bool, device=index.device)

    def theirs(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """In place of torchvision's BalancedPositiveNegativeSampler."""
        drawn = [torch.zeros_like(v, dtype=torch.bool).index_fill(0, self(v >= 1, v == 0), True) for v in labels]
        positive = [d & (v >= 1) for d, v in zip(drawn, labels, strict=True)]
        return positive, [d & (v == 0) for d, v in zip(drawn, labels, strict=True)]


def fix_draw(ours: VisionModel, theirs: FasterRCNN) -> None:
    """Make both draw the same anchors and, each from its own proposals, the same proposals."""
    head: Any = ours.heads["objects"]
    our_roi: Any = head.roi
    their_roi: Any = theirs.roi_heads
    pairs = []
    our_stage: Any
    their_stage: Any
    for our_stage, their_stage in ((head.rpn, theirs.rpn), (our_roi, their_roi)):
        pair = [FixedDraw(our_stage.batch_per_image, our_stage.positive_fraction) for _ in range(2)]
        our_stage.sample, their_stage.fg_bg_sampler = pair[0].ours, pair[1].theirs
        pairs.append(pair)
    our_draw, their_assign = our_roi.draw, their_roi.assign_targets_to_proposals

    def draw(proposals: Tensor, target: Target) -> Any:
        pairs[1][0].boxes = [torch.cat((proposals, learnable(target)[0]))]
        return our_draw(proposals, target)

    def assign(proposals: list[Tensor], boxes: list[Tensor], labels: list[Tensor]) -> Any:
        pairs[1][1].boxes = list(proposals)
        return their_assign(proposals, boxes, labels)

    our_roi.draw, their_roi.assign_targets_to_proposals = draw, assign


@torch.no_grad()
def spread_out(ours: VisionModel, raw: RawBatch) -> None:
    """Random weights that yield dozens of varied boxes, so that suppression has as much to do as in a trained model.

    Frozen batch norm takes its statistics from this batch; then the outputs of the heads are scaled and centred.
    """

    def adopt(norm: Any, inputs: tuple[Tensor]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))

    batch = ours.eval().preprocess(raw.images)
    hooks = [m.register_forward_pre_hook(adopt) for m in ours.modules() if isinstance(m, FrozenBatchNorm2d)]
    ours.features(batch.images)
    for hook in hooks:
        hook.remove()
    head: Any = ours.heads["objects"]
    for layer, spread in (
        (head.rpn.objectness, 2.0), (head.rpn.deltas, 0.3), (head.roi.scores, 2.5), (head.roi.deltas, 1.0),
    ):  # fmt: skip
        outputs: list[Tensor] = []
        hook = layer.register_forward_hook(
            lambda _m, _i, out, kept=outputs: kept.append(out.transpose(0, 1).flatten(1))
        )
        ours.predict(batch)
        hook.remove()
        output = torch.cat(outputs, 1)  # (channels, samples)
        scale = spread / (output - output.mean(1, keepdim=True)).std()
        layer.weight *= scale
        layer.bias.copy_(-output.mean(1) * scale)


def our_losses(ours: VisionModel, raw: RawBatch) -> dict[str, Tensor]:
    return ours.losses(ours.preprocess(raw.images, raw.targets, raw.min_size))


def descend(optimizer: Optimizer, losses: dict[str, Tensor], clip: float | None = None) -> None:
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()


Step = Callable[[int], object]


def training_steps(ours: VisionModel, batches: Sequence[RawBatch]) -> tuple[Step, Step]:
    """One whole training step of each side on the i-th batch, from decoded images to moved weights."""
    theirs, names = twin(ours)
    ours.train()
    theirs.train()
    first, second = twin_optimizers(ours, theirs, names, OptimizerConfig(rate=1e-4))
    raws = [raw.to(ours.device) for raw in batches]
    inputs = [(their_images(raw), their_targets(raw)) for raw in raws]

    def our_step(i: int) -> None:
        descend(first, our_losses(ours, raws[i % len(raws)]))

    def their_step(i: int) -> None:
        descend(second, theirs(*inputs[i % len(raws)]))

    return our_step, their_step


def inference_steps(ours: VisionModel, batches: Sequence[RawBatch]) -> tuple[Step, Step]:
    """Answers of each side to the i-th image, from decoded image to boxes in its pixels."""
    theirs, _ = twin(ours)
    ours.eval()
    theirs.eval()
    raws = [raw.to(ours.device) for raw in batches]
    inputs = [their_images(raw) for raw in raws]
    with torch.inference_mode():
        found = sum(len(p) for raw in raws for p in ours.predict(ours.preprocess(raw.images)))
        expected = sum(len(r["boxes"]) for images in inputs for r in theirs(images))
    print(f"  boxes on {len(raws)} images: ours {found}, torchvision {expected}")

    def our_step(i: int) -> None:
        with torch.inference_mode():
            ours.predict(ours.preprocess(raws[i % len(raws)].images))

    def their_step(i: int) -> None:
        with torch.inference_mode():
            theirs(inputs[i % len(raws)])

    return our_step, their_step


def duel(ours: Step, theirs: Step, rounds: int, device: str = "cpu") -> tuple[list[float], list[float]]:
    """Seconds of every round of both, in turn, after one unmeasured round; who begins changes every round."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for i in range(-1, rounds):
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            started = time.perf_counter()
            (ours, theirs)[side](i)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if i >= 0:
                seconds[side].append(time.perf_counter() - started)
    return seconds
