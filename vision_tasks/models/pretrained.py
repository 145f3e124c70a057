"""Starting from somebody's weights: whose file it is, which classes it knows, and what of it fits."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories
from vision_tasks.weights import darknet, darknet_cfg, files, published
from vision_tasks.weights.classes import carry_classes, matching_labels
from vision_tasks.weights.layouts import Known, known_classes, layout_of

log = logging.getLogger("vision_tasks")


@dataclass(frozen=True)
class Pretrained:
    """A weight file, read.

    Attributes:
        path: of the file. state: its tensors under our names.
        known: the classes its outputs stand for, or None if nobody says; by head of a checkpoint that has several.
        outputs: how many there are, if known.
        options: builder options the file asks for; the user's own go first.
        from_one: its classes, which nobody knows, are probably counted from 1, as torchvision's users do.
    """

    path: Path
    state: dict[str, Tensor]
    known: Known | Mapping[str, Known] | None = None
    outputs: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    from_one: bool = False


def read(model: str, source: str | Path, options: Mapping[str, Any]) -> Pretrained:
    """Read a file of whole-model weights: torchvision's, another publisher's in `LAYOUTS`, or our own checkpoint.

    Args:
        model: name in `MODELS`. source: a path, or "coco" for the publisher's file, which is downloaded if need be.
        options: of the builder, defaults included: they choose among the published files.

    Raises:
        VisionTasksError: unreadable, or of another architecture.
    """
    path = Path(source).expanduser()
    if str(source) == "coco" and model == "darknet":
        path = published.darknet_file(str(options.get("cfg")))
    elif str(source) == "coco":
        path = published.model_file(model, _variant(model, options), options.get("backbone"))
    elif not path.exists() and str(source).lower() in ("coco", *published.IMAGENET):
        raise VisionTasksError(
            f"weights={str(source)!r} is neither a file nor 'coco'. Weights of whole models are weights='coco', "
            "those of backbones backbone_weights='imagenet'."
        )
    if darknet.is_darknet(path):
        return _darknet(model, path, str(options.get("cfg") or path.with_suffix(".cfg")))
    content = files.read_file(path)
    state = files.tensors_of(content, path)
    extra: dict[str, Any] = {"norm_eps": 0.0} if files.sha256(path).startswith(published.EPSILON_ZERO) else {}
    about = content.get("vision_tasks")
    if isinstance(about, Mapping):
        return _own_checkpoint(model, path, state, about)
    layout = layout_of(state)
    if layout is None:
        return Pretrained(path, state, options=extra)
    if model not in layout.models:
        raise VisionTasksError(
            f"{path} holds the weights of {layout.name}, which fit {' or '.join(layout.models)}, not {model}. "
            "Choose that model, or another file."
        )
    outputs = layout.outputs(state)
    known = known_classes(outputs) if outputs == layout.coco else None
    from_one = known is None and layout.from_one
    return Pretrained(path, layout.rename(state), known, outputs, extra | layout.options(state), from_one)


def _variant(model: str, options: Mapping[str, Any]) -> str | None:
    """What the table of published files calls it."""
    if model == "ssd" and options.get("size") != 300:
        return f"size={options.get('size')}"
    variant = options.get("variant")
    return None if variant is None else str(variant)


def _darknet(model: str, path: Path, cfg: str) -> Pretrained:
    if model != "darknet":
        raise VisionTasksError(f"{path} holds weights of Darknet's, which fit darknet, not {model}. Choose that model.")
    text = darknet_cfg.text_of(cfg)
    layers = darknet_cfg.plan(darknet_cfg.read_cfg(text))
    state = darknet.read_weights(path, layers)
    if path.suffix != ".weights":  # the first layers alone: the head, and with it the classes, is not among them
        return Pretrained(path, state, options={"cfg": text})
    outputs = darknet_cfg.class_outputs(layers)
    known = known_classes(outputs) if outputs == darknet.COCO_OUTPUTS else None
    return Pretrained(path, state, known, outputs, {"cfg": text})


def _own_checkpoint(model: str, path: Path, state: dict[str, Tensor], about: Mapping[str, Any]) -> Pretrained:
    try:
        builder, arguments = str(about["builder"]), dict(about["arguments"])
        named = {name: Categories.of(entries) for name, entries in about["categories"].items()}
        categories = next(iter(named.values()))
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
        raise VisionTasksError(f"{path} does not hold what its description says: {error}") from error
    if builder != model:
        raise VisionTasksError(f"{path} holds a {builder}, not a {model}. Choose that model, or another file.")
    columns = tuple(arguments.pop("columns", None) or ())
    known: Known | dict[str, Known] = Known(categories, columns, arguments.pop("outputs", None) or 0)
    if len(named) > 1:
        known = {name: Known(own, (), 0) for name, own in named.items()}
    # Whoever starts from a checkpoint wants its network; how much of it learns, and what about, is decided anew.
    anew = ["trainable_stages"] if arguments.get("norm") == "none" else ["norm", "trainable_stages"]
    options = {key: _without_choice(value) for key, value in arguments.items() if key not in anew}
    return Pretrained(path, state, known, options=options)


def _without_choice(value: Any) -> Any:
    """Options of heads (of one, or by name) without the categories that they chose of others' data."""
    if not isinstance(value, Mapping):
        return value
    return {key: _without_choice(of_head) for key, of_head in value.items() if key != "categories"}


