"""Reading weight files that other people wrote: safely, with clear errors, and saying what did not fit."""

from __future__ import annotations

import hashlib
import logging
import pickle
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vision_tasks.errors import VisionTasksError

log = logging.getLogger("vision_tasks")

MODEL, AVERAGED = "model.", "averaged.module."
"""Prefixes of the model's weights and of their average in a training checkpoint; readers prefer the average."""


def read_file(path: str | Path) -> dict[str, Any]:
    """What a torch file holds, on the CPU. Nothing in it is executed (`weights_only=True`).

    Raises:
        VisionTasksError: no such file, not a torch file, truncated, or one that wants to run code.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise VisionTasksError(f"There is no weight file {path}: it {what}. Check the path.")
    with path.open("rb") as file:
        start = file.read(2)
    # A zip archive, or a pickle of protocol 2 and later: all that torch has written since 2018.
    if start and start != b"PK" and start[:1] != b"\x80":
        raise VisionTasksError(
            f"{path} is no torch file: it begins with {start!r}. Give a state dict that torch.save wrote"
            + (", or convert the ONNX file's source." if path.suffix == ".onnx" else ".")
        )
    try:
        with warnings.catch_warnings():  # of odd pickle protocols: what cannot be read becomes an error anyway
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise VisionTasksError(
            f"{path} was refused: it is no plain weight file, or it holds objects whose loading could run code. "
            f"Save a state dict (tensors by name) and load that. ({_reason(error)})"
        ) from error
    except Exception as error:  # damaged bytes make the unpickler raise whatever they lead to
        raise VisionTasksError(
            f"{path} cannot be read as a torch file: it is truncated or something else. "
            f"Copy or download it again. ({_reason(error)})"
        ) from error
    if not isinstance(content, dict):
        raise VisionTasksError(f"{path} holds a {type(content).__name__}, not weights by name. Save a state dict.")
    return content


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name, from a state dict or from a checkpoint that keeps one under "state_dict" or "model".

    The prefix under which a training program keeps all of a model (ours and Lightning's `model.`, DataParallel's
    `module.`) is taken off. Of a checkpoint with averaged weights only those are read.
    """
    return tensors_of(read_file(path), path)


def tensors_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The same of a file's content; `path` is for the message."""
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            content = dict(content[key])
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise VisionTasksError(
            f"{path} holds no tensors; its keys are {sorted(map(str, content))[:8]}. Give a file of weights."
        )
    averaged = {k: v for k, v in tensors.items() if k.startswith(AVERAGED)}
    tensors = averaged or tensors
    for prefix in (AVERAGED, MODEL, "module."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file; publishers put its first eight digits in their file names."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Fit:
    """What became of a state dict. Each is a sorted list of parameter names.

    Attributes:
        loaded: taken. missing: of the module, not in the file. unexpected: in the file, not of the module.
        reshaped: in both, with different shapes; the module's own were kept.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]


def load_fitting(module: nn.Module, state: Mapping[str, Tensor], source: str | Path, ignore: Iterable[str] = ()) -> Fit:
    """Copy what fits by name and shape.

    Args:
        ignore: prefixes of names in the file that are no loss (a classifier).

    Raises:
        VisionTasksError: nothing fits, so the file is of another architecture.
    """
    own = module.state_dict()
    # A counter that inference never reads: its absence is not worth a word.
    own = {k: v for k, v in own.items() if not k.endswith("num_batches_tracked")}
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    fit = Fit(
        loaded=sorted(fitting),
        missing=sorted(own.keys() - state.keys()),
        unexpected=sorted(
            k
            for k in state
            if k not in own and not k.endswith("num_batches_tracked") and not k.startswith(tuple(ignore))
        ),
        reshaped=sorted(k for k in state if k in own and k not in fitting),
    )
    if not fitting:
        raise VisionTasksError(
            f"No weight in {source} fits the model. It has names like {sorted(state)[:3]}, the model wants names like "
            f"{sorted(own)[:3]}. Is the file of another architecture?"
        )
    module.load_state_dict(fitting, strict=False)
    return fit


def brief(names: list[str], most: int = 4) -> str:
    """A few of the names and how many more."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _reason(error: Exception) -> str:
    """The line of an error that says why; torch's begins with advice to load the file unsafely."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    said = [line.partition("WeightsUnpickler error:")[2].strip() for line in lines if "WeightsUnpickler error:" in line]
    return (said or lines)[0][:200]
