"""The lines of a YOLO label file: a class and shares of the image's width and height."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, replace

import numpy as np

from vision_tasks.data.formats.shapes import encode_polygons

FAR = 2.0
"""Shares beyond this are pixels, not boxes that reach over the edge."""
_FARTHEST = 1e9
"""No pixel lies so far away: such outlines are none."""
_DIGITS = 6
"""Decimals of pixels that are kept: shares have been rounded, and 473.07 should come back as that."""


@dataclass(frozen=True)
class Line:
    """One object.

    Attributes:
        number: of the line, from 1. category: class number. values: shares, as written. outlined: whether they are the
            points of an outline, not center x, center y, width, height. score: confidence of a prediction.
        key_points: shares of key points, as written.
    """

    number: int
    category: int
    values: tuple[float, ...]
    outlined: bool = False
    score: float | None = None
    key_points: tuple[float, ...] = ()


def read_lines(text: str, key_points: int = 0) -> tuple[list[Line], list[int]]:
    """Objects of a label file, and the numbers of the lines that are none.

    Five numbers are a box, seven and more of an odd count an outline; one more, of even count, ends with a confidence.

    Args:
        key_points: numbers of key points that follow each box, 0 for none.
    """
    lines: list[Line] = []
    lost: list[int] = []
    for number, text_line in enumerate(text.splitlines(), 1):
        fields = text_line.split()
        if not fields:
            continue
        try:
            category, *values = map(float, fields)
        except ValueError:
            lost.append(number)
            continue
        line = _line(number, category, values, key_points) if category >= 0 and category.is_integer() else None
        if line is None:
            lost.append(number)
        else:
            lines.append(line)
    return lines, lost


def _line(number: int, category: float, values: list[float], key_points: int) -> Line | None:
    if key_points and len(values) in (4 + key_points, 5 + key_points):
        score = values[-1] if len(values) == 5 + key_points else None
        return Line(number, int(category), tuple(values[:4]), False, score, tuple(values[4 : 4 + key_points]))
    score = values.pop() if len(values) % 2 else None
    if len(values) < 4 or not all(map(math.isfinite, values)):
        return None
    return Line(number, int(category), tuple(values), len(values) > 4, score)


def as_stored(line: Line, orientation: int | None) -> Line:
    """The object where it is on the stored pixels of an image that EXIF mirrors (2, 4) or turns upside down (3)."""
    axes = {2: (0,), 3: (0, 1), 4: (1,)}.get(orientation or 0, ())
    places = [i for i in range(len(line.values) if line.outlined else 2) if i % 2 in axes]
    return replace(line, values=tuple(1 - v if i in places else v for i, v in enumerate(line.values)))


def pixels(line: Line, width: int, height: int) -> tuple[tuple[float, float, float, float], float | None, bytes]:
    """Box (x, y, width, height) in pixels; of an outline its area and the entry of `shapes`, else None and b""."""
    if not line.outlined:
        cx, cy, w, h = line.values
        w, h = w * width, h * height
        x, y = cx * width - w / 2, cy * height - h / 2
        return (round(x, _DIGITS), round(y, _DIGITS), round(w, _DIGITS), round(h, _DIGITS)), None, b""
    values = np.array(line.values)
    xs, ys = values[::2] * width, values[1::2] * height
    left, top = float(xs.min()), float(ys.min())
    box = (
        round(left, _DIGITS), round(top, _DIGITS), round(float(xs.max()) - left, _DIGITS),
        round(float(ys.max()) - top, _DIGITS),
    )  # fmt: skip
    doubled = xs[:-1] @ ys[1:] - xs[1:] @ ys[:-1] + xs[-1] * ys[0] - xs[0] * ys[-1]
    if not math.isfinite(doubled) or max(map(abs, box)) > _FARTHEST:
        return box, None, b""
    single = array("f", np.stack([xs, ys], 1).astype(np.float32).tobytes())
    return box, round(abs(float(doubled)) / 2, _DIGITS), encode_polygons([single])
