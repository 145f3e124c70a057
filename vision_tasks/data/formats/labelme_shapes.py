"""LabelMe's shapes: what each one is, and which of them are parts of one object."""

from __future__ import annotations

import base64
import binascii
import io
import math
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.image_annotations import exact, plain
from vision_tasks.ops import masks as mask_ops
from vision_tasks.ops import run_lengths
from vision_tasks.structures import Rle, Size

Box = tuple[float, float, float, float]
Outcome = Literal["", "shape_unreadable", "shape_without_area", "shape_mask_flaw"]
"""Code of what is wrong with a shape."""

_OPEN = ("point", "points", "line", "linestrip", "lines")
_CORNERS = ("oriented_rectangle", "rotation")
_OWN = ("label", "points", "group_id", "shape_type", "mask", "iscrowd")
_LARGEST_MASK = 1 << 28  # pixels
_MOST_TURNS = 1 << 22  # ends of runs of one mask; each takes some 200 bytes while they are compressed
_WORK = 1 << 29  # a dozen masks as large as a photograph of 48 megapixels
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(slots=True)
class Allowance:
    """What the masks of one file may take yet, in pixels; a run's end costs as much as 64.

    A few kilobytes of PNG can hold 2^28 pixels, and a file any number of them.
    """

    left: int = _WORK

    def take(self, cost: int) -> bool:
        """Whether there was so much left; if so, it is taken."""
        if cost > self.left:
            return False
        self.left -= cost
        return True


@dataclass(slots=True)
class Shape:
    """One shape that has an area.

    Attributes:
        label: category. group: shapes of one label and group are one object; None stands alone.
        box: x, y, width, height of a rectangle. polygon: x1, y1, x2, y2, ... mask: compressed run lengths.
        extras: see `Extras`.
    """

    label: str
    group: int | str | None
    box: Box | None = None
    polygon: array[float] | None = None
    mask: bytes | None = None
    is_crowd: bool = False
    extras: dict[str, Any] = field(default_factory=dict)


def read_shape(value: Any, size: Size, extras: bool, allowance: Allowance) -> tuple[Shape | None, Outcome]:
    """A shape as JSON has it; None if it is no object. Never raises.

    Args:
        size: (height, width) of the image, zeros if unknown. extras: keep what training does not need.
        allowance: of the file.
    """
    label = value.get("label") if isinstance(value, dict) else None
    points = _points(value.get("points")) if isinstance(value, dict) else None
    name = plain(str(label)) if isinstance(label, str | int) else ""
    if not name or points is None:
        return None, "shape_unreadable"
    kind = value.get("shape_type") or "polygon"
    if kind in _OPEN:
        return None, "shape_without_area"
    group = value.get("group_id")
    shape = Shape(name, group if isinstance(group, int | str) else None, is_crowd=value.get("iscrowd") in (1, True))
    flaw: Outcome = ""
    xs, ys = points[::2], points[1::2]
    if kind == "mask" and len(points) == 4:
        x1, y1 = math.floor(min(xs)), math.floor(min(ys))
        shape.box = (float(x1), float(y1), math.floor(max(xs)) + 1.0 - x1, math.floor(max(ys)) + 1.0 - y1)
        # Run lengths at once: bitmaps of all objects of a large image would fill the memory.
        bitmap = decode_mask(value.get("mask"), shape.box, size, allowance)
        shape.mask = None if bitmap is None else _compressed(bitmap, (x1, y1), size, allowance)
        flaw = "shape_mask_flaw" if shape.mask is None else ""
    elif kind == "rectangle" and len(points) >= 4:
        x, y = min(xs), min(ys)
        shape.box = (x, y, exact(max(xs) - x), exact(max(ys) - y))
    elif kind == "circle" and len(points) == 4:
        shape.polygon = circle(points)
    elif (kind == "polygon" or kind in _CORNERS) and len(points) >= 6:
        shape.polygon = array("f", points)
    else:
        return None, "shape_unreadable"
    if extras:
        shape.extras = _extras(value)
        if kind == "circle" or kind in _CORNERS:
            shape.extras["shape_type"] = kind
        if kind == "circle":
            shape.extras["points"] = [list(points[:2]), list(points[2:])]
    return shape, flaw


def objects_of(found: Sequence[Shape]) -> list[list[Shape]]:
    """Shapes of one object together, in the order in which each object begins."""
    out: dict[Any, list[Shape]] = {}
    for number, shape in enumerate(found):
        # 1 and "1" are two groups, as in labelme itself.
        key = number if shape.group is None else (shape.label, type(shape.group), shape.group)
        out.setdefault(key, []).append(shape)
    return list(out.values())


