"""Categories: names that are nearly the same, ids with gaps, what is rare, unused, or missing in a split."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.records import Records

FEW = 10
"""A category with fewer objects is rare."""
_IMBALANCE = 100
_CASED = 5
"""Where so many pairs of names differ in case alone, somebody meant it."""
_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_])[\s_\-./]+(?=\w)|(?<=\w)[\s_\-./]+(?=[^\W\d_])")
"""Spaces and the like that do not stand between digits: 1.2 is not 12, and A- is not A."""


def check_labels(splits: Mapping[str, Records], few: int = FEW) -> list[Finding]:
    """All findings about categories, in the splits and between them.

    Args:
        splits: records with the categories of their own files, the one to train on first. few: see `FEW`.
    """
    splits = {name: records for name, records in splits.items() if records.has_boxes}
    if not splits:
        return []
    groups = alike(splits)
    into = {name: chosen for chosen, names in groups.items() for name in names}
    counts = {name: _counts(records, into) for name, records in splits.items()}
    return [
        *_alike(splits, groups), *_conflicts(splits, into), *_gaps(splits), *_unused(splits, counts),
        *_frequencies(next(iter(splits)), counts, few), *_absent(counts, few),
    ]  # fmt: skip


def _key(name: str) -> str:
    """What is left of a name without case, spaces and punctuation between words, and the plural's s."""
    bare = _BETWEEN_WORDS.sub("", unicodedata.normalize("NFKC", name).casefold().strip())
    return bare[:-1] if len(bare) > 3 and bare.endswith("s") and not bare.endswith("ss") else bare


def alike(splits: Mapping[str, Records]) -> dict[str, list[str]]:
    """Names that are nearly the same, over all splits: the most frequent of each group -> all of it."""
    total: dict[str, int] = {}
    for records in splits.values():
        for name, count in _counts(records, {}).items():
            total[name] = total.get(name, 0) + count
    groups: dict[str, list[str]] = {}
    for name in total:
        groups.setdefault(_key(name), []).append(name)
    # Letters that texts are read by: A and a are two of them.
    return {
        max(names, key=lambda n: total[n]): names
        for key, names in groups.items()
        if key and len(names) > 1 and not all(len(n.strip()) == 1 for n in names)
    }


def _by_case_alone(names: Sequence[str]) -> bool:
    return len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == 1


def _counts(records: Records, into: Mapping[str, str]) -> dict[str, int]:
    """Objects by name, after names were joined; crowds are no objects."""
    numbers = np.bincount(records.labels[~records.is_crowd], minlength=len(records.categories)).tolist()
    out: dict[str, int] = {}
    for name, number in zip(records.categories.names, numbers, strict=True):
        name = into.get(name, name)
        out[name] = out.get(name, 0) + number
    return out


def _finding(
    code: str, split: str, of: int, found: Mapping[str, str], edits: Any = (), summary: str = ""
) -> list[Finding]:
    """One finding about categories: name -> what is measured; none if there are none."""
    if not found:
        return []
    examples = tuple(
        Example(detail=f"{name!r}: {words}", split=split) for name, words in list(found.items())[:EXAMPLES]
    )
    return [Finding(code, len(found), of, split, examples, summary, tuple(edits))]


def _alike(splits: Mapping[str, Records], groups: Mapping[str, list[str]]) -> list[Finding]:
    out = []
    for split, records in splits.items():
        own = _counts(records, {})
        found: dict[str, str] = {}
        edits: list[Mapping[str, Any]] = []
        cased = 0
        for chosen, names in groups.items():
            here = [n for n in names if n in own]
            if not here or here == [chosen]:
                continue
            edits.append({"op": "merge_categories", "names": here, "into": chosen, "why": "category_alike"})
            cased += _by_case_alone(names)
            others = ", ".join(f"{n!r} ({own[n]:,} objects)" for n in here if n != chosen)
            found[chosen] = f"{own.get(chosen, 0):,} objects, and {others}"
        summary = ""
        if cased >= _CASED:
            edits, summary = [], f"{cased} differ in case alone, which may be meant: look first, the patch joins none"
        out += _finding("category_alike", split, len(records.categories), found, edits, summary)
    return out


