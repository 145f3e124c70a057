"""Examining image files: those that cannot be read, are of another size or kind than the rest, or are there twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from vision_tasks.data.decoding import PIXEL_LIMIT
from vision_tasks.data.doctor.between import is_training
from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.doctor.image_copies import check_copied, check_leaked
from vision_tasks.data.doctor.image_facts import CMYK, COLOUR, GREY, STATES, File, Member, facts_of
from vision_tasks.data.doctor.image_sizes import check_mis_sized, check_unsized
from vision_tasks.data.progress import Listener, reporting_to
from vision_tasks.data.records import Records, escapes

_NEARLY_ALL = 0.9
ELSEWHERE = "this is probably the wrong folder: name that of the images (--images DIR)"
"""What to do where nearly all images are missing."""
_ALIKE = {"MPO": "JPEG"}
"""A JPEG with more pictures in it."""


@dataclass(frozen=True, eq=False)
class Looked:
    """The image files of one split.

    Attributes:
        split: its name. records: its annotations. table: (M,) of dtype `image_facts.FACTS`, a row for each image.
        errors: by row, what reading says of those that cannot be read.
    """

    split: str
    records: Records
    table: np.ndarray
    errors: dict[int, str]

    def example(self, row: int, detail: str) -> Example:
        """One of its images, as a place where something holds."""
        records = self.records
        return Example(records.file_name(row), int(records.image_ids[row]), None, detail, self.split, row)

    def finding(
        self,
        code: str,
        rows: np.ndarray,
        detail: Callable[[int], str],
        summary: str = "",
        edits: Iterable[Mapping[str, Any]] = (),
        own_remedy: str = "",
    ) -> list[Finding]:
        """One finding about images by their rows; none if there are none."""
        if not len(rows):
            return []
        examples = tuple(self.example(int(row), detail(int(row))) for row in rows[:EXAMPLES])
        total = len(self.records)
        return [Finding(code, len(rows), total, self.split, examples, summary, tuple(edits), own_remedy=own_remedy)]

    def dropped(self, rows: np.ndarray, why: str) -> list[Mapping[str, Any]]:
        """The edit that leaves images out; none if they are half of the split: then something else is wrong."""
        if not len(rows) or 2 * len(rows) > len(self.records):
            return []
        return [{"op": "drop_images", "ids": self.records.image_ids[rows].tolist(), "why": why}]


def check_image_files(
    splits: Mapping[str, Records],
    workers: int | None = None,
    progress: Listener | None = None,
    pixel_limit: int = PIXEL_LIMIT,
) -> list[Finding]:
    """Opens every image file of a data set, once, over all cores.

    Args:
        splits: records by name; what is the same as in "train" (or "train[1]", ...) is leaked. workers: processes;
            None takes one a core. progress: is told how far the work is. pixel_limit: images of more pixels are
            not decoded.

    Returns:
        Findings in the order of the splits; they do not depend on the number of workers. A leak belongs to the part of
        training from which its edit takes images; it counts the images of the other split.

    Raises:
        VisionTasksError: a process ended, most often for lack of memory.
    """
    with reporting_to(progress) if progress is not None else nullcontext():
        looked = _look(splits, workers, pixel_limit)
    findings: list[Finding] = []
    mixed = _are_mixed(looked)
    for one in looked:
        findings += [*check_readable(one), *check_mis_sized(one), *check_unsized(one), *check_turned(one)]
        findings += [*check_kinds(one, mixed), *check_copied(one)]
    training = [one for one in looked if is_training(one.split)]
    for other in looked:
        if not is_training(other.split):
            for train in training:
                findings += check_leaked(train, other)
    return findings


def _look(splits: Mapping[str, Records], workers: int | None, pixel_limit: int) -> list[Looked]:
    files = [_file(records, row) for records in splits.values() for row in range(len(records))]
    facts = facts_of(files, workers, pixel_limit)
    out, at = [], 0
    for split, records in splits.items():
        end = at + len(records)
        errors = {i - at: text for i, text in facts.errors.items() if at <= i < end}
        out.append(Looked(split, records, facts.table[at:end], errors))
        at = end
    return out


def _file(records: Records, row: int) -> File:
    name = records.file_name(row)
    if records.archive is not None:
        return Member(Path(name), records.archive.subset(np.array([row])))
    # A name that leads out of the folder is not followed, and counts as missing.
    return None if escapes(name) else records.image_root(row) / name


def check_readable(one: Looked) -> list[Finding]:
    """Files that are missing, empty, cut off, no images, or too large."""
    findings = []
    for state, code in enumerate(STATES):
        if not code:
            continue
        rows = np.flatnonzero(one.table["state"] == state)
        summary = f"the image folder is {one.records.root}" if code == "image_missing" else ""
        remedy = ELSEWHERE if code == "image_missing" and len(rows) >= _NEARLY_ALL * len(one.records) else ""
        edits = one.dropped(rows, code)
        findings += one.finding(code, rows, lambda r: _first_sentence(one.errors[r]), summary, edits, remedy)
    return findings


def _first_sentence(text: str) -> str:
    """What is wrong, without what to do, which the finding says."""
    return text.split(". ")[0].rstrip(".")


def check_turned(one: Looked) -> list[Finding]:
    """Images that their EXIF entry turns or mirrors; values that EXIF does not have are ignored."""
    table, records = one.table, one.records
    rows = np.flatnonzero((table["state"] == 0) & (table["turn"] >= 2))

    def detail(row: int) -> str:
        fact = table[row]
        stored, stated = (int(fact["height"]), int(fact["width"])), records.size(row)
        what = f"EXIF orientation {fact['turn']}; stored as {stored[1]} × {stored[0]}"
        if stated is None:
            return f"{what}; no size is stated: read upright"
        if fact["turn"] < 5 or stored[0] == stored[1]:
            read = "upright" if stored[0] == stored[1] else "as stored"
            return f"{what}; whether boxes are on the upright picture cannot be told from the size: read {read}"
        if stated == stored:
            return f"{what}, and so is the stated size: boxes are on the picture as stored, viewers turn it"
        if stated == stored[::-1]:
            return f"{what}; the stated size is that of the upright picture: read upright"
        return f"{what}; the stated size is neither that nor the upright one"

    upright = sum("upright picture: read" in detail(int(r)) for r in rows)
    summary = f"{upright:,} are stated upright, {len(rows) - upright:,} as stored or undecided"
    return one.finding("image_rotated", rows, detail, summary)


def check_kinds(one: Looked, mixed: bool) -> list[Finding]:
    """Colours and bits that other tools may read wrongly. mixed: the data set holds grey and coloured images."""
    table = one.table
    good = table["state"] == 0
    cmyk, deep = (np.flatnonzero(good & m) for m in (table["colours"] == CMYK, table["bits"] == 16))
    findings = one.finding("image_cmyk", cmyk, lambda r: "CMYK")
    findings += one.finding("image_16_bit", deep, lambda r: "16 bits a channel")
    findings += check_names(one)
    if mixed:
        grey = np.flatnonzero(good & (table["colours"] == GREY))
        summary = f"{int((good & (table['colours'] == COLOUR)).sum()):,} images of this split are coloured"
        findings += one.finding("image_mixed_channels", grey, lambda r: "one channel", summary)
    return findings


def check_names(one: Looked) -> list[Finding]:
    """Files that hold another format than the ending of their name says."""
    known = Image.registered_extensions()
    said = [known.get(PurePosixPath(one.records.file_name(row)).suffix.lower(), "") for row in range(len(one.records))]
    held = [_ALIKE.get(name, name) for name in np.char.decode(one.table["format"]).tolist()]
    wrong = [bool(s and h) and _ALIKE.get(s, s) != h for s, h in zip(said, held, strict=True)]
    return one.finding("image_misnamed", np.flatnonzero(wrong), lambda r: f"holds {held[r]}")


def _are_mixed(looked: list[Looked]) -> bool:
    kinds = {int(c) for one in looked for c in np.unique(one.table["colours"][one.table["state"] == 0])}
    return {GREY, COLOUR} <= kinds
