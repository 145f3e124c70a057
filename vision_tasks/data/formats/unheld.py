"""What of records a format with one annotation file per image cannot hold, said once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.image_annotations import plain
from vision_tasks.data.formats.interface import Losses
from vision_tasks.data.records import Records

Holds = Callable[[str, Any], bool]
"""Whether a format can hold another key with its value."""


def note_unheld(
    splits: Mapping[str, Records], title: str, losses: Losses, of_image: Holds, of_annotation: Holds
) -> None:
    """Counts ids, properties of categories, and other keys that are lost.

    Args:
        title: of the format. of_image, of_annotation: which keys it holds.
    """
    for records in splits.values():
        for what, ids in (("images", records.image_ids), ("annotations", records.annotation_ids)):
            other = ids != np.arange(1, len(ids) + 1)
            if other.any():
                losses.add(f"ids of {what}: {title} has none, they are counted anew", ids[other][:5], int(other.sum()))
        extras = records.extras or Extras()
        for entries, holds, what in (
            (extras.images, of_image, "images"),
            (extras.annotations, of_annotation, "annotations"),
        ):
            for entry in entries.values():
                for key, value in entry.items():
                    if not holds(key, value):
                        losses.add(f"{key!r} of {what}: {title} has no place for it", (), 1)
        for key in extras.data_set:
            losses.add(f"{key!r} of the data set: {title} has no place for it", (), 1)
    _note_categories(next(iter(splits.values())), title, losses)


def _note_categories(records: Records, title: str, losses: Losses) -> None:
    categories = records.categories
    renumbered = [n for k, (n, i) in enumerate(zip(categories.names, categories.ids, strict=True), 1) if i != k]
    losses.add(f"ids of categories: {title} has none, they are counted from 1", renumbered)
    stuff = [n for n, thing in zip(categories.names, categories.is_thing, strict=True) if not thing]
    losses.add(f"categories that are stuff: {title} knows only things", stuff)
    names = {label: categories.names[label] for label in (records.extras.categories if records.extras else {})}
    losses.add(f"other keys of categories: {title} has no place for them", list(names.values()))
    odd = [n for n in categories.names if n != plain(n)]
    losses.add("names of categories with letters that XML has not, or several spaces: mended", map(repr, odd), len(odd))
    seen: set[str] = set()
    again = [n for n in categories.names if plain(n) in seen or seen.add(plain(n))]  # type: ignore[func-returns-value]
    losses.add("categories of the same name: they become one", map(repr, again), len(again))
