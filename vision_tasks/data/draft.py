"""Records while they are edited: arrays are copied when they are first written to, the source is never touched."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.assemble import JUDGED, judged
from vision_tasks.data.problems import EXAMPLES, Problems
from vision_tasks.data.records import PER_ANNOTATION, Records

_COUNTED = ("image_size_unknown", "image_file_shared", "annotation_id_repeated")
"""Kinds of problems that `_add_problems` counts."""


class EditError(ValueError):
    """An edit that does not fit the records; says why, and names ids."""


class Draft:
    """The parts of records, by the names they have there, as the edits so far have left them.

    Attributes:
        arrays: current arrays; to be written to only through `writable`. row: (N,) image row of each annotation.
        moved: (N,) bool, the boxes that must be judged anew. categories, extras: as in `Records`.
        solved: kinds of problems, told by reading, that are no more.
    """

    def __init__(self, records: Records) -> None:
        self.solved: set[str] = set()
        self._take(records, np.zeros(len(records.labels), bool))

    def _take(self, records: Records, moved: np.ndarray) -> None:
        self._base = records
        names = (*PER_ANNOTATION, "first", "image_ids", "widths", "heights", "shape_bytes")
        self.arrays: dict[str, np.ndarray] = {name: getattr(records, name) for name in names}
        self._own: set[str] = set()
        self.row = np.repeat(np.arange(len(records)), np.diff(records.first))
        self.moved = moved
        self.categories: Categories = records.categories
        self.extras: Extras | None = records.extras
        self._orders: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._blobs: list[bytes] = []

    def writable(self, name: str) -> np.ndarray:
        """An array to be changed in place: a copy of the source's, made once."""
        if name not in self._own:
            self.arrays[name] = self.arrays[name].copy()
            self._own.add(name)
        array: np.ndarray = self.arrays[name]
        return array

    def annotations(self, ids: Sequence[int], unique: bool = False) -> np.ndarray:
        """Indices of annotations by id, (n,) int64; an id that occurs twice gives both.

        Args:
            unique: refuse ids that occur twice: which of the two is meant is unknown.

        Raises:
            EditError: ids that are not there.
        """
        return self._places("annotation_ids", "annotation", ids, unique)

    def images(self, ids: Sequence[int]) -> np.ndarray:
        """Rows of images by id, (n,) int64.

        Raises:
            EditError: ids that are not there.
        """
        return self._places("image_ids", "image", ids, True)

    def known(self, name: str, ids: Sequence[int]) -> np.ndarray:
        """Which of these ids are there, (n,) bool. `name`: "annotation_ids" or "image_ids"."""
        return np.isin(np.asarray(ids, np.int64), self.arrays[name])

    def _places(self, name: str, what: str, ids: Sequence[int], unique: bool) -> np.ndarray:
        wanted = np.unique(np.asarray(ids, np.int64))
        own = self.arrays[name]
        if name not in self._orders:
            order = np.argsort(own, kind="stable")
            self._orders[name] = order, own[order]
        order, ordered = self._orders[name]
        low, high = np.searchsorted(ordered, wanted), np.searchsorted(ordered, wanted, side="right")
        if len(absent := wanted[low == high]):
            raise EditError(f"there is no {what} {listed(absent)}")
        if unique and len(twice := wanted[high - low > 1]):
            raise EditError(f"{what} {listed(twice)} occurs more than once, so which one is meant is unknown")
        counts = high - low
        places = np.repeat(low - np.cumsum(counts) + counts, counts) + np.arange(int(counts.sum()))
        return np.asarray(order[places])

    def set_boxes(self, at: np.ndarray, boxes: np.ndarray, areas_too: bool = True) -> None:
        """Give annotations other boxes, and another area to those whose area is that of their box.

        Args:
            at: (n,) int64 indices. boxes: (n, 4) float64 x, y, width, height. areas_too: False leaves areas alone.
        """
        old, areas = self.arrays["boxes"][at], self.arrays["areas"][at]
        with np.errstate(over="ignore", invalid="ignore"):
            product = old[:, 2:].prod(1)
            # A box without sense got the area 0 where the file states none.
            derived = np.isclose(areas, product, rtol=1e-6, atol=0) | ((areas == 0) & ~(old[:, 2:] > 0).all(1))
            anew = boxes[:, 2:].clip(0).prod(1)
        self.writable("boxes")[at] = boxes
        if areas_too:
            self.writable("areas")[at[derived]] = np.nan_to_num(anew[derived])
        self.moved[at] = True

    def blob(self, starts: np.ndarray) -> np.ndarray:
        """Bytes, (B,) uint8, in which outlines that begin there are found."""
        if self._blobs and starts.max(initial=-1) >= len(self.arrays["shape_bytes"]):
            self._join_blobs()
        blob: np.ndarray = self.arrays["shape_bytes"]
        return blob

    def _join_blobs(self) -> None:
        pieces = [self.arrays["shape_bytes"].tobytes(), *self._blobs]
        self.arrays["shape_bytes"], self._blobs = np.frombuffer(b"".join(pieces), np.uint8), []

    def append_shapes(self, at: np.ndarray, entries: Sequence[bytes]) -> None:
        """Give annotations other outlines (entries of `formats.shapes`)."""
        lengths = np.array([len(e) for e in entries], np.int64)
        begin = len(self.arrays["shape_bytes"]) + sum(map(len, self._blobs))
        self.writable("shape_starts")[at] = begin + np.cumsum(lengths) - lengths
        self._blobs.append(b"".join(entries))

    def keep_annotations(self, kept: np.ndarray) -> None:
        """Only these annotations, (n,) int64 indices, images in their order; the images stay."""
        rows = self.row[kept]
        for name in PER_ANNOTATION:
            self.arrays[name] = self.arrays[name][kept]
            self._own.add(name)
        self.moved, self.row = self.moved[kept], rows
        self.arrays["first"] = np.searchsorted(rows, np.arange(len(self.arrays["image_ids"]) + 1)).astype(np.int64)
        if self.extras is not None:
            self.extras = self.extras.subset(np.arange(len(self.arrays["image_ids"])), kept)
        self._orders.pop("annotation_ids", None)

    def regroup(self, rows: np.ndarray) -> None:
        """Give each annotation another image, (N,) int64 rows; those of an image stay in their order."""
        self.row = rows
        order = np.argsort(rows, kind="stable")
        self.keep_annotations(order)

    def keep_images(self, rows: np.ndarray) -> None:
        """Only these images, (m,) int64 rows in ascending order, with their annotations and maps."""
        moved = self.moved[np.isin(self.row, rows)]
        self._take(self._records(self._base.problems).subset(rows), moved)

    def relabel(self, labels: np.ndarray, kept: Sequence[int], categories: Categories) -> None:
        """Other categories: each label becomes `labels[label]`, (K,) int64; annotations of label -1 go.

        Args:
            kept: of each new category the old label that its other keys are of.
        """
        new = labels[self.arrays["labels"]].astype(np.int32)
        self.arrays["labels"] = new
        self._own.add("labels")
        if self.extras is not None:
            own = self.extras.categories
            of = {label: own[old] for label, old in enumerate(kept) if old in own}
            self.extras = dataclasses.replace(self.extras, categories=of)
        self.categories = categories
        if (new < 0).any():
            self.keep_annotations(np.flatnonzero(new >= 0))

    def finish(self) -> Records:
        """The edited records: boxes that moved are judged anew, and problems say what is left."""
        gone = {*JUDGED, *_COUNTED, *self.solved} - {"area_missing"}  # what was mended then is mended still
        problems = Problems(p for p in self._base.problems if p.code not in gone)
        arrays = self.arrays | {"areas": self.arrays["areas"].copy()}  # judging may mend what an edit made of it
        usable = judged(arrays, self.row, problems)
        self.arrays |= {"areas": arrays["areas"], "usable": np.where(self.moved, usable, self.arrays["usable"])}
        records = self._records(problems)
        _add_problems(records, problems)
        return records

    def _records(self, problems: Problems) -> Records:
        if self._blobs:
            self._join_blobs()
        base = self._base
        has_shapes = base.has_shapes and (not len(self.row) or bool((self.arrays["shape_starts"] >= 0).any()))
        changes: dict[str, Any] = {**self.arrays, "has_shapes": has_shapes}
        return dataclasses.replace(
            base, **changes, categories=self.categories, extras=self.extras, problems=problems, folder=None
        )


def _add_problems(records: Records, problems: Problems) -> None:
    """What reading says of ids, sizes and names, counted in the records as they are now."""
    unknown = (records.widths <= 0) | (records.heights <= 0)
    problems.add("image_size_unknown", (f"image {i}" for i in records.image_ids[unknown]), int(unknown.sum()))
    ordered = np.sort(records.annotation_ids)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    problems.add("annotation_id_repeated", (f"annotation {i}" for i in twice), len(twice))
    seen: set[str] = set()
    again = []
    for row in range(len(records)):
        name = records.file_name(row)
        if name in seen:
            again.append(f"image {records.image_ids[row]} {name}")
        seen.add(name)
    problems.add("image_file_shared", again)


def listed(ids: Iterable[object]) -> str:
    """A few ids in words: "5, 7, 9, ... (12 in all)"."""
    words = [str(i) for i in ids]
    more = f", ... ({len(words)} in all)" if len(words) > EXAMPLES else ""
    return ", ".join(words[:EXAMPLES]) + more
