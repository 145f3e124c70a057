"""What the builders of the R-CNN family share: a backbone with its pyramid, and the RPN on it."""

from __future__ import annotations

from collections.abc import Sequence

from vision_tasks.backbones.base import NORMS, Backbone
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.heads.roi_box import NormLayer
from vision_tasks.heads.rpn import RPN
from vision_tasks.necks.fpn import FPN

# Of torchvision's MobileNet R-CNNs: two maps of one size, on which every anchor has all of the sizes.
_MAPS = {"mobilenet_v3_large": ("C5_first", "C5")}
_PROPOSAL_THRESHOLD = {"mobilenet_v3_large": 0.05}
_EPSILON = {"mobilenet_v3_large": 1e-5}  # of its batch norm there; as a classifier it has 1e-3


def body_and_pyramid(
    backbone: str,
    norm: str,
    norm_eps: float | None,
    trainable_stages: int,
    maps: Sequence[str] | None,
    channels: int,
    pyramid_norm: NormLayer | None,
) -> tuple[Backbone, FPN]:
    """A backbone and the pyramid on its maps; None chooses the published maps, C2 to C5 for most backbones."""
    if maps is None:
        maps = _MAPS.get(backbone, ("C2", "C3", "C4", "C5"))
    body = build_backbone(backbone, norm, tuple(maps), _EPSILON.get(backbone) if norm_eps is None else norm_eps)
    body.freeze(trainable_stages)
    return body, FPN(body.channels, channels, norm=pyramid_norm)


def proposals_on(
    neck: FPN,
    backbone: str,
    anchor_sizes: Sequence[float],
    train_proposals: tuple[int, int],
    test_proposals: tuple[int, int],
    threshold: float | None,
    depth: int,
) -> RPN:
    """The RPN on all levels of a pyramid: one anchor size a level, or all on each where two levels are of one size."""
    levels = tuple(neck.channels)
    one_each = len(pooled_levels(neck)[0]) == len(levels) - 1
    if one_each and len(anchor_sizes) != len(levels):
        raise ValueError(f"anchor_sizes: one anchor size per level, {', '.join(levels)}, not {tuple(anchor_sizes)}")
    return RPN(
        neck.channels[levels[0]],
        levels,
        [(size,) for size in anchor_sizes] if one_each else [tuple(anchor_sizes)] * len(levels),
        train_top=train_proposals,
        test_top=test_proposals,
        score_threshold=_PROPOSAL_THRESHOLD.get(backbone, 0.0) if threshold is None else threshold,
        depth=depth,
    )


def pooled_levels(neck: FPN) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and strides of the levels that boxes are pooled from: the first of each stride, but not the coarsest."""
    by_stride: dict[int, str] = {}
    for level in list(neck.channels)[:-1]:
        by_stride.setdefault(2 ** int(level[1]), level)
    return tuple(by_stride.values()), tuple(by_stride)


def learning_norm(norm: str) -> NormLayer:
    """The norm of layers that no classification network brings along: it must learn where the backbone's is frozen."""
    return NORMS["sync" if norm == "sync" else "batch"]
