"""Cutting large images into tiles, with the objects of each: what of the truth lies where.

Tiles lie as SAHI lays them (Akyon et al. 2022): from the top left, those at the right and lower edge moved inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats import shapes
from vision_tasks.data.operations.clipping import Clipped, clip_shape
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import SemanticSource
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.masks import area as mask_area
from vision_tasks.ops.masks import to_rles
from vision_tasks.structures import Masks, Polygons, Rle, Size


@dataclass(frozen=True)
class Tiles:
    """Where tiles lie: T windows of the images of records.

    Attributes:
        rows: (T,) int64 image row, ascending. windows: (T, 4) int64 corners x1, y1, x2, y2 in that image's pixels.
        sizes: image row -> (height, width).
    """

    rows: np.ndarray
    windows: np.ndarray
    sizes: Mapping[int, Size]

    def kept(self, kept: np.ndarray) -> Tiles:
        """Only the tiles where `kept` (T,) bool."""
        return Tiles(self.rows[kept], self.windows[kept], self.sizes)


@dataclass
class Counts:
    """What became of the objects.

    Attributes:
        whole, cut: so often an object is wholly, or as a part, in a tile. crowds: parts too small to be learnt, which
            became crowds. unusable: objects of which training would use nothing, left out.
    """

    whole: int = 0
    cut: int = 0
    crowds: int = 0
    unusable: int = 0


def windows(size: Size, side: int, overlap: float) -> np.ndarray:
    """(T, 4) int64 corners of the tiles of an image, row by row; an image no larger than a tile is one.

    Args:
        size: (height, width). side: of a tile, in pixels. overlap: pixels that neighbours share at least, or, below 1,
            which part of the side.

    Raises:
        VisionTasksError: neighbours that share all.
    """
    if not 0 <= overlap < 1 << 31:  # nor infinite or NaN
        raise VisionTasksError(f"overlap {overlap} is no number of pixels, nor a part below 1.")
    if overlap > 1 and overlap != round(overlap):
        raise VisionTasksError(f"overlap {overlap} is no part below 1, nor a whole number of pixels. 0.15 is 15 %.")
    shared = round(overlap * side) if overlap < 1 else round(overlap)
    if shared >= side:
        raise VisionTasksError(f"overlap of {shared} pixels leaves nothing of tiles of {side}. Give less.")
    if side - shared < side / 20:
        raise VisionTasksError(
            f"overlap of {shared} pixels would cut a tile of {side} every {side - shared} pixels. Give 0.95 at most."
        )
    tops, lefts = (_starts(length, min(side, length), shared) for length in size)
    top, left = (grid.ravel() for grid in np.meshgrid(tops, lefts, indexing="ij"))
    return np.stack([left, top, left + min(side, size[1]), top + min(side, size[0])], axis=1)


def _starts(length: int, side: int, shared: int) -> np.ndarray:
    last, step = length - side, side - shared
    return np.array([*range(0, last, step), last], np.int64)


def tiles_of(records: Records, sizes: Mapping[int, Size], side: int = 1024, overlap: float = 0.2) -> Tiles:
    """The tiles of all images whose size is known.

    Args:
        sizes: image row -> (height, width).
    """
    rows = sorted(sizes)
    made = [windows(sizes[row], side, overlap) for row in rows]
    return Tiles(
        np.repeat(np.array(rows, np.int64), [len(own) for own in made]),
        np.concatenate(made) if made else np.zeros((0, 4), np.int64),
        sizes,
    )


def tile_records(
    records: Records, tiles: Tiles, names: Sequence[str], visible: float = 0.3, root: Any = None
) -> tuple[Records, Counts]:
    """The truth of tiles, each of them an image with `tile_of`, `x` and `y` among its extras.

    An object that lies in a tile wholly is moved. One that is cut is clipped, and its box fitted to what is left of
    its outline. If that is less than `visible` of it (of its outline's area, else of its box's) it is a crowd in that
    tile: nobody learns it, and nobody learns that there is nothing. Crowds stay crowds.

    Args:
        records: of the whole images. names: T file names of the tiles. visible: part of an object.
        root: folder of the tiles' files.

    Returns:
        The records, images numbered from 1, and what became of the objects.
    """
    made = _Made()
    counts = Counts(unusable=int((~records.usable).sum()))
    ends = np.searchsorted(tiles.rows, np.arange(len(records) + 1))
    first = [0]
    for row in counted(range(len(records)), "cutting objects"):
        own = tiles.windows[ends[row] : ends[row + 1]]
        if len(own):
            size = tiles.sizes[row]
            first += [first[-1] + n for n in np.cumsum(_tile_image(records, row, size, own, visible, made, counts))]
    names_encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    extent = tiles.windows[:, 2:] - tiles.windows[:, :2]
    lengths = np.array([len(blob) for blob in made.shapes], np.int64)
    begins = np.cumsum(lengths) - lengths
    source = None if records.semantic is None else TiledMaps(records.semantic, tiles)
    count = len(made.origins)
    result = Records(
        image_ids=np.arange(1, len(tiles.rows) + 1),
        widths=extent[:, 0].astype(np.int32),
        heights=extent[:, 1].astype(np.int32),
        first=np.array(first, np.int64),
        names=np.frombuffer(b"".join(names_encoded), np.uint8),
        name_ends=np.cumsum([len(n) for n in names_encoded], dtype=np.int64),
        annotation_ids=np.arange(1, count + 1),
        labels=records.labels[made.origins].astype(np.int32) if count else np.zeros(0, np.int32),
        boxes=np.array(made.boxes, np.float64).reshape(-1, 4),
        areas=np.array(made.areas, np.float64),
        is_crowd=np.array(made.crowds, bool),
        usable=np.ones(count, bool),
        shape_starts=np.where(lengths > 0, begins, -1),
        shape_bytes=np.frombuffer(b"".join(made.shapes), np.uint8),
        categories=records.categories,
        problems=records.problems.copy(),
        root=records.root if root is None else root,
        source=records.source,
        has_shapes=records.has_shapes,
        semantic=source,
        has_boxes=records.has_boxes,
        extras=_extras(records, tiles, made.origins),
    )
    return result, counts


class _Made:
    """The objects of tiles, tile by tile; `origins` are their indices in the records."""

    def __init__(self) -> None:
        self.origins: list[int] = []
        self.boxes: list[list[float]] = []
        self.areas: list[float] = []
        self.crowds: list[bool] = []
        self.shapes: list[bytes] = []


def _tile_image(
    records: Records, row: int, size: Size, own: np.ndarray, visible: float, made: _Made, counts: Counts
) -> list[int]:
    """Add the objects of an image's tiles (t, 4); returns how many each tile has."""
    chosen = np.arange(int(records.first[row]), int(records.first[row + 1]))
    chosen = chosen[records.usable[chosen]]
    boxes = records.boxes[chosen]
    # The part inside the image: what an annotation has beyond it was never visible, in no tile either.
    low = boxes[:, :2].clip(0, [size[1], size[0]])
    high = (boxes[:, :2] + boxes[:, 2:]).clip(0, [size[1], size[0]])
    begin = np.maximum(low[None], own[:, None, :2])
    end = np.minimum(high[None], own[:, None, 2:])
    touching = (end > begin).all(axis=2)
    whole = (begin == low[None]).all(axis=2) & (end == high[None]).all(axis=2) & touching
    outlines: dict[int, Polygons | Rle | None] = {}
    per_tile = []
    for tile in range(len(own)):
        before = len(made.origins)
        for n in np.flatnonzero(touching[tile]).tolist():
            index = int(chosen[n])
            if n not in outlines:
                outlines[n] = records.segmentation(index)
            found = clip_shape(outlines[n], own[tile], size, bool(whole[tile, n]))
            if found is None:  # the box reaches into the tile, the outline does not
                continue
            _add(
                records, index, n, tile, found, (boxes, low, high, begin, end, whole), own[tile], visible, made, counts
            )
        per_tile.append(len(made.origins) - before)
    return per_tile


