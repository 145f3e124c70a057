"""From columns in file order, as a reader collects them, to sorted and judged `Records`."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.data.problems import EXAMPLES, Problems
from vision_tasks.data.records import clipped_corners
from vision_tasks.errors import VisionTasksError

MISSING = np.iinfo(np.int64).min
"""Stands for an id that the file does not give."""
TEXT = MISSING + 1
"""Ids that are text are collected as TEXT, TEXT + 1, ...; whole numbers as ids stay within ±2^62."""
JUDGED = ("box_unreadable", "box_inverted", "box_empty", "box_outside", "box_clipped", "area_missing")
"""The kinds of problems that `judged` finds."""
_SLICE = 1 << 16


@dataclass
class Columns:
    """What a reader collected, in file order; each list holds arrays that follow each other."""

    image_ids: list[np.ndarray] = field(default_factory=list)
    widths: list[np.ndarray] = field(default_factory=list)
    heights: list[np.ndarray] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    name_lengths: list[np.ndarray] = field(default_factory=list)
    annotation_ids: list[np.ndarray] = field(default_factory=list)
    owners: list[np.ndarray] = field(default_factory=list)  # image ids
    category_ids: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    areas: list[np.ndarray] = field(default_factory=list)
    is_crowd: list[np.ndarray] = field(default_factory=list)
    shape_starts: list[np.ndarray] = field(default_factory=list)
    rle_sizes: array[int] = field(default_factory=lambda: array("q"))  # annotation number, height, width, ...
    annotations: int = 0  # so many so far
    kept_images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # set by `assemble`, as is the next
    kept_annotations: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # places, in the new order

    def take(self, name: str) -> np.ndarray:
        """The whole column; its pieces are let go, so that only one column exists twice at a time."""
        pieces = getattr(self, name)
        setattr(self, name, [])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def assemble(
    columns: Columns, category_ids: np.ndarray, labels: np.ndarray, problems: Problems, source: Path
) -> dict[str, Any]:
    """The arrays of `Records` but for the outlines' bytes, and `has_shapes`.

    Args:
        columns: at least one piece each; used up. category_ids: (K,) ids as collected. labels: (K,) label of each.
        problems: grows by what is found.

    Raises:
        VisionTasksError: no image, or not one of the annotations, can be used.
    """
    images, ids, rows_by_id = _images(columns, problems, source)
    owners = columns.take("owners")
    row = _looked_up(owners, ids, rows_by_id)
    label = _looked_up(columns.take("category_ids"), category_ids, labels).astype(np.int32)
    annotation_ids = _numbered(columns.take("annotation_ids"), problems)
    for code, lost in (("unknown_image", row < 0), ("unknown_category", (row >= 0) & (label < 0))):
        problems.add(code, _places(lost, annotation_ids, owners), int(lost.sum()))
    chosen = np.flatnonzero((row >= 0) & (label >= 0))
    if len(row) and not len(chosen):
        raise VisionTasksError(
            f"{source}: not one of the {len(row):,} annotations belongs to a listed image and category "
            f"(such as {next(_places(row == row, annotation_ids, owners))}). Do the ids fit together?"
        )
    starts = _checked_rle(columns, row, images, annotation_ids, owners, problems)
    del owners
    chosen = columns.kept_annotations = chosen[np.argsort(row[chosen], kind="stable")]
    row = row[chosen]
    out: dict[str, np.ndarray] = {
        **images,
        "first": np.searchsorted(row, np.arange(len(images["image_ids"]) + 1)).astype(np.int64),
        "annotation_ids": annotation_ids[chosen],
        "labels": label[chosen],
        "shape_starts": starts[chosen],
    }
    del annotation_ids, label, starts
    for name in ("boxes", "areas", "is_crowd"):
        out[name] = columns.take(name)[chosen]
    out["usable"] = judged(out, row, problems)
    return {**out, "has_shapes": bool((out["shape_starts"] >= 0).any())}


def _images(columns: Columns, problems: Problems, source: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Arrays per kept image; then the kept ids as collected and the row of each."""
    ids, lengths = columns.take("image_ids"), columns.take("name_lengths")
    names = np.frombuffer(b"".join(columns.names), np.uint8)
    columns.names = []
    ends = np.cumsum(lengths)

    def name(i: int) -> bytes:
        return names[ends[i] - lengths[i] : ends[i]].tobytes()

    kept = (ids != MISSING) & (lengths > 0)
    problems.add(
        "image_without_id",
        (f"file {name(i).decode()}" for i in np.flatnonzero(ids == MISSING).tolist()),
        int((ids == MISSING).sum()),
    )
    nameless = (ids != MISSING) & (lengths == 0)
    problems.add(
        "image_without_file",
        (f"image {_shown(ids[i])}" for i in np.flatnonzero(nameless).tolist()),
        int(nameless.sum()),
    )
    for same in _repeated(ids, kept):
        if len({name(i) for i in same}) == 1:
            kept[same[1:]] = False
            problems.add("image_repeated", [f"image {_shown(ids[same[0]])}"] * (len(same) - 1))
        else:
            kept[same] = False
            problems.add("image_ambiguous", [f"image {_shown(ids[i])} {name(i).decode()}" for i in same])
    if not kept.any():
        if groups := _repeated(ids, (ids != MISSING) & (lengths > 0)):
            files = ", ".join(repr(name(i).decode()) for i in groups[0][:3])
            raise VisionTasksError(
                f"{source}: image id {_shown(ids[groups[0][0]])} is given to {len(groups[0]):,} different files "
                f"({files}), so whose annotations are whose is unknown, and no other image is left. Give each its "
                "own id."
            )
        raise VisionTasksError(
            f'{source}: no usable image among the {len(ids):,} entries of "images".\n{problems.summary()}'.rstrip()
        )
    chosen = columns.kept_images = np.flatnonzero(kept)
    _note_shared_files(chosen, ids, name, problems)
    ids = ids[chosen]
    byte = np.repeat(kept, lengths)
    out = {
        "image_ids": _renumbered(ids),
        "widths": columns.take("widths")[chosen].astype(np.int32),
        "heights": columns.take("heights")[chosen].astype(np.int32),
        "names": names[byte],
        "name_ends": np.cumsum(lengths[chosen]).astype(np.int64),
    }
    unknown = (out["widths"] <= 0) | (out["heights"] <= 0)
    out["widths"][unknown] = 0
    out["heights"][unknown] = 0
    problems.add("image_size_unknown", (f"image {i}" for i in out["image_ids"][unknown]), int(unknown.sum()))
    return out, ids, np.arange(len(ids))


