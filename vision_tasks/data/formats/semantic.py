"""Reading semantic data of any kind, beside objects or alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.panoptic import read_panoptic, with_panoptic
from vision_tasks.data.formats.patterns import checked
from vision_tasks.data.formats.semantic_files import SemanticFiles, split_folders
from vision_tasks.data.formats.semantic_reader import read_masks, with_masks
from vision_tasks.data.formats.semantic_records import image_records
from vision_tasks.data.formats.semantic_rendered import RenderedObjects, rendered
from vision_tasks.data.layout import image_folder
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import IGNORED, SemanticSource
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size


def has_split(files: SemanticFiles, split: str, root: Path) -> bool:
    """Whether there is anything for this split."""
    if not split_folders(files, split, root):
        return False
    named = files.splits.get(split)
    if isinstance(named, str) and named.endswith(".txt"):
        return (root / named).is_file()
    return not files.splits or named is not None or split == "train" or "{split}" in _pattern(files)


def read_semantic(files: SemanticFiles, split: str, root: Path, categories: Categories | None = None) -> Records:
    """Images of a split with their semantic maps, without objects.

    Args:
        files: how the data lie. split: "train", "val" or "test". root: folder that the patterns start from.
        categories: those of the training data, whose labels the maps shall have.

    Raises:
        VisionTasksError: nothing found (says what is there), or categories that do not fit.
    """
    if files.masks is not None:
        records = read_masks(files, split, root)
    elif files.panoptic is not None:
        records = _panoptic(files, split, root)
    else:
        assert files.annotations is not None
        path = _json(files, split, root)
        records = alone(with_rendered(read_coco(path, _images(files, split, root, path)), files))
    return relabelled(records, categories)


def with_semantic(
    records: Records, files: SemanticFiles, split: str, root: Path, categories: Categories | None = None
) -> Records:
    """The same records of objects, with semantic maps beside them.

    Mask files belong to the image of the same stem, panoptic maps to that of the same id; COCO stuff to the same id.

    Raises:
        VisionTasksError: not one image has a map.
    """
    if files.masks is not None:
        return relabelled(with_masks(records, files, split, root), categories)
    if files.panoptic is not None:
        return relabelled(with_panoptic(records, _panoptic(files, split, root)), categories)
    other = read_coco(_json(files, split, root), records.root)
    rows = np.array([other.row_of_id.get(int(i), -1) for i in records.image_ids], np.int64)
    if (rows < 0).any():
        lost = int((rows < 0).sum())
        raise VisionTasksError(f"{other.source}: {lost} of the {len(rows)} images of {records.source} are not in it.")
    source = with_rendered(other.subset(rows), files).semantic
    return relabelled(replace(records, semantic=source), categories)


def with_rendered(records: Records, files: SemanticFiles | None = None) -> Records:
    """The same records with maps drawn of their own objects."""
    if files is None:
        return replace(records, semantic=rendered(records))
    ignore = [v for v in files.ignore or () if isinstance(v, int)]
    return replace(records, semantic=rendered(records, files.background, files.multi_label, ignore))


def alone(records: Records) -> Records:
    """The images and their maps without the objects."""
    source = records.semantic
    assert source is not None
    sizes = list(zip(records.heights.tolist(), records.widths.tolist(), strict=True))
    names = [records.file_name(row) for row in range(len(records))]
    ids = records.image_ids.tolist()
    return image_records(records.root, names, sizes, source, records.source, records.problems.copy(), ids)


def relabelled(records: Records, categories: Categories | None) -> Records:
    """The records with maps in the labels of these categories, matched by name.

    Raises:
        VisionTasksError: the maps have a category that is not among them.
    """
    source = records.semantic
    if categories is None or source is None or source.categories.names == categories.names:
        return records
    own = told_by(source)
    ignored = source.labels < 0 if isinstance(source, RenderedObjects) else np.zeros(len(own), bool)
    lost = [n for n, i in zip(own.names, ignored.tolist(), strict=True) if not i and n not in categories.names]
    if lost:
        raise VisionTasksError(
            f"{records.source}: the semantic categories {', '.join(lost[:8])} are not among those trained on "
            f"({', '.join(categories.names[:12])}). Use the same categories, or put their values into ignore."
        )
    names = {name: label for label, name in enumerate(categories.names)}
    table = np.array([names.get(name, IGNORED) for name in own.names], np.int16)
    new = under(source, categories, table)
    return replace(records, semantic=new, categories=records.categories if records.has_boxes else categories)


def under(source: SemanticSource, categories: Categories, labels: np.ndarray) -> SemanticSource:
    """The same truth under other categories.

    Args:
        labels: (K,) int16, the new label of each of the source's categories (`told_by`), -1 where it has none: such
            pixels are ignored, but of drawn maps they are what they would be without these objects.
    """
    if isinstance(source, RenderedObjects):
        return source.under(categories, labels)
    return Relabelled(source, labels, categories, source.multi_label)


def told_by(source: SemanticSource) -> Categories:
    """The categories that the files of a source have: without the background that drawing added."""
    return source.records.categories if isinstance(source, RenderedObjects) else source.categories


@dataclass(frozen=True, eq=False)
class Relabelled(SemanticSource):
    """Another source's maps with other labels: (K,) int16, the new label of each of its own, -1 where it has none."""

    source: SemanticSource
    labels: np.ndarray
    categories: Categories
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.source)

    def has(self, row: int) -> bool:
        return self.source.has(row)

    def place(self, row: int) -> str:
        return self.source.place(row)

    def read(self, row: int, size: Size) -> np.ndarray | None:
        found = self.source.read(row, size)
        if found is None:
            return None
        if self.multi_label:
            planes = np.full((len(self.categories), *size), IGNORED, np.int8)  # nobody looked for the others
            wanted = self.labels >= 0
            planes[self.labels[wanted]] = found[wanted]
            return planes
        whole: np.ndarray = np.append(self.labels, np.int16(IGNORED))[found]
        return whole

    def subset(self, rows: np.ndarray | Sequence[int]) -> Relabelled:
        return replace(self, source=self.source.subset(rows))


def _pattern(files: SemanticFiles) -> str:
    return " ".join(p for p in (files.images, files.masks, files.panoptic, files.annotations) if p)


def _panoptic(files: SemanticFiles, split: str, root: Path) -> Records:
    path = _json(files, split, root)
    return read_panoptic(path, _images(files, split, root, path), None, files.things, files.multi_label, files.unknown)


def _json(files: SemanticFiles, split: str, root: Path) -> Path:
    key, pattern = ("panoptic", files.panoptic) if files.panoptic is not None else ("annotations", files.annotations)
    assert pattern is not None
    own = split_folders(files, split, root)
    if not own:
        raise VisionTasksError(f"{root}: no file of {split} is found as {pattern}. Set data.semantic.{key} or splits.")
    return root / pattern.replace("{split}", own[0])


def _images(files: SemanticFiles, split: str, root: Path, path: Path) -> Path:
    """The image folder of a JSON file: as named, else the one that holds its images."""
    if files.images is None:
        return image_folder(path, root)
    own = split_folders(files, split, root)[0]
    return root / checked(files.images, "images", ("split",)).replace("{split}", own)
