"""From the data section of a recipe to records."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from vision_tasks.config import DataConfig, Split
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.images import check_images
from vision_tasks.data.layout import find_coco
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

log = logging.getLogger("vision_tasks")


def split_of(config: DataConfig, name: str) -> Split | None:
    """The files of "train" or "val": as named in the recipe, else found in `data.path`; None if there are none."""
    named: Split | None = getattr(config, name)
    if named is not None and named.images is not None:
        return named
    if named is not None:
        found = next(iter(find_coco(named.annotations).values()))
        return Split(annotations=named.annotations, images=found.images)
    if config.path is None:
        return None
    splits = find_coco(config.path)
    return Split(annotations=splits[name].annotations, images=splits[name].images) if name in splits else None


def read_split(split: Split, name: str, categories: Categories | None = None) -> Records:
    """Records of images that are there; what is wrong with the data is said once."""
    assert split.images is not None
    records = check_images(read_coco(Path(split.annotations), Path(split.images), categories))
    log.info("%s: %d images, %d objects in %s", name, len(records), len(records.boxes), split.annotations)
    counts = np.bincount(records.labels[records.usable & ~records.is_crowd], minlength=len(records.categories))
    if not counts.any():
        log.warning("%s: no object is annotated; there is nothing to learn or to judge by.", name)
    elif name == "train" and not counts.all():
        unseen = [n for n, c in zip(records.categories.names, counts, strict=True) if not c]
        log.warning("train: nobody annotated %s.", ", ".join(unseen[:8]) + (" ..." if len(unseen) > 8 else ""))
    if len(records.problems):
        log.warning("%s", records.problems.summary())
    return records


def read_splits(config: DataConfig) -> tuple[Records, Records | None]:
    """Training records, and validation records (None if there are none) with the same categories.

    Raises:
        VisionTasksError: no training data.
    """
    train = split_of(config, "train")
    if train is None:
        where = f"in {config.path}" if config.path else "named"
        if config.path is not None and config.path.is_dir():
            others = sorted(p.relative_to(config.path).as_posix() for p in config.path.glob("**/*.json"))[:6]
            where += f" (JSON files there: {', '.join(others)}; is one of them cut off, or not of COCO's form?)"
        raise VisionTasksError(f"There is no training data {where}. Give data=FOLDER, or data.train.annotations=FILE.")
    records = read_split(train, "train")
    val = split_of(config, "val")
    if val is None:
        log.warning("There is no validation data: nothing is evaluated, and best.ckpt is the last.")
        return records, None
    return records, read_split(val, "val", records.categories)
