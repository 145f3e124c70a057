"""Several data sets with different labels as one: boxes from here, semantic maps from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.mixture import Mixture
from vision_tasks.data.problems import Problems
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import SemanticSource
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Polygons, Rle, Size, Target


@dataclass(frozen=True, eq=False)
class JointRecords(Records):
    """Records of several data sets, one after another; make them with `join`.

    What nobody annotated in a part is None in its targets: a part without boxes (`has_boxes`) teaches no boxes, one
    without outlines no masks, one without maps no maps. Image paths, outlines and maps are asked of the parts, so
    that nothing large is copied; pickling carries the parts alone. So whoever wants to change something changes the
    parts and joins them anew: `dataclasses.replace` would change the flat arrays, but no target.

    Attributes:
        parts: the data sets. ratios: how often a pass of training takes each of their images (`Mixture`).
    """

    parts: tuple[Records, ...] = ()
    ratios: tuple[float, ...] = ()

    @cached_property
    def starts(self) -> np.ndarray:
        """(parts + 1,) int64: the first row of each part, and the number of images."""
        return np.cumsum([0, *map(len, self.parts)])

    @cached_property
    def mixture(self) -> Mixture:
        """In which order training takes the images."""
        return Mixture([len(part) for part in self.parts], self.ratios)

    def part_of(self, row: int) -> tuple[int, int]:
        """Number of the part that an image is from, and its row there."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return part, row - int(self.starts[part])

    def rows_like(self, row: int) -> range:
        """The rows of the images of the same part."""
        part, _ = self.part_of(row)
        return range(int(self.starts[part]), int(self.starts[part + 1]))

    def image_path(self, row: int) -> Path:
        part, own = self.part_of(row)
        return self.parts[part].image_path(own)

    def image_data(self, row: int) -> np.ndarray | None:
        part, own = self.part_of(row)
        return self.parts[part].image_data(own)

    def segmentation(self, index: int) -> Polygons | Rle | None:
        """Outline of annotation number `index` (0..N-1), None if it has none."""
        ends = np.cumsum([len(part.labels) if part.has_boxes else 0 for part in self.parts])
        part = int(np.searchsorted(ends, index, side="right"))
        return self.parts[part].segmentation(index - (int(ends[part - 1]) if part else 0))

    def target(self, row: int, size: Size | None = None) -> Target:
        part, own = self.part_of(row)
        return dataclasses.replace(self.parts[part].target(own, size), image_id=int(self.image_ids[row]))

    def subset(self, rows: np.ndarray | list[int]) -> Records:
        """Only these image rows ((R,) int64, or (M,) bool), which must leave the parts in their order.

        Raises:
            ValueError: an image of a part comes after one of a later part.
        """
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        part = np.searchsorted(self.starts, rows, side="right") - 1
        if (np.diff(part) < 0).any():
            raise ValueError("JointRecords.subset: the rows of a part must come before those of the next")
        parts = [p.subset(rows[part == i] - self.starts[i]) for i, p in enumerate(self.parts)]
        return JointRecords(**_fields(parts), parts=tuple(parts), ratios=self.ratios)

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts, "ratios": self.ratios}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in (_fields(state["parts"]) | state).items():
            object.__setattr__(self, name, value)


def join(parts: Sequence[Records], ratios: Sequence[float] | None = None) -> JointRecords:
    """Several data sets as one.

    Parts with boxes must know the same categories in the same order, and so must parts with semantic maps; boxes and
    maps each have categories of their own. Image ids stay as they are, unless two parts share one. Then images of
    parts without boxes, which have no annotation file, get those after the greatest of the others; if it is two parts
    with boxes that share one, all images are numbered from 1 in the order of the parts.

    Args:
        ratios: how often a pass of training takes each image of a part: 1, the default, once; 0.25 every fourth pass;
            3 three times.

    Raises:
        VisionTasksError: other categories, maps of the other form, or a ratio that is not positive.
    """
    ratios = tuple(ratios or (1.0,) * len(parts))
    _check([(p.source, p.categories) for p in parts if p.has_boxes], "boxes")
    sources = [(p.source, p.semantic) for p in parts if p.semantic is not None]
    _check([(place, source.categories) for place, source in sources], "semantic maps")
    if len({source.multi_label for _, source in sources}) > 1:
        raise VisionTasksError(
            "Of data sets trained together all semantic maps must be of one form, but "
            + ", ".join(f"{place} has multi_label={source.multi_label}" for place, source in sources)
        )
    joint = JointRecords(**_fields(parts), parts=tuple(parts), ratios=ratios)
    _ = joint.mixture  # finds ratios that cannot be before anything is trained
    return joint


