"""The "categories" of a COCO file, and how they fit those wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.categories import valid_text
from vision_tasks.data.formats.assemble import MISSING, TEXT
from vision_tasks.data.formats.coco_entries import TextIds, loads, read_id
from vision_tasks.data.problems import Problems
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories


def read_categories(
    raw: bytes, wanted: Categories | None, texts: TextIds, problems: Problems, path: Path
) -> tuple[Categories, np.ndarray, np.ndarray]:
    """What labels mean; then the ids as collected, (K,) int64, and the label of each, (K,) int64.

    Raises:
        VisionTasksError: no categories, two with one id, or none that is wanted.
    """
    found = _entries(loads(raw, problems, "categories"), texts, problems, path)
    if not found and wanted is None:
        raise VisionTasksError(
            f'{path}: no "categories" are listed, so what the annotations show is unknown. Add them, as in '
            f'[{{"id": 1, "name": "cat"}}].'
        )
    if wanted is None:
        ids = np.array(list(found), np.int64)
        return Categories.of(_numbered(found)), ids, np.arange(len(ids))
    if not found:
        return wanted, np.array(wanted.ids, np.int64), np.arange(len(wanted))
    return wanted, *_matched(found, wanted, problems, path)


def _entries(value: Any, texts: TextIds, problems: Problems, path: Path) -> dict[int, dict[str, Any]]:
    """Id as collected -> name, and isthing and color where they are usable."""
    found: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(value if isinstance(value, list) else []):
        where = f"entry {number} of categories"
        category = read_id(entry.get("id"), texts, where, problems) if isinstance(entry, dict) else MISSING
        if category == MISSING:
            problems.add("entry_unreadable", [where])
            continue
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            problems.add("category_without_name", [where])
            name = f"category {_plain(entry.get('id'))}"
        kept: dict[str, Any] = {"name": valid_text(name.strip())}
        if isinstance(entry.get("isthing"), int):
            kept["isthing"] = bool(entry["isthing"])
        color = entry.get("color")
        if isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color):
            kept["color"] = color
        if category in found:
            if found[category]["name"] != kept["name"]:
                raise VisionTasksError(
                    f"{path}: category id {_plain(entry.get('id'))} is both {found[category]['name']!r} "
                    f"and {kept['name']!r}. Give each category an id of its own."
                )
            problems.add("category_repeated", [where])
            continue
        found[category] = kept
    return found


def _numbered(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Entries for `Categories.of`; text ids get the numbers after the greatest."""
    top = max([i for i in found if i > TEXT + len(found) + 1] or [0])
    out = []
    for category, entry in found.items():
        if category < -(2**62):
            top += 1
            category = top
        out.append({"id": category, **entry})
    return out


def _matched(
    found: dict[int, dict[str, Any]], wanted: Categories, problems: Problems, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """By name, and by id among wanted categories of one name."""
    ids, labels = [], []
    for category, entry in found.items():
        same = [label for label, name in enumerate(wanted.names) if name == entry["name"]]
        if not same:
            continue
        label = next((s for s in same if wanted.ids[s] == category), same[0])
        if wanted.ids[label] != category:
            problems.add("category_renumbered", [entry["name"]])
        ids.append(category)
        labels.append(label)
    if not ids:
        has = ", ".join(repr(e["name"]) for e in list(found.values())[:10])
        raise VisionTasksError(
            f"{path}: none of its categories ({has}) is one of those wanted "
            f"({', '.join(map(repr, wanted.names[:10]))}). Names must be spelt alike."
        )
    return np.array(ids, np.int64), np.array(labels, np.int64)


def _plain(value: Any) -> str:
    return repr(value) if not isinstance(value, int) or abs(value) < 2**62 else "of too many digits"
