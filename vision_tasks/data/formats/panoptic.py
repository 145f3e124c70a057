"""COCO panoptic annotations: a JSON file of segments, and a PNG per image whose colours are the segments' ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np
import torch

from vision_tasks.categories import Categories
from vision_tasks.data.formats.label_images import read_values
from vision_tasks.data.formats.semantic_records import image_records
from vision_tasks.data.formats.semantic_table import looked_up
from vision_tasks.data.image_errors import MaskValueError
from vision_tasks.data.problems import Problems
from vision_tasks.data.records import Records, escapes
from vision_tasks.data.regular_files import read_regular
from vision_tasks.data.semantic_source import IGNORED, UNKNOWN, SemanticSource, one_hot, packed_names, unpacked
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Panoptic, Size

T = TypeVar("T")
IDS = 256**3
"""So many colours there are."""


class _Segment(msgspec.Struct, gc=False):
    id: int
    category_id: int
    iscrowd: int = 0


class _Annotation(msgspec.Struct):
    image_id: int
    file_name: str
    segments_info: list[_Segment]


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int = 0
    width: int = 0


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class PanopticFiles(SemanticSource):
    """Panoptic PNG of M images, read as semantic maps or, with their segments apart, as panoptic ones.

    A crowd's pixels have its category in the semantic map, as the reference converter has it; pixels of id 0 are
    ignored.

    Attributes:
        root: folder of the PNG. files: (M,) names below it. annotated: (M,) bool. first: (M + 1,) int64.
        segment_ids: (S,) int32; those of image row r are `first[r]:first[r + 1]`. segment_labels: (S,) int16 into
            `segment_categories`, -1 for segments of unknown categories, whose pixels are ignored. is_crowd: (S,) bool.
        semantic_labels: (K,) int16, the map's label of each category.
        unknown: what pixels are whose id no segment has: an error, or ignored.
    """

    root: Path
    files: np.ndarray
    annotated: np.ndarray
    first: np.ndarray
    segment_ids: np.ndarray
    segment_labels: np.ndarray
    is_crowd: np.ndarray
    segment_categories: Categories
    semantic_labels: np.ndarray
    categories: Categories
    multi_label: bool = False
    unknown: Literal["error", "ignore"] = "error"

    def __len__(self) -> int:
        return len(self.files)

    def has(self, row: int) -> bool:
        return bool(self.annotated[row])

    def place(self, row: int) -> str:
        return str(self.root / unpacked(self.files[row])) if self.annotated[row] else "(no mask)"

    def read(self, row: int, size: Size) -> np.ndarray | None:
        if not self.annotated[row]:
            return None
        own = self._own(row, self.segment_labels)
        table = np.append(np.where(own < 0, IGNORED, self.semantic_labels[own]), IGNORED).astype(np.int16)
        whole: np.ndarray = table[self._segments(row, size)]  # row -1 is the appended one
        return one_hot(whole, len(self.categories)) if self.multi_label else whole

    def panoptic(self, row: int, size: Size) -> Panoptic | None:
        """Segments of an image, things of one category apart; None if nobody annotated it.

        Raises:
            ImageError: as `read`.
        """
        if not self.annotated[row]:
            return None
        labels = self._own(row, self.segment_labels)
        known = labels >= 0
        number = np.append(np.where(known, np.cumsum(known), 0), 0).astype(np.int32)  # the last is that of no segment
        return Panoptic(
            ids=torch.from_numpy(number[self._segments(row, size)]),
            labels=torch.from_numpy(labels[known].astype(np.int64)),
            categories=self.segment_categories,
            is_crowd=torch.from_numpy(self._own(row, self.is_crowd)[known]),
        )

    def _own(self, row: int, values: np.ndarray) -> np.ndarray:
        return values[self.first[row] : self.first[row + 1]]

    def _segments(self, row: int, size: Size) -> np.ndarray:
        """Each pixel's segment (H, W) int16, counted from 0 within its image, -1 for none."""
        path = self.root / unpacked(self.files[row])
        values, _ = read_values(path, size, "color")
        ids = self._own(row, self.segment_ids)
        table = {int(i): n for n, i in enumerate(ids.tolist())} | {0: IGNORED}
        segments = looked_up(values, table, UNKNOWN if self.unknown == "error" else IGNORED)
        if (lost := segments == UNKNOWN).any():
            found = np.unique(values[lost]).tolist()
            raise MaskValueError(
                f"{path}: ids {', '.join(map(str, found[:5]))}{', ...' if len(found) > 5 else ''} (red + 256 green + "
                "65536 blue) are in no entry of segments_info. Do the PNG and the JSON belong together? Set unknown: "
                "ignore to leave such pixels out.",
                tuple(map(str, found)),
            )
        return segments

    def subset(self, rows: np.ndarray | Sequence[int]) -> PanopticFiles:
        rows = np.asarray(rows, np.int64)
        counts = self.first[rows + 1] - self.first[rows]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        chosen = np.repeat(self.first[rows] - first[:-1], counts) + np.arange(first[-1])
        return replace(
            self, files=self.files[rows], annotated=self.annotated[rows], first=first,
            segment_ids=self.segment_ids[chosen], segment_labels=self.segment_labels[chosen],
            is_crowd=self.is_crowd[chosen],
        )  # fmt: skip


