"""COCO run-length codes for the metric: pycocotools' mask functions behind this project's errors.

Only the segm metric comes here, so pycocotools is imported when a mask is first met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vision_tasks.errors import VisionTasksError

_BAD_RUNS = "its run lengths do not add up to the pixels of the image; write the mask anew"
_CHECKED_AT_ONCE = 512  # their bytes fit a processor's cache


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
            counts = rle["counts"]
            if isinstance(counts, list):
                if sum(counts) != height * width or min(counts) < 0:
                    raise ValueError(_BAD_RUNS)
                coded: dict[str, Any] = coco_mask.frPyObjects(rle, height, width)
                return coded
            return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else bytes(counts)}
        if not segmentation:
            raise ValueError("it has no segmentation; give one, or evaluate with iou_type='bbox'")
        if size is None:
            raise ValueError("polygons need the `height` and `width` of their image in the ground truth")
        merged: dict[str, Any] = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in segmentation], *size))
        return merged
    except Exception as error:  # pycocotools raises bare Exception, KeyError, IndexError, TypeError for bad masks
        raise VisionTasksError(f"{where}: unusable segmentation: {error}") from error


def check_rles(rles: Sequence[Mapping[str, Any]], where: Callable[[int], str]) -> None:
    """Refuse compressed RLE whose runs do not fill their image: pycocotools would loop for ever over them.

    Args:
        rles: N compressed RLE, `counts` as bytes. where: names the object of this index in the error.
    """
    for begin in range(0, len(rles), _CHECKED_AT_ONCE):
        part = rles[begin : begin + _CHECKED_AT_ONCE]
        wrong = np.flatnonzero(~_runs_fill(part))
        if len(wrong):
            raise VisionTasksError(f"{where(begin + int(wrong[0]))}: unusable segmentation: {_BAD_RUNS}")


def _runs_fill(rles: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N,) bool: no run is negative and together they are as many as pixels.

    A run is written in groups of five bits, lowest first, each in a byte of 48 + bits + 32 if more follow; the last
    group's highest bit is the sign. From the fourth run on it is the difference to the run before the last.
    """
    end = np.cumsum([len(r["counts"]) for r in rles])
    empty = np.diff(end, prepend=0) == 0
    group = np.frombuffer(b"".join(r["counts"] for r in rles), dtype=np.uint8) - np.uint8(48)
    is_last: np.ndarray = (group & 32) == 0
    if not is_last.any():
        return np.zeros(len(rles), dtype=bool)
    good: np.ndarray = ~empty & is_last[end - 1]
    good[np.searchsorted(end, np.flatnonzero(group > 63), side="right")] = False

    last = np.flatnonzero(is_last)
    first = np.append(0, last[:-1] + 1)[: len(last)]
    n_groups = last - first + 1
    value = (group[first] & 31).astype(np.int64)
    for k in range(1, 7):
        longer = np.flatnonzero(n_groups > k)
        value[longer] |= (group[first[longer] + k] & 31).astype(np.int64) << (5 * k)
    value -= np.where(group[last] & 16, 1 << (5 * np.minimum(n_groups, 7)), 0)
    n_runs = np.diff(np.searchsorted(last, end), prepend=0)
    good[np.repeat(np.arange(len(rles)), n_runs)[n_groups > 7]] = False  # over 35 bits: no image is that large

    begin = np.cumsum(n_runs) - n_runs
    place = np.arange(len(last)) - np.repeat(begin, n_runs)
    is_odd = place % 2 == 1
    runs = value.copy()
    for of_chain in (is_odd, ~is_odd & (place > 0)):
        total = np.cumsum(np.where(of_chain, value, 0))
        runs[of_chain] = (total - np.repeat(total[np.minimum(begin, len(total) - 1)], n_runs))[of_chain]
    owner = np.repeat(np.arange(len(rles)), n_runs)
    good[owner[runs < 0]] = False
    pixels = np.array([r["size"][0] * r["size"][1] for r in rles])
    good &= np.bincount(owner, runs, minlength=len(rles)) == pixels
    return good


def rank_in_run(key: np.ndarray) -> np.ndarray:
    """Place of each element within its run of equal keys (none negative), (N,) int64."""
    place = np.arange(len(key))
    return place - np.maximum.accumulate(np.where(np.diff(key, prepend=-1) != 0, place, 0))


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
