"""Ground truth of a data set as flat arrays, for the COCO metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.coco_masks import check_rles, rle_of

IouType = Literal["bbox", "segm"]


@dataclass(frozen=True, eq=False)
class CocoTruth:
    """Truth of I images and K categories: N annotations, ordered by image id, category id, place in the file.

    Make it with `from_file` or `from_arrays`, which sort and check.

    Attributes:
        image_ids: (I,) int64, ascending. category_ids: (K,) int64, ascending. category_names: K names.
        image_sizes: (I, 2) int64 height and width, -1 where unknown.
        image: (N,) int64 row into `image_ids`. category: (N,) int64 row into `category_ids`.
        boxes: (N, 4) float64 x, y, width, height in pixels, as annotated.
        area: (N,) float64 square pixels, the annotation's own. is_crowd: (N,) bool.
        annotation_ids: (N,) int64. rles: N masks (compressed RLE), or None if only boxes are evaluated.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    category_names: tuple[str, ...]
    image_sizes: np.ndarray
    image: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray
    annotation_ids: np.ndarray
    rles: list[dict[str, Any]] | None = None

    @classmethod
    def from_file(cls, path: str | Path, iou_type: IouType = "bbox") -> CocoTruth:
        """Read a COCO instances file; masks are read only for iou_type "segm".

        As in pycocotools, annotations of images or categories that the file does not list are left out, and a key
        `ignore` counts for nothing: only `iscrowd` does. Unlike there, `iscrowd` may be absent (no crowd).

        Raises:
            VisionTasksError: not JSON, a key missing or of the wrong type, a box without four numbers.
        """
        file = decode_file(path, _SegmFile if iou_type == "segm" else _BoxFile, "COCO ground truth")
        known_images = {image.id for image in file.images}
        known_categories = {category.id for category in file.categories}
        rows = [a for a in file.annotations if a.image_id in known_images and a.category_id in known_categories]
        sizes = {i.id: (i.height, i.width) for i in file.images if i.height is not None and i.width is not None}
        for a in rows:
            if a.area is None:
                raise VisionTasksError(
                    f"{path}: annotation {a.id} (image {a.image_id}) has no `area`; the COCO metric sorts objects "
                    "into small, medium and large by it. Add it (width × height for plain boxes)."
                )
            if (iou_type == "bbox" or a.bbox) and len(a.bbox) != 4:
                raise VisionTasksError(
                    f"{path}: annotation {a.id} (image {a.image_id}): `bbox` must be [x, y, width, height], "
                    f"not {list(a.bbox)}"
                )
        rles = None
        if iou_type == "segm":
            rles = [
                rle_of(
                    msgspec.json.decode(a.segmentation) if a.segmentation else None,
                    sizes.get(a.image_id),
                    f"{path}: annotation {a.id} (image {a.image_id})",
                )
                for a in rows
            ]
        try:
            return cls.from_arrays(
                image_ids=[i.id for i in file.images],
                category_ids=[c.id for c in file.categories],
                category_names=[c.name for c in file.categories],
                image_sizes=[sizes.get(i.id, (-1, -1)) for i in file.images],
                annotation_image_ids=[a.image_id for a in rows],
                annotation_category_ids=[a.category_id for a in rows],
                boxes=[a.bbox or (0.0, 0.0, 0.0, 0.0) for a in rows],
                area=[a.area for a in rows],
                is_crowd=[bool(a.iscrowd) for a in rows],
                annotation_ids=[a.id for a in rows],
                rles=rles,
            )
        except OverflowError as error:
            raise VisionTasksError(f"{path}: an id does not fit into 64 bits: {error}") from error

    @classmethod
    def from_arrays(
        cls,
        image_ids: Any,
        category_ids: Any,
        annotation_image_ids: Any,
        annotation_category_ids: Any,
        boxes: Any,
        area: Any,
        is_crowd: Any,
        annotation_ids: Any = None,
        category_names: Sequence[str] | None = None,
        image_sizes: Any = None,
        rles: list[dict[str, Any]] | None = None,
    ) -> CocoTruth:
        """From array-likes in any order; annotations of the same image and category keep their order.

        Args:
            image_ids: (I,). category_ids: (K,). Repeated ids count once (the last one's name and size hold).
            annotation_image_ids, annotation_category_ids: (N,) ids, all among those above.
            boxes: (N, 4) x, y, width, height. area: (N,). is_crowd: (N,). annotation_ids: (N,), by default 1..N.
            category_names: K. image_sizes: (I, 2) height and width. rles: N compressed RLE.

        Raises:
            VisionTasksError: an annotation names an unknown image or category, or lengths differ.
        """
        images, last_image = _last_of_each(np.asarray(image_ids, dtype=np.int64).reshape(-1))
        categories, last_category = _last_of_each(np.asarray(category_ids, dtype=np.int64).reshape(-1))
        owner = np.asarray(annotation_image_ids, dtype=np.int64).reshape(-1)
        n = len(owner)
        ids = np.arange(1, n + 1) if annotation_ids is None else np.asarray(annotation_ids, dtype=np.int64).reshape(-1)
        image = rows_of(images, owner, "annotation of image", "the images")
        kind = np.asarray(annotation_category_ids, dtype=np.int64).reshape(-1)
        category = rows_of(categories, kind, "annotation of category", "the categories")
        columns = {
            "boxes": np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
            "area": np.asarray(area, dtype=np.float64).reshape(-1),
            "is_crowd": np.asarray(is_crowd, dtype=bool).reshape(-1),
            "annotation_ids": ids,
        }
        lengths = {name: len(column) for name, column in columns.items()} | {"category": len(category)}
        if set(lengths.values()) != {n} or (rles is not None and len(rles) != n):
            raise VisionTasksError(f"CocoTruth: {n} annotations, but the lengths of the columns are {lengths}")
        finite = np.isfinite(columns["boxes"]).all(axis=1) & np.isfinite(columns["area"])
        if not finite.all():
            raise VisionTasksError(f"CocoTruth: annotation {ids[~finite][0]} has a box or area that is not finite")
        check_rles(rles or [], lambda i: f"annotation {ids[i]} (image {owner[i]})")
        order = np.lexsort((category, image))
        names = [str(i) for i in categories] if category_names is None else [category_names[i] for i in last_category]
        sizes = np.full((len(images), 2), -1, dtype=np.int64)
        if image_sizes is not None:
            sizes = np.asarray(image_sizes, dtype=np.int64).reshape(-1, 2)[last_image]
        return cls(
            image_ids=images,
            category_ids=categories,
            category_names=tuple(names),
            image_sizes=sizes,
            image=image[order],
            category=category[order],
            rles=None if rles is None else [rles[i] for i in order],
            **{name: column[order] for name, column in columns.items()},
        )

    @cached_property
    def group(self) -> np.ndarray:
        """(N,) int64, ascending: image row × K + category row."""
        group: np.ndarray = self.image * max(1, len(self.category_ids)) + self.category
        return group

    def image_rows(self, image_ids: np.ndarray) -> np.ndarray:
        """Rows of these ids in `image_ids`, (n,) int64; VisionTasksError names one that is unknown."""
        return rows_of(self.image_ids, image_ids, "image", "the ground truth")


