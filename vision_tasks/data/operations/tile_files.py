"""Cutting image files into tiles: one image in memory per thread, in the kind of file that the source is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from vision_tasks.data.band_images import read_array, tiff_bands
from vision_tasks.data.decoding import PIXEL_LIMIT, file_bytes, open_header
from vision_tasks.data.formats.image_files import unique_stems
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.images import read_bytes, read_image
from vision_tasks.data.operations.tile import Counts, tile_records, tiles_of
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size

JPEG_QUALITY = 95
Job = tuple[int, list[int]]
Done = tuple[int, str]
_SAMPLES = 277
"""TIFF's tag of how many bands there are."""


class NoTileError(VisionTasksError):
    """No tile has an object, and others are not wanted."""


@dataclass
class Cut:
    """Tiles of a split, written.

    Attributes:
        records: of the tiles; their root is the folder that they were written to. counts: what became of the objects.
        unreadable: image -> reason, of images that have no tiles.
        empty: tiles without objects that were left out.
    """

    records: Records
    counts: Counts
    unreadable: dict[str, str]
    empty: int


def cut_images(
    records: Records, folder: Path, side: int = 1024, overlap: float = 0.2, visible: float = 0.3,
    empty: bool = True, workers: int | None = None,
) -> Cut:  # fmt: skip
    """Write the tiles of all images to a folder.

    JPEG stays JPEG (quality 95), more than four bands become .npy, all else PNG, 16 bits included. Images that EXIF
    turns are turned. An image that cannot be read has no tiles.

    Args:
        records: of the whole images. folder: made if needed. side, overlap, visible: see `tile.tile_records`.
        empty: keep tiles without objects. workers: threads; as many as there are cores, if None.

    Raises:
        NoTileError: no tile has an object, and `empty` is off. VisionTasksError: not one image can be read.
        OSError: a tile cannot be written.
    """
    sizes, unreadable = _sizes(records)
    tiles = tiles_of(records, sizes, side, overlap)
    stems, forms = unique_stems(records), _suffixes(records, sizes)
    names = [f"{stems[r]}_{x}_{y}{forms[r]}" for r, (x, y) in zip(tiles.rows.tolist(), tiles.windows[:, :2].tolist(), strict=True)]  # fmt: skip # noqa: E501
    made, counts = tile_records(records, tiles, names, visible, folder)
    kept = np.ones(len(tiles.rows), bool)
    if not empty and records.has_boxes:
        kept = np.diff(made.first) > 0
    left_out = int((~kept).sum())
    chosen = np.flatnonzero(kept)
    rows, begins = np.unique(tiles.rows[chosen], return_index=True)
    ends = [*begins[1:].tolist(), len(chosen)]
    jobs = [
        (r, chosen[a:b].tolist()) for r, a, b in zip(rows.tolist(), begins.tolist(), ends[: len(rows)], strict=True)
    ]

    def cut(job: Job) -> Done:
        row, own = job
        try:
            _cut(records, row, tiles.sizes[row], [(folder / names[i], tiles.windows[i]) for i in own])
        except ImageError as error:
            return row, str(error)
        return row, ""

    for row, reason in counted(_in_threads(cut, jobs, workers), "cutting images", len(jobs)):
        if reason:
            unreadable[records.file_name(row)] = reason
            kept &= tiles.rows != row
    if not kept.any():
        reason = next(iter(unreadable.values()), "no object lies in any")
        raise (VisionTasksError if unreadable else NoTileError)(f"{records.source}: there is not one tile: {reason}")
    tiled = made.subset(kept)
    tiled = replace(
        tiled,
        image_ids=np.arange(1, len(tiled) + 1, dtype=np.int64),
        annotation_ids=np.arange(1, len(tiled.labels) + 1, dtype=np.int64),
    )
    return Cut(tiled, counts, unreadable, left_out)


def _in_threads(work: Callable[[Job], Done], jobs: Sequence[Job], workers: int | None) -> Iterator[Done]:
    pool = ThreadPoolExecutor(workers or _cores())
    try:
        yield from pool.map(work, jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sizes(records: Records) -> tuple[dict[int, Size], dict[str, str]]:
    """(height, width) of each image, read from the file where the annotations do not state it; and what cannot be."""
    sizes: dict[int, Size] = {}
    unreadable: dict[str, str] = {}
    for row in range(len(records)):
        if (stated := records.size(row)) is not None:
            sizes[row] = stated
            continue
        try:
            height, width = read_image(records.image_path(row), data=records.image_data(row)).shape[:2]
            sizes[row] = (height, width)
        except ImageError as error:
            unreadable[records.file_name(row)] = str(error)
    return sizes, unreadable


def _suffixes(records: Records, rows: dict[int, Size]) -> dict[int, str]:
    """Ending of each image's tiles."""
    out = {}
    for row in rows:
        path = records.image_path(row)
        own = path.suffix.lower()
        out[row] = ".jpg" if own in (".jpg", ".jpeg") else ".npy" if own == ".npy" or _bands(path) > 4 else ".png"
    return out


def _bands(path: Path) -> int:
    """How many bands a TIFF has; 0 of other files, and of those that cannot be read."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 0
    try:
        tags = tiff_bands(file_bytes(path))
    except ImageError:
        return 0
    return 0 if tags is None else int(tags[_SAMPLES])


def _cut(records: Records, row: int, size: Size, tiles: list[tuple[Path, np.ndarray]]) -> None:
    """Read an image once and write these windows of it."""
    path = records.image_path(row)
    data = read_bytes(records, row)
    image = read_image(path, size, _channels(path, data), data=data)
    for target, (x1, y1, x2, y2) in tiles:
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, image[y1:y2, x1:x2])


def _channels(path: Path, data: np.ndarray) -> int:
    """As many as the file has, so that grey stays grey and transparency stays."""
    if path.suffix.lower() == ".npy":
        return int(read_array(data, path, PIXEL_LIMIT).shape[2])
    if (bands := _bands(path)) > 4:
        return bands
    mode = open_header(data, path).mode
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return 1 if mode == "L" else 3
    return 1 if mode in ("1", "L") or mode.startswith("I") else 4 if mode == "RGBA" else 3


def _write(target: Path, pixels: np.ndarray) -> None:
    if target.suffix == ".npy":
        np.save(target, np.ascontiguousarray(pixels), allow_pickle=False)
        return
    channels = pixels.shape[2]
    order = [0] if channels == 1 else [2, 1, 0, 3][:channels]
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if target.suffix == ".jpg" else []
    ok, encoded = cv2.imencode(target.suffix, np.ascontiguousarray(pixels[..., order]), options)
    if not ok:
        raise VisionTasksError(f"{target} cannot be encoded")
    target.write_bytes(encoded.tobytes())
