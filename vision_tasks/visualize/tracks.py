"""Tracks in videos: a colour that stays, and the way that each object came."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
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
_CORNERS = 13
"""Points that are joined by straight lines, at least, if there are so many; twice as many look no smoother."""
_MOST = 1000
"""Points of a trail, however fast frames come."""
_GONE = 5
"""Frames after which nothing is left of the trail of a track that is out of sight; where times are known see below."""
_GONE_SECONDS = 0.3
_FAR = 1 << 20
"""Pixels from the image's corner: OpenCV takes 32-bit numbers, nobody sees what is farther out."""
_STEPS = 6
"""Degrees of fading along a trail."""
_WIDE = 1 << 17
"""Pixels of the box around a trail above which its parts are blended in boxes of their own."""


def track_color(track: int) -> Color:
    """Colour of a track: the same in every frame and run. Tracks that begin after one another differ."""
    return category_color(track % _COLORS)


class Trails:
    """Where the tracks of a video were of late. The trail of a track that is out of sight is soon gone.

    Call `update` once per frame, then `draw(..., trails=trails)`.

    Attributes:
        length: frames that a trail reaches back where no times are told. seconds: the same where they are.
        point: of the box whose way is drawn: "center", or "foot", the middle of its lower edge, where people and cars
            stand.
        tags: places of the tags in the last picture.
    """

    def __init__(self, length: int = 40, point: Literal["center", "foot"] = "center", seconds: float = 1.5) -> None:
        if length < 1 or not 0 < seconds < math.inf or point not in ("center", "foot"):
            raise VisionTasksError(
                f"Trails(length={length}, point={point!r}, seconds={seconds}): 1 frame or more, above 0 seconds, "
                "'center' or 'foot'"
            )
        self.length = length
        self.seconds = seconds
        self.point = point
        self.tags = TagPlaces()
        self._frame = 0
        self._now = 0.0
        self._timed = False
        self._ways: dict[int, deque[tuple[int, float, float, float, float]]] = {}

    def __len__(self) -> int:
        """Tracks that have a trail."""
        return len(self._ways)

    def update(self, prediction: Prediction, time: float | None = None) -> None:
        """Take in the tracked objects of the next frame. Objects without an id (-1) and odd boxes have no trail.

        Args:
            time: of the frame, in seconds (`Frame.time`): frames that are left out make trails no longer. None: frames
                are counted. Where the clock goes back, and where times begin or cease to be told, trails begin anew.
        """
        self._frame += 1
        timed, now = time is not None, float(self._frame if time is None else time)
        if timed != self._timed or now < self._now:
            self._ways.clear()
        self._timed, self._now = timed, now
        if prediction.track_ids is not None and prediction.boxes is not None:
            boxes = prediction.boxes.detach().cpu().double().numpy()
            x = (boxes[:, 0] + boxes[:, 2]) / 2
            y = boxes[:, 3] if self.point == "foot" else (boxes[:, 1] + boxes[:, 3]) / 2
            good = (np.abs(x) < _FAR) & (np.abs(y) < _FAR)
            sides = np.nan_to_num(boxes[:, 2:]).clip(-_FAR, _FAR) - np.nan_to_num(boxes[:, :2]).clip(-_FAR, _FAR)
            points = np.stack([x, y, sides.min(1)], axis=1).tolist()
            for track, fine, (a, b, side) in zip(prediction.track_ids.tolist(), good, points, strict=True):
                if fine and track >= 0:
                    self._ways.setdefault(track, deque(maxlen=_MOST)).append((self._frame, now, a, b, side))
        for track in list(self._ways):
            way = self._ways[track]
            if self._left(way) <= 0:
                del self._ways[track]
                continue
            while now - way[0][1] >= self._span:
                way.popleft()

    @property
    def _span(self) -> float:
        """That a trail reaches back, in seconds or frames."""
        return self.seconds if self._timed else self.length

    def _left(self, way: deque[tuple[int, float, float, float, float]]) -> float:
        """How much is left of a trail: 1 while its track is in sight, then less, and soon 0 or less."""
        longest = _GONE_SECONDS if self._timed else _GONE
        return 1 - (self._now - way[-1][1]) / min(longest, self._span)

    def reset(self) -> None:
        """Forget everything, as before the first frame of another video."""
        self._ways.clear()
        self._frame, self._now = 0, 0.0
        self.tags = TagPlaces()

    def paint(self, canvas: NDArray[np.uint8], width: int, zoom: int = 1) -> None:
        """Draw all trails, in place: older parts thinner and paler.

        Args:
            canvas: (zoom·H, zoom·W, 3) RGB. width: of a trail's newest part in pixels; less on small objects.
        """
        for track, way in self._ways.items():
            rows = np.asarray(way)
            frames, points = rows[:, 0], _smooth(rows[:, 2:4]) * zoom
            line = max(2, min(width, round(rows[:, 4].mean() * zoom / 10)))
            # What stands still would have a blot for a trail.
            if np.ptp(points, axis=0).max() < 3 * line:
                continue
            # Chosen by the frame's number, the corners of a trail stay where they are.
            corner = frames % (1 << max(0, (len(way) // _CORNERS).bit_length() - 1)) == 0
            corner[[0, -1]] = True
            ages = (self._now - rows[corner, 1]) / self._span
            _paint_strokes(canvas, _strokes(points[corner], ages, line, self._left(way)), track_color(track))


def _smooth(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, 2) points, each the mean of its neighbours on both sides; the ends stay."""
    i = np.arange(len(points))
    reach = np.minimum(_SMOOTHED // 2, np.minimum(i, len(points) - 1 - i))
    sums = np.concatenate([np.zeros((1, 2)), points.cumsum(0)])
    return np.asarray((sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)[:, None])


@dataclass(frozen=True)
class _Stroke:
    """A part of a trail: its points (P, 2), the width of its line in pixels, how much of it is seen, 0..255."""

    points: NDArray[np.float64]
    line: int
    seen: int


def _strokes(points: NDArray[np.float64], ages: NDArray[np.float64], width: int, left: float) -> list[_Stroke]:
    """Parts of one trail, the oldest first, each ending where the next begins.

    Args:
        ages: (P,) 1 for the oldest to 0. left: of the whole trail, 1 for one whose object is in sight.
    """
    edges = np.linspace(0, len(points) - 1, min(_STEPS, len(points) - 1) + 1).round().astype(int).tolist()
    fresh = (1 - ages).tolist()
    return [
        _Stroke(
            points[first : last + 1],
            max(1, round(width * (0.4 + 0.6 * fresh[last]))),
            round(255 * left * (0.15 + 0.8 * fresh[last])),
        )
        for first, last in pairwise(edges)
    ]


def _paint_strokes(canvas: NDArray[np.uint8], strokes: list[_Stroke], color: Color) -> None:
    """Blend the parts of one trail, with a dark rim, within the box around them; of a wide trail part by part."""
    height, across = canvas.shape[:2]
    reach = max(stroke.line for stroke in strokes) + 2
    points = np.concatenate([stroke.points for stroke in strokes])
    left, top = np.maximum(np.floor(points.min(0)) - reach, 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(points.max(0)) + reach + 1, [across, height]).astype(int).tolist()
    if left >= right or top >= bottom:
        return
    if len(strokes) > 1 and (right - left) * (bottom - top) > _WIDE:
        for stroke in strokes:
            _paint_strokes(canvas, [stroke], color)
        return
    part = canvas[top:bottom, left:right]
    # The line in colour on a layer of its shadow's tone, and how much of that layer is seen: the line, and a rim of it.
    layer, seen = np.empty(part.shape, np.uint8), np.zeros(part.shape[:2], np.uint8)
    shadow = (color[0] // 4, color[1] // 4, color[2] // 4)
    cv2.rectangle(layer, (0, 0), (right - left, bottom - top), shadow, cv2.FILLED)
    for stroke in strokes:
        # Sixteenths of a pixel, as OpenCV takes them.
        way = [np.rint((stroke.points - (left, top)) * 16).astype(np.int32).reshape(-1, 1, 2)]
        cv2.polylines(seen, way, False, stroke.seen, stroke.line + max(1, stroke.line // 3), cv2.LINE_AA, 4)
        cv2.polylines(layer, way, False, color, stroke.line, cv2.LINE_AA, 4)
    weight = seen.astype(np.float32) / 255
    part[...] = cv2.blendLinear(layer, np.ascontiguousarray(part), weight, 1 - weight)
