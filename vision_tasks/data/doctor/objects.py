"""What the doctor's checks look at: the annotations of one split, and what is worked out of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.doctor.outlines import Outlines, measure_outlines
from vision_tasks.data.records import Records

_LARGEST = 1e9
LOSING = ("drop_annotations", "drop_masks", "clip_boxes", "boxes_from_masks")
"""Edits that would lose sound data, were the finding wrong."""
_SAFE = ("box_duplicated",)
"""Findings whose edits lose nothing: what is repeated stays once."""
_MOST_LOST, _FEW_LOST = 0.2, 3
LOOK = "so many are no stray errors, and the patch leaves them alone: look first"


@dataclass(frozen=True, eq=False)
class Objects:
    """The N annotations of one split as columns.

    Attributes:
        records: as read. split: its name. boxes: (N, 4) float64 x, y, width, height: those of the records, NaN where
            they are no numbers that a box may have; or as they would be if a wrong form were mended.
        found: places (indices of annotations, or of image rows) of each finding that was made here, by its code;
            `causes` compares them.
    """

    records: Records
    split: str
    boxes: np.ndarray
    found: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Records, split: str) -> Objects:
        boxes = records.boxes
        readable = np.isfinite(boxes).all(1) & (np.abs(boxes) < _LARGEST).all(1)
        if not readable.all():  # NaN passes through all that follows; an infinite number would not
            boxes = np.where(readable[:, None], boxes, np.nan)
        return cls(records, split, boxes)

    def with_boxes(self, boxes: np.ndarray) -> Objects:
        """The same annotations with other boxes; what is known of the outlines is kept."""
        other = Objects(self.records, self.split, boxes)
        for name in ("rows", "sizes", "outlines"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def only(self, places: np.ndarray) -> Objects:
        """Some of the annotations, (n,) indices in ascending order; what is known of them is kept."""
        rows = self.rows[places]
        first = np.searchsorted(rows, np.arange(len(self.records) + 1)).astype(np.int64)
        names = ("annotation_ids", "labels", "areas", "is_crowd", "usable", "shape_starts")
        own = {name: getattr(self.records, name)[places] for name in names}
        records = replace(self.records, **own, boxes=self.records.boxes[places], first=first, extras=None, folder=None)
        return Objects(records, self.split, self.boxes[places])

    def __len__(self) -> int:
        """Number of annotations."""
        return len(self.boxes)

    @cached_property
    def rows(self) -> np.ndarray:
        """Image row of each annotation, (N,) int64."""
        return np.repeat(np.arange(len(self.records)), np.diff(self.records.first))

    @cached_property
    def sizes(self) -> np.ndarray:
        """Width and height of each annotation's image in pixels, (N, 2) float64, NaN where the file states none."""
        sizes = np.stack([self.records.widths, self.records.heights], 1).astype(np.float64)
        sizes[(sizes <= 0).any(1)] = np.nan
        return np.asarray(sizes[self.rows])

    @cached_property
    def readable(self) -> np.ndarray:
        """Which boxes are four numbers that a box may have, (N,) bool."""
        return np.asarray(np.isfinite(self.boxes).all(1))

    @cached_property
    def positive(self) -> np.ndarray:
        """Which boxes are readable and have an area, (N,) bool."""
        return self.readable & (self.boxes[:, 2:] > 0).all(1)

    @cached_property
    def outlines(self) -> Outlines:
        """Area, extent and crossings of each outline."""
        return measure_outlines(self.records)

    def finding(
        self,
        code: str,
        places: np.ndarray,
        detail: Callable[[int], str],
        *,
        of: int | None = None,
        summary: str = "",
        edits: Iterable[Mapping[str, Any]] = (),
    ) -> list[Finding]:
        """One finding about annotations, none if there are no places.

        Args:
            places: indices of annotations. detail: what is measured at one of them. of: of how many (default: all).
        """
        if not len(places):
            return []
        self.found[code] = places
        records, rows = self.records, self.rows
        chosen = _spread(places, rows)
        examples = tuple(
            Example(
                records.file_name(int(rows[i])), int(records.image_ids[rows[i]]), int(records.annotation_ids[i]),
                detail(int(i)), self.split, int(rows[i]),
            )
            for i in chosen
        )  # fmt: skip
        edits = tuple(edits)
        # An unreadable box loses nothing to that of its mask; but if most are so, it is the form that is unknown.
        harmless = ("boxes_from_masks",) if code == "box_unreadable" else ()
        losing = [edit for edit in edits if edit["op"] in LOSING and edit["op"] not in harmless]
        if code not in _SAFE and self.are_too_many(sum(len(edit["ids"]) for edit in losing)):
            edits = tuple(edit for edit in edits if edit["op"] in harmless)
            summary = "; ".join([summary] * bool(summary) + [LOOK])
        total = len(self) if of is None else of
        return [Finding(code, len(places), total, self.split, examples, summary, edits)]

    def are_too_many(self, count: int) -> bool:
        """Whether so many annotations are more than an edit may change at once: then the cause is another."""
        return count > max(_MOST_LOST * len(self), _FEW_LOST)

    def image_finding(
        self, code: str, rows: np.ndarray, detail: Callable[[int], str], edits: Iterable[Mapping[str, Any]] = ()
    ) -> list[Finding]:
        """One finding about images, given by their rows; none if there are none."""
        if not len(rows):
            return []
        self.found[code] = rows
        records = self.records
        examples = tuple(
            Example(records.file_name(int(r)), int(records.image_ids[r]), None, detail(int(r)), self.split, int(r))
            for r in rows[:EXAMPLES]
        )
        return [Finding(code, len(rows), len(records), self.split, examples, "", tuple(edits))]

    def ids(self, places: np.ndarray) -> list[int]:
        """Annotation ids at these indices, as edits name them."""
        ids: list[int] = self.records.annotation_ids[places].tolist()
        return ids


def _spread(places: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The first place in each of the first images, and more of them if these are few: examples that differ."""
    own = rows[places]
    first = np.concatenate([[True], own[1:] != own[:-1]])
    order = np.argsort(~first, kind="stable")[:EXAMPLES]
    return np.asarray(np.sort(places[order]))


def shown(box: np.ndarray) -> str:
    """A box in words: [x, y, width, height] with the digits it needs."""
    return "[" + ", ".join(f"{v:.6g}" for v in box) + "]"
