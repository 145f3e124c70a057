"""Semantic truth from objects with outlines: COCO instances, and COCO stuff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.categories import Categories
from vision_tasks.data.image_errors import ImageSizeError
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import IGNORED, SemanticSource, covered
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.masks import area, render, to_rles
from vision_tasks.structures import Masks, Size

_NOT_DRAWN = -2


@dataclass(frozen=True, eq=False)
class RenderedObjects(SemanticSource):
    """Maps drawn from the objects of records, when they are read.

    Smaller objects lie on larger ones (by the mask's own area, later ones in the file on earlier of the same), for a
    large object's outline more often runs behind a small one than before it. A crowd is ignored where no object is
    drawn over it: its outline is loose. So is the box of an object without an outline. If categories may overlap
    (`multi_label`), each has all its objects, and crowds and boxes are ignored in their own category alone.

    Attributes:
        records: the objects; without a source of their own. labels: (K,) int16, the map's label of each category of
            the records, -1 to ignore its objects, -2 not to draw them. background: label of what no object covers, -1
            to ignore that. background_name: the name that category has where there is one. overlapping: whether
            `multi_label` was asked for, not only a matter of there being one category.
    """

    records: Records
    labels: np.ndarray
    background: int
    categories: Categories
    multi_label: bool = False
    background_name: str | None = None
    overlapping: bool = False
    is_drawn: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.records)

    def has(self, row: int) -> bool:
        return True

    def place(self, row: int) -> str:
        return f"{self.records.source}: image {self.records.image_ids[row]}"

    def read(self, row: int, size: Size) -> np.ndarray | None:
        records = self.records
        start, end = int(records.first[row]), int(records.first[row + 1])
        shapes = [records.segmentation(i) for i in range(start, end)]
        own = self.labels[records.labels[start:end]]
        drawn = [n for n in range(len(shapes)) if own[n] != _NOT_DRAWN]
        outlined = [n for n in drawn if shapes[n] is not None]
        for n in outlined:
            shape = shapes[n]
            if isinstance(shape, dict) and tuple(shape["size"]) != tuple(size):
                raise ImageSizeError(
                    f"{self.place(row)}: a mask is of {shape['size'][1]} × {shape['size'][0]} pixels, the image of "
                    f"{size[1]} × {size[0]}. Encode the mask again."
                )
        rles = to_rles(Masks(size, shapes=[shapes[n] for n in outlined]))
        areas = area(rles).numpy()
        ignored = np.zeros((len(self.categories) if self.multi_label else 1, *size), bool)
        planes = np.zeros((len(self.categories), *size), np.int8) if self.multi_label else None
        whole = np.full(size, self.background, np.int16)
        for k in np.argsort(-areas, kind="stable").tolist():
            n, label = outlined[k], int(own[outlined[k]])
            x, y, width, height = (int(v) for v in coco_mask.toBbox(rles[k]))
            part = np.s_[y : y + height, x : x + width]
            bitmap = render(Masks(size, shapes=[rles[k]]), (x, y, x + width, y + height))[0].numpy()
            if records.is_crowd[start + n]:
                ignored[max(label, 0) if self.multi_label else 0][part] |= bitmap
            elif planes is None:
                whole[part][bitmap] = label
            elif label >= 0:
                planes[label][part][bitmap] = 1
        self._ignore_boxes(ignored, [n for n in drawn if shapes[n] is None], start, own)
        if planes is not None:
            return covered(planes, ignored)
        whole[ignored[0] & (whole == self.background)] = IGNORED
        return whole

    def _ignore_boxes(self, ignored: np.ndarray, bare: Sequence[int], start: int, labels: np.ndarray) -> None:
        """Mark the boxes of objects that have no outline."""
        for n in bare:
            box = self.records.boxes[start + n]
            if not np.isfinite(box).all():
                continue
            low = np.floor(box[:2]).clip(0, 1e6).astype(int)
            high = np.ceil(box[:2] + box[2:]).clip(0, 1e6).astype(int)
            plane = ignored[max(int(labels[n]), 0) if self.multi_label else 0]
            plane[low[1] : high[1], low[0] : high[0]] = True

    def subset(self, rows: np.ndarray | Sequence[int]) -> RenderedObjects:
        return replace(self, records=self.records.subset(np.asarray(rows, np.int64)))

    def under(self, categories: Categories, labels: np.ndarray) -> RenderedObjects:
        """The maps that another data set's categories, such as the training data's, make of the same objects.

        They decide the form, too: one category is there or not, several have a background if one of them is it.

        Args:
            categories: of the map. labels: (K,) int16, that of each category of the records, -1 where it has none: its
                objects are not drawn.
        """
        multi_label = self.overlapping or len(categories) == 1
        kept = np.where(labels >= 0, labels, _NOT_DRAWN)
        return replace(
            self,
            labels=np.where(self.labels == IGNORED, IGNORED, kept).astype(np.int16),
            background=_label_of(self.background_name, categories, multi_label),
            categories=categories,
            multi_label=multi_label,
        )


def _label_of(background: str | None, categories: Categories, multi_label: bool) -> int:
    return categories.names.index(background) if background in categories.names and not multi_label else IGNORED


def rendered(
    records: Records, background: str | None = "background", multi_label: bool = False, ignore: Iterable[int] = ()
) -> RenderedObjects:
    """Semantic maps of the objects in records, one map of each image.

    Args:
        records: objects with outlines. background: name of the category of what no object covers, which comes first
            unless the records have it; None ignores such pixels. Of overlapping categories, and of a single one, there
            is no background: a category is there or not.
        multi_label: whether categories may overlap. ignore: ids of categories whose pixels are ignored.

    Raises:
        VisionTasksError: no object has an outline.
    """
    if len(records.labels) and not records.has_shapes:
        raise VisionTasksError(
            f"{records.source}: no object has a segmentation, so no semantic map can be drawn of them. Give masks "
            "(data.semantic), or outlines."
        )
    records = replace(records, semantic=None)
    left_out, overlapping = set(ignore), multi_label
    entries = [e for e in records.categories.to_list() if e["id"] not in left_out]
    multi_label = multi_label or len(entries) == 1
    names = [e["name"] for e in entries]
    if background is not None and not multi_label and background not in names:
        free = 0 if 0 not in records.categories.ids else max(records.categories.ids) + 1
        entries.insert(0, {"id": free, "name": background, "isthing": 0, "color": (0, 0, 0)})
    categories = Categories.of(entries)
    label_of = categories.label_of_id
    return RenderedObjects(
        records=records,
        labels=np.array([label_of.get(i, IGNORED) for i in records.categories.ids], np.int16),
        background=_label_of(background, categories, multi_label),
        categories=categories,
        multi_label=multi_label,
        background_name=background,
        overlapping=overlapping,
    )
