"""The model of a run: made as the recipe says for what the data are about, or taken from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vision_tasks.config import Config
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.checkpoint import load
from vision_tasks.models.multi_head import Kind
from vision_tasks.models.registry import create_model, model_kinds
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories
from vision_tasks.weights.files import AVERAGED, read_file


def resumed_model(path: Path, config: Config, train: Records) -> VisionModel:
    """The model of a last.ckpt, whose weights files need not be there any more.

    Raises:
        VisionTasksError: it is no last.ckpt, or the recipe or the data ask for another model.
    """
    content = read_file(path)
    if "optimizer_states" not in content or not isinstance(content.get("state_dict"), dict):
        raise VisionTasksError(f"{path} cannot be resumed from: it holds no optimiser. Give the run's last.ckpt.")
    model = load(path)
    assert model.blueprint is not None
    if any(name.startswith(AVERAGED) for name in content["state_dict"]) != (config.train.average is not None):
        raise VisionTasksError(f"{path} was made with another train.average. Resume with the same.")
    built = {"name": model.blueprint.builder, **model.blueprint.arguments}
    for option, value in config.model.items():
        if option not in ("weights", "backbone_weights") and option in built and _plain(built[option]) != _plain(value):
            raise VisionTasksError(
                f"model.{option} is {value!r}, but {path} holds a model with {built[option]!r}. "
                "A resumed run keeps its model; start a new run for another."
            )
    theirs = categories_of(train)
    for head in model.named_heads().values():
        if head.kind not in theirs or head.categories.names != theirs[head.kind].names:
            names = ", ".join(head.categories.names[:5])
            raise VisionTasksError(f"{path} knows {names}; the data have other categories.")
    return model


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def model_for(config: Config, train: Records) -> VisionModel:
    """The recipe's model for the data's categories.

    Raises:
        VisionTasksError: the data have no labels of the kind that a head learns from.
    """
    options = dict(config.model)
    name = options.pop("name")
    theirs = categories_of(train)
    lacking = [kind for kind in model_kinds(name, options) if kind not in theirs]
    if lacking:
        raise VisionTasksError(_LACKING[lacking[0]])
    return create_model(name, theirs, **options)


_LACKING = {
    "objects": "train: the model detects objects, but nobody annotated any. Give data with boxes, or take a model of "
    "semantic maps.",
    "semantic": "train: the model draws semantic maps, but the data have none to learn from. Say where they are with "
    "data.semantic (docs/semantic_data.md), or take a model of boxes.",
}


def categories_of(records: Records) -> dict[Kind, Categories]:
    """What the data are about, by kind of label."""
    found: dict[Kind, Categories] = {"objects": records.categories} if records.has_boxes else {}
    return found if records.semantic is None else found | {"semantic": records.semantic.categories}
