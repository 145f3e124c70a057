"""Finding what is wrong with semantic maps before training does."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from vision_tasks.data.formats.label_images import file_size
from vision_tasks.data.image_errors import ImageError, ImageSizeError, MaskValueError
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size

MAPS = 2000
SECONDS = 20.0
"""So many maps, or for so long, are decoded before training; the others are checked as they come."""
_DRAWN = 100
_AFTER_ERROR = 200
_GOLDEN = 0.6180339887498949


@dataclass
class Checked:
    """What was found in the maps that were looked at.

    Attributes:
        pixels: (K,) int64 per category. area: pixels that are not ignored, of all planes if there are several
            (`are_planes`). maps: so many were looked at, of `total`. lost: rows that cannot be used.
    """

    pixels: np.ndarray
    area: int = 0
    maps: int = 0
    total: int = 0
    lost: list[int] = field(default_factory=list)
    are_planes: bool = False

    @property
    def shares(self) -> np.ndarray:
        """(K,) of the pixels that are not ignored; if each category is decided on its own, of those of its plane."""
        return self.pixels / max(self.area / (len(self.pixels) if self.are_planes else 1), 1)

    @property
    def is_whole(self) -> bool:
        """Whether every map was looked at."""
        return self.maps == self.total


def check_maps(records: Records, maps: int = MAPS, seconds: float = SECONDS) -> tuple[Records, Checked]:
    """Decodes maps, spread over the whole data set, and compares their sizes with the images'.

    Args:
        records: with semantic maps. maps, seconds: what is looked at ends with whichever comes first.

    Returns:
        The records without what cannot be used, their problems grown; and what the maps hold.

    Raises:
        VisionTasksError: values outside the table (names files, values and what to do), or no map can be used.
    """
    source = records.semantic
    assert source is not None
    problems = records.problems.copy()
    annotated = np.array([row for row in range(len(records)) if source.has(row)], np.int64)
    found = Checked(np.zeros(len(source.categories), np.int64), total=len(annotated), are_planes=source.multi_label)
    # Steps of the golden ratio: wherever time runs out, what was looked at is spread evenly.
    order = annotated[np.argsort(np.arange(1, len(annotated) + 1) * _GOLDEN % 1)]
    order = order[: _DRAWN if source.is_drawn else maps]
    unknown: list[MaskValueError] = []
    end, after = time.monotonic() + seconds, 0
    for row, result in _read(records, order):
        found.maps += 1
        if isinstance(result, MaskValueError):
            unknown.append(result)
        elif isinstance(result, ImageError):
            problems.add("mask_size" if isinstance(result, ImageSizeError) else "mask_unreadable", [str(result)])
            found.lost.append(row)
        elif result is not None:
            counts, ignored, total = result
            found.pixels += counts
            found.area += total - ignored
            if ignored == total:
                problems.add("mask_all_ignored", [source.place(row)])
        after += bool(unknown)
        if time.monotonic() > end or after > _AFTER_ERROR:
            break
    if unknown:
        raise VisionTasksError(_unknown(unknown, found.maps, found.total))
    if len(found.lost) == len(records):
        raise VisionTasksError(f"{records.source}: not one semantic map can be used.\n{problems.summary()}")
    if found.lost:
        records = records.subset(np.setdiff1d(np.arange(len(records)), found.lost))
    return replace(records, problems=problems), found


_Counts = tuple[np.ndarray, int, int]


def _read(records: Records, rows: np.ndarray) -> Iterator[tuple[int, _Counts | ImageError | None]]:
    """Each row's result, in order; a few are read ahead in threads, as decoding lets go of the interpreter."""
    threads = min(4, os.cpu_count() or 1)
    waiting = iter(rows.tolist())
    with ThreadPoolExecutor(threads) as pool:
        try:
            running = [(row, pool.submit(_look, records, row)) for row in itertools.islice(waiting, 2 * threads)]
            while running:
                row, future = running.pop(0)
                yield row, future.result()
                running += [(row, pool.submit(_look, records, row)) for row in itertools.islice(waiting, 1)]
        finally:
            pool.shutdown(cancel_futures=True)


def _look(records: Records, row: int) -> _Counts | ImageError | None:
    """Pixels per category, ignored pixels and all of them (of all planes, if each category is decided on its own)."""
    source = records.semantic
    assert source is not None
    try:
        size = _agreed_size(records, row)
        found = source.read(row, size)
    except ImageError as error:
        return error
    if found is None:
        return None
    count = len(source.categories)
    if source.multi_label:
        pixels = np.count_nonzero(found == 1, axis=(1, 2))
        return pixels, int(np.count_nonzero(found < 0)), found.size
    pixels = np.bincount(found.reshape(-1).astype(np.int64) + 1, minlength=count + 1)
    return pixels[1:], int(pixels[0]), found.size


def _agreed_size(records: Records, row: int) -> Size:
    """The size that the records, which have it of the mask, and the image's own header tell.

    Raises:
        ImageSizeError: they tell different ones.
    """
    path = records.image_path(row)
    stated = records.size(row)
    try:
        own = file_size(path)
    except ImageError:  # training leaves such images out and counts them
        own = stated or (0, 0)
    # A turned photo is for the image reader to judge, which looks at its EXIF.
    if stated is not None and own not in (stated, stated[::-1]):
        assert records.semantic is not None
        raise ImageSizeError(
            f"{records.semantic.place(row)}: the mask has {stated[1]} × {stated[0]} pixels, its image {path} "
            f"{own[1]} × {own[0]}"
        )
    return stated or own


def _unknown(errors: list[MaskValueError], looked: int, total: int) -> str:
    values = sorted({value for error in errors for value in error.values}, key=lambda v: (len(v), v))
    first = str(errors[0])
    if len(errors) == 1:
        return first
    listed = ", ".join(values[:16]) + (", ..." if len(values) > 16 else "")
    others = ", ".join(str(e).split(":", 1)[0] for e in errors[1:4])
    return (
        f"{first}\nSo it is in {len(errors)} of {looked} masks looked at ({total} in all), such as {others}; values "
        f"outside the table are {listed}."
    )
