"""COCO run-length codes for the metric: pycocotools' mask functions behind this project's errors.

Only the segm metric comes here, so pycocotools is imported when a mask is first met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision_tasks.errors import VisionTasksError


def rle_of(segmentation: Any, size: tuple[int, int] | None, where: str) -> dict[str, Any]:
    """COCO `segmentation` (polygons, or RLE compressed or not) -> compressed RLE, as pycocotools' `annToRLE`.

    Args:
        segmentation: flat polygons [[x, y, x, y, ...], ...] in pixels, or
            {"size": [height, width], "counts": list of int, str or bytes}.
        size: (height, width) of the image; needed for polygons. where: names the object in the error.
    """
    from pycocotools import mask as coco_mask

    try:
        if isinstance(segmentation, Mapping):
            rle = dict(segmentation)
            height, width = rle["size"]
            if size is not None and (height, width) != size:
                raise ValueError(f"its mask is {height}×{width} pixels, the image {size[0]}×{size[1]} (height×width)")
            if isinstance(rle["counts"], list):
                coded: dict[str, Any] = coco_mask.frPyObjects(rle, height, width)
            else:
                counts = rle["counts"]
                coded = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
            if int(coco_mask.area(coded)) > height * width:
                raise ValueError("its run lengths exceed the image")
            return coded
        if not segmentation:
            raise ValueError("it has no segmentation; give one, or evaluate with iou_type='bbox'")
        if size is None:
            raise ValueError("polygons need the `height` and `width` of their image in the ground truth")
        merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in segmentation], *size))
        return merged
    except VisionTasksError:
        raise
    except Exception as error:  # pycocotools raises bare Exception, KeyError, IndexError, TypeError for bad masks
        raise VisionTasksError(f"{where}: unusable segmentation: {error}") from error


def rle_area(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Pixels of each mask, (N,) float64."""
    from pycocotools import mask as coco_mask

    # One at a time: with numpy 2, pycocotools 2.0.11 fails on lists of more than 255.
    return np.fromiter((int(coco_mask.area(rle)) for rle in rles), np.float64, len(rles))


def rle_boxes(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Tight box (x, y, width, height) of each mask, (N, 4) float64."""
    from pycocotools import mask as coco_mask

    return np.asarray(coco_mask.toBbox(list(rles)), dtype=np.float64).reshape(-1, 4)


def rle_iou(detections: Sequence[Any], truths: Sequence[Any], is_crowd: np.ndarray) -> np.ndarray:
    """IoU of D masks with G masks, (D, G) float64; with a crowd, the intersection over the detection's own area."""
    from pycocotools import mask as coco_mask

    iou: np.ndarray = coco_mask.iou(list(detections), list(truths), is_crowd.astype(np.uint8).tolist())
    return iou
