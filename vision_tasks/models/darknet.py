"""Any network of a Darknet `.cfg`: YOLOv3 (Redmon and Farhadi 2018), YOLOv4 (Bochkovskiy et al. 2020), and smaller."""

from __future__ import annotations

from typing import Literal

from torch import nn

from vision_tasks.backbones import darknet as body
from vision_tasks.heads.darknet import DarknetHead, YoloLayer
from vision_tasks.heads.darknet_loss import BOX_LOSSES
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import Blueprint, VisionModel
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.ops.suppression import Method
from vision_tasks.structures import Categories
from vision_tasks.weights.darknet import level_name
from vision_tasks.weights.darknet_cfg import MOST_SIDE, Layer, Section, plan, read_cfg, text_of


def darknet(
    categories: Categories,
    cfg: str = "",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float = 1e-5,
    trainable_stages: int = 5,
    size: int | tuple[int, int] | None = None,
    score_threshold: float = 0.005,
    iou_threshold: float = 0.45,
    detections_per_image: int = 100,
    suppression: Method = "nms",
    columns: tuple[int, ...] | None = None,
    outputs: int | None = None,
) -> VisionModel:
    """The layers of a `.cfg` up to the yolo layers as the backbone, all its yolo layers as the one head.

    Built with random weights. The numbers of the loss, the anchors and the size are those of the cfg; its training
    schedule and augmentation are not followed (`configs` are), nor are `focal_loss`, `label_smooth_eps`, `max_delta`
    and `objectness_smooth`.

    Args:
        categories: what it detects, K of them; the cfg may have been written for other classes.
        cfg: a path, or the text itself, which is what a checkpoint keeps.
        norm: "batch" (learns), "frozen" (for pretrained weights and small batches), or "sync" (across GPUs).
        norm_eps: added to the variance in batch norm: AlexeyAB's 1e-5 (OpenCV reads the same files with 1e-6).
        trainable_stages: how many of the backbone's five stages learn, counted from the last.
        size: (height, width) images are brought to, pixels; default the cfg's.
        score_threshold: detections must exceed it; Darknet's own for COCO's AP is 0.005.
        iou_threshold: suppression within a class. detections_per_image: at most.
        suppression: how overlapping boxes are thinned.
        columns: output that belongs to each category; default 0..K-1. outputs: number of class outputs; default K.

    Raises:
        VisionTasksError: no cfg, or one that is malformed or has layers that are not supported; the message says where.
    """
    text = text_of(cfg)
    size = (size, size) if isinstance(size, int) else size
    net, *_ = sections = read_cfg(text)
    layers = plan(sections)
    yolos = sorted((layer for layer in layers if layer.section.kind == "yolo"), key=lambda layer: layer.stride)
    predictors = {layer.sources[0] for layer in yolos}
    in_head = predictors | {layer.section.index for layer in yolos}
    nodes = [
        body.Node(None if i in in_head else _module(layer, norm, norm_eps), layer.sources, layer.channels, layer.stride)
        for i, layer in enumerate(layers)
    ]
    maps = {level_name(layer.section.index): layers[layer.sources[0]].sources[0] for layer in yolos}
    backbone = body.Darknet(nodes, maps)
    backbone.freeze(trainable_stages)
    head = DarknetHead(
        categories,
        columns or tuple(range(len(categories))),
        [_yolo(layer, layers[layer.sources[0]]) for layer in yolos],
        outputs or len(categories),
        DetectionRule(score_threshold, iou_threshold, detections_per_image, suppression=suppression, clip=False),
    )
    coarsest = max(layer.stride for layer in layers)
    model = VisionModel(_preprocess(net, size, coarsest), backbone, None, {"objects": head})
    # The text rather than a path, so that a checkpoint needs no other file.
    model.blueprint = Blueprint(
        "darknet",
        {
            "cfg": text, "norm": norm, "norm_eps": norm_eps, "trainable_stages": trainable_stages, "size": size,
            "score_threshold": score_threshold, "iou_threshold": iou_threshold,
            "detections_per_image": detections_per_image, "suppression": suppression,
            "columns": columns, "outputs": outputs,
        },
    )  # fmt: skip
    return model


