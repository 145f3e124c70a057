"""Putting data sets together as one: categories matched by name, nothing numbered anew that need not be."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.categories import Categories, valid_text
from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.semantic import under
from vision_tasks.data.operations.gathering import file_names, gather, unlike, with_objects
from vision_tasks.data.operations.split import SPLITS, without_clashes
from vision_tasks.data.operations.subset import with_category_ids
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.regular_files import open_regular
from vision_tasks.errors import VisionTasksError

DataSet = Mapping[str, Records]
Renaming = Mapping[str, str | None]
"""Old name -> new name; None drops the category."""


def merge(sets: Sequence[DataSet], renaming: Renaming | None = None) -> tuple[dict[str, Records], list[str]]:
    """All splits of all sets; splits of one name become one.

    Categories of one name become one, with the id that it has first. Image and annotation ids, and file names, stay
    unless they clash in a split.

    Args:
        sets: splits by name, at least one set. renaming: of categories in any set.

    Returns:
        The splits, and what there is to know, in words: what was changed, and what looks wrong.

    Raises:
        VisionTasksError: a category to rename that no set has, or sets of which some have no objects or no maps.
    """
    every = [records for splits in sets for records in splits.values()]
    _check_alike(every)
    renaming = {valid_text(old): new and valid_text(new) for old, new in (renaming or {}).items()}
    _check_renaming(every, renaming)
    said: list[str] = []
    sets, names, notes = with_joint_categories(sets, renaming)
    said += notes + near_duplicates(names) + _annotated_once(sets)
    every_part = [(split, records) for splits in sets for split, records in splits.items()]
    said += same_files([records for _, records in every_part], [split for split, _ in every_part])
    out: dict[str, Records] = {}
    for split in SPLITS:
        own = [(_folder_name(s[split]), s[split]) for s in sets if split in s]
        if not own:
            continue
        parts, notes = unlike([records for _, records in own])
        new, changed = without_clashes([file_names(p) for p in parts], [folder for folder, _ in own])
        said += [f"{split}: {note}" for note in (*notes, *changed)]
        out[split] = gather(_with_joint_licenses(parts), new)
    return out, said


def near_duplicates(names: Iterable[str]) -> list[str]:
    """What to say of names that differ in case, spaces, hyphens or a plural s alone."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        plain = re.sub(r"[\W_]+", "", name.casefold()) or name
        alike[plain.removesuffix("s") if len(plain) > 3 else plain].append(name)
    return [
        f"the categories {', '.join(map(repr, found))} look like one: a file for --map with "
        f"{found[1]!r}: {found[0]!r} makes them one"
        for found in alike.values()
        if len(found) > 1
    ]


def same_files(every: Sequence[Records], splits: Sequence[str] = ()) -> list[str]:
    """What to say of images of several records that are the same to the byte; files that are not there are passed.

    Args:
        splits: of each of the records, if images that are in several splits are to be told apart.
    """
    sizes: defaultdict[int, list[tuple[int, int, Path]]] = defaultdict(list)
    for number, records in enumerate(every):
        for row in range(len(records)):
            path = records.image_path(row)
            if records.archive is not None:  # reading them all would take as long as copying them
                break
            try:
                sizes[path.stat().st_size].append((number, row, path))
            except OSError:
                continue
    doubtful = [entry for found in sizes.values() if len({n for n, _, _ in found}) > 1 for entry in found]
    seen: dict[bytes, tuple[int, int]] = {}
    twice = []
    for number, row, path in counted(doubtful, "comparing images"):
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        first = seen.setdefault(digest, (number, row))
        if first[0] != number:
            twice.append((first, (number, row)))
    if not twice:
        return []
    leaked = [pair for pair in twice if splits and splits[pair[0][0]] != splits[pair[1][0]]]
    (a, b), (c, d) = (leaked or twice)[0]
    example = f"{every[a].image_path(b)} and {every[c].image_path(d)}"
    words = f"{len(twice):,} images are in several sets or splits, the same to the byte, such as {example}"
    if leaked:
        words += (
            f"; {len(leaked):,} of them in two splits, so what is measured is too good: let vision-tasks doctor look"
        )
    return [words]


def _check_alike(every: Sequence[Records]) -> None:
    """Objects that nobody looked for must not become images without any."""
    for what, have in (
        ("objects", [records.has_boxes for records in every]),
        ("semantic maps", [records.semantic is not None for records in every]),
    ):
        if any(have) and not all(have):
            one, other = every[have.index(True)].source, every[have.index(False)].source
            raise VisionTasksError(
                f"{one} has {what}, {other} has none: merged, its images would teach that there are none. Train on "
                "both as they are, with two entries under data."
            )
    if len({records.semantic.multi_label for records in every if records.semantic is not None}) > 1:
        raise VisionTasksError("maps of categories that overlap and of such that do not cannot be merged")


def _check_renaming(every: Sequence[Records], renaming: Renaming) -> None:
    known = {name for records in every for name in _names_of(records)}
    for name in renaming:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known)[:20])}."
            raise VisionTasksError(f"--map: no set has a category {name!r}; {hint}")


def _names_of(records: Records) -> tuple[str, ...]:
    maps = () if records.semantic is None else records.semantic.categories.names
    return (records.categories.names if records.has_boxes else ()) + maps


def with_joint_categories(
    sets: Sequence[DataSet], renaming: Renaming
) -> tuple[list[dict[str, Records]], list[str], list[str]]:
    """The sets with the same categories; the names; what was changed."""
    every = [records for splits in sets for records in splits.values()]
    objects, notes = joint_categories([r.categories for r in every if r.has_boxes], renaming)
    maps, more = joint_categories([r.semantic.categories for r in every if r.semantic is not None], renaming)
    out = [{split: _under(records, objects, maps, renaming) for split, records in splits.items()} for splits in sets]
    return out, list(dict.fromkeys((*objects.names, *maps.names))), list(dict.fromkeys((*notes, *more)))


