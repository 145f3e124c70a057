"""Any head of objects and any head of semantic maps on one backbone and one pyramid; Panoptic FPN among them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from vision_tasks.backbones.base import NORMS
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.aspp import RATES, DeepLabV3Decoder
from vision_tasks.heads.base import Head
from vision_tasks.heads.fcn import FCNDecoder
from vision_tasks.heads.semantic import Decoder, SemanticHead
from vision_tasks.models.cascade_rcnn import cascade_rcnn
from vision_tasks.models.faster_rcnn import faster_rcnn
from vision_tasks.models.fcos import fcos
from vision_tasks.models.mask_rcnn import mask_rcnn
from vision_tasks.models.options import checked
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.rcnn_parts import body_and_pyramid
from vision_tasks.models.retinanet import retinanet
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.panoptic import PanopticRule
from vision_tasks.structures import Categories

Kind = Literal["objects", "semantic"]

OBJECTS: dict[str, Callable[..., VisionModel]] = {
    "cascade_rcnn": cascade_rcnn,
    "faster_rcnn": faster_rcnn,
    "fcos": fcos,
    "mask_rcnn": mask_rcnn,
    "retinanet": retinanet,
}
"""Types of heads that find objects: the models of that name bring the backbone and the pyramid along."""


def _semantic_fpn(model: VisionModel, outputs: int, width: int = 128, groups: int = 32) -> Decoder:
    from vision_tasks.heads.semantic_fpn import SemanticFPNDecoder

    neck = model.neck
    assert neck is not None
    levels = {level: c for level, c in neck.channels.items() if int(level[1]) <= 5}
    return SemanticFPNDecoder(levels, outputs, width, groups)


def _fcn(model: VisionModel, outputs: int, dropout: float = 0.1) -> Decoder:
    level, channels = list(model.backbone.channels.items())[-1]
    return FCNDecoder(level, channels, outputs, NORMS["batch"], dropout)


def _deeplabv3(model: VisionModel, outputs: int, width: int = 256, rates: tuple[int, ...] = RATES[32]) -> Decoder:
    level, channels = list(model.backbone.channels.items())[-1]
    return DeepLabV3Decoder(level, channels, outputs, rates, NORMS["batch"], width)


DECODERS: dict[str, Callable[..., Decoder]] = {"deeplabv3": _deeplabv3, "fcn": _fcn, "semantic_fpn": _semantic_fpn}
"""Types of heads that draw maps: function(model, outputs, options) that makes a decoder on a model's features."""

_SHARED = ("categories", "backbone", "norm", "norm_eps", "trainable_stages", "min_size", "max_size", "channels")
_OF_MAPS = {"multi_label": bool, "losses": dict[str, dict[str, Any]]}


def head_kinds(heads: Mapping[str, Any]) -> dict[str, Kind]:
    """What each head's categories are of.

    Raises:
        ValueError: no head, one without a type or of an unknown one, or two of a kind.
    """
    known = f"of objects: {', '.join(OBJECTS)}; of maps: {', '.join(DECODERS)}"
    kinds: dict[str, Kind] = {}
    for name, options in heads.items():
        type_ = options.get("type") if isinstance(options, Mapping) else None
        if type_ not in (*OBJECTS, *DECODERS):
            raise ValueError(f"heads.{name} needs a type ({known}), not {type_!r}")
        kinds[name] = "objects" if type_ in OBJECTS else "semantic"
    if not kinds or len(set(kinds.values())) != len(kinds):
        raise ValueError(f"heads must be one of objects, one of maps, or one of each, not {kinds or 'none'} ({known})")
    return kinds


