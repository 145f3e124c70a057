"""Image files that lie among those of the data set, and that no annotation names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.formats.patterns import ENDINGS
from vision_tasks.data.records import Records, escapes

_TOLD = ("image_not_annotated", "mask_without_image")
"""Readers that know all images of their layout have said it."""


def check_unlisted(splits: Mapping[str, Records]) -> list[Finding]:
    """One finding for each set of splits that share folders; each folder that holds an image that is named is listed.

    Folders beside or below are left alone: they may hold anything. So are hidden files, and data sets of maps, whose
    maps may lie beside the images.
    """
    named: dict[str, set[str]] = {}
    owners: dict[str, list[str]] = {}
    for split, records in splits.items():
        if records.archive is not None or not records.has_boxes or any(records.problems[c].count for c in _TOLD):
            continue
        for folder, names in _folders(records).items():
            named.setdefault(folder, set()).update(names)
            owners.setdefault(folder, []).append(split)
    found: dict[str, list[str]] = {}
    total: dict[str, int] = {}
    for folder, names in named.items():
        there = _images(folder)
        if there.isdisjoint(names):  # another folder than that of the images
            continue
        split = owners[folder][0] if len(owners[folder]) == 1 else ""
        total[split] = total.get(split, 0) + len(there)
        found.setdefault(split, []).extend(os.path.join(folder, name) for name in sorted(there - names))
    return [_finding(split, files, total[split]) for split, files in found.items() if files]


def _finding(split: str, files: list[str], total: int) -> Finding:
    examples = tuple(Example(file, split=split) for file in files[:EXAMPLES])
    return Finding("image_unlisted", len(files), total, split, examples)


def _folders(records: Records) -> dict[str, set[str]]:
    """Names of image files by the folder that they lie in."""
    roots: dict[Path, str] = {}
    out: dict[str, set[str]] = {}
    for row in range(len(records)):
        name, root = records.file_name(row), records.image_root(row)
        if root not in roots:
            roots[root] = os.path.realpath(root)
        if not escapes(name):
            folder, _, file = name.rpartition("/")
            out.setdefault(os.path.normpath(os.path.join(roots[root], folder)), set()).add(file)
    return out


def _images(folder: str) -> set[str]:
    """Image files in a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {
                e.name for e in entries
                if not e.name.startswith(".") and e.name.rpartition(".")[2].lower() in ENDINGS and e.is_file()
            }  # fmt: skip
    except OSError:
        return set()