def _add(
    records: Records, index: int, n: int, tile: int, found: Clipped, parts: tuple[np.ndarray, ...], window: np.ndarray,
    visible: float, made: _Made, counts: Counts,
) -> None:  # fmt: skip
    """Add one object of one tile."""
    boxes, low, high, begin, end, whole = parts
    shift = window[:2].astype(np.float64)
    size = (int(window[3] - window[1]), int(window[2] - window[0]))
    shape, crowd = found.shape, bool(records.is_crowd[index])
    if whole[tile, n]:
        inside = (boxes[n, :2] >= low[n]).all() and (boxes[n, :2] + boxes[n, 2:] <= high[n]).all()
        corner, extent = (boxes[n, :2], boxes[n, 2:]) if inside else (low[n], high[n] - low[n])
        box, area = [*(corner - shift), *extent], float(records.areas[index])
        counts.whole += 1
    else:
        part = found.part
        lower, upper = begin[tile, n], end[tile, n]
        if found.box is not None:  # within the given box: outlines may leave it by a rounding
            lower = np.maximum(lower, found.box[:2] + shift)
            upper = np.minimum(upper, found.box[2:] + shift)
            if not (upper > lower).all():
                return
        else:
            part = float((end[tile, n] - begin[tile, n]).prod() / (high[n] - low[n]).prod())
        box, area = [*(lower - shift), *(upper - lower)], float(records.areas[index]) * part
        if part < visible and not crowd:
            # COCO has crowds as run lengths.
            shape = None if shape is None else to_rles(Masks(size, shapes=[shape]))[0]
            if shape is not None and not int(mask_area([shape])[0]):
                return  # less than a pixel
            crowd = True
            counts.crowds += 1
        counts.cut += 1
    made.origins.append(index)
    made.boxes.append([float(v) for v in box])
    made.areas.append(area)
    made.crowds.append(crowd)
    made.shapes.append(_encoded(shape))