def chosen_categories(options: Mapping[str, Any]) -> dict[Kind, list[str]]:
    """Names of the categories that a recipe's heads want of the data's, by kind, where they do not want all.

    Args:
        options: of `multi_head`, or of `panoptic_fpn`, whose heads are options of their own; of any other model: none.

    Raises:
        VisionTasksError: they are no list of names.
        ValueError: heads that cannot be (`head_kinds`).
    """
    heads = options.get("heads")
    own: dict[Kind, tuple[str, Any]] = {
        "objects": ("objects", options.get("objects")),
        "semantic": ("semantic", options.get("semantic")),
    }
    if isinstance(heads, Mapping) and heads:
        own = {kind: (f"heads.{name}", heads[name]) for name, kind in head_kinds(heads).items()}
    found: dict[Kind, list[str]] = {}
    for kind, (place, of_head) in own.items():
        names = of_head.get("categories") if isinstance(of_head, Mapping) else None
        if names is not None:
            if not isinstance(names, (list, tuple)) or not names or not all(isinstance(n, str) for n in names):
                raise VisionTasksError(
                    f"{place}.categories must be a list of names, such as [sky, road], not {names!r}."
                )
            found[kind] = list(names)
    return found


def _chosen(name: str, names: list[str] | None, given: Categories) -> Categories:
    """The categories of these names, in their order; all that are given, if None. Choosing again changes nothing."""
    if names is None or list(given.names) == names:
        return given
    lacking = [n for n in names if n not in given.names]
    if lacking:
        raise ValueError(
            f"heads.{name}.categories: there is no {', '.join(lacking)} among {', '.join(given.names[:20])}"
        )
    entries = dict(zip(given.names, given.to_list(), strict=True))
    return Categories.of([entries[n] for n in names])


def multi_head(
    categories: Mapping[Kind, Categories],
    heads: dict[str, dict[str, Any]] = {"objects": {"type": "mask_rcnn"}, "surface": {"type": "semantic_fpn"}},  # noqa: B006
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    channels: int = 256,
    panoptic: bool = False,
    panoptic_score: float = 0.5,
    panoptic_overlap: float = 0.5,
    panoptic_stuff_area: int = 4096,
    panoptic_void: tuple[str, ...] = (),
) -> VisionModel:
    """Heads of your choice on one backbone and one pyramid: trained together, saved together, one forward pass.

    Each head learns from the images that are annotated for it, so data sets with different labels train together.

    Args:
        categories: by kind, "objects" and "semantic", as far as there are heads of it.
        heads: by a name of your choice: its `type`, and the options of that type. Of objects: "faster_rcnn",
            "mask_rcnn", "cascade_rcnn", "retinanet", "fcos", with the options of the models of these names. Of maps:
            "semantic_fpn" (`width`, `groups`) on the pyramid, "fcn" (`dropout`) and "deeplabv3" (`width`, `rates`) on
            the backbone's last map, each with `losses` and `multi_label`. At most one of objects and one of maps.
            `categories`, a list of names, chooses some of the data's for a head.
        backbone, norm, norm_eps, trainable_stages, min_size, max_size: as in `faster_rcnn`.
        channels: width of the pyramid.
        panoptic: whether masks of objects and maps are merged, too.
        panoptic_score, panoptic_overlap, panoptic_stuff_area, panoptic_void: see `PanopticRule`.

    Raises:
        ValueError: unknown types or options, two heads of a kind, chosen categories that are not there, or nothing to
            merge.
    """
    kinds = head_kinds(heads)
    names = chosen_categories({"heads": heads})
    shared = {"backbone": backbone, "norm": norm, "norm_eps": norm_eps, "trainable_stages": trainable_stages}
    shared |= {"min_size": min_size, "max_size": max_size, "channels": channels}
    trunk: VisionModel | None = None
    made: dict[str, Head] = {}
    for name in (n for n, kind in kinds.items() if kind == "objects"):
        options = _options(name, heads[name], OBJECTS[heads[name]["type"]], {})
        things = _chosen(name, names.get("objects"), categories["objects"])
        trunk = OBJECTS[heads[name]["type"]](things, **shared, **options)
        made[name] = trunk.named_heads()["objects"]
    if trunk is None:
        body, neck = body_and_pyramid(backbone, norm, norm_eps, trainable_stages, None, channels, None)
        trunk = VisionModel(Preprocess(min_size=min_size, max_size=max_size), body, neck, {})
    for name in (n for n, kind in kinds.items() if kind == "semantic"):
        decoder = DECODERS[heads[name]["type"]]
        options = _options(name, heads[name], decoder, _OF_MAPS)
        of_head = {key: options.pop(key) for key in _OF_MAPS if key in options}
        surfaces = _chosen(name, names.get("semantic"), categories["semantic"])
        made[name] = SemanticHead(surfaces, decoder(trunk, len(surfaces), **options), **of_head)
    rule = PanopticRule(panoptic_score, panoptic_overlap, panoptic_stuff_area, panoptic_void) if panoptic else None
    if rule is not None and not any(head.has_masks for head in made.values()):
        raise ValueError(
            "panoptic merges masks of objects with maps: give a head of type mask_rcnn, or cascade_rcnn with masks"
        )
    if rule is not None and any(isinstance(head, SemanticHead) and head.multi_label for head in made.values()):
        raise ValueError(
            "panoptic needs maps that give every pixel one category, of at least two (background may be one), but this "
            "head decides each category on its own"
        )
    return VisionModel(trunk.preprocess, trunk.backbone, trunk.neck, {name: made[name] for name in heads}, rule)


