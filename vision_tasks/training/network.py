"""What a model does to the sizes of objects, as the doctor wants to know it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from vision_tasks.config import Config
from vision_tasks.data.doctor.network import Network
from vision_tasks.data.records import Records
from vision_tasks.heads.darknet import DarknetHead
from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.heads.retinanet import RetinaNetHead
from vision_tasks.heads.ssd import SSDHead
from vision_tasks.models.registry import model_options
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Size
from vision_tasks.training.building import model_for

_Shapes = tuple[tuple[tuple[float, float], ...], ...]
_WEIGHTS = ("weights", "backbone_weights")


def network_for(config: Config, train: Records) -> Network | None:
    """Of a recipe's model for these data; weights are neither read nor downloaded. None if it detects no objects.

    Raises:
        VisionTasksError: the recipe's model cannot be made for the data.
    """
    model = {key: value for key, value in config.model.items() if key not in _WEIGHTS}
    return network_of(model_for(config.model_copy(update={"model": model}), train))


def network_of(model: VisionModel) -> Network | None:
    """Of a model that is there; None if it detects no objects."""
    head = model.head_of("objects")
    if head is None:
        return None
    rule, name = model.preprocess, model.blueprint.builder if model.blueprint is not None else "the model"
    canvas = rule.size or (1024, 1024)
    maps = _map_sizes(model, canvas)
    levels = head.rpn.levels if isinstance(head, FasterRCNNHead) else head.levels
    strides = tuple(canvas[0] / maps[level][0] for level in levels)
    anchors: _Shapes | None = None
    place = 0.0
    if isinstance(head, FasterRCNNHead | RetinaNetHead):
        owner = head.rpn if isinstance(head, FasterRCNNHead) else head
        cells = [getattr(owner, f"cell{i}") for i in range(len(levels))]
        anchors = _plain([cell[:, 2:] - cell[:, :2] for cell in cells])
    elif isinstance(head, SSDHead):
        sides = torch.tensor([canvas[1], canvas[0]])
        anchors = _plain([getattr(head, f"shape{i}").cpu() * sides for i in range(len(levels))])
        strides, place = tuple(head.strides or strides), 0.5
    elif isinstance(head, DarknetHead):
        anchors = tuple(tuple(layer.anchors[i] for i in layer.mask) for layer in head.layers)
        place = 0.5
    sizes = _anchor_sizes(model) if anchors is not None else ()
    return Network(
        name, rule.resize, rule.min_size, rule.max_size, rule.size, strides, anchors, place,
        "model.anchor_sizes" if sizes else "", sizes,
    )  # fmt: skip


def _map_sizes(model: VisionModel, canvas: Size) -> dict[str, Size]:
    """(height, width) of the maps that the model makes of an image; nothing is computed, on a device without memory."""
    shadow = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad():
        maps = shadow.features(torch.zeros(1, len(model.preprocess.mean), *canvas, device="meta"))
    return {level: (x.shape[-2], x.shape[-1]) for level, x in maps.items()}


def _plain(levels: list[Tensor]) -> _Shapes:
    return tuple(tuple((w, h) for w, h in level.tolist()) for level in levels)


def _anchor_sizes(model: VisionModel) -> tuple[float, ...]:
    """The option that the anchors of a model are scaled by; empty if there is none."""
    blueprint = model.blueprint
    if blueprint is None or "anchor_sizes" not in (options := model_options(blueprint.builder)):
        return ()
    return tuple(blueprint.arguments.get("anchor_sizes") or options["anchor_sizes"].default)
