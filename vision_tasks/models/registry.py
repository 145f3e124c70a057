"""All models by name, and the one function that makes them."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from vision_tasks.backbones.registry import backbone_builder
from vision_tasks.errors import VisionTasksError
from vision_tasks.models import pretrained
from vision_tasks.models.cascade_rcnn import cascade_rcnn
from vision_tasks.models.darknet import darknet
from vision_tasks.models.deeplabv3 import deeplabv3
from vision_tasks.models.deeplabv3plus import deeplabv3plus
from vision_tasks.models.faster_rcnn import faster_rcnn
from vision_tasks.models.fcn import fcn
from vision_tasks.models.fcos import fcos
from vision_tasks.models.lraspp import lraspp
from vision_tasks.models.mask_rcnn import mask_rcnn
from vision_tasks.models.multi_head import Kind, head_kinds, multi_head, panoptic_fpn
from vision_tasks.models.options import checked
from vision_tasks.models.pspnet import pspnet
from vision_tasks.models.retinanet import retinanet
from vision_tasks.models.semantic_fpn import semantic_fpn
from vision_tasks.models.ssd import ssd
from vision_tasks.models.ssdlite import ssdlite
from vision_tasks.models.unet import unet
from vision_tasks.models.vision_model import Blueprint, VisionModel
from vision_tasks.models.yolox import yolox
from vision_tasks.structures import Categories
from vision_tasks.weights import files, published

log = logging.getLogger("vision_tasks")

Names = Categories | Iterable[str] | Iterable[Mapping[str, Any]]

MODELS: dict[str, Callable[..., VisionModel]] = {
    "cascade_rcnn": cascade_rcnn,
    "darknet": darknet,
    "deeplabv3": deeplabv3,
    "deeplabv3plus": deeplabv3plus,
    "faster_rcnn": faster_rcnn,
    "fcn": fcn,
    "fcos": fcos,
    "lraspp": lraspp,
    "mask_rcnn": mask_rcnn,
    "multi_head": multi_head,
    "panoptic_fpn": panoptic_fpn,
    "pspnet": pspnet,
    "retinanet": retinanet,
    "semantic_fpn": semantic_fpn,
    "ssd": ssd,
    "ssdlite": ssdlite,
    "unet": unet,
    "yolox": yolox,
}
"""Name -> builder(categories, **options). Add your own with `MODELS["mine"] = build`, or offer it as an entry point
in the group `vision_tasks.models`. A builder's signature is the source of its options' names, types and defaults."""

KINDS: dict[str, tuple[Kind, ...]] = {
    **dict.fromkeys(("deeplabv3", "deeplabv3plus", "fcn", "lraspp", "pspnet", "semantic_fpn", "unet"), ("semantic",)),
    "multi_head": ("objects", "semantic"),
    "panoptic_fpn": ("objects", "semantic"),
}
"""What a model's categories are of, and so which labels it learns from: objects, for those not named here. Builders for
both take a mapping from kind to `Categories`. Name your own here, too, if it is not a detector."""


def model_kinds(name: str, options: Mapping[str, Any] | None = None) -> tuple[Kind, ...]:
    """What a model's categories are of: "objects", "semantic" or both; of `multi_head` its `heads` say.

    Raises:
        VisionTasksError: `heads` that cannot be.
    """
    if name == "multi_head" and options and isinstance(options.get("heads"), Mapping):
        try:
            return tuple(head_kinds(options["heads"]).values())
        except ValueError as error:
            raise VisionTasksError(f"multi_head: {error}.") from error
    return KINDS.get(name, ("objects",))


def takes_mapping(name: str) -> bool:
    """Whether the builder wants categories by kind: it has, or may have, several heads."""
    return "Mapping" in str(inspect.signature(builder(name)).parameters["categories"].annotation)


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return sorted(MODELS)


def builder(name: str) -> Callable[..., VisionModel]:
    """The builder of a model, also from an installed package's entry point."""
    if name not in MODELS:
        for entry in entry_points(group="vision_tasks.models", name=name):
            MODELS[name] = entry.load()
    if name not in MODELS:
        raise VisionTasksError(
            f"There is no model {name!r}.{_nearest(name, MODELS)} Known: {', '.join(list_models())}."
        )
    return MODELS[name]


def model_options(name: str) -> dict[str, inspect.Parameter]:
    """Options of a model by name, from its builder's signature (all but `categories`)."""
    parameters = inspect.signature(builder(name), eval_str=True).parameters
    return {key: p for key, p in parameters.items() if key != "categories"}


