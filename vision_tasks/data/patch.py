"""Patches: what mends a data set, as a file to be read, changed and undone; the data themselves stay as they are.

A patch is JSON with one edit per line. An edit that is deleted is undone::

    {"vision_tasks_patch": 1, "splits": {
     "train": {"source": "instances_train.json", "fingerprint": "5f1c...", "edits": [
      {"op": "boxes_from", "form": "xyxy", "why": "boxes_xyxy"},
      {"op": "drop_annotations", "ids": [17, 23], "why": "box_duplicated"}
     ]}
    }}

Edits are made in their order, to records as they are read with their own categories. `patch_edits.OPERATIONS` lists
what an edit can be; "why" (what the doctor found) and "note" are for people.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.data.patch_edits import apply_edits as apply_edits
from vision_tasks.data.patch_edits import check_edit
from vision_tasks.data.patch_operations import Edit
from vision_tasks.data.records import Records
from vision_tasks.data.regular_files import open_regular, read_regular
from vision_tasks.errors import VisionTasksError

VERSION = 1
_MARK = "vision_tasks_patch"
_BYTES = 1 << 29
"""Larger files are refused."""


@dataclass(frozen=True)
class SplitPatch:
    """The edits of one split.

    Attributes:
        source: name of the annotation file, for people. fingerprint: of the records that the edits are for.
        edits: in the order in which they are made. file: where they were read, for messages.
    """

    source: str
    fingerprint: str
    edits: tuple[Edit, ...]
    file: Path | None = None


def fingerprint(records: Records) -> str:
    """What tells whether records are still those that a patch was made for, as 64 hexadecimal digits.

    Of ids, names and sizes of images, ids, boxes, areas, crowd flags, outlines and categories' names of annotations;
    not of the list of categories, so that it is the same whichever labels they were read with.
    """
    digest = hashlib.sha256()
    kinds = {"image_ids": "<i8", "widths": "<i4", "heights": "<i4", "first": "<i8", "name_ends": "<i8", "names": "u1"}
    kinds |= {"annotation_ids": "<i8", "boxes": "<f8", "areas": "<f8", "is_crowd": "?"}
    kinds |= {"shape_starts": "<i8", "shape_bytes": "u1"}
    for name, kind in kinds.items():
        array = np.ascontiguousarray(getattr(records, name), kind)
        if name == "boxes" and np.isnan(array).any():
            array = np.where(np.isnan(array), np.nan, array)  # of the many bit patterns of NaN, one
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.data if array.size else b"")
    used = np.unique(records.labels)
    names = sorted({records.categories.names[k] for k in used.tolist()})
    numbers = np.zeros(int(used.max(initial=0)) + 1, "<i4")
    numbers[used] = [names.index(records.categories.names[k]) for k in used.tolist()]
    digest.update(json.dumps(names).encode())
    digest.update(numbers[records.labels].tobytes())
    return digest.hexdigest()


def apply_patch(records: Records, patch: Path | str | Mapping[str, SplitPatch], split: str) -> Records:
    """The records as the patch mends them.

    Args:
        records: as read, with their own categories, before images that are missing were left out.
        patch: the file, or what `read_patch` made of it. split: "train", "val" or "test". A part of the patch that was
            made for these very records is taken whatever it is called there.

    Raises:
        VisionTasksError: the patch is for other data or none of this split, or an edit does not fit.
    """
    part = fitting(records, patch, split)
    return apply_edits(records, part.edits, f"{part.file or 'patch'}, split {split}, ")


def fitting(records: Records, patch: Path | str | Mapping[str, SplitPatch], split: str) -> SplitPatch:
    """The part of a patch that was made for these records; arguments and errors as of `apply_patch`."""
    parts = patch if isinstance(patch, Mapping) else read_patch(patch)
    own = fingerprint(records)
    for name in sorted(parts, key=lambda name: name != split):
        if parts[name].fingerprint == own:
            return parts[name]
    file = next((str(p.file) for p in parts.values() if p.file), "the patch")
    if split not in parts:
        raise VisionTasksError(
            f"{file}: has no edits for {records.source} ({split}), only for "
            f"{', '.join(f'{p.source} ({n})' for n, p in parts.items()) or 'nothing'}. Run the doctor on this data."
        )
    raise VisionTasksError(
        f"{file}, split {split}: the data changed since: the patch was made for another state of "
        f"{parts[split].source}, or another file than {records.source}. Run the doctor again with --fix, or leave "
        f"the patch out."
    )


def read_patch(path: Path | str) -> dict[str, SplitPatch]:
    """The parts of a patch by split; every edit is checked for its form.

    Raises:
        VisionTasksError: the file cannot be read or is no patch; names line or split, edit and key.
    """
    path = Path(path)
    try:
        value = _parsed(read_regular(path, _BYTES).decode())
    except _TwiceError as error:
        raise VisionTasksError(f"{path}: {error} stands twice in an object, one would be lost. Join them.") from error
    except OSError as error:
        raise VisionTasksError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    except json.JSONDecodeError as error:
        raise VisionTasksError(
            f"{path}: line {error.lineno}, column {error.colno} is no valid JSON ({error.msg}). Each edit stands on a "
            "line of its own, with a comma after it."
        ) from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise VisionTasksError(f"{path}: is no JSON text. Is it a patch that the doctor wrote?") from error
    marked = isinstance(value, dict) and type(value.get(_MARK)) is int and value[_MARK] == VERSION
    if not marked or not isinstance(value.get("splits"), dict):
        raise VisionTasksError(
            f'{path}: is no patch: it must begin with {{"{_MARK}": {VERSION}, "splits": ...}}. '
            "`vision-tasks doctor DATA --fix patch.json` writes one."
        )
    return {name: _split(part, path, name) for name, part in value["splits"].items()}


class _TwiceError(ValueError):
    """A key that an object has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(repr(next(key for key in keys if keys.count(key) > 1)))
    return made


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        # Whoever deletes the last edit leaves a comma behind the one before.
        mended = re.sub(r",([ \t\r]*\n\s*[\]}])", r"\1", text)
        if mended == text:
            raise
        return json.loads(mended, object_pairs_hook=_unique)


