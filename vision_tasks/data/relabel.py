"""The same truth under other categories: those a model knows, or those a recipe chose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.formats.semantic import told_by, under
from vision_tasks.data.operations.gathering import with_objects
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import IGNORED


def labels_by_name(own: Categories, wanted: Categories) -> np.ndarray:
    """(K,) int16: for each own label the wanted one of the same name, -1 for those that are not wanted.

    Names are compared as written, then without case and outer spaces.
    """
    exact = {name: label for label, name in reversed(list(enumerate(wanted.names)))}
    loose = {name.strip().casefold(): label for name, label in reversed(exact.items())}
    return np.array([exact.get(n, loose.get(n.strip().casefold(), IGNORED)) for n in own.names], np.int16)


def chosen(own: Categories, names: Sequence[str]) -> Categories:
    """The categories of these names, in the order of the names, as they are in `own`.

    Raises:
        ValueError: a name that `own` lacks.
    """
    lacking = [name for name in names if name not in own.names]
    if lacking:
        raise ValueError(f"the data have no {', '.join(lacking)}; they have {', '.join(own.names[:20])}")
    entries = dict(zip(own.names, own.to_list(), strict=True))
    return Categories.of([entries[name] for name in names])


def with_objects_of(records: Records, wanted: Categories) -> Records:
    """Only the objects of these categories, in their labels; all images stay."""
    labels = labels_by_name(records.categories, wanted)[records.labels]
    return with_objects(records, labels >= 0, labels, wanted)


def with_maps_of(records: Records, wanted: Categories) -> Records:
    """The semantic maps in the labels of these categories; of others pixels are ignored, objects not drawn."""
    source = records.semantic
    if source is None or source.categories.names == wanted.names:
        return records
    semantic = under(source, wanted, labels_by_name(told_by(source), wanted))
    return dataclasses.replace(records, semantic=semantic)
