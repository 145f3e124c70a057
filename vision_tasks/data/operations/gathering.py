"""Several records as one, each image still read from where it lies; objects taken out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.extras import Extras
from vision_tasks.data.problems import Problems
from vision_tasks.data.records import ARRAYS, PER_ANNOTATION, ImageArchive, Records
from vision_tasks.data.semantic_source import SemanticSource, packed_names, unpacked
from vision_tasks.structures import Size


@dataclass(frozen=True, eq=False)
class GatheredRecords(Records):
    """Records whose images lie in several folders; make them with `gather`.

    File names are those that the images get when they are written, not those that they have.

    Attributes:
        folders: F image folders. folder_of: (M,) int32, that of each image. own_names: (M,) names there
            (`packed_names`).
    """

    folders: tuple[Path, ...] = ()
    folder_of: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    own_names: np.ndarray = field(default_factory=lambda: np.zeros(0, "S1"))

    def image_root(self, row: int) -> Path:
        return self.folders[int(self.folder_of[row])]

    def image_path(self, row: int) -> Path:
        return self.image_root(row) / unpacked(self.own_names[row])

    def subset(self, rows: np.ndarray | list[int]) -> GatheredRecords:
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        found = super().subset(rows)
        assert isinstance(found, GatheredRecords)
        return dataclasses.replace(found, folder_of=self.folder_of[rows], own_names=self.own_names[rows])


class GatheredImages:
    """The images of several data sets of which some lie in archives (see `records.ImageArchive`).

    Args:
        parts: archives, None where images are files. part_of, row_in: (M,) int64 each: as in `GatheredMaps`.
    """

    def __init__(self, parts: Sequence[ImageArchive | None], part_of: np.ndarray, row_in: np.ndarray) -> None:
        self.parts, self.part_of, self.row_in = tuple(parts), part_of, row_in

    def read(self, row: int) -> np.ndarray | None:
        part = self.parts[int(self.part_of[row])]
        return None if part is None else part.read(int(self.row_in[row]))

    def subset(self, rows: np.ndarray) -> GatheredImages:
        return GatheredImages(self.parts, self.part_of[rows], self.row_in[rows])


class GatheredMaps(SemanticSource):
    """The semantic maps of several data sets in one row, in any order of images.

    Args:
        parts: sources with the same categories, None where nobody drew maps.
        part_of, row_in: (M,) int64 each: the part of an image, and its row there.
    """

    def __init__(self, parts: Sequence[SemanticSource | None], part_of: np.ndarray, row_in: np.ndarray) -> None:
        self.parts, self.part_of, self.row_in = tuple(parts), part_of, row_in
        known = next(part for part in parts if part is not None)
        self.categories, self.multi_label = known.categories, known.multi_label

    def __len__(self) -> int:
        return len(self.part_of)

    def read(self, row: int, size: Size) -> np.ndarray | None:
        part = self.parts[int(self.part_of[row])]
        return None if part is None else part.read(int(self.row_in[row]), size)

    def place(self, row: int) -> str:
        part = self.parts[int(self.part_of[row])]
        return "no map" if part is None else part.place(int(self.row_in[row]))

    def has(self, row: int) -> bool:
        part = self.parts[int(self.part_of[row])]
        return part is not None and part.has(int(self.row_in[row]))

    def subset(self, rows: np.ndarray | Sequence[int]) -> GatheredMaps:
        rows = np.asarray(rows, np.int64)
        return GatheredMaps(self.parts, self.part_of[rows], self.row_in[rows])


def gather(parts: Sequence[Records], names: Sequence[Sequence[str]] | None = None) -> Records:
    """One records of all images and objects, in the order of the parts.

    Args:
        parts: at least one, all with the same categories, also of maps; ids must differ already (`unlike`).
        names: the file names that the images of each part get, where they are not to keep theirs.

    Raises:
        VisionTasksError: a file name leads out of its folder.
    """
    if len(parts) == 1 and names is None:
        return parts[0]
    places = [_places(part) for part in parts]
    folders = list(dict.fromkeys(folder for found, _, _ in places for folder in found))
    where = {folder: i for i, folder in enumerate(folders)}
    folder_of = [np.array([where[f] for f in found], np.int32)[own] for found, own, _ in places]
    new = [n for own in names for n in own] if names is not None else [n for _, _, own in places for n in own]
    encoded = [name.encode("utf-8", "surrogateescape") for name in new]
    sources = list(dict.fromkeys(str(part.source) for part in parts))
    return GatheredRecords(
        **_arrays(parts),
        names=np.frombuffer(b"".join(encoded), np.uint8),
        name_ends=np.cumsum([len(n) for n in encoded], dtype=np.int64),
        categories=parts[0].categories,
        problems=joined_problems(parts),
        root=parts[0].root,
        source=Path(" + ".join(sources)),
        has_shapes=any(part.has_shapes for part in parts),
        semantic=_maps(parts),
        has_boxes=any(part.has_boxes for part in parts),
        extras=_extras(parts),
        archive=_archives(parts),
        folders=tuple(folders),
        folder_of=np.concatenate(folder_of),
        own_names=packed_names([name for _, _, own in places for name in own]),
    )  # fmt: skip


def with_objects(
    records: Records, kept: np.ndarray, labels: np.ndarray | None = None, categories: Categories | None = None
) -> Records:
    """Only the objects where `kept` (N,) bool; all images stay, and so do the extras of what stays.

    Args:
        labels: (N,) new labels. categories: what these mean; their extras go with the old labels that became new ones.
    """
    chosen = np.flatnonzero(kept)
    arrays = {name: getattr(records, name)[chosen] for name in PER_ANNOTATION}
    extras = records.extras
    if extras is not None:
        extras = extras.subset(np.arange(len(records)), chosen)
    if labels is not None:
        arrays["labels"] = labels[chosen].astype(np.int32)
    if extras is not None and categories is not None:
        own = {name: extras.categories[i] for i, name in enumerate(records.categories.names) if i in extras.categories}
        known = {label: own[name] for label, name in enumerate(categories.names) if name in own}
        extras = dataclasses.replace(extras, categories=known)
    return dataclasses.replace(
        records,
        **arrays,
        first=np.concatenate([[0], np.cumsum(kept)])[records.first].astype(np.int64),
        categories=records.categories if categories is None else categories,
        problems=records.problems.copy(),
        folder=None,
        extras=extras,
    )


def unlike(parts: Sequence[Records]) -> tuple[list[Records], list[str]]:
    """The parts with image and annotation ids of their own; where ids clash, the later part's move behind the others.

    Returns:
        The parts, and what was done, in words.
    """
    out: list[Records] = []
    said = []
    for name in ("image_ids", "annotation_ids"):
        taken = np.zeros(0, np.int64)
        changed = []
        for part in out or parts:
            ids = getattr(part, name)
            if len(np.intersect1d(taken, ids)):
                shift = int(taken.max()) + 1 - min(int(ids.min()), 1)
                ids = ids + shift
                words = name.replace("_ids", " ids")
                said.append(f"{part.source}: {words} clash with those before: {shift:,} is added to each")
                part = dataclasses.replace(part, **{name: ids}, folder=None)
            taken = np.concatenate([taken, ids])
            changed.append(part)
        out = changed
    return out, said


def objects_of(records: Records) -> np.ndarray:
    """(N,) int64 row of each object's image."""
    return np.repeat(np.arange(len(records)), np.diff(records.first))