def _split(part: Any, path: Path, name: str) -> SplitPatch:
    where = f"{path}, split {name}"
    if not isinstance(part, dict) or not isinstance(part.get("edits"), list):
        raise VisionTasksError(f'{where}: must be an object with a list of "edits".')
    if not isinstance(part.get("fingerprint"), str):
        raise VisionTasksError(f'{where}: "fingerprint" is missing, so which data it is for is unknown. Make it anew.')
    for number, edit in enumerate(part["edits"], 1):
        check_edit(edit, f"{where}, edit {number}")
    return SplitPatch(str(part.get("source", "")), part["fingerprint"], tuple(part["edits"]), path)


def write_patch(path: Path | str, splits: Mapping[str, SplitPatch]) -> Path:
    """Write a patch, whole or not at all; a patch that is there is replaced, any other file is not.

    Raises:
        VisionTasksError: there is another file under this name, or it cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not is_patch(path):
            raise VisionTasksError(f"{path}: is there and no patch, so it is not overwritten. Choose another name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=".json", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(_text(splits))
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise VisionTasksError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def is_patch(path: Path) -> bool:
    """Whether a file is a patch, by how it begins."""
    if not path.is_file():
        return False
    with open_regular(path) as file:
        return re.match(rb'\s*\{\s*"' + _MARK.encode() + rb'"', file.read(200)) is not None


def _text(splits: Mapping[str, SplitPatch]) -> str:
    parts = [
        f' {json.dumps(name)}: {{"source": {_json(part.source)}, "fingerprint": "{part.fingerprint}", "edits": ['
        + _lines(part.edits)
        + "]}"
        for name, part in splits.items()
    ]
    return f'{{"{_MARK}": {VERSION}, "splits": {{\n' + ",\n".join(parts) + "\n}}\n"


def _lines(edits: Sequence[Edit]) -> str:
    return "\n" + ",\n".join(f"  {_json(edit)}" for edit in edits) + "\n " if edits else ""


def _json(value: Any) -> str:
    """JSON on one line; numbers of NumPy as plain ones."""

    def plain(number: Any) -> Any:
        if isinstance(number, (np.generic, np.ndarray)):
            return number.tolist()
        return list(number) if isinstance(number, tuple) else dict(number)

    return json.dumps(value, ensure_ascii=False, default=plain, allow_nan=False)
