"""LVIS: COCO's form for a thousand categories, of which each image was searched for some only.

Gupta, Dollár, Girshick, "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019. An image states the
categories that are surely absent (`neg_category_ids`) and those of which not all objects are marked
(`not_exhaustive_category_ids`); about all others nothing is known. Images are named by their URL on COCO's server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.coco_entries import Dialect
from vision_tasks.data.formats.coco_writer import having_objects, write_instances
from vision_tasks.data.formats.image_files import place_images
from vision_tasks.data.formats.interface import Found, ImageWriting, Losses
from vision_tasks.data.layout import find_coco, first_image_folder, first_names, looks_like_instances, looks_like_lvis
from vision_tasks.data.operations.gathering import with_objects
from vision_tasks.data.records import Records, escapes
from vision_tasks.structures import Categories

_RARE, _COMMON = 10, 100
"""A category is rare (r) up to so many training images, common (c) up to so many, else frequent (f)."""


def find_lvis(path: Path) -> dict[str, Found]:
    """The splits of a data set (see `interface.Finder`)."""
    if path.is_file():
        if path.suffix.lower() != ".json" or not looks_like_instances(path) or not looks_like_lvis(path):
            return {}
        found, top = find_coco(path), path.parent.parent
    else:
        found, top = find_coco(path, looks_like_lvis), path
    return {split: Found("lvis", s.annotations, _images(s.annotations, top)) for split, s in found.items()}


def _images(file: Path, top: Path) -> Path:
    """The folder of train2017 and val2017, or the one that holds the images themselves."""
    return first_image_folder(file, [(top, 2), (top, 1)])


def read_lvis(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split (see `interface.Reader`).

    Images without file name are named by the folder and file at the end of their URL, as in train2017/000000000009.jpg;
    by the file alone if that is how they lie in the image folder.
    """
    root = found.images or found.annotations.parent
    parts = 2
    if found.annotations.is_file() and not _there(root, found.annotations, 2) and _there(root, found.annotations, 1):
        parts = 1
    return read_coco(found.annotations, root, categories, extras=extras, dialect=Dialect(lvis=True, url_parts=parts))


def _there(root: Path, file: Path, parts: int) -> bool:
    return any((root / name).is_file() for name in first_names(file, parts) if not escapes(name))


def write_lvis(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """`annotations/instances_{split}.json` and `images/{split}/` (see `interface.Writer`).

    What LVIS demands and other data do not say is filled in: an image that states nothing was searched for all
    categories, so those that it has no object of are its `neg_category_ids`, and those that it has crowds of its
    `not_exhaustive_category_ids`; categories get the frequency of their images.
    """
    counts: tuple[np.ndarray, np.ndarray] | None = None
    for split, records in splits.items():
        whole = having_objects(records, losses)
        records = _without_crowds(whole, losses)
        counts = counts or _counts(records)
        records = replace(records, extras=_completed(whole, records.extras or Extras(), *counts))
        path = folder / "annotations" / f"instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            write_instances(records, stream, losses, crowds=False)
        place_images(records, folder / "images" / split, images, losses)


def _without_crowds(records: Records, losses: Losses) -> Records:
    """Regions of many objects would be read as one object each, so they are left out."""
    crowds = np.flatnonzero(records.is_crowd)
    if not len(crowds):
        return records
    examples = (f"annotation {records.annotation_ids[i]}" for i in crowds[:5])
    losses.add("crowd regions, which LVIS does not have: left out", examples, len(crowds))
    return with_objects(records, ~records.is_crowd)


def _counts(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Of each category its images and its objects, (K,) int64 both."""
    rows = np.repeat(np.arange(len(records)), np.diff(records.first))
    pairs = np.unique(np.stack([records.labels.astype(np.int64), rows], 1), axis=0)
    k = len(records.categories)
    return np.bincount(pairs[:, 0], minlength=k), np.bincount(records.labels, minlength=k)


def _completed(records: Records, extras: Extras, images: np.ndarray, objects: np.ndarray) -> Extras:
    """Extras with all keys that LVIS demands.

    Args:
        records: with their crowds. extras: of those without. images, objects: (K,) counts of each category.
    """
    all_ids = np.array(records.categories.ids, np.int64)
    of_images: dict[int, dict[str, Any]] = {}
    for row in range(len(records)):
        known = dict(extras.of_image(row))
        labels = records.labels[records.first[row] : records.first[row + 1]]
        crowds = records.is_crowd[records.first[row] : records.first[row + 1]]
        if "not_exhaustive_category_ids" not in known:
            known["not_exhaustive_category_ids"] = all_ids[np.unique(labels[crowds])].tolist()
        if "neg_category_ids" not in known:
            absent = np.ones(len(all_ids), bool)
            absent[labels] = False
            known["neg_category_ids"] = all_ids[absent].tolist()
        of_images[row] = known
    of_categories = {
        label: {
            "frequency": "r" if n <= _RARE else "c" if n <= _COMMON else "f",
            "image_count": n,
            "instance_count": m,
            **extras.categories.get(label, {}),
        }
        for label, (n, m) in enumerate(zip(images.tolist(), objects.tolist(), strict=True))
    }
    return replace(extras, images=of_images, categories=of_categories)