def create_model(
    name: str,
    categories: Names | Mapping[Kind, Names] | None = None,
    *,
    weights: str | Path | None = None,
    backbone_weights: str | Path | None = None,
    **options: Any,
) -> VisionModel:
    """Make a model, in evaluation mode, on the CPU.

    Args:
        name: see `list_models`.
        categories: names, or COCO category dictionaries; of a model with heads for objects and for maps, a mapping
            {"objects": ..., "semantic": ...}. May be left out with COCO `weights`, which bring theirs.
        weights: of the whole model: "coco" (downloads the publisher's), or a file: a checkpoint of ours, or a state
            dict in any of the layouts of `weights.layouts`. With other categories, what fits is kept, also the class
            outputs of categories of the same name, and the rest starts anew; the log says which.
        backbone_weights: of the backbone alone: "imagenet" or "imagenet_v2" (downloads torchvision's), or a file.
        options: of the builder (`model_options`). With pretrained weights, a detector that can freeze stages has
            `norm="frozen"` and `trainable_stages=3` unless told otherwise, as in torchvision; a model of semantic maps
            learns as a whole, as there.

    Raises:
        VisionTasksError: unknown name or option, unreadable or foreign weights, no categories.
    """
    allowed = model_options(name)
    for option in options:
        if option not in allowed:
            raise VisionTasksError(
                f"{name} has no option {option!r}.{_nearest(option, allowed)} It has: {', '.join(allowed)}."
            )
    options = checked(name, options, allowed)
    backbone = options.get("backbone", allowed["backbone"].default if "backbone" in allowed else None)
    if backbone is not None:
        backbone_builder(str(backbone))  # says so if there is none, before anything is downloaded
    start = None
    if weights is not None:
        defaults = {key: p.default for key, p in allowed.items()}
        start = pretrained.read(name, weights, defaults | options)
        held, wanted = start.options.get("variant"), options.get("variant")
        if None not in (held, wanted) and held != wanted:
            raise VisionTasksError(
                f"{start.path} holds the weights of {name} {held!r}, not {wanted!r}. "
                "Choose that variant, or another file."
            )
        options = {k: v for k, v in start.options.items() if k in allowed} | options
    given = None if categories is None else _for_builder(name, categories, model_kinds(name, options))
    options = pretrained.class_options(start, given, name) | options
    detects = "objects" in model_kinds(name, options)
    if detects and "trainable_stages" in allowed and (weights is not None or backbone_weights is not None):
        options = {k: v for k, v in (("norm", "frozen"), ("trainable_stages", 3)) if k in allowed} | options
    model = _build(name, options.pop("categories"), options)
    if backbone_weights is not None:
        _load_backbone(model, str(backbone), backbone_weights)
    if start is not None:
        pretrained.load_into(model, start)
    return model.eval()


def rebuild(blueprint: Blueprint, categories: Categories | Mapping[Kind, Categories]) -> VisionModel:
    """The model a blueprint describes, with random weights."""
    return _build(blueprint.builder, categories, dict(blueprint.arguments))


def _build(name: str, categories: Categories | Mapping[Kind, Categories], options: dict[str, Any]) -> VisionModel:
    if any(len(one) == 0 for one in (categories.values() if isinstance(categories, Mapping) else [categories])):
        raise VisionTasksError("A model needs at least one category.")
    try:
        model = builder(name)(categories=categories, **options)
        _check_columns(model)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise VisionTasksError(f"{name} cannot be built with {options}: {error}.") from error
    if model.blueprint is None:  # a builder may describe itself, to store a file's content rather than its path
        model.blueprint = Blueprint(name, options)
    return model


def _for_builder(name: str, given: Any, kinds: tuple[Kind, ...]) -> Categories | dict[Kind, Categories]:
    """Categories as the builder takes them.

    Raises:
        VisionTasksError: one list where several are wanted.
    """
    if not takes_mapping(name):
        return _categories(given[kinds[0]] if isinstance(given, Mapping) and kinds[0] in given else given)
    if not isinstance(given, Mapping) or set(kinds) - set(given):
        wanted = ", ".join(f'"{kind}": [...]' for kind in kinds)
        raise VisionTasksError(f"{name} has heads for {' and '.join(kinds)}: give categories={{{wanted}}}.")
    return {kind: _categories(given[kind]) for kind in kinds}


def _categories(given: Any) -> Categories:
    try:
        return Categories.of(given)
    except (TypeError, KeyError, ValueError) as error:
        raise VisionTasksError(
            f"categories must be a list of names, or of COCO categories, not {str(given)[:80]} ({error})."
        ) from error


def _check_columns(model: VisionModel) -> None:
    for head in model.named_heads().values():
        for parameter, (before, after) in list(head.class_parameters().items())[:1]:
            outputs, columns = len(head.state_dict()[parameter]) // (before * after), head.columns.tolist()
            if not all(0 <= column < outputs and column != head.background for column in columns):
                nothing = "" if head.background is None else f", of which {head.background} is the background"
                raise ValueError(f"columns {columns} must be among the {outputs} outputs{nothing}")


def _load_backbone(model: VisionModel, backbone: str, source: str | Path) -> None:
    builder = None if model.blueprint is None else model.blueprint.builder
    if source == "imagenet" and (builder, backbone) == published.SSD_VGG:
        source = "imagenet_features"
    path = published.imagenet_file(backbone, str(source)) if source in published.IMAGENET else Path(source)
    given = files.read_state_dict(path)
    state = model.backbone.rename(given)
    fit = files.load_fitting(model.backbone, state, path, ignore=model.backbone.left_out)
    pretrained.report(fit, path)
    log.info("The backbone %s starts from %s: %d tensors fitted.", backbone, path, len(fit.loaded))
    channels, names = model.backbone.in_channels, {model.backbone.own_name(name): name for name in given}
    adapted = [name for name in fit.loaded if name in names and state[name].shape != given[names[name]].shape]
    if channels != 3 and adapted:
        how = "summed up" if channels == 1 else f"repeated in turn and scaled by 3/{channels}"
        log.info("Images have %d channel(s): the weights of %s for red, green and blue were %s.", channels,
                 ", ".join(adapted), how)  # fmt: skip


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
