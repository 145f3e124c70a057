"""Object outlines as bytes: one compact entry per annotation, decoded on demand.

An entry is a row of little-endian 4-byte words:

- polygons: P (int32 > 0), the point counts of the P polygons (int32), then all x, y (float32);
- run lengths: -1, height, width, number of bytes (int32), then COCO's compressed counts, padded with zeros to 4 bytes.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.ops import run_lengths
from vision_tasks.structures import Polygons, Rle

_RLE = -1
RLE_MARK = struct.pack("<i", _RLE)
"""What the entry of a run-length mask begins with."""


def encode_polygons(polygons: Sequence[array[float]]) -> bytes:
    """Entry of one object; each polygon is x1, y1, x2, y2, ... in pixels, at least three points, all finite."""
    if len(polygons) == 1:
        return struct.pack("<2i", 1, len(polygons[0]) // 2) + polygons[0].tobytes()
    head = struct.pack(f"<{1 + len(polygons)}i", len(polygons), *(len(p) // 2 for p in polygons))
    return head + b"".join(p.tobytes() for p in polygons)


def encode_rle(rle: Rle) -> bytes:
    """Entry of one run-length mask with compressed counts."""
    height, width = rle["size"]
    counts = rle["counts"]
    return struct.pack("<4i", _RLE, height, width, len(counts)) + counts + b"\0" * (-len(counts) % 4)


def rle_size(entry: bytes) -> tuple[int, int]:
    """(height, width) of a run-length entry."""
    height, width = struct.unpack_from("<2i", entry, 4)
    return height, width


def decode(blob: np.ndarray, start: int) -> Polygons | Rle:
    """The entry that begins at byte `start` of `blob` ((B,) uint8): (P, 2) float32 polygons, or an Rle; copies."""
    words = blob[start : start + 16].view("<i4")
    count = int(words[0])
    if count == _RLE:
        height, width, size = (int(w) for w in words[1:4])
        return {"size": [height, width], "counts": blob[start + 16 : start + 16 + size].tobytes()}
    if count == 1:
        coordinates = start + 8
        return [blob[coordinates : coordinates + 8 * int(words[1])].view("<f4").reshape(-1, 2).copy()]
    coordinates = start + 4 + 4 * count
    points = blob[start + 4 : coordinates].view("<i4").astype(np.int64)
    xy = blob[coordinates : coordinates + 8 * int(points.sum())].view("<f4").reshape(-1, 2).copy()
    return np.split(xy, np.cumsum(points)[:-1])


def from_polygons(polygons: Sequence[Sequence[float]]) -> tuple[bytes, str | None]:
    """Entry of an object's polygons, and the code of its flaw if it has one; the entry is empty if none is usable."""
    single = [array("f", p) for p in polygons]
    # A sum of numbers in float32's range is finite exactly if each of them is.
    good = [p for p in single if len(p) >= 6 and len(p) % 2 == 0 and math.isfinite(sum(p))]
    entry = encode_polygons(good) if good else b""
    return entry, "polygon_flaw" if len(good) < len(polygons) else None


def from_value(value: Any) -> tuple[bytes, str | None]:
    """Like `from_polygons`, from any decoded JSON value, however odd; never raises."""
    if value is None or value == [] or value == {}:
        return b"", None
    if isinstance(value, dict):
        return _from_rle(value)
    if not isinstance(value, list):
        return b"", "segmentation_flaw"
    flat = not any(isinstance(p, list) for p in value)
    polygons = [_finite(p) for p in ([value] if flat else value)]
    entry, flaw = from_polygons(polygons)
    return entry, "polygon_flat" if flat and entry else flaw


def _finite(polygon: Any) -> list[float]:
    """Numbers of a polygon; empty where one of them is none."""
    try:
        numbers = [float(v) for v in polygon]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []


def _from_rle(value: dict[str, Any]) -> tuple[bytes, str | None]:
    """Checks that the runs fill the size before anything is handed to C code."""
    try:
        height, width = (int(v) for v in value["size"])
        counts = value["counts"]
        if isinstance(counts, str):
            packed = counts.encode("ascii")
            runs = run_lengths.decompress(packed)
        else:
            runs = np.array([int(v) for v in counts], np.int64)
        if height < 1 or width < 1 or height * width >= 2**32 or (runs < 0).any() or int(runs.sum()) != height * width:
            return b"", "rle_flaw"
        if not isinstance(counts, str):
            packed = coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)["counts"]
    except (KeyError, TypeError, ValueError, OverflowError):
        return b"", "rle_flaw"
    return encode_rle({"size": [height, width], "counts": packed}), None


def box_around(entry: bytes) -> tuple[float, float, float, float]:
    """x, y, width, height around an entry of `encode_polygons` or `encode_rle`."""
    return box_of(decode(np.frombuffer(entry, np.uint8), 0))


def box_of(shape: Polygons | Rle) -> tuple[float, float, float, float]:
    """x, y, width, height around an outline."""
    if isinstance(shape, dict):
        x, y, w, h = (float(v) for v in coco_mask.toBbox(shape))
        return x, y, w, h
    corners = np.concatenate(shape).astype(np.float64)
    (x1, y1), (x2, y2) = corners.min(0), corners.max(0)
    return float(x1), float(y1), float(x2 - x1), float(y2 - y1)
