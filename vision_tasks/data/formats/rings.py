"""Outlines of bitmaps, exact to the pixel, and several outlines as one: for formats that have polygons alone."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree

from vision_tasks.ops import run_lengths
from vision_tasks.ops.masks import from_polygons
from vision_tasks.structures import Polygons, Rle, Size


def rings_of(rle: Rle) -> list[tuple[np.ndarray, bool]]:
    """Outlines along the edges of the pixels of a mask; parts that touch at a corner are one.

    Filling them by the even-odd rule gives the same pixels again, also as COCO rasterises them.

    Returns:
        (P, 2) float64 x, y in pixels, and whether it is a hole; holes follow the part they are in.
    """
    height, width = (int(v) for v in rle["size"])
    x, y, w, h = (int(v) for v in coco_mask.toBbox(rle))
    if not w or not h:
        return []
    bitmap = run_lengths.cut(run_lengths.decompress(rle["counts"]), (height, width), (x, y, x + w, y + h))
    # Four small pixels for each: then every small pixel of a border has a corner of a pixel that is nearest to it, and
    # what findContours gives, which runs through the middles of border pixels, becomes the pixels' own edge.
    fine = cv2.resize(bitmap.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    found, tree = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = []
    parents = tree[0][:, 3] if tree is not None else np.zeros(0, int)
    order = sorted(range(len(found)), key=lambda i: (parents[i] if parents[i] >= 0 else i, parents[i] >= 0))
    for i in order:
        ring = _cornered((found[i].reshape(-1, 2) + 1) // 2)
        if len(ring):
            rings.append((ring + np.array([x, y], np.float64), bool(parents[i] >= 0)))
    return rings


def _cornered(ring: np.ndarray) -> np.ndarray:
    """A ring (P, 2) of whole numbers without repetitions and points on straight lines."""
    ring = ring[(ring != np.roll(ring, 1, 0)).any(1)]
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    # Back along the same line is a turn, too.
    kept: np.ndarray = ring[turns | ((before * after).sum(1) < 0)]
    return kept


def joined(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Several rings (P, 2) as one: each hangs on the one before it by a line there and back between nearest points.

    The line has no width, so by the even-odd rule and as COCO rasterises nothing is added.
    """
    whole: np.ndarray = rings[-1]
    for k in range(len(rings) - 2, -1, -1):
        own, nearby = rings[k], rings[k + 1]
        distance, place = cKDTree(own).query(nearby)
        j = int(np.argmin(distance))
        i = int(place[j])
        # The next ring begins `whole`, but may have been cut open already: its point is looked up.
        at = int(np.flatnonzero((whole == nearby[j]).all(1))[0])
        turned = np.concatenate([whole[at:], whole[:at], whole[at : at + 1]])
        whole = np.concatenate([own[: i + 1], turned, own[i:]])
    return whole


def single_outline(shape: Polygons | Rle, size: Size) -> tuple[np.ndarray | None, int, int]:
    """One outline (P, 2) of an object that covers the same pixels as COCO rasterises them.

    Args:
        size: (height, width) of its image.

    Returns:
        The outline, None where it has no pixel; how many parts and holes were joined in it.
    """
    if not isinstance(shape, dict):
        if len(shape) == 1:
            return shape[0], 1, 0
        whole = joined([_turned(p) for p in shape])
        rle = from_polygons(shape, size)
        if from_polygons([whole], size)["counts"] == rle["counts"]:
            return whole, len(shape), 0
        shape = rle  # its parts lie on each other: their union has another outline
    rings = rings_of(shape)
    if not rings:
        return None, 0, 0
    holes = sum(hole for _, hole in rings)
    return joined([ring for ring, _ in rings]), len(rings) - holes, holes


def shoelace(points: np.ndarray) -> float:
    """Area inside a ring (P, 2), positive if it goes from x to y."""
    x, y = points.astype(np.float64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _turned(ring: np.ndarray) -> np.ndarray:
    """All rings one way round, so that they are filled by the non-zero rule, too."""
    return ring[::-1] if shoelace(ring) < 0 else ring
