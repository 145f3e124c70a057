"""Options of a builder, as they are given: brought to plain Python, and held to the types of its signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from vision_tasks.errors import VisionTasksError


def checked(model: str, options: Mapping[str, Any], allowed: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The options with their builder's types: a list where a tuple is wanted becomes one, a wrong word is refused.

    Raises:
        VisionTasksError: names the option, what it takes, and what it was given.
    """
    found = {}
    for name, given in options.items():
        value, kind = primitive(given, name), allowed[name].annotation
        if kind is not inspect.Parameter.empty and not (value is None and allowed[name].default is None):
            try:
                value = TypeAdapter(kind).validate_python(value)
            except ValidationError as error:
                raise VisionTasksError(
                    f"{model}: the option {name} takes {in_words(kind)}, not {given!r} "
                    f"({error.errors()[0]['msg'].lower()})."
                ) from error
        found[name] = value
    return found


def in_words(kind: Any) -> str:
    """A type as a user reads it: "one of a, b", "int", "tuple[int, int] | None"."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def primitive(value: Any, name: str) -> Any:
    """Numbers of NumPy and torch as Python's own, paths as text: what `weights_only=True` reads back.

    Raises:
        ValueError: an object that a checkpoint cannot hold.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): primitive(v, f"{name}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        items = [primitive(v, name) for v in value]
        return tuple(items) if isinstance(value, tuple) else items
    raise ValueError(f"the option {name} is a {type(value).__name__}, which a checkpoint cannot hold")