def _repeated(ids: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    """Places of each kept id that occurs more than once, in file order."""
    places = np.flatnonzero(kept)
    order = places[np.argsort(ids[places], kind="stable")]
    same = ids[order][1:] == ids[order][:-1]
    if not same.any():
        return []
    groups = np.split(order, np.flatnonzero(~same) + 1)
    return [g for g in groups if len(g) > 1]


def _note_shared_files(chosen: np.ndarray, ids: np.ndarray, name: Any, problems: Problems) -> None:
    # Hashes in an array instead of names in a set: a hundred bytes less per image.
    hashes = np.fromiter((hash(name(i)) for i in chosen), np.int64, len(chosen))
    for same in _repeated(hashes, np.ones(len(hashes), bool)):
        files = [name(chosen[i]) for i in same]
        again = [chosen[i] for k, i in enumerate(same) if files[k] in files[:k]]
        problems.add("image_file_shared", [f"image {_shown(ids[i])} {name(i).decode()}" for i in again])


def _looked_up(wanted: np.ndarray, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Value of each wanted id, -1 where it is not among `ids`."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids)
    ids, values = ids[order], values[order]
    place = np.searchsorted(ids, wanted)
    place[place == len(ids)] = 0
    return np.where(ids[place] == wanted, values[place], -1)


def _renumbered(ids: np.ndarray) -> np.ndarray:
    """Ids that are text get the numbers after the greatest (1, 2, ... if all are text)."""
    text = ids < -(2**62)
    if text.any():
        ids = ids.copy()
        top = max(int(ids[~text].max()), 0) if (~text).any() else 0
        ids[text] = top + 1 + np.arange(np.count_nonzero(text))
    return ids


def _numbered(ids: np.ndarray, problems: Problems) -> np.ndarray:
    """Annotation ids, with numbers for those that lack one."""
    missing = ids == MISSING
    problems.add("annotation_without_id", (f"entry {i}" for i in np.flatnonzero(missing)), int(missing.sum()))
    ids = _renumbered(ids)
    ordered = np.sort(ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    problems.add("annotation_id_repeated", (f"annotation {i}" for i in twice), len(twice))
    return ids


def _checked_rle(
    columns: Columns,
    row: np.ndarray,
    images: dict[str, np.ndarray],
    ids: np.ndarray,
    owners: np.ndarray,
    problems: Problems,
) -> np.ndarray:
    """Starts of outlines, -1 for run lengths of another size than their image."""
    starts = columns.take("shape_starts")
    number, height, width = np.array(columns.rle_sizes, np.int64).reshape(-1, 3).T
    owner = row[number]
    true_height = images["heights"][owner]
    wrong = (owner >= 0) & (true_height > 0) & ((height != true_height) | (width != images["widths"][owner]))
    lost = np.zeros(len(starts), bool)
    lost[number[wrong]] = True
    problems.add("rle_size", _places(lost, ids, owners), int(lost.sum()))
    starts[lost] = -1
    return starts


def judged(out: dict[str, np.ndarray], row: np.ndarray, problems: Problems) -> np.ndarray:
    """Which annotations training may use, (N,) bool, by their boxes. In slices, to need little memory.

    Args:
        out: arrays of `Records` by name; areas that say nothing are mended in place. row: (N,) image row of each.
        problems: grows by what is found (`JUDGED`).
    """
    usable = np.zeros(len(row), bool)
    for begin in range(0, len(row), _SLICE):
        part = slice(begin, begin + _SLICE)
        boxes, areas = out["boxes"][part], out["areas"][part]
        heights, widths = out["heights"][row[part]], out["widths"][row[part]]
        ids, owners = out["annotation_ids"][part], out["image_ids"][row[part]]
        readable = np.isfinite(boxes).all(1) & (np.abs(boxes) < 1e9).all(1)
        boxes = np.where(readable[:, None], boxes, 0)
        inverted = readable & (boxes[:, 2:] < 0).any(1)
        empty = readable & ~inverted & (boxes[:, 2:] == 0).any(1)
        corners = clipped_corners(boxes, heights, widths)
        good = readable & (boxes[:, 2:] > 0).all(1)
        inside = good & (corners[:, 2:] > corners[:, :2]).all(1)
        size = np.stack([widths, heights], 1).astype(np.float64)
        beyond = ((boxes[:, :2] < -1) | ((boxes[:, :2] + boxes[:, 2:] > size + 1) & (size > 0))).any(1)
        for code, found in (
            ("box_unreadable", ~readable),
            ("box_inverted", inverted),
            ("box_empty", empty),
            ("box_outside", good & ~inside),
            ("box_clipped", inside & beyond),
        ):
            problems.add(code, _places(found, ids, owners), int(found.sum()))
        no_area = ~((areas >= 0) & (areas < 1e18))  # NaN included
        problems.add("area_missing", _places(no_area, ids, owners), int(no_area.sum()))
        areas[no_area] = np.where(good, boxes[:, 2:].prod(1), 0)[no_area]
        usable[part] = inside
    return usable


def _places(found: np.ndarray, annotation_ids: np.ndarray, image_ids: np.ndarray) -> Iterator[str]:
    for i in np.flatnonzero(found)[:EXAMPLES]:
        yield f"annotation {_shown(annotation_ids[i])} (image {_shown(image_ids[i])})"


def _shown(number: int) -> str:
    return str(number) if number >= -(2**62) else "with a text id" if number != MISSING else "without id"
