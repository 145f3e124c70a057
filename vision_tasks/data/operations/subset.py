"""Taking some images, or some categories, out of a data set."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.operations.gathering import file_names, objects_of, with_objects
from vision_tasks.data.operations.split import labels_of_map
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.relabel import chosen, labels_by_name, with_maps_of
from vision_tasks.errors import VisionTasksError

_OF_CATEGORIES = ("neg_category_ids", "not_exhaustive_category_ids")
"""Extras of images that are lists of category ids (LVIS)."""


def only_categories(splits: Mapping[str, Records], names: Sequence[str]) -> dict[str, Records]:
    """Only objects of these categories, with their ids, and only images that have any. Of maps, others are ignored.

    Raises:
        VisionTasksError: a category that there is not, or that no image has.
    """
    out = {}
    for split, records in splits.items():
        own = records.categories if records.has_boxes or records.semantic is None else records.semantic.categories
        wanted = _wanted(own, names, records)
        out[split] = _objects_of(records, wanted) if records.has_boxes else _maps_of(records, wanted)
    if not any(len(records) for records in out.values()):
        raise VisionTasksError(f"no image has an object of {', '.join(names)}")
    return {split: records for split, records in out.items() if len(records)}


def _wanted(own: Categories, names: Sequence[str], records: Records) -> Categories:
    """These categories, in the order of the data set."""
    unknown = [name for name in names if name not in own.names]
    if unknown:
        near = difflib.get_close_matches(unknown[0], own.names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(own.names[:20])}."
        raise VisionTasksError(f"{records.source}: there is no category {unknown[0]!r}. {hint}")
    return chosen(own, [name for name in own.names if name in set(names)])


def _objects_of(records: Records, wanted: Categories) -> Records:
    labels = labels_by_name(records.categories, wanted)[records.labels]
    there = np.zeros(len(records), bool)
    there[objects_of(records)[labels >= 0]] = True
    found = with_objects(records, labels >= 0, labels, wanted)
    if records.semantic is not None and set(wanted.names) <= set(records.semantic.categories.names):
        found = with_maps_of(found, chosen(records.semantic.categories, wanted.names))
    return with_category_ids(found.subset(np.flatnonzero(there)), {i: i for i in wanted.ids})


def _maps_of(records: Records, wanted: Categories) -> Records:
    assert records.semantic is not None
    labels = [i for i, name in enumerate(records.semantic.categories.names) if name in wanted.names]
    rows = [
        row
        for row in counted(range(len(records)), "reading maps")
        if np.isin(labels_of_map(records, row), labels).any()
    ]
    found = with_maps_of(records.subset(rows), wanted)
    return dataclasses.replace(found, categories=wanted)


def with_category_ids(records: Records, new: Mapping[int, int]) -> Records:
    """Lists of category ids among the images' extras under other ids; those that are not in `new` are left out."""
    extras = records.extras
    if extras is None or not any(key in own for own in extras.images.values() for key in _OF_CATEGORIES):
        return records
    images = {
        row: {
            key: [new[i] for i in value if i in new] if key in _OF_CATEGORIES and isinstance(value, list) else value
            for key, value in own.items()
        }
        for row, own in extras.images.items()
    }
    return dataclasses.replace(records, extras=dataclasses.replace(extras, images=images))


def some_images(splits: Mapping[str, Records], count: int, seed: int = 0) -> dict[str, Records]:
    """So many images in all, drawn by chance, from each split as large a part; their order stays.

    Args:
        count: of images; all if there are no more.
    """
    sizes = np.array([len(records) for records in splits.values()])
    exact = sizes * min(1.0, count / max(int(sizes.sum()), 1))
    drawn = np.floor(exact + 1e-9).astype(int)
    missing = min(count, int(sizes.sum())) - int(drawn.sum())
    drawn[np.argsort(drawn - exact, kind="stable")[:missing]] += 1
    random = np.random.default_rng(seed)
    out = {}
    for (split, records), number in zip(splits.items(), drawn.tolist(), strict=True):
        rows = np.sort(random.permutation(len(records))[:number])
        if number:
            out[split] = records.subset(rows)
    return out


def named_images(splits: Mapping[str, Records], names: Sequence[str], place: str = "the list") -> dict[str, Records]:
    """The images with these names, in the order of the data set.

    Args:
        names: file names as the annotations have them, or their ends (000001.jpg for train/000001.jpg), with or
            without ending. place: what the names are from, for messages.

    Raises:
        VisionTasksError: a name that no image has, or that several have, but is none's whole.
    """
    wanted = [PurePosixPath(name.strip().replace("\\", "/")).as_posix() for name in names if name.strip()]
    whole: dict[str, list[tuple[str, int]]] = {}
    tails: dict[str, list[tuple[str, int]]] = {}
    for split, records in splits.items():
        for row, name in enumerate(file_names(records)):
            path = PurePosixPath(name)
            whole.setdefault(path.as_posix(), []).append((split, row))
            parts = path.parts
            for start in range(len(parts)):
                tail = PurePosixPath(*parts[start:])
                for form in {tail.as_posix(), tail.with_suffix("").as_posix()}:
                    tails.setdefault(form, []).append((split, row))
    found: set[tuple[str, int]] = set()
    lost = []
    for name in wanted:
        matches = whole.get(name) or tails.get(name, [])
        if not matches:
            lost.append(name)
        elif name not in whole and len(matches) > 1:
            places = ", ".join(f"{split}: {splits[split].file_name(row)}" for split, row in matches[:3])
            raise VisionTasksError(f"{place}: {name!r} may be {places}. Write it with its folder.")
        found.update(matches)
    if lost or not wanted:
        what = f"{len(lost):,} of {len(wanted):,} names are no image's, such as {lost[0]!r}" if lost else "is empty"
        example = next((records.file_name(0) for records in splits.values() if len(records)), "")
        raise VisionTasksError(f"{place}: {what}. Images have names such as {example!r}.")
    rows = {split: sorted(row for own, row in found if own == split) for split in splits}
    return {split: splits[split].subset(own) for split, own in rows.items() if own}
