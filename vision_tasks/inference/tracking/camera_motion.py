"""How the camera has moved between two pictures, by what does not move in them: the background."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

METHODS = ("flow", "orb")

_LONG_SIDE = 640
"""Pixels that a picture is shrunk to; a camera's shake is a matter of whole pixels of the picture."""
_MOST_POINTS = 600
_FEWEST_POINTS = 10
_REPROJECTION = 2.0
"""Pixels of the shrunk picture that a point may be off its place."""
_ORB_SIDE = 63
"""ORB looks at nothing within 31 pixels of the border, and OpenCV fails on pictures of a few pixels."""
_CONTRAST = 20
"""ORB's threshold on corners, as FAST counts them."""

Affine = np.ndarray
"""(2, 3) float64: a point p of the picture before is at affine[:, :2] @ p + affine[:, 2] in this one."""


def unmoved() -> Affine:
    """The affine of a camera that stands still."""
    return np.eye(2, 3)


def moved_boxes(boxes: np.ndarray, motion: Affine) -> np.ndarray:
    """Boxes (..., 4) with their centres moved and their sides scaled; upright boxes do not turn."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2 @ motion[:, :2].T + motion[:, 2]
    half = (boxes[..., 2:] - boxes[..., :2]) / 2 * np.sqrt(abs(np.linalg.det(motion[:, :2])))
    moved: np.ndarray = np.concatenate((centres - half, centres + half), axis=-1)
    return moved


class CameraMotion:
    """Estimates turn, zoom and shift from each picture to the next (as BoT-SORT does, Aharon et al. 2022).

    Args:
        method: "flow" follows corners by sparse optical flow (Lucas and Kanade), for small motions and videos; "orb"
            matches ORB features, for large jumps. Both end in RANSAC.
    """

    def __init__(self, method: Literal["flow", "orb"] = "flow") -> None:
        self._method = method
        self._orb = cv2.ORB.create(_MOST_POINTS, fastThreshold=_CONTRAST)
        self._shape = (0, 0)
        self._before: tuple[np.ndarray, np.ndarray] | None = None  # picture and mask, or points and descriptors

    def estimate(self, image: np.ndarray, boxes: np.ndarray) -> Affine:
        """The motion from the picture before to this one; none where it cannot be told.

        Args:
            image: (H, W, C) uint8 or uint16. boxes: (M, 4) corners of objects in it: points on them are not followed.
        """
        if image.shape[:2] != self._shape:
            self._shape, self._before = (image.shape[0], image.shape[1]), None
        grey, scale = _shrunk(image)
        mask = np.full(grey.shape, 255, np.uint8)
        height, width = grey.shape
        limits = np.array([width, height, width, height])
        corners = np.clip(boxes * np.array([*scale, *scale]), 0, limits)
        corners[:, :2], corners[:, 2:] = np.floor(corners[:, :2]), np.ceil(corners[:, 2:])
        for x1, y1, x2, y2 in corners.astype(np.int64).tolist():
            mask[y1:y2, x1:x2] = 0
        pairs = self._flow(grey, mask) if self._method == "flow" else self._features(grey, mask)
        if pairs is None or len(pairs[0]) < _FEWEST_POINTS:
            return unmoved()
        start, end = pairs
        motion, sound = cv2.estimateAffinePartial2D(
            start, end, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION, maxIters=500
        )
        if motion is None or int(sound.sum()) < max(_FEWEST_POINTS, len(start) // 4):
            return unmoved()
        return _unshrunk(motion, scale)

    def _flow(self, grey: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        before, self._before = self._before, (grey, mask)
        if before is None:
            return None
        points = cv2.goodFeaturesToTrack(before[0], _MOST_POINTS, 0.01, 5, mask=before[1])
        if points is None:
            return None
        found, seen, _ = cv2.calcOpticalFlowPyrLK(before[0], grey, points, None)  # type: ignore[call-overload]
        here = seen.ravel() == 1
        return points.reshape(-1, 2)[here], found.reshape(-1, 2)[here]

    def _features(self, grey: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        if min(grey.shape) < _ORB_SIDE:
            return None
        key_points, descriptors = self._orb.detectAndCompute(grey, mask)
        points = np.array([point.pt for point in key_points], np.float32).reshape(-1, 2)
        before, self._before = self._before, None if descriptors is None else (points, descriptors)
        if before is None or descriptors is None:
            return None
        matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(before[1], descriptors)
        start = before[0][[match.queryIdx for match in matches]]
        return start, points[[match.trainIdx for match in matches]]


def _shrunk(image: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """(h, w) uint8 grey, and by what factors its width and height were multiplied."""
    height, width = image.shape[:2]
    factor = min(1.0, _LONG_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if small.dtype == np.uint16:
        small = (small // 256).astype(np.uint8)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) if small.shape[2] == 3 else small.mean(axis=2).astype(np.uint8)
    return small, (size[0] / width, size[1] / height)


def _unshrunk(motion: np.ndarray, scale: tuple[float, float]) -> Affine:
    """The same motion in pixels of the picture itself; pixel centres of OpenCV are at whole numbers, ours at halves."""
    grow = np.diag([1 / scale[0], 1 / scale[1]])
    turn, shift = motion[:, :2], motion[:, 2]
    half = np.array([0.5, 0.5])
    return np.column_stack((grow @ turn @ np.diag(scale), grow @ (shift + half - turn @ half)))
