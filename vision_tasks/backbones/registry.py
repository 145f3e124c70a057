"""All backbones by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import partial

from vision_tasks.backbones.base import Backbone
from vision_tasks.backbones.convnext import convnext
from vision_tasks.backbones.csp_darknet import csp_darknet
from vision_tasks.backbones.densenet import densenet
from vision_tasks.backbones.efficientnet import efficientnet
from vision_tasks.backbones.mobilenet import mobilenet
from vision_tasks.backbones.regnet import regnet
from vision_tasks.backbones.resnet import narrow_resnet, resnet
from vision_tasks.backbones.squeezenet import squeezenet
from vision_tasks.backbones.timm_backbone import DILATED, TIMM, TimmBackbone
from vision_tasks.backbones.unet import unet_encoder
from vision_tasks.backbones.vgg import vgg
from vision_tasks.errors import VisionTasksError

_FAMILIES: dict[Callable[..., Backbone], str] = {
    resnet: "resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d "
    "wide_resnet50_2 wide_resnet101_2",
    mobilenet: "mobilenet_v2 mobilenet_v3_large mobilenet_v3_small",
    efficientnet: "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 "
    "efficientnet_b6 efficientnet_b7 efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l",
    regnet: "regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_x_8gf regnet_x_16gf regnet_x_32gf "
    "regnet_y_400mf regnet_y_800mf regnet_y_1_6gf regnet_y_3_2gf regnet_y_8gf regnet_y_16gf regnet_y_32gf",
    convnext: "convnext_tiny convnext_small convnext_base convnext_large",
    vgg: "vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
    densenet: "densenet121 densenet161 densenet169 densenet201",
    squeezenet: "squeezenet1_0 squeezenet1_1",
    csp_darknet: "csp_darknet_nano csp_darknet_tiny csp_darknet_s csp_darknet_m csp_darknet_l csp_darknet_x",
    unet_encoder: "unet unet_32 unet_16",
}

BACKBONES: dict[str, Callable[..., Backbone]] = {
    name: partial(family, name) for family, names in _FAMILIES.items() for name in names.split()
}
BACKBONES["resnet_narrow"] = narrow_resnet
"""Name -> function(norm, levels, norm_eps) that builds a randomly initialised backbone. Add your own with
`BACKBONES["mine"] = build`. Names "timm/..." are not in here: timm knows them."""


def backbone_builder(name: str) -> Callable[..., Backbone]:
    """The function(norm, levels, norm_eps) that builds a backbone.

    Args:
        name: in `BACKBONES`, or "timm/" and a name that timm knows.

    Raises:
        VisionTasksError: there is no such backbone.
    """
    if name.startswith(TIMM):
        return partial(TimmBackbone, name)
    if name not in BACKBONES:
        close = difflib.get_close_matches(name, BACKBONES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise VisionTasksError(
            f"There is no backbone {name!r}.{hint} Known: {', '.join(BACKBONES)}; and timm/NAME for those of timm."
        )
    return BACKBONES[name]


def build_backbone(
    name: str,
    norm: str,
    levels: Sequence[str] | None,
    norm_eps: float | None = None,
    output_stride: int = 32,
    in_channels: int = 3,
) -> Backbone:
    """A randomly initialised backbone.

    Args:
        name: in `BACKBONES`, or "timm/" and a name that timm knows.
        norm: what its batch norms become: "batch", "frozen" or "sync". Networks without batch norm ignore it; "unet"
            takes "none", too.
        levels: maps that it returns, of "C1".."C5", and "C0" of "unet" and VGG; stages after the last of them are not
            built. None: all that it has.
        norm_eps: added to the variance in batch norm; None is what its ImageNet weights were trained with.
        output_stride: 32, 16 or 8. No map is coarser: strides are taken out of the last stages and what follows is
            dilated, with weights and names unchanged. Levels keep their names: with 8, C3, C4 and C5 are equally large.
        in_channels: of the images; weights of RGB adapt (`Backbone.rename`).

    Raises:
        VisionTasksError: no such backbone, a level it does not have, timm is missing, or it cannot be dilated.
        ValueError: another output_stride, or no channels.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 32, 16 or 8, not {output_stride}")
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, not {in_channels}")
    if name.startswith(TIMM):
        return TimmBackbone(name, norm, levels, norm_eps, output_stride, in_channels)
    backbone = backbone_builder(name)(norm, levels, norm_eps)
    if in_channels != 3:
        backbone.take_channels(in_channels)
    if output_stride < 32:
        try:
            backbone.dilate(output_stride)
        except NotImplementedError:
            raise VisionTasksError(f"The backbone {name} has no output stride but 32. {DILATED}") from None
    return backbone
