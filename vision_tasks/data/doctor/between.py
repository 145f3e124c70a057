"""What splits are to each other: parts of training, splits without objects, files that two of them name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.doctor.image_copies import leaked_title
from vision_tasks.data.records import Records, escapes


def is_training(split: str) -> bool:
    """Whether a split is trained on: "train", or a further part of it, such as "train[1]"."""
    return split == "train" or split.startswith("train[")


def check_without_objects(splits: Mapping[str, Records]) -> list[Finding]:
    """Splits without a single annotation; the first one is trained on, whatever it is called."""
    first = next(iter(splits), "")
    training = [name for name in splits if is_training(name)] or [first]
    nothing = not any(_objects(splits[name]) for name in training)
    findings = []
    for name, records in splits.items():
        if records.has_boxes and len(records) and not _objects(records):
            crowds = len(records.labels)
            said = f"{crowds:,} annotations, all of them crowds" if crowds else "no annotation"
            code = "training_empty" if name in training and nothing else "split_empty"
            findings.append(
                Finding(
                    code,
                    len(records),
                    len(records),
                    name,
                    (Example(detail=f"{records.source}: {len(records):,} images, {said}", split=name),),
                    own_title="images have crowds (iscrowd is 1) alone, or nothing" if crowds else "",
                    own_remedy="set iscrowd to 0 where an annotation is one object" if crowds else "",
                )
            )
    return findings


def _objects(records: Records) -> int:
    """Number of annotations that are no crowds: those are not trained on."""
    return int(len(records.labels) - np.count_nonzero(records.is_crowd))


def check_shared_paths(splits: Mapping[str, Records]) -> list[Finding]:
    """Files of other splits that are in training, too, told by their paths alone."""
    findings = []
    paths = {name: _paths(records) for name, records in splits.items()}
    for name in splits:
        if not is_training(name):
            continue
        for other in splits:
            if is_training(other):
                continue
            shared = [path for path in paths[other] if path in paths[name]]
            if shared and os.path.isfile(shared[0]):
                rows = np.array([paths[name][path] for path in shared], np.int64)
                findings += _leaked(name, splits[name], other, splits[other], rows)
    return findings


def _paths(records: Records) -> dict[str, int]:
    """Image row by path; of images in archives none."""
    if records.archive is not None:
        return {}
    folders: dict[Path, str] = {}
    out: dict[str, int] = {}
    for row in range(len(records)):
        name = records.file_name(row)
        root = records.image_root(row)
        if root not in folders:
            folders[root] = os.path.realpath(root)
        if not escapes(name):
            out[os.path.normpath(os.path.join(folders[root], name))] = row
    return out


def _leaked(name: str, train: Records, other: str, theirs: Records, rows: np.ndarray) -> list[Finding]:
    rows = np.unique(rows)
    examples = tuple(
        Example(train.file_name(r), int(train.image_ids[r]), None, f"the same file as in {other}", name, r)
        for r in rows[:EXAMPLES].tolist()
    )
    edits = [{"op": "drop_images", "ids": train.image_ids[rows].tolist(), "why": "image_leaked"}]
    words = f"{len(rows):,} of {len(theirs):,} images of {other} are files of {name}"
    if 2 * len(rows) > len(train):
        edits = []
        words += f". The patch would take more than half of {name}: split anew (vision-tasks data split)"
    title = leaked_title(other)
    return [Finding("image_leaked", len(rows), len(theirs), name, examples, words, tuple(edits), own_title=title)]
