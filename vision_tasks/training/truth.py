"""What a model is judged by: the truth of a split, and whether a model suits what it is about to learn from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_truth import CocoTruth, IouType
from vision_tasks.metrics.panoptic import PanopticMetric
from vision_tasks.metrics.semantic import SemanticMetric
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import to_rles
from vision_tasks.ops.panoptic import panoptic_categories
from vision_tasks.structures import Masks
from vision_tasks.training.judging import Judge

log = logging.getLogger("vision_tasks")


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


def metrics_for(model: VisionModel, records: Records, name: str) -> list[Judge]:
    """What the model's heads and the records' labels allow to judge by.

    COCO mAP of boxes, and of masks if the model predicts them; mIoU and its like of semantic maps; panoptic quality of
    a model that merges both.
    """
    metrics: list[Judge] = []
    objects, surfaces = model.head_of("objects"), model.head_of("semantic")
    if objects is not None and records.has_boxes:
        metrics.append(CocoMetric(truth_of(records)))
        if model.has_masks and _judges_masks(records, name):
            metrics.append(CocoMetric(truth_of(records, "segm"), "segm"))
    if isinstance(surfaces, SemanticHead) and records.semantic is not None:
        metrics.append(SemanticMetric(surfaces.categories, surfaces.multi_label))
        if objects is not None and model.panoptic is not None and len(metrics) == 3:
            void = model.panoptic.void
            metrics.append(PanopticMetric(panoptic_categories(objects.categories, surfaces.categories, void)[0]))
    return metrics


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


def check_maps(model: VisionModel, records: Records, name: str) -> None:
    """Hold the form of a model's maps against that of the split's.

    Raises:
        VisionTasksError: one gives a pixel one category out of all, the other decides on each category.
    """
    surfaces, maps = model.head_of("semantic"), records.semantic
    if isinstance(surfaces, SemanticHead) and maps is not None and maps.multi_label != surfaces.multi_label:
        of = ("each category on its own", "one category out of all")
        raise VisionTasksError(
            f"{name}: the maps say {of[not maps.multi_label]}, but the model decides "
            f"{of[not surfaces.multi_label]}. Set model.multi_label and data.semantic.multi_label alike."
        )


def check_suits(model: VisionModel, train: Records, min_sizes: Sequence[int], val: Records | None = None) -> None:
    """Hold a model against what it is about to learn from and to be judged by, before anything is written.

    Raises:
        VisionTasksError: it predicts masks, and no object has an outline; or maps of the other form than the data's.
    """
    check_maps(model, train, "train")
    if val is not None:
        check_maps(model, val, "val")
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
