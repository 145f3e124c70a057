"""Tracks in videos: a colour that stays, and the way that each object came."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_tasks.categories import category_color
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Color, Prediction
from vision_tasks.visualize.tags import TagPlaces

_COLORS = 14
"""Colours that are told apart by everybody; then they come again."""
_SMOOTHED = 5
"""Points that are averaged: boxes tremble, objects do not."""
_STEPS = 6
"""Degrees of fading along a trail."""


def track_color(track: int) -> Color:
    """Colour of a track: the same in every frame and run. Tracks that begin after one another differ."""
    return category_color(track % _COLORS)


class Trails:
    """Where the tracks of a video were of late. Memory is bounded by what is in sight: `length` points a track.

    Call `update` once per frame, then `draw(..., trails=trails)`.

    Attributes:
        length: frames that a trail reaches back. point: of the box whose way is drawn: "center", or "foot", the middle
            of its lower edge, where people and cars stand.
        tags: places of the tags in the last picture.
    """

    def __init__(self, length: int = 40, point: Literal["center", "foot"] = "center") -> None:
        if length < 1 or point not in ("center", "foot"):
            raise VisionTasksError(f"Trails(length={length}, point={point!r}): 1 frame or more, 'center' or 'foot'")
        self.length = length
        self.point = point
        self.tags = TagPlaces()
        self._frame = 0
        self._ways: dict[int, deque[tuple[int, float, float]]] = {}

    def __len__(self) -> int:
        """Tracks that have a trail."""
        return len(self._ways)

    def update(self, prediction: Prediction) -> None:
        """Take in the tracked objects of the next frame. Objects without an id (-1) and odd boxes have no trail."""
        self._frame += 1
        if prediction.track_ids is not None and prediction.boxes is not None:
            boxes = prediction.boxes.detach().cpu().double().numpy()
            x = (boxes[:, 0] + boxes[:, 2]) / 2
            y = boxes[:, 3] if self.point == "foot" else (boxes[:, 1] + boxes[:, 3]) / 2
            good = np.isfinite(x) & np.isfinite(y)
            for track, fine, a, b in zip(prediction.track_ids.tolist(), good, x.tolist(), y.tolist(), strict=True):
                if fine and track >= 0:
                    self._ways.setdefault(track, deque(maxlen=self.length)).append((self._frame, a, b))
        oldest = self._frame - self.length
        for track in list(self._ways):
            way = self._ways[track]
            while way and way[0][0] <= oldest:
                way.popleft()
            if not way:
                del self._ways[track]

    def reset(self) -> None:
        """Forget everything, as before the first frame of another video."""
        self._ways.clear()
        self._frame = 0
        self.tags = TagPlaces()

    def paint(self, canvas: NDArray[np.uint8], width: int, zoom: int = 1) -> None:
        """Draw all trails, in place: older parts thinner and paler.

        Args:
            canvas: (zoom·H, zoom·W, 3) RGB. width: of a trail's newest part in pixels.
        """
        for track, way in self._ways.items():
            points = np.asarray(way)
            ways = _smooth(points[:, 1:]) * zoom
            # What stands still would have a blot for a trail.
            if np.ptp(ways, axis=0).max() >= 3 * width:
                _paint_way(canvas, ways, points[:, 0], self, track_color(track), width)

    def age(self, frame: float) -> float:
        """How long ago a frame was, from 0, now, to 1, when it is forgotten."""
        return (self._frame - frame) / self.length


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) points, each the mean of its neighbours on both sides; the ends stay."""
    i = np.arange(len(points))
    reach = np.minimum(_SMOOTHED // 2, np.minimum(i, len(points) - 1 - i))
    sums = np.concatenate([np.zeros((1, 2)), points.cumsum(0)])
    return np.asarray((sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)[:, None])


def _paint_way(
    canvas: NDArray[np.uint8],
    points: NDArray[np.float64],
    frames: NDArray[np.float64],
    trails: Trails,
    color: Color,
    width: int,
) -> None:
    """Blend one trail within the box around it."""
    height, across = canvas.shape[:2]
    low = np.maximum(np.floor(points.min(0)) - width - 2, 0)
    high = np.minimum(np.ceil(points.max(0)) + width + 3, [across, height])
    (left, top), (right, bottom) = low.astype(int).tolist(), high.astype(int).tolist()
    if left >= right or top >= bottom:
        return
    part = canvas[top:bottom, left:right]
    # Sixteenths of a pixel, as OpenCV takes them; clipped, as it takes 32-bit numbers.
    fine = np.clip(np.rint((points - [left, top]) * 16), -(2**24), 2**24).astype(np.int32).reshape(-1, 1, 2)
    # The line in colour on a layer of its shadow's tone, and how much of that layer is seen: the line, and a rim of it.
    layer, seen = np.empty(part.shape, np.uint8), np.zeros(part.shape[:2], np.uint8)
    cv2.rectangle(
        layer, (0, 0), (right - left, bottom - top), (color[0] // 4, color[1] // 4, color[2] // 4), cv2.FILLED
    )
    edges = np.linspace(0, len(points) - 1, min(_STEPS, len(points) - 1) + 1).round().astype(int).tolist()
    for first, last in pairwise(edges):
        fresh = 1 - trails.age(float(frames[last]))
        line = max(1, round(width * (0.4 + 0.6 * fresh)))
        way = [fine[first : last + 1]]
        cv2.polylines(seen, way, False, round(255 * (0.15 + 0.8 * fresh)), line + max(1, width // 3), cv2.LINE_AA, 4)
        cv2.polylines(layer, way, False, color, line, cv2.LINE_AA, 4)
    weight = seen.astype(np.float32) / 255
    part[...] = cv2.blendLinear(layer, np.ascontiguousarray(part), weight, 1 - weight)
