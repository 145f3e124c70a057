"""From the data section of a recipe to records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.config import DataConfig, Split
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.images import check_images
from vision_tasks.data.layout import find_coco
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_truth import CocoTruth, IouType
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import to_rles
from vision_tasks.structures import Categories, Masks

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


def truth_of(records: Records, iou_type: IouType = "bbox") -> CocoTruth:
    """What a prediction is judged by: all annotations as written, also those that training leaves out as unsound.

    From the records, not the file: they have mended what can be mended (text for numbers, a missing area), and their
    categories are the model's, whatever numbers the validation file gives them.

    With "segm" the masks are read, too. An object without one is then a crowd that fills its box: whoever finds it is
    neither right nor wrong.
    """
    image_of = np.repeat(records.image_ids, np.diff(records.first))
    whole = np.isfinite(records.boxes).all(axis=1)
    heights, widths = np.asarray(records.heights, np.int64), np.asarray(records.widths, np.int64)
    known = (heights > 0) & (widths > 0)
    ids = np.asarray(records.categories.ids, np.int64)
    is_crowd = records.is_crowd[whole]
    rles: list[dict[str, Any]] | None = None
    if iou_type == "segm":
        rows = np.repeat(np.arange(len(records)), np.diff(records.first))[whole]
        rles = [_mask_of(records, i, row) for i, row in zip(np.flatnonzero(whole).tolist(), rows.tolist(), strict=True)]
        is_crowd = is_crowd | (records.shape_starts[whole] < 0)
    return CocoTruth.from_arrays(
        image_ids=records.image_ids,
        category_ids=ids,
        annotation_image_ids=image_of[whole],
        annotation_category_ids=ids[records.labels[whole]],
        boxes=records.boxes[whole],
        area=records.areas[whole],
        is_crowd=is_crowd,
        annotation_ids=records.annotation_ids[whole],
        category_names=records.categories.names,
        image_sizes=np.where(known[:, None], np.stack((heights, widths), axis=1), -1),
        rles=rles,
    )


def metrics_for(model: VisionModel, records: Records, name: str) -> list[CocoMetric]:
    """COCO mAP by boxes, and by masks if the model predicts them and the records have them."""
    metrics = [CocoMetric(truth_of(records))]
    if model.has_masks and _judges_masks(records, name):
        metrics.append(CocoMetric(truth_of(records, "segm"), "segm"))
    return metrics


def check_suits(model: VisionModel, train: Records, min_sizes: Sequence[int]) -> None:
    """Hold a model against what it is about to learn from, before anything is written.

    Raises:
        VisionTasksError: it predicts masks, and no object has an outline.
    """
    if model.has_masks and len(train.boxes) and not train.has_shapes:
        raise VisionTasksError(
            "train: the model draws masks, but no object has a segmentation to learn them from. Annotate outlines, or "
            "take a model of boxes (faster_rcnn)."
        )
    preprocess = model.preprocess
    own = preprocess.min_size if preprocess.size is None else min(preprocess.size)
    if min_sizes and not min(min_sizes) <= own <= max(min_sizes) and preprocess.resize != "none":
        log.warning(
            "data.min_sizes trains at %d to %d pixels, but the model evaluates and predicts at %d. "
            "Set data.min_sizes around that (or to [] for that size alone), or the model's size.",
            min(min_sizes), max(min_sizes), own,
        )  # fmt: skip


def _judges_masks(records: Records, name: str) -> bool:
    """Whether masks can be judged by these records; what they lack is said."""
    if not records.has_shapes:
        log.warning("%s: no mask is annotated; only boxes are judged.", name)
        return False
    if not ((np.asarray(records.heights) > 0) & (np.asarray(records.widths) > 0)).all():
        log.warning("%s: images without height and width; only boxes are judged.", name)
        return False
    bare = int((records.shape_starts < 0).sum())
    if bare:
        log.warning("%s: %d objects have no mask; masks found in their boxes are not judged.", name, bare)
    return True


def _mask_of(records: Records, index: int, row: int) -> dict[str, Any]:
    """RLE of an annotation at its image's size; that of its box where it has no outline."""
    size = (int(records.heights[row]), int(records.widths[row]))
    shape = records.segmentation(index)
    if shape is None:
        x, y, width, height = records.boxes[index]
        shape = [np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])]
    return dict(to_rles(Masks(size, shapes=[shape]))[0])


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