def _encoded(shape: Polygons | Rle | None) -> bytes:
    if shape is None:
        return b""
    if isinstance(shape, dict):
        return shapes.encode_rle(shape)
    return shapes.from_polygons([p.ravel().tolist() for p in shape])[0]


def _extras(records: Records, tiles: Tiles, origins: list[int]) -> Extras:
    """Those of the images and objects, and where each tile is from."""
    old = records.extras or Extras()
    images = {
        i: {**old.of_image(row), "tile_of": records.file_name(row), "x": int(x), "y": int(y)}
        for i, (row, (x, y)) in enumerate(zip(tiles.rows.tolist(), tiles.windows[:, :2].tolist(), strict=True))
    }
    annotations = {i: old.annotations[index] for i, index in enumerate(origins) if index in old.annotations}
    return replace(old, images=images, annotations={i: without_points(own) for i, own in annotations.items()})


def without_points(own: dict[str, Any]) -> dict[str, Any]:
    """An object's extras without those that are places in the whole image."""
    return {key: value for key, value in own.items() if key not in ("keypoints", "num_keypoints")}


class TiledMaps(SemanticSource):
    """Windows of the maps of whole images. The last map read is kept: tiles of one image follow each other."""

    def __init__(self, source: SemanticSource, tiles: Tiles) -> None:
        self.source, self.tiles = source, tiles
        self.categories, self.multi_label = source.categories, source.multi_label
        self._last: tuple[int, np.ndarray | None] = (-1, None)

    def __len__(self) -> int:
        return len(self.tiles.rows)

    def read(self, row: int, size: Size) -> np.ndarray | None:
        own = int(self.tiles.rows[row])
        if self._last[0] != own:
            self._last = (own, self.source.read(own, self.tiles.sizes[own]))
        x1, y1, x2, y2 = self.tiles.windows[row].tolist()
        whole = self._last[1]
        return None if whole is None else np.ascontiguousarray(whole[..., y1:y2, x1:x2])

    def place(self, row: int) -> str:
        x1, y1, _, _ = self.tiles.windows[row].tolist()
        return f"{self.source.place(int(self.tiles.rows[row]))} at {x1}, {y1}"

    def has(self, row: int) -> bool:
        return self.source.has(int(self.tiles.rows[row]))

    def subset(self, rows: np.ndarray | Sequence[int]) -> TiledMaps:
        rows = np.asarray(rows, np.int64)
        return TiledMaps(self.source, self.tiles.kept(rows))