def read_panoptic(
    annotations: Path,
    images: Path,
    masks: Path | None = None,
    things: Literal["keep", "merge"] = "keep",
    multi_label: bool = False,
    unknown: Literal["error", "ignore"] = "error",
) -> Records:
    """Images of a panoptic JSON file, with their maps.

    Args:
        annotations: the JSON file. images: image folder. masks: folder of the PNG; that beside the JSON and of its name
            if not given. things: merge makes one category, "things", of all of them. multi_label, unknown: as the
            source has them.

    Raises:
        VisionTasksError: the file is none of panoptic annotations, or nothing in it can be used; names the file.
    """
    content = panoptic_content(annotations, _File)
    problems = Problems()
    categories = panoptic_categories(annotations, content.categories)
    kept = {}
    for image in content.images:
        if escapes(image.file_name):
            raise VisionTasksError(
                f"{annotations}: image {image.id}: file_name {image.file_name!r} {escapes(image.file_name)}."
            )
        kept[image.id] = image
    rows: list[_Annotation] = []
    lost: list[str] = []
    for entry in content.annotations:
        if entry.image_id in kept and not escapes(entry.file_name):
            rows.append(entry)
        else:
            lost.append(f"image {entry.image_id} {entry.file_name}")
    strange = [
        f"image {e.image_id} segment {s.id}"
        for e in rows
        for s in e.segments_info
        if s.category_id not in categories.label_of_id
    ]
    problems.add("segment_unknown", [*lost, *strange])
    bare = set(kept) - {entry.image_id for entry in rows}
    problems.add("mask_missing", [kept[i].file_name for i in sorted(bare)])
    if not rows:
        raise VisionTasksError(
            f"{annotations}: none of its {len(content.annotations)} annotations belongs to a listed image."
        )
    source = _source(annotations, rows, categories, masks or annotations.with_suffix(""), things, multi_label, unknown)
    named = [kept[entry.image_id] for entry in rows]
    sizes = [(i.height, i.width) if i.height > 0 and i.width > 0 else (0, 0) for i in named]
    return image_records(
        images, [i.file_name for i in named], sizes, source, annotations, problems, [i.id for i in named]
    )


def with_panoptic(records: Records, panoptic: Records) -> Records:
    """The same records of objects, with the maps of `read_panoptic` beside them, matched by image id."""
    source = panoptic.semantic
    assert isinstance(source, PanopticFiles)
    places = np.array([panoptic.row_of_id.get(int(i), -1) for i in records.image_ids], np.int64)
    if (places < 0).all():
        raise VisionTasksError(
            f"{panoptic.source}: not one image id is also in {records.source}. Do the two files belong together?"
        )
    own = source.subset(np.maximum(places, 0))
    problems = records.problems.copy()
    bare = np.flatnonzero(places < 0)
    problems.add("mask_not_listed", (records.file_name(int(r)) for r in bare), len(bare))
    return replace(records, semantic=replace(own, annotated=own.annotated & (places >= 0)), problems=problems)


