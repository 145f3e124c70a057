"""Images that are there twice: within a split, and in training and in another split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from vision_tasks.data.doctor import likeness
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.hashes import TURNS

if TYPE_CHECKING:
    from vision_tasks.data.doctor.images import Looked

_FILM = 0.1
"""Where more of a split than this is nearly the same as another image, these are frames of films, not copies."""

_EXPORTED = re.compile(r"(.+)\.rf\.[0-9a-f]{20,}\.\w+$", re.DOTALL)
"""Names that Roboflow gives: those of an original, then a digest of each version made of it."""


def leaked_title(split: str) -> str:
    """What is wrong, with the name of the split that is judged by."""
    return f"images of {split} are in training, too, or nearly the same"


def check_copied(one: Looked) -> list[Finding]:
    """Images that are the same as another of their split: of each group the one with the most annotations is kept.

    A file that is listed twice is another finding.
    """
    good = _readable(one)
    pairs = likeness.same(one.table[good])
    if not len(pairs):
        return []
    names = [one.records.file_name(int(r)) for r in good]
    once = np.array([names[a] != names[b] for a, b in zip(pairs.first, pairs.second, strict=True)], bool)
    is_film = len(np.unique(pairs.second[~pairs.exact])) > max(_FILM * len(good), 2)
    group = likeness.groups(pairs, len(good))
    objects = np.diff(one.records.first)[good]
    best = np.lexsort((np.arange(len(good)), -objects, group))
    kept = best[np.unique(group[best], return_index=True)[1]]  # of each group
    exact = np.zeros(len(good), bool)
    exact[pairs.first[pairs.exact]] = exact[pairs.second[pairs.exact]] = True
    involved = np.zeros(len(good), bool)
    involved[pairs.first[once]] = involved[pairs.second[once]] = True
    involved[kept] = False
    copies = np.flatnonzero(involved)
    dropped = copies[exact[copies]] if is_film else copies
    beside = dict(zip(group[kept].tolist(), kept.tolist(), strict=True))

    def detail(row: int) -> str:
        own = int(np.searchsorted(good, row))
        other = beside[int(group[own])]
        how = (
            "the same file as" if one.table["digest"][row] == one.table["digest"][good[other]] else "nearly the same as"
        )
        return f"{how} {names[other]} (image {one.records.image_ids[good[other]]})"

    summary = f"{int(exact[copies].sum()) or 'none'} equal to the byte"
    if is_film:
        summary += "; the others seem to be frames of films, and the patch leaves them in"
    return one.finding("image_copied", good[copies], detail, summary, one.dropped(good[dropped], "image_copied"))


def check_leaked(train: Looked, other: Looked) -> list[Finding]:
    """Images of another split that are in training, too: also saved anew, cut a little, mirrored, turned."""
    own, theirs = _readable(train), _readable(other)
    pairs = likeness.alike(train.table[own], other.table[theirs])
    if not len(pairs):
        return []
    rows, leaked = own[pairs.first], theirs[pairs.second]
    images, at = np.unique(rows, return_index=True)
    siblings = _siblings(train, images)
    exact = np.unique(leaked[pairs.exact])
    laid = [TURNS[t] for t in np.unique(pairs.turn[pairs.turn > 0])]
    count = len(np.unique(leaked))
    summary = (
        f"{count:,} of {len(other.records):,} images of {other.split} show what {len(images):,} of {train.split} show; "
    )
    summary += f"{len(exact) or 'none'} equal to the byte" + (f"; some are {', '.join(laid)}" if laid else "")
    if len(siblings):
        summary += f"; {len(siblings):,} more of {train.split} are made of the same originals, by their names"
    edits = train.dropped(np.union1d(images, siblings), "image_leaked")
    if not edits:
        summary += f". The patch would take more than half of {train.split}: split anew, by scene or film"
        summary += " (vision-tasks data split)"

    def detail(i: int) -> str:
        there = (
            f"{other.records.file_name(int(leaked[i]))} of {other.split} (image {other.records.image_ids[leaked[i]]})"
        )
        if pairs.exact[i]:
            return f"the same file as {there}"
        how = f", {TURNS[pairs.turn[i]]}" if pairs.turn[i] else ""
        return f"like {there}{how}: correlation {pairs.likeness[i]:.2f}"

    # The likest first: they are what people should look at.
    order = at[np.lexsort((at, -pairs.likeness[at]))]
    examples = tuple(train.example(int(rows[i]), detail(int(i))) for i in order[:12])
    return [
        Finding(
            "image_leaked",
            count,
            len(other.records),
            train.split,
            examples,
            summary,
            tuple(edits),
            own_title=leaked_title(other.split),
        )
    ]


def _siblings(one: Looked, rows: np.ndarray) -> np.ndarray:
    """Rows of images that Roboflow made of the same original as these, changed more than a comparison sees through."""
    names = [_EXPORTED.match(one.records.file_name(row)) for row in range(len(one.records))]
    sources = {match[1] for row in rows.tolist() if (match := names[row]) is not None}
    made = np.array([match is not None and match[1] in sources for match in names], bool)
    return np.setdiff1d(np.flatnonzero(made), rows)


def _readable(one: Looked) -> np.ndarray:
    return np.flatnonzero(one.table["state"] == 0)
