"""Masks as bitmaps of their own window, and as outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.structures import Rle

Window = tuple[int, int, int, int]
"""(x1, y1, x2, y2) in whole pixels, x2 and y2 exclusive."""


def window_of(rle: Rle) -> tuple[Window, np.ndarray]:
    """The smallest window that holds a mask, and its (h, w) bool pixels there; no pixels for an empty mask."""
    from vision_tasks.ops import masks as mask_ops
    from vision_tasks.ops import run_lengths

    x1, y1, x2, y2 = (int(side) for side in mask_ops.boxes([rle])[0].tolist())
    window = (x1, y1, x2, y2)
    height, width = rle["size"]
    return window, run_lengths.cut(run_lengths.decompress(rle["counts"]), (height, width), window)


def outlines_of(rle: Rle, tolerance: float = 0.35) -> list[np.ndarray]:
    """Outlines of a mask's parts along the edges of its pixels, the one around most first. Holes are left out.

    Args:
        rle: the mask. tolerance: pixels that an outline may lie beside the edges. By default small masks keep every
            pixel, and a disc of 40 pixels' radius, with four tenths of the corners, 99.9 %; 0 keeps every corner.

    Returns:
        Each (P, 2) float32 x, y in continuous pixels, P at least 3; none of an empty mask.
    """
    import cv2
    import numpy as np

    (left, top, _, _), bitmap = window_of(rle)
    if not bitmap.any():
        return []
    # Twice as fine, with a place for every edge between pixels: a pixel fills its own place and its four edges. What
    # goes around these places goes along edges, where OpenCV's outlines of the bitmap go through pixels' centres.
    fine = np.zeros((2 * bitmap.shape[0] + 1, 2 * bitmap.shape[1] + 1), np.uint8)
    fine[1::2, 1::2] = bitmap
    fine = cv2.dilate(fine, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contours = sorted(contours, key=cv2.contourArea, reverse=True)
    corner = np.array([left, top], np.float32)
    points = (cv2.approxPolyDP(c, 2 * tolerance, True) if tolerance else c for c in contours)
    return [p.reshape(-1, 2).astype(np.float32) / 2 + corner for p in points if len(p) >= 3]