def panoptic_content(path: Path, kind: type[T]) -> T:
    """A panoptic JSON file decoded to structs.

    Raises:
        VisionTasksError: it cannot be read, or is something else.
    """
    try:
        return msgspec.json.decode(read_regular(path), type=kind)
    except OSError as error:
        raise VisionTasksError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    except msgspec.ValidationError as error:
        wanted = '"images", "annotations" (each with file_name and segments_info) and "categories"'
        raise VisionTasksError(f"{path}: no COCO panoptic annotations ({error}). They have {wanted}.") from error
    except msgspec.DecodeError as error:
        raise VisionTasksError(f"{path}: no JSON, or cut off ({error}). Copy it again.") from error


def panoptic_categories(path: Path, entries: Sequence[dict[str, Any]]) -> Categories:
    """The categories of a panoptic file; raises VisionTasksError where they cannot be read."""
    for entry in entries:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str):
            raise VisionTasksError(f"{path}: the category {entry!r} needs an id (a number) and a name. Add them.")
    try:
        return Categories.of(entries)
    except (ValueError, TypeError) as error:
        raise VisionTasksError(f"{path}: its categories cannot be read: {error}. Correct them.") from error


def _source(
    path: Path, rows: Sequence[_Annotation], categories: Categories, masks: Path, things: str, multi_label: bool,
    unknown: Literal["error", "ignore"],
) -> PanopticFiles:  # fmt: skip
    if not masks.is_dir():
        raise VisionTasksError(
            f"{path}: its PNG should be in the folder {masks}, which is not there. Unpack it beside the JSON."
        )
    label_of = categories.label_of_id
    segments = [entry.segments_info for entry in rows]
    for entry in rows:
        if strange := [s.id for s in entry.segments_info if not 0 <= s.id < IDS]:
            raise VisionTasksError(
                f"{path}: image {entry.image_id}: segment id {strange[0]} is no colour: ids are red + 256 green + "
                f"65536 blue, so from 0 to {IDS - 1}. Correct the ids, or write the file again."
            )
    semantic, labels = (categories, np.arange(len(categories), dtype=np.int16))
    if things == "merge":
        semantic, labels = merged_things(categories)
    return PanopticFiles(
        root=masks,
        files=packed_names([entry.file_name for entry in rows]),
        annotated=np.ones(len(rows), bool),
        first=np.concatenate([[0], np.cumsum([len(own) for own in segments])]).astype(np.int64),
        segment_ids=np.array([s.id for own in segments for s in own], np.int32),
        segment_labels=np.array([label_of.get(s.category_id, IGNORED) for own in segments for s in own], np.int16),
        is_crowd=np.array([bool(s.iscrowd) for own in segments for s in own], bool),
        segment_categories=categories,
        semantic_labels=labels,
        categories=semantic,
        multi_label=multi_label or len(semantic) == 1,
        unknown=unknown,
    )


def merged_things(categories: Categories) -> tuple[Categories, np.ndarray]:
    """One category "things" before the stuff, as Panoptic FPN has it; and (K,) int16 labels of all in it."""
    stuff = [entry for entry, thing in zip(categories.to_list(), categories.is_thing, strict=True) if not thing]
    free = 0 if 0 not in categories.ids else max(categories.ids) + 1
    merged = Categories.of([{"id": free, "name": "things", "isthing": 1, "color": (128, 128, 128)}, *stuff])
    return merged, np.array(
        [0 if t else merged.label_of_id[i] for i, t in zip(categories.ids, categories.is_thing, strict=True)], np.int16
    )