def joint_categories(several: Sequence[Categories], renaming: Renaming) -> tuple[Categories, list[str]]:
    """All categories in order of appearance; each keeps its id unless that is another's already, then the next free.

    Returns:
        The categories, and which ids were changed, in words.
    """
    entries: dict[str, dict[str, Any]] = {}
    taken: set[int] = set()
    greatest = max((i for own in several for i in own.ids), default=0)
    said = []
    for own in several:
        for entry in own.to_list():
            name = renaming.get(entry["name"], entry["name"])
            if name is None or name in entries:
                continue
            if entry["id"] in taken:
                greatest += 1
                said.append(f"category {name!r} has the id {greatest} instead of {entry['id']}, which is taken")
                entry["id"] = greatest
            taken.add(entry["id"])
            entries[name] = entry | {"name": name}
    return Categories.of(list(entries.values())), said


def _under(records: Records, objects: Categories, maps: Categories, renaming: Renaming) -> Records:
    """The records in the joint categories."""
    table = _table(records.categories, objects, renaming)
    found = records
    if records.has_boxes:
        labels = table[records.labels]
        renamed = _renamed_extras(records, table)
        found = dataclasses.replace(
            with_objects(renamed, labels >= 0, labels), categories=objects, problems=records.problems.copy()
        )
        ids = {
            old: objects.ids[new] for old, new in zip(records.categories.ids, table.tolist(), strict=True) if new >= 0
        }
        found = with_category_ids(found, ids)
    if records.semantic is not None:
        # Of a drawn map the table is that of the objects drawn, else of the map's own values.
        from vision_tasks.data.formats.semantic import told_by

        own = told_by(records.semantic)
        found = dataclasses.replace(found, semantic=under(records.semantic, maps, _table(own, maps, renaming)))
        if not records.has_boxes:
            found = dataclasses.replace(found, categories=maps)
    return found


def _table(own: Categories, joint: Categories, renaming: Renaming) -> np.ndarray:
    """(K,) int16 new label of each category, -1 for those dropped."""
    label = {name: i for i, name in enumerate(joint.names)}
    new = [renaming.get(name, name) for name in own.names]
    return np.array([-1 if name is None else label.get(name, -1) for name in new], np.int16)


def _renamed_extras(records: Records, table: np.ndarray) -> Records:
    """Extras of categories under the new labels."""
    extras = records.extras
    if extras is None:
        return records
    known = {int(table[old]): value for old, value in extras.categories.items() if table[old] >= 0}
    return dataclasses.replace(records, extras=dataclasses.replace(extras, categories=known))


def _annotated_once(sets: Sequence[DataSet]) -> list[str]:
    """Categories that some sets have objects of and others do not even list as theirs."""
    counts = []
    for splits in sets:
        own: np.ndarray = np.zeros(0, np.int64)
        for records in splits.values():
            if records.has_boxes:
                found = np.bincount(records.labels, minlength=len(records.categories))
                own = found if not len(own) else own + found
        if len(own):
            counts.append(own > 0)
    if len(counts) < 2:
        return []
    there = np.stack(counts)
    lacking = np.flatnonzero(there.any(axis=0) & ~there.all(axis=0))
    names = next(records.categories.names for splits in sets for records in splits.values())
    if not len(lacking):
        return []
    shown = ", ".join(names[i] for i in lacking[:8].tolist()) + (", ..." if len(lacking) > 8 else "")
    return [
        f"{len(lacking)} categories are annotated in some sets alone ({shown}): if the others' images show any, they "
        "teach that these are background"
    ]


def _folder_name(records: Records) -> str:
    """What images of a set are put under where names clash: the nearest folder's name that tells sets apart."""
    generic = {"images", "train", "val", "valid", "validation", "test", "annotations", "jpegimages", "labels"}
    parts = [part for part in records.root.resolve().parts[1:] if part.casefold().rstrip("0123456789_-") not in generic]
    return parts[-1] if parts else "more"


def _with_joint_licenses(parts: Sequence[Records]) -> list[Records]:
    """COCO's licences of all parts; where a later part's have other meanings under ids of an earlier one, it gets new.

    Whole numbers alone are ids; what else stands there stays as it is.
    """
    joint: dict[int, Any] = {}
    out = []
    for records in parts:
        extras = records.extras
        own = extras.data_set.get("licenses") if extras is not None else None
        if extras is None or not isinstance(own, list) or not all(_has_id(entry) for entry in own):
            out.append(records)
            continue
        new: dict[int, int] = {}
        for entry in own:
            number = entry["id"]
            if joint.setdefault(number, entry) != entry:
                same = (i for i, known in joint.items() if known | {"id": 0} == entry | {"id": 0})
                number = next(same, max(joint) + 1)
                joint.setdefault(number, entry | {"id": number})
            new[entry["id"]] = number
        images = {
            row: value | {"license": new[value["license"]]}
            if isinstance(value.get("license"), int) and value["license"] in new else value
            for row, value in extras.images.items()
        }  # fmt: skip
        out.append(dataclasses.replace(records, extras=dataclasses.replace(extras, images=images)))
    whole = list(joint.values())
    return [_with_licenses(records, whole) if whole else records for records in out]


def _has_id(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), int)


def _with_licenses(records: Records, licenses: list[Any]) -> Records:
    extras = records.extras or Extras()
    return dataclasses.replace(
        records, extras=dataclasses.replace(extras, data_set=extras.data_set | {"licenses": licenses})
    )
