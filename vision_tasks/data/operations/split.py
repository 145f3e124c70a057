"""Dividing a data set into train, val and test with its share of every category in each.

Sechidis, Tsoumakas, Vlahavas, "On the stratification of multi-label data" (2011): the rarest category is dealt first,
each of its images to the split that lacks most of it. Here groups of images are dealt as one, and images without
objects are a category of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.operations.gathering import file_names, gather, objects_of, unlike
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Presence:
    """Which categories are in which images; sparse, sorted by image.

    Attributes:
        count: number of images. classes: number of categories.
        rows, labels: (P,) int64, the pairs that there are.
    """

    count: int
    classes: int
    rows: np.ndarray
    labels: np.ndarray

    def per_class(self) -> np.ndarray:
        """(K,) int64, images with each category."""
        return np.bincount(self.labels, minlength=self.classes)

    def of(self, records: Records, part: Records) -> Presence:
        """The same of some of the images, told by their ids."""
        rows = np.flatnonzero(np.isin(records.image_ids, part.image_ids))
        place = np.full(len(records), -1)
        place[rows] = np.arange(len(rows))
        kept = place[self.rows] >= 0
        return Presence(len(rows), self.classes, place[self.rows[kept]], self.labels[kept])


def split_records(
    records: Records,
    shares: Sequence[float] = (0.8, 0.2),
    group: str = "",
    seed: int = 0,
    present: Presence | None = None,
) -> dict[str, Records]:
    """Every image in exactly one of two or three splits.

    Args:
        records: all images (`pooled`). shares: of train, val and test; they sum to 1.
        group: what keeps images together, see `groups_of`; "" nothing. seed: of ties and of the order of equals.
        present: what is where, if known already (`presence`).

    Raises:
        VisionTasksError: shares that cannot be, fewer images or groups than splits, or no such groups.
    """
    check_shares(shares)
    groups = groups_of(records, group)
    there = int(groups.max(initial=-1)) + 1
    if there < len(shares):
        what = ("group" if group else "image") + "s" * (there != 1) + (f" by {group!r}" if group else "")
        remedy = " Group by something else, or into fewer splits." if group else ""
        raise VisionTasksError(f"{records.source}: {there} {what} cannot be divided into {len(shares)} splits.{remedy}")
    dealt = deal(present or presence(records), shares, groups, seed)
    return {name: records.subset(np.flatnonzero(dealt == i)) for i, name in enumerate(SPLITS[: len(shares)])}


def pooled(splits: Mapping[str, Records]) -> tuple[Records, list[str]]:
    """All splits as one; of file names that clash those of later splits begin with the split's name.

    Returns:
        The records, and what was changed, in words.
    """
    if len(splits) == 1:
        return next(iter(splits.values())), []
    parts, said = unlike(list(splits.values()))
    names = [file_names(part) for part in parts]
    new, changed = without_clashes(names, list(splits))
    return gather(parts, new), said + changed


def without_clashes(names: Sequence[list[str]], prefixes: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """File names of several parts, all different: where a part's clash with those before, all of it gets a folder.

    Names that differ in case alone clash, too: some file systems hold but one of them.

    Args:
        prefixes: the folder of each part, if it needs one.

    Returns:
        The names, and what was changed, in words.
    """
    taken: set[str] = set()
    out, said = [], []
    for own, prefix in zip(names, prefixes, strict=True):
        clash = sorted({name.casefold() for name in own} & taken)
        if clash:
            folder, number = prefix, 2
            while any(name.startswith(f"{folder.casefold()}/") for name in taken):
                folder, number = f"{prefix}_{number}", number + 1
            said.append(f"{len(clash):,} file names are taken already, such as {clash[0]}: in the folder {folder}/")
            own = [f"{folder}/{name}" for name in own]
        taken.update(name.casefold() for name in own)
        out.append(own)
    return out, said


def check_shares(shares: Sequence[float]) -> None:
    """Raises VisionTasksError unless they are two or three positive numbers that sum to 1."""
    if len(shares) not in (2, 3) or any(not share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise VisionTasksError(
            f"shares are {', '.join(f'{s:g}' for s in shares)}, but must be two or three positive numbers that sum to 1"
        )


def presence(records: Records) -> Presence:
    """Which categories are in which images: by objects, crowds included, and by maps where there are no objects.

    Maps are read, which takes its time; those that cannot be read count as empty.
    """
    if records.has_boxes or records.semantic is None:
        classes = len(records.categories)
        pairs = np.unique(objects_of(records) * max(classes, 1) + records.labels)
        return Presence(len(records), classes, pairs // max(classes, 1), pairs % max(classes, 1))
    classes = len(records.semantic.categories)
    found = [labels_of_map(records, row) for row in counted(range(len(records)), "reading maps")]
    rows = np.repeat(np.arange(len(records)), [len(labels) for labels in found])
    labels = np.concatenate(found) if found else np.zeros(0, np.int64)
    return Presence(len(records), classes, rows, labels)


def labels_of_map(records: Records, row: int) -> np.ndarray:
    """(L,) int64 labels on an image's map; none where there is no map, or none that can be read."""
    from vision_tasks.data.images import read_image

    assert records.semantic is not None
    try:
        size = records.size(row)
        size = read_image(records.image_path(row), data=records.image_data(row)).shape[:2] if size is None else size
        values = records.semantic.read(row, (size[0], size[1]))
    except ImageError:
        return np.zeros(0, np.int64)
    if values is None:
        return np.zeros(0, np.int64)
    if values.ndim == 3:
        return np.flatnonzero((values == 1).any(axis=(1, 2)))
    counts = np.bincount(values[values >= 0].ravel(), minlength=1)
    return np.flatnonzero(counts)