def _preprocess(net: Section, size: tuple[int, int] | None, stride: int) -> Preprocess:
    """RGB in 0..1, stretched, or with `letter_box=1` centred on grey."""
    size = size or (net.integer("height", least=1, most=MOST_SIDE), net.integer("width", least=1, most=MOST_SIDE))
    channels = net.integer("channels", 3, least=1)
    return Preprocess(
        resize="letterbox" if net.flag("letter_box") else "stretch",
        size=size, mean=(0.0,) * channels, std=(1.0,) * channels,
        stride=1 if size[0] % stride or size[1] % stride else stride, pad_value=0.5, place="center",
    )  # fmt: skip


def _module(layer: Layer, norm: str, norm_eps: float) -> nn.Module:
    """The torch module of a layer that is not the head's."""
    section = layer.section
    match section.kind:
        case "convolutional":
            return body.Convolution(
                layer.in_channels, layer.channels, section.window("size", 1), section.window("stride", 1),
                _padding(section), section.window("dilation", 1), section.integer("groups", 1, least=1),
                norm if section.flag("batch_normalize") else None, norm_eps, _activation(section, "logistic"),
            )  # fmt: skip
        case "maxpool":
            stride = section.window("stride", 1)
            size = section.window("size", stride)
            return body.MaxPool(size, stride, section.window("padding", size - 1, least=0))
        case "upsample":
            return body.Upsample(section.window("stride", 2))
        case "route":
            return body.Route(section.integer("groups", 1, least=1), section.integer("group_id", 0))
        case "shortcut":
            return body.Shortcut(_activation(section, "linear"))
        case "scale_channels" | "sam":
            return body.Product(_activation(section, "linear"))
        case "avgpool":
            return nn.AdaptiveAvgPool2d(1)
        case "dropout":
            return nn.Dropout(section.number("probability", 0.5))
    raise section.error("has no module.")


def _yolo(layer: Layer, before: Layer) -> YoloLayer:
    section = layer.section
    if any(before.section.integer(key, 1) != 1 for key in ("stride", "dilation", "groups")):
        raise before.section.error("must have stride, dilation and groups of 1 before [yolo].")
    numbers = section.numbers("anchors")
    anchors = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    mask = tuple(section.integers("mask"))
    if (
        not mask
        or len(numbers) % 2
        or not all(0 < n < 1e5 for n in numbers)
        or not all(0 <= i < len(anchors) for i in mask)
    ):
        raise section.error(f"mask {mask} must name some of the {len(anchors)} anchors, pairs of positive numbers.")
    scale_x_y = section.number("scale_x_y", 1.0)
    if scale_x_y <= 0:
        raise section.error(f"scale_x_y={scale_x_y} must be positive.")
    loss = section.text("iou_loss", "mse")
    if loss != "mse" and loss not in BOX_LOSSES:
        raise section.error(f"iou_loss={loss} is not known; there are mse, {', '.join(BOX_LOSSES)}.")
    return YoloLayer(
        level_name(section.index), before.in_channels,
        before.section.window("size", 1), _padding(before.section), anchors, mask,
        scale_x_y=scale_x_y,
        new_coords=section.flag("new_coords"),
        ignore_thresh=section.number("ignore_thresh", 0.5),
        truth_thresh=section.number("truth_thresh", 1.0),
        iou_thresh=section.number("iou_thresh", 1.0),
        iou_loss=loss,
        iou_normalizer=section.number("iou_normalizer", 1.0),
        obj_normalizer=section.number("obj_normalizer", 1.0),
        cls_normalizer=section.number("cls_normalizer", 1.0),
    )  # fmt: skip


def _padding(section: Section) -> int:
    return section.window("size", 1) // 2 if section.flag("pad") else section.window("padding", 0, least=0)


def _activation(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name not in body.ACTIVATIONS:
        raise section.error(f"activation={name} is not supported; there are {', '.join(body.ACTIVATIONS)}.")
    return name