def rows_of(known: np.ndarray, wanted: np.ndarray, what: str, where: str) -> np.ndarray:
    """Places of `wanted` (n,) in the ascending ids `known`; VisionTasksError if one is missing."""
    rows, found = find_rows(known, wanted)
    if not found.all():
        missing = np.unique(wanted[~found])
        raise VisionTasksError(
            f"{what} {missing[0]} is not among {where}"
            + (f" (nor are {len(missing) - 1} others)" if len(missing) > 1 else "")
            + ". Do both come from the same data set and split?"
        )
    return rows


def find_rows(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of `wanted` in the ascending ids `known`, and a mask of those that are there (others have place 0)."""
    if len(known) == 0:
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    rows = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found = known[rows] == wanted
    return np.where(found, rows, 0), found


def decode_file(path: str | Path, kind: Any, what: str) -> Any:
    """Typed JSON decoding; every failure becomes a VisionTasksError that names the file and the place in it."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except OSError as error:
        raise VisionTasksError(f"cannot read {what} {path}: {error.strerror}") from error
    except msgspec.ValidationError as error:
        raise VisionTasksError(f"{path} is not {what}: {error}. See the COCO data format for its keys.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VisionTasksError(f"{path} is not valid JSON ({error}). Is the file cut short?") from error


def _last_of_each(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, first_from_end = np.unique(ids[::-1], return_index=True)
    return unique, len(ids) - 1 - first_from_end


class _Image(msgspec.Struct, gc=False):
    id: int
    height: int | None = None
    width: int | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str = ""


class _Box(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    area: float | None = None
    bbox: tuple[float, ...] = ()
    iscrowd: bool | int = 0


class _Segm(_Box, gc=False):
    segmentation: msgspec.Raw = msgspec.Raw()


class _BoxFile(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Box]


class _SegmFile(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Segm]
