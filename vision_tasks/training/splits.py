"""From the data section of a recipe to records."""

from __future__ import annotations

import logging
from pathlib import Path

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
    if len(records.problems):
        log.warning("%s", records.problems.summary())
    return records


def read_splits(config: DataConfig) -> tuple[Records, Records | None, Split | None]:
    """Training records, validation records with the same categories, and where the latter's truth stands.

    Raises:
        VisionTasksError: no training data.
    """
    train = split_of(config, "train")
    if train is None:
        where = f"in {config.path}" if config.path else "named"
        raise VisionTasksError(f"There is no training data {where}. Give data=FOLDER, or data.train.annotations=FILE.")
    records = read_split(train, "train")
    val = split_of(config, "val")
    if val is None:
        log.warning("There is no validation data: nothing is evaluated, and best.ckpt is the last.")
        return records, None, None
    return records, read_split(val, "val", records.categories), val