def _conflicts(splits: Mapping[str, Records], into: Mapping[str, str]) -> list[Finding]:
    first, *others = splits
    known = splits[first].categories
    name_of = {i: into.get(n, n) for i, n in zip(known.ids, known.names, strict=True)}
    id_of = {n: i for i, n in name_of.items()}
    out = []
    for split in others:
        own = splits[split].categories
        used = _counts(splits[split], {})
        found: dict[str, str] = {}
        renumbered: dict[str, str] = {}
        for category, name in zip(own.ids, own.names, strict=True):
            meant = into.get(name, name)
            there = name_of.get(category)
            if meant not in id_of and (used[name] or there is not None):
                now = f", where its id {category} is {there!r}" if there is not None else ""
                found[name] = f"{used[name]:,} objects here, not listed in {first}{now}"
            elif meant in id_of and name_of.get(category) != meant:
                renumbered[name] = f"id {category} here, {id_of[meant]} in {first}"
        out += _finding("category_conflict", split, len(own), found)
        out += _finding("category_renumbered", split, len(own), renumbered)
    return out


def _gaps(splits: Mapping[str, Records]) -> list[Finding]:
    out = []
    seen: set[tuple[int, ...]] = set()
    for split, records in splits.items():
        ids = tuple(sorted(records.categories.ids))
        if not ids or ids in seen:
            continue
        seen.add(ids)
        missing = ids[-1] - ids[0] + 1 - len(ids)
        if missing > 0:
            some = sorted(set(range(ids[0], min(ids[-1], ids[0] + 10_000))) - set(ids))[:EXAMPLES]
            words = f"{len(ids)} ids from {ids[0]} to {ids[-1]}; missing are {', '.join(map(str, some))}"
            out.append(
                Finding("category_gaps", missing, ids[-1] - ids[0] + 1, split, (Example(detail=words, split=split),))
            )
    return out


def _unused(splits: Mapping[str, Records], counts: Mapping[str, dict[str, int]]) -> list[Finding]:
    first = next(iter(splits))
    crowds = {
        records.categories.names[label]
        for records in splits.values()
        for label in np.unique(records.labels[records.is_crowd]).tolist()
    }
    found = {
        name: "no annotation in any split"
        for name in counts[first]
        if not any(c.get(name, 0) for c in counts.values()) and name not in crowds
    }
    if len(found) == len(counts[first]):
        return []  # nothing is annotated at all, which is no matter of categories
    # No edit: whether a category is still to come, only people know.
    return _finding("category_unused", first, len(counts[first]), found)


def _frequencies(split: str, counts: Mapping[str, dict[str, int]], few: int) -> list[Finding]:
    own = counts[split]
    most = max(own.values(), default=0)
    rare = {
        name: f"{n} object{'s' * (n != 1)}" for name, n in sorted(own.items(), key=lambda item: item[1]) if 0 < n < few
    }
    top = max(own, key=lambda name: own[name], default="")
    seldom = {
        name: f"{n:,} objects, {top!r} has {most:,}"
        for name, n in sorted(own.items(), key=lambda item: item[1])
        if n >= few and n * _IMBALANCE < most
    }
    return [
        *_finding("category_rare", split, len(own), rare, summary=f"fewer than {few} objects"),
        *_finding("category_imbalance", split, len(own), seldom),
    ]


def _absent(counts: Mapping[str, dict[str, int]], few: int) -> list[Finding]:
    """Categories of one split that another has no object of; not those so rare that chance does it."""
    annotated = {split: own for split, own in counts.items() if any(own.values())}
    out = []
    for split, own in annotated.items():
        found: dict[str, str] = {}
        for other, theirs in annotated.items():
            for name, n in theirs.items():
                if other != split and n >= few and name in own and not own[name]:
                    found.setdefault(name, f"{n:,} objects in {other}, none in {split}")
        out += _finding("category_absent", split, len(own), found)
    return out