def groups_of(records: Records, group: str) -> np.ndarray:
    """(M,) int64 number of each image's group, 0.. in order of first appearance.

    Args:
        group: "" (each image alone), "folder" (of the file name), a regex with a group in ( ) that is searched in the
            file name, or a key of the images' extras.

    Raises:
        VisionTasksError: a regex that is none or does not fit a name, or a key that an image lacks.
    """
    if not group:
        return np.arange(len(records))
    keys = _keys(records, group)
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys], np.int64)


def _keys(records: Records, group: str) -> list[Hashable]:
    names = file_names(records)
    if group == "folder":
        return [str(PurePosixPath(name).parent) for name in names]
    if "(" in group:
        try:
            pattern = re.compile(group)
        except re.error as error:
            raise VisionTasksError(f"--group {group!r} is no regular expression: {error}.") from error
        found = [pattern.search(name) for name in names]
        lost = [name for name, match in zip(names, found, strict=True) if match is None]
        if lost or not pattern.groups:
            what = f"does not fit {len(lost):,} file names, such as {lost[0]!r}" if lost else "has no group in ( )"
            raise VisionTasksError(f"--group {group!r} {what}: which group would they be of? Make it fit all.")
        return [match.groups() for match in found if match is not None]
    extras = records.extras
    values = [{} if extras is None else extras.of_image(row) for row in range(len(records))]
    lost = [name for name, own in zip(names, values, strict=True) if group not in own]
    if lost:
        known = sorted({key for own in values for key in own})
        raise VisionTasksError(
            f"--group {group!r}: {len(lost):,} of {len(names):,} images have no such key, such as {lost[0]!r}. Images "
            f"have: {', '.join(known) or 'none'}. Or give folder, or a regular expression with ( )."
        )
    return [json.dumps(own[group], sort_keys=True, default=str) for own in values]