class JointSource(SemanticSource):
    """The semantic maps of several data sets, of which some have none.

    Args:
        parts: one per data set, None where nobody drew maps. lengths: their images.
    """

    def __init__(self, parts: Sequence[SemanticSource | None], lengths: Sequence[int]) -> None:
        self.parts, self.starts = tuple(parts), np.cumsum([0, *lengths])
        known = next(part for part in parts if part is not None)
        self.categories, self.multi_label = known.categories, known.multi_label

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, row: int, size: Size) -> np.ndarray | None:
        source, own = self._part_of(row)
        return None if source is None else source.read(own, size)

    def subset(self, rows: np.ndarray | Sequence[int]) -> JointSource:
        """Only these image rows, (R,) int64, which must leave the parts in their order (`JointRecords.subset`)."""
        rows = np.asarray(rows, dtype=np.int64)
        part = np.searchsorted(self.starts, rows, side="right") - 1
        chosen = [rows[part == i] - self.starts[i] for i in range(len(self.parts))]
        parts = [None if p is None else p.subset(own) for p, own in zip(self.parts, chosen, strict=True)]
        return JointSource(parts, [len(own) for own in chosen])

    def place(self, row: int) -> str:
        source, own = self._part_of(row)
        return "no map" if source is None else source.place(own)

    def has(self, row: int) -> bool:
        source, own = self._part_of(row)
        return source is not None and source.has(own)

    def _part_of(self, row: int) -> tuple[SemanticSource | None, int]:
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[part], row - int(self.starts[part])


def _check(found: list[tuple[Path, Categories]], what: str) -> None:
    for place, categories in found[1:]:
        first, wanted = found[0]
        if categories.names != wanted.names:
            raise VisionTasksError(
                f"Data sets trained together must have the same categories of {what}, in the same order, but {first} "
                f"has {', '.join(wanted.names[:6])} and {place} has {', '.join(categories.names[:6])}."
            )


def _image_ids(parts: Sequence[Records]) -> np.ndarray:
    """(N,) int64, all different: those of annotation files as they are, where they can be."""
    ids = np.concatenate([part.image_ids for part in parts])
    if len(np.unique(ids)) == len(ids):
        return ids
    written = np.repeat([part.has_boxes for part in parts], [len(part) for part in parts])
    kept = ids[written]
    if len(np.unique(kept)) < len(kept):
        return np.arange(1, len(ids) + 1)
    ids[~written] = max(kept.max(initial=0), 0) + 1 + np.arange(int((~written).sum()))
    return ids


def _fields(parts: Sequence[Records]) -> dict[str, Any]:
    """What `Records` is made of, for the parts in one row; a part without boxes has no annotations here."""

    def joined(name: str, of: Sequence[Records]) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in of])

    boxed = [part for part in parts if part.has_boxes]
    some = boxed or parts[:1]
    counts = [np.diff(p.first) if p.has_boxes else np.zeros(len(p), np.int64) for p in parts]
    annotation_ids = joined("annotation_ids", boxed) if boxed else np.zeros(0, np.int64)
    if len(np.unique(annotation_ids)) < len(annotation_ids):
        annotation_ids = np.arange(1, len(annotation_ids) + 1)
    names = ("labels", "boxes", "areas", "is_crowd", "usable", "shape_starts")
    arrays = {n: joined(n, boxed) if boxed else getattr(parts[0], n)[:0].copy() for n in names}
    has_maps = any(part.semantic is not None for part in parts)
    problems = Problems()
    for problem in (problem for part in parts for problem in part.problems):
        problems.add(problem.code, problem.examples, problem.count)
    return {
        **arrays,
        "image_ids": _image_ids(parts),
        "widths": joined("widths", parts),
        "heights": joined("heights", parts),
        "first": np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64),
        "names": joined("names", parts),
        "name_ends": np.cumsum(np.concatenate([np.diff(p.name_ends, prepend=0) for p in parts])),
        "annotation_ids": annotation_ids,
        "shape_bytes": np.zeros(0, np.uint8),
        "categories": some[0].categories,
        "problems": problems,
        "root": parts[0].root,
        "source": Path(" + ".join(str(part.source) for part in parts)),
        "has_shapes": any(part.has_shapes for part in boxed),
        "semantic": JointSource([p.semantic for p in parts], [len(p) for p in parts]) if has_maps else None,
        "has_boxes": bool(boxed),
    }
