"""Whole checkpoints: a model, how it was built and what it knows, in one file that `load` needs nothing else for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vision_tasks.errors import VisionTasksError
from vision_tasks.models.multi_head import Kind
from vision_tasks.models.options import primitive
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.registry import create_model, rebuild, takes_mapping
from vision_tasks.models.vision_model import Blueprint, VisionModel
from vision_tasks.structures import Categories
from vision_tasks.weights.darknet import is_darknet
from vision_tasks.weights.files import AVERAGED, MODEL, read_file, tensors_of
from vision_tasks.weights.layouts import layout_of

SCHEMA = 1
KEY = "vision_tasks"


def describe(model: VisionModel) -> dict[str, Any]:
    """What stands under `vision_tasks` in a checkpoint: primitives only.

    Raises:
        ValueError: the model was assembled by hand; register its builder and use `create_model` to save it.
            Or one of its options is an object that a checkpoint cannot hold.
    """
    if model.blueprint is None:
        raise ValueError("only a model made by create_model can be saved; add its builder to MODELS")
    return {
        "schema": SCHEMA,
        "builder": model.blueprint.builder,
        "arguments": {k: primitive(v, k) for k, v in model.blueprint.arguments.items()},
        "categories": {name: head.categories.to_list() for name, head in model.named_heads().items()},
        "kinds": {name: head.kind for name, head in model.named_heads().items()},
        "preprocess": {k: primitive(v, k) for k, v in model.preprocess.to_dict().items()},
    }


def save(model: VisionModel, path: str | Path) -> Path:
    """Write a checkpoint without optimiser state. The file appears whole or not at all."""
    state = {MODEL + name: value.detach().cpu() for name, value in model.state_dict().items()}
    return write_atomically({KEY: describe(model), "state_dict": state}, path)


def write_atomically(content: Mapping[str, Any], path: str | Path) -> Path:
    """Save to a temporary name beside `path`, then rename.

    Raises:
        VisionTasksError: the disk is full or the folder cannot be written; an earlier file is untouched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise VisionTasksError(
            f"{path} cannot be written: {error.strerror}. Make room or choose another folder."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(content), file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise VisionTasksError(f"{path} cannot be written: {error}. Make room or choose another folder.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def load(path: str | Path) -> VisionModel:
    """The model of a checkpoint, on the CPU, in evaluation mode. Nothing in the file is executed.

    A publisher's file does as well if it says by itself what it is (see `weights.layouts`) and knows COCO's classes.

    Raises:
        VisionTasksError: no such file, no checkpoint of this program, one of a newer schema, or a damaged one.
    """
    if is_darknet(Path(path).expanduser()):
        return create_model("darknet", weights=path)
    content = read_file(path)
    about = content.get(KEY)
    if not isinstance(about, Mapping):
        layout = layout_of(tensors_of(content, path))
        if layout is not None:
            return create_model(layout.models[0], weights=path)
        raise VisionTasksError(
            f"{path} is no checkpoint of vision_tasks: it lacks the key {KEY!r}. "
            "To start from somebody else's weights use create_model(..., weights=path)."
        )
    if about.get("schema") != SCHEMA:
        raise VisionTasksError(
            f"{path} has schema {about.get('schema')}, this version reads {SCHEMA}. Upgrade vision_tasks."
        )
    try:
        model = rebuild(Blueprint(about["builder"], dict(about["arguments"])), categories_of(about))
        model.preprocess = Preprocess.from_dict(about["preprocess"])
        state = content["state_dict"]
        prefix = AVERAGED if any(name.startswith(AVERAGED) for name in state) else MODEL
        model.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    except (KeyError, TypeError, ValueError, RuntimeError, StopIteration, AttributeError) as error:
        raise VisionTasksError(f"{path} does not hold what its description says: {str(error)[:300]}") from error
    return model.eval()


def categories_of(about: Mapping[str, Any]) -> Categories | dict[Kind, Categories]:
    """The categories in a checkpoint's description as its builder takes them."""
    named = {name: Categories.of(entries) for name, entries in about["categories"].items()}
    if takes_mapping(about["builder"]):
        return {about["kinds"][name]: categories for name, categories in named.items()}
    return next(iter(named.values()))