def class_options(
    pretrained: Pretrained | None, categories: Categories | Mapping[Any, Categories] | None, model: str
) -> dict[str, Any]:
    """`categories`, and where the file's classes are to be used as they are, `columns` and `outputs`.

    Raises:
        VisionTasksError: nobody says what the model should know.
    """
    if isinstance(categories, Mapping):  # of several heads, each of which keeps what the file knows by name
        return {"categories": categories}
    known = None if pretrained is None or isinstance(pretrained.known, Mapping) else pretrained.known
    if categories is None:
        if pretrained is not None and known is None and pretrained.outputs is not None:
            raise VisionTasksError(
                f"{pretrained.path} has {pretrained.outputs} class outputs, whose names nobody knows (COCO's have 80, "
                "or 91 with torchvision's unused; VOC's 21). Give categories=[...] in the order they were trained."
            )
        if known is None:
            raise VisionTasksError(
                f"Which categories should {model} know? Give categories=[...], for example ['cat', 'dog']."
            )
        categories = known.categories
    if pretrained is not None and pretrained.from_one and pretrained.outputs == len(categories) + 1:
        # Also for detectors without a background output, where output 0 then is no class.
        return {
            "categories": categories,
            "columns": tuple(range(1, len(categories) + 1)),
            "outputs": pretrained.outputs,
        }
    if known is None or not known.columns:
        return {"categories": categories}
    pairs = dict(matching_labels(categories, known.categories))
    if len(pairs) == len(categories) == len(known.categories):  # the same classes, perhaps in another order
        columns = tuple(known.columns[pairs[label]] for label in range(len(categories)))
        return {"categories": categories, "columns": columns, "outputs": known.outputs}
    return {"categories": categories}


def load_into(model: VisionModel, pretrained: Pretrained) -> None:
    """Copy what fits, class by class where the categories differ, and say what starts anew."""
    state = pretrained.state
    if pretrained.known is not None:
        for name in model.named_heads():
            known = pretrained.known.get(name) if isinstance(pretrained.known, Mapping) else pretrained.known
            if known is not None:
                state = _for_head(state, model, name, known, pretrained.path)
    fit = files.load_fitting(model, state, pretrained.path)
    held = any(name.startswith("backbone.") for name in state)
    if held and not any(name.startswith("backbone.") for name in fit.loaded):
        raise VisionTasksError(
            f"{pretrained.path} is of a model with another backbone: none of that part fits. Leave the option backbone "
            "as the file's model has it, or give another file."
        )
    report(fit, pretrained.path)


def _for_head(state: dict[str, Tensor], model: VisionModel, name: str, known: Known, path: Path) -> dict[str, Tensor]:
    """The state with this head's class outputs in the head's own order."""
    head = model.named_heads()[name]
    parameters = {f"heads.{name}.{parameter}": shape for parameter, shape in head.class_parameters().items()}
    own = model.state_dict()
    present = [name for name in parameters if name in state]
    if not present:
        return state
    before, after = parameters[present[0]]
    outputs, theirs = (len(tensors[present[0]]) // (before * after) for tensors in (own, state))
    if not known.columns:  # our own checkpoint: outputs are the categories, after the background if there is one
        first = theirs - len(known.categories)
        known = Known(known.categories, tuple(range(first, theirs)), theirs)
    columns = tuple(head.columns.tolist())
    pairs = matching_labels(head.categories, known.categories)
    in_place = outputs == theirs and all(columns[mine] == known.columns[label] for mine, label in pairs)
    if theirs != known.outputs or (in_place and len(pairs) == len(columns)):
        return state
    kept = [head.categories.names[mine] for mine, _ in pairs]
    anew = [name for name in head.categories.names if name not in kept]
    if kept:
        log.warning("%s knows %s: their class outputs are kept.", path, files.brief(kept))
    if anew:
        log.warning("%s does not know %s: their class outputs start anew.", path, files.brief(anew))
    return carry_classes(state, own, parameters, known, columns, outputs, pairs, head.background)


def report(fit: files.Fit, source: str | Path) -> None:
    """Say what a file lacked; silence means that everything fitted."""
    for names, what in (
        (fit.missing, "lacks weights that stay random"),
        (fit.reshaped, "has weights of another shape, which start anew"),
        (fit.unexpected, "has weights the model has no place for"),
    ):
        if names:
            log.warning("%s %s: %s.", source, what, files.brief(names))