def panoptic_fpn(
    categories: Mapping[Kind, Categories],
    backbone: str = "resnet50",
    norm: Literal["batch", "frozen", "sync"] = "batch",
    norm_eps: float | None = None,
    trainable_stages: int = 5,
    min_size: int = 800,
    max_size: int = 1333,
    channels: int = 256,
    semantic_width: int = 128,
    objects: dict[str, Any] = {},  # noqa: B006
    semantic: dict[str, Any] = {},  # noqa: B006
    panoptic_score: float = 0.5,
    panoptic_overlap: float = 0.5,
    panoptic_stuff_area: int = 4096,
    panoptic_void: tuple[str, ...] = (),
) -> VisionModel:
    """Panoptic FPN (Kirillov et al. 2019): Mask R-CNN and a semantic branch on one pyramid, and both merged.

    Differs from the paper in that the branch names things, too, instead of calling them all "other": its map is of use
    by itself. In the merge things come from the masks alone.

    Args:
        categories: {"objects": ..., "semantic": ...}.
        backbone, norm, norm_eps, trainable_stages, min_size, max_size, channels: as in `mask_rcnn`.
        semantic_width: channels of the semantic branch.
        objects: further options of `mask_rcnn`. semantic: `losses`, `groups`.
        panoptic_score: of a thing, to be in the merged map. panoptic_overlap: share of its mask that must be free of
            better things. panoptic_stuff_area: pixels that a stuff must have left. panoptic_void: names of semantic
            categories that say nothing.
    """
    heads = {
        "objects": {"type": "mask_rcnn", **objects},
        "semantic": {"type": "semantic_fpn", "width": semantic_width, **semantic},
    }
    return multi_head(
        categories, heads, backbone, norm, norm_eps, trainable_stages, min_size, max_size, channels, True,
        panoptic_score, panoptic_overlap, panoptic_stuff_area, panoptic_void,
    )  # fmt: skip


def _options(name: str, given: Mapping[str, Any], make: Callable[..., Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A head's options, held to what its type takes."""
    allowed = {
        key: parameter
        for key, parameter in inspect.signature(make, eval_str=True).parameters.items()
        if key not in (*_SHARED, "model", "outputs", "columns")
    }
    for key in more:
        allowed[key] = inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, annotation=more[key])
    options = {key: value for key, value in given.items() if key not in ("type", "categories")}
    for key in options:
        if key not in allowed:
            raise ValueError(f"heads.{name} has no option {key!r}; a {given['type']} has: {', '.join(allowed)}")
    return checked(f"heads.{name}", options, allowed)