def file_names(records: Records) -> list[str]:
    """File names of all images."""
    return [records.file_name(row) for row in range(len(records))]


def joined_problems(parts: Sequence[Records]) -> Problems:
    """What was found wrong in all of them; splits of one source say the same only once."""
    problems = Problems()
    for problem in (problem for part in parts for problem in part.problems):
        problems.add(problem.code, problem.examples, problem.count)
    return problems


def _places(records: Records) -> tuple[tuple[Path, ...], np.ndarray, list[str]]:
    """Image folders, (M,) which of them each image is in, and its name there."""
    if isinstance(records, GatheredRecords):
        return records.folders, records.folder_of, [unpacked(name) for name in records.own_names]
    for row in range(len(records)):
        records.image_path(row)  # raises where a name leads out
    return (records.root,), np.zeros(len(records), np.int32), file_names(records)


def _arrays(parts: Sequence[Records]) -> dict[str, Any]:
    """The joined arrays of `Records` but for the names."""
    kept = [name for name in ARRAYS if name not in ("first", "names", "name_ends", "shape_starts", "shape_bytes")]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in kept}
    counts = np.concatenate([np.diff(part.first) for part in parts])
    # Subsets share their outlines: these are not copied for each.
    blobs = list({id(part.shape_bytes): part.shape_bytes for part in parts}.values())
    begins = np.cumsum([0, *map(len, blobs)])
    start_of = {id(blob): int(begin) for blob, begin in zip(blobs, begins[:-1], strict=True)}
    starts = [np.where(p.shape_starts < 0, -1, p.shape_starts + start_of[id(p.shape_bytes)]) for p in parts]
    return {
        **arrays,
        "first": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "shape_starts": np.concatenate(starts).astype(np.int64),
        "shape_bytes": blobs[0] if len(blobs) == 1 else np.concatenate(blobs),
    }


def _maps(parts: Sequence[Records]) -> GatheredMaps | None:
    if all(part.semantic is None for part in parts):
        return None
    return GatheredMaps([part.semantic for part in parts], *_origins(parts))


def _archives(parts: Sequence[Records]) -> GatheredImages | None:
    if all(part.archive is None for part in parts):
        return None
    return GatheredImages([part.archive for part in parts], *_origins(parts))


def _origins(parts: Sequence[Records]) -> tuple[np.ndarray, np.ndarray]:
    """(M,) part that each image is of, and (M,) its row there."""
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return part_of, np.concatenate([np.arange(len(part)) for part in parts])


def _extras(parts: Sequence[Records]) -> Extras | None:
    """All extras; of keys of the data set and of categories the first part's count."""
    if all(part.extras is None for part in parts):
        return None
    joined = Extras()
    row = index = 0
    for part in parts:
        if (own := part.extras) is not None:
            for key, value in own.data_set.items():
                joined.data_set.setdefault(key, value)
            for label, value in own.categories.items():
                joined.categories.setdefault(label, value)
            joined.images.update({row + i: value for i, value in own.images.items()})
            joined.annotations.update({index + i: value for i, value in own.annotations.items()})
        row, index = row + len(part), index + len(part.labels)
    return joined
