"""One data set's annotations as a flat, typed, read-only index: no Python object per annotation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

import numpy as np
import torch

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats import shapes
from vision_tasks.data.problems import Problems
from vision_tasks.data.semantic_source import SemanticSource
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Masks, Polygons, Rle, Size, Target

_PER_IMAGE = ("image_ids", "widths", "heights")
PER_ANNOTATION = ("annotation_ids", "labels", "boxes", "areas", "is_crowd", "usable", "shape_starts")
ARRAYS = (*_PER_IMAGE, "first", "name_ends", "names", *PER_ANNOTATION, "shape_bytes")


class ImageArchive(Protocol):
    """Image files that lie in other files (`shards.ShardImages`)."""

    def read(self, row: int) -> np.ndarray | None:
        """(bytes,) uint8 of an image's file; None if this one is a file of its own."""

    def subset(self, rows: np.ndarray) -> ImageArchive:
        """Of these image rows, (R,) int64, alone."""


@dataclass(frozen=True, eq=False)
class Records:
    """Annotations of M images, N in all; those of image row r are `first[r]:first[r + 1]`, in file order.

    All arrays are read-only. Where they are memory-mapped (large files), workers share them and pickling
    carries only the folder's path.

    Attributes:
        image_ids: (M,) int64. widths, heights: (M,) int32 as the file states them, 0 where it does not.
        first: (M + 1,) int64.
        annotation_ids: (N,) int64. labels: (N,) int32 into `categories`. is_crowd: (N,) bool.
        boxes: (N, 4) float64, x, y, width, height exactly as written (NaN if unreadable). areas: (N,) float64.
        usable: (N,) bool, False for what training must leave out (no area, outside its image, ...).
        categories: what labels mean. problems: what was found wrong. root: image folder. source: annotation file.
        has_shapes: whether any annotation of the whole data set has an outline.
        names, name_ends: file names as UTF-8 in one row, and the (M,) int64 ends of each.
        shape_bytes, shape_starts: outlines as `formats.shapes` writes them, and (N,) int64 starts, -1 for none.
        folder: where the arrays are memory-mapped from, if they are.
        semantic: the semantic maps of the same M images, None where the data set has none.
        has_boxes: False if nobody annotated objects in the whole data set: its targets have no boxes at all.
        archive: where the bytes of image files are if not in files of their own (`shards`), None if they are.
        extras: what else the file says; None unless it was asked for (training does not need it).
    """

    image_ids: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    first: np.ndarray
    names: np.ndarray
    name_ends: np.ndarray
    annotation_ids: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    usable: np.ndarray
    shape_starts: np.ndarray
    shape_bytes: np.ndarray
    categories: Categories
    problems: Problems
    root: Path
    source: Path
    has_shapes: bool
    folder: Path | None = None
    semantic: SemanticSource | None = None
    has_boxes: bool = True
    extras: Extras | None = None
    archive: ImageArchive | None = None

    def __post_init__(self) -> None:
        m, n = len(self.image_ids), len(self.annotation_ids)
        lengths = {name: len(getattr(self, name)) for name in ARRAYS}
        wrong = [f for f in (*_PER_IMAGE, "name_ends") if lengths[f] != m] + [
            f for f in PER_ANNOTATION if lengths[f] != n
        ]
        if wrong or lengths["first"] != m + 1 or int(self.first[-1]) != n:
            raise ValueError(f"Records: arrays do not fit together: {lengths}")
        if self.semantic is not None and len(self.semantic) != m:
            raise ValueError(f"Records: {m} images, but {len(self.semantic)} semantic maps")
        for name in ARRAYS:
            getattr(self, name).setflags(write=False)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def __repr__(self) -> str:
        counts = f"{len(self):,} images, {len(self.labels):,} annotations, {len(self.categories)} categories"
        maps = "" if self.semantic is None else f", semantic maps of {len(self.semantic.categories)} categories"
        return f"Records({counts}{maps}, {str(self.source)!r})"

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    @cached_property
    def row_of_id(self) -> dict[int, int]:
        """Image id -> row."""
        return {int(i): row for row, i in enumerate(self.image_ids)}

    def size(self, row: int) -> Size | None:
        """(height, width) of an image as the file states it, None where it does not."""
        height, width = int(self.heights[row]), int(self.widths[row])
        return (height, width) if height and width else None

    def file_name(self, row: int) -> str:
        """Path relative to `root`, with forward slashes, as the file states it."""
        start = int(self.name_ends[row - 1]) if row else 0
        return self.names[start : int(self.name_ends[row])].tobytes().decode("utf-8", "replace")

    def image_path(self, row: int) -> Path:
        """Path of an image.

        Raises:
            VisionTasksError: the name is absolute or leads out of `root`.
        """
        name = self.file_name(row)
        reason = escapes(name)
        if reason:
            raise VisionTasksError(
                f"{self.source}: image {self.image_ids[row]}: file_name {name!r} {reason}, which is refused. "
                f"Write it relative to the image folder {self.root}."
            )
        return self.root / name

    def image_root(self, row: int) -> Path:
        """Folder that the image must lie in: `root`, but of data sets put together each image has its own."""
        return self.root

    def image_data(self, row: int) -> np.ndarray | None:
        """What an image's file holds, (bytes,) uint8, if it lies in an archive; None if it is a file of its own."""
        return None if self.archive is None else self.archive.read(row)

    def segmentation(self, index: int) -> Polygons | Rle | None:
        """Outline of annotation number `index` (0..N-1), None if it has none."""
        start = int(self.shape_starts[index])
        return None if start < 0 else shapes.decode(self.shape_bytes, start)

    def target(self, row: int, size: Size | None = None) -> Target:
        """What training needs of one image: usable annotations, boxes clipped to the image.

        Args:
            row: image row. size: (height, width) of the decoded image; needed only where the file states no size.

        Returns:
            Boxes as float32 corners, labels, areas, crowd flags; masks as polygons or run lengths, None if nobody
            annotated any in the whole data set. With an unknown size, size is (0, 0) and boxes are not clipped above.
            Without boxes (`has_boxes`) all of these are None. The semantic map is not read here.
        """
        if not self.has_boxes:
            return Target(image_id=int(self.image_ids[row]), size=size or self.size(row) or (0, 0))
        start, end = int(self.first[row]), int(self.first[row + 1])
        size = size or self.size(row)
        corners = clipped_corners(self.boxes[start:end], *(np.array([s]) for s in size or (0, 0)))
        kept = self.usable[start:end] & (corners[:, 2:] > corners[:, :2]).all(1)
        chosen = start + np.flatnonzero(kept)
        size = size or (0, 0)
        return Target(
            image_id=int(self.image_ids[row]),
            size=size,
            boxes=torch.from_numpy(corners[kept]),
            labels=torch.from_numpy(self.labels[chosen].astype(np.int64)),
            masks=Masks(size, shapes=[self.segmentation(int(i)) for i in chosen]) if self.has_shapes else None,
            area=torch.from_numpy(self.areas[chosen].astype(np.float32)),
            is_crowd=torch.from_numpy(self.is_crowd[chosen]),
        )

    def subset(self, rows: np.ndarray | list[int]) -> Records:
        """Only these image rows ((R,) int64, or (M,) bool), in this order; copies all but outlines."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        counts = self.first[rows + 1] - self.first[rows]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        chosen = np.repeat(self.first[rows] - first[:-1], counts) + np.arange(first[-1])
        names = [self.file_name(int(r)).encode() for r in rows]
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[rows] for name in _PER_IMAGE},
            **{name: getattr(self, name)[chosen] for name in PER_ANNOTATION},
            first=first,
            names=np.frombuffer(b"".join(names), np.uint8),
            name_ends=np.cumsum([len(n) for n in names], dtype=np.int64),
            problems=self.problems.copy(),
            folder=None,
            semantic=None if self.semantic is None else self.semantic.subset(rows),
            extras=None if self.extras is None else self.extras.subset(rows, chosen),
            archive=None if self.archive is None else self.archive.subset(rows),
        )

    def __getstate__(self) -> dict[str, Any]:
        state = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.folder is not None:
            state = {name: value for name, value in state.items() if name not in ARRAYS}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        folder = state["folder"]
        for name, value in (state | (load_arrays(folder) if folder is not None else {})).items():
            object.__setattr__(self, name, value)
        self.__post_init__()


def load_arrays(folder: Path) -> dict[str, Any]:
    """The arrays of `Records`, memory-mapped from a folder that `save_arrays` wrote."""
    # np.asarray sheds the memmap class, whose every slice costs microseconds; the mapping stays.
    return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)) for name in ARRAYS}


def clipped_corners(boxes: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """x, y, width, height (N, 4) to float32 corners inside images of these sizes ((N,) or (1,), 0: unknown)."""
    limit = np.stack([widths, heights], 1).astype(np.float64)
    limit[limit <= 0] = np.inf
    with np.errstate(over="ignore", invalid="ignore"):  # unreadable boxes may hold anything
        low = boxes[:, :2].clip(0, limit)
        high = (boxes[:, :2] + boxes[:, 2:]).clip(0, limit)
        return np.concatenate([low, high], 1).astype(np.float32)


def escapes(name: str) -> str | None:
    """Why a relative path from a data file must not be followed; None if it may."""
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\0" in name:
        return "is not a relative path"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the image folder"
    if name and not PurePosixPath(name).name:  # "."
        return "names no file"
    return None