def geometry(parts: Sequence[Shape], size: Size) -> tuple[Box, bytes, float | None]:
    """Box, entry of `formats.shapes` (b"" for a box alone), and area (None: that of the box) of an object.

    Its box is that of its rectangles, else around its outline.
    """
    polygons = [p.polygon for p in parts if p.polygon is not None]
    rles: list[Rle] = [{"size": [*size], "counts": p.mask} for p in parts if p.mask is not None]
    rectangles = [p.box for p in parts if p.box is not None and p.mask is None]
    entry, area = b"", None
    if rles:
        if polygons:
            rles.append(mask_ops.from_polygons([np.array(p, np.float32).reshape(-1, 2) for p in polygons], size))
        rle: Rle = rles[0] if len(rles) == 1 else coco_mask.merge(rles)
        entry, area = shapes.encode_rle(rle), float(mask_ops.area([rle])[0])
        rectangles = rectangles or [p.box for p in parts if p.box is not None and not polygons]
    elif polygons:
        entry = shapes.encode_polygons(polygons)
        area = sum(enclosed(p) for p in polygons)
    return _around(rectangles) if rectangles else shapes.box_around(entry), entry, area


def circle(points: Sequence[float]) -> array[float]:
    """Polygon of a circle given by its centre and a point on it, to a fiftieth of a pixel; it reaches the outermost
    points of the circle exactly."""
    x, y, px, py = points
    radius = math.hypot(px - x, py - y)
    quarters = 4 if radius < 1 else min(90, math.ceil(math.pi / math.acos(1 - 0.02 / radius) / 4))
    angles = np.arange(4 * quarters) * (math.pi / 2 / quarters)
    corners = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    return array("f", corners.astype(np.float32).tobytes())


def decode_mask(text: Any, box: Box, size: Size, allowance: Allowance) -> np.ndarray | None:
    """Bitmap (h, w) bool of a PNG in base64.

    None if it is none, does not fit its box in an image of this size, or has more pixels than the file is allowed.
    """
    height, width = size
    x, y, w, h = (int(v) for v in box)
    try:
        data = base64.b64decode(text if isinstance(text, str) else "", validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data.startswith(_PNG) or len(data) < 24:
        return None
    own_width, own_height = struct.unpack(">2I", data[16:24])
    # A mask at the image's end has been cut off there by some versions of labelme.
    fits = own_width in (w, w - 1) and own_height in (h, h - 1) and own_width * own_height in range(1, _LARGEST_MASK)
    fits = fits and height * width < 2**32  # what pycocotools can hold
    if not fits or x < 0 or y < 0 or x + own_width > width or y + own_height > height:
        return None
    if not allowance.take(own_width * own_height):
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.shape[:2] != (own_height, own_width):
        return None
    return np.asarray(pixels > 0 if pixels.ndim == 2 else (pixels[..., :3] > 0).any(2))


def _compressed(bitmap: np.ndarray, corner: tuple[int, int], size: Size, allowance: Allowance) -> bytes | None:
    """Compressed run lengths of a bitmap (h, w) bool at (x, y); None if there are more runs than any object has."""
    turns = int(np.count_nonzero(bitmap[1:] != bitmap[:-1]))
    if turns > _MOST_TURNS or not allowance.take(64 * turns):
        return None
    return run_lengths.compress([run_lengths.of_window(bitmap, corner, size)])[0]


def encode_mask(bitmap: np.ndarray) -> str:
    """PNG in base64, of one bit a pixel, of a bitmap (h, w) bool."""
    stream = io.BytesIO()
    Image.fromarray(bitmap).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def _points(value: Any) -> list[float] | None:
    """x1, y1, x2, y2, ...; None unless all are finite numbers of a size that pixels have."""
    try:
        numbers = [float(v) for x, y in value for v in (x, y)]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers and all(-1e9 < v < 1e9 for v in numbers) else None


def _extras(value: dict[str, Any]) -> dict[str, Any]:
    out = {k: v for k, v in value.items() if k not in _OWN and v not in (None, "", {}, [])}
    for key in ("difficult", "truncated", "occluded"):
        if key in out:
            out[key] = int(out[key] in (1, True))
            if not out[key]:
                del out[key]
    if value.get("group_id") is not None:
        out["group_id"] = value["group_id"]
    return out


def _around(boxes: Sequence[Box]) -> Box:
    if len(boxes) == 1:
        return boxes[0]
    x, y = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return x, y, exact(max(b[0] + b[2] for b in boxes) - x), exact(max(b[1] + b[3] for b in boxes) - y)


def enclosed(polygon: array[float] | np.ndarray) -> float:
    """Area of x1, y1, x2, y2, ... by the shoelace formula."""
    xy = np.array(polygon, np.float64).reshape(-1, 2)
    x, y = (xy - xy[0]).T  # from the first point, so that the last side adds nothing
    return float(abs(x[:-1] @ y[1:] - y[:-1] @ x[1:]) / 2)