def deal(present: Presence, shares: Sequence[float], groups: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Iterative stratification: the split of every image, (M,) int64.

    Args:
        present: which categories are in which images. shares: of each split. groups: (M,) number of each image's group.
    """
    groups = np.arange(present.count) if groups is None else groups
    sizes = np.bincount(groups)
    count, splits = len(sizes), len(shares)
    # One more category: of images in which nothing is, so that these are spread as well.
    bare = np.setdiff1d(np.arange(present.count), present.rows)
    rows = np.concatenate([present.rows, bare])
    labels = np.concatenate([present.labels, np.full(len(bare), present.classes)])
    pairs, weights = np.unique(groups[rows] * (present.classes + 1) + labels, return_counts=True)
    owners, labels = np.divmod(pairs, present.classes + 1)
    begins = np.searchsorted(owners, np.arange(count + 1)).tolist()
    totals = np.bincount(labels, weights, present.classes + 1)
    wanted = [(totals * share).tolist() for share in shares]
    room = [present.count * share for share in shares]
    random = np.random.default_rng(seed)
    # Large groups first, while there is room to make up for them; equals by chance.
    order = random.permutation(count)
    order = order[np.argsort(-sizes[order], kind="stable")]
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    by_label = np.lexsort((place[owners], labels))
    ends = np.cumsum(np.bincount(labels, minlength=present.classes + 1))
    members = [part.tolist() for part in np.split(owners[by_label], ends[:-1])]
    ties = random.random((count, splits)).tolist()
    label_list, weight_list, size_list = labels.tolist(), weights.tolist(), sizes.tolist()
    dealt = [-1] * count
    left = totals.copy()
    last = np.where(np.arange(present.classes + 1) < present.classes, 0, present.count)  # images with nothing come last
    in_train = [False] * (present.classes + 1)
    while (left > 0).any():
        rarest = int(np.argmin(np.where(left > 0, left + last, np.inf)))
        for owner in members[rarest]:
            if dealt[owner] >= 0:
                continue
            # A category that train lacks comes there first: what is only in val cannot be learnt. Images in which
            # nothing is make up for what the others did to the sizes.
            if rarest < present.classes and not in_train[rarest]:
                best = 0
            elif rarest < present.classes:
                best = max(range(splits), key=lambda s: (wanted[s][rarest], room[s], ties[owner][s]))
            else:
                best = max(range(splits), key=lambda s: (room[s], ties[owner][s]))
            dealt[owner] = best
            room[best] -= size_list[owner]
            own = wanted[best]
            for i in range(begins[owner], begins[owner + 1]):
                label, weight = label_list[i], weight_list[i]
                own[label] -= weight
                left[label] -= weight
                in_train[label] |= best == 0
        left[rarest] = 0
    whole = np.array(dealt, np.int64)
    for empty in np.setdiff1d(np.arange(splits), whole).tolist():
        whole[_spare(whole, owners, labels)] = empty
    return whole[groups]


def _spare(dealt: np.ndarray, owners: np.ndarray, labels: np.ndarray) -> int:
    """The group of the largest split whose categories that split has most of otherwise."""
    donor = int(np.argmax(np.bincount(dealt)))
    held = np.bincount(labels[dealt[owners] == donor], minlength=int(labels.max(initial=0)) + 1)
    least = np.full(len(dealt), np.inf)
    np.minimum.at(least, owners, held[labels])
    return int(np.argmax(np.where(dealt == donor, least, -1)))


def share_table(splits: Mapping[str, Records], present: Mapping[str, Presence]) -> list[dict[str, object]]:
    """Rows per category: how many images of each split have it, and which part of all that is.

    Args:
        present: of each split (`presence`).
    """
    first = next(iter(splits.values()))
    names = (first.categories if first.has_boxes or first.semantic is None else first.semantic.categories).names
    counts = {name: found.per_class() for name, found in present.items()}
    total = sum(counts.values(), np.zeros(len(names), np.int64))
    rows: list[dict[str, object]] = []
    for k, name in enumerate(names):
        rows.append({"category": name, "images": int(total[k])})
        for split, own in counts.items():
            rows[-1][split] = int(own[k])
            rows[-1][f"{split} %"] = round(100 * int(own[k]) / int(total[k]), 1) if total[k] else None
    return rows
