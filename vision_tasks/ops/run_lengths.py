"""COCO's run lengths: of bitmaps that fill a part of their image, to and from the compressed form, and cut out again.

Runs go down the columns, of zeros and ones in turn, zeros first. All functions work on whole arrays; none makes a
bitmap of the image's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np


def of_window(bitmap: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Run lengths (R,) int64 of an image of (height, width) that is zero outside a window.

    Args:
        bitmap: (h, w) bool, h and w at least 1. corner: (x, y) of its first pixel in the image.
    """
    h, w = bitmap.shape
    framed = np.zeros((h + 2, w), dtype=bool)
    framed[1:-1] = bitmap
    # Down every column, where a run begins and where it has ended.
    row, column = np.divmod(np.flatnonzero(framed[1:] != framed[:-1]), w)
    turns = (column + corner[0]) * size[0] + row + corner[1]
    turns.sort()
    # A run that goes on in the next column ends and begins in one place: neither is a turn.
    apart = turns[1:] != turns[:-1]
    alone = np.ones(len(turns), dtype=bool)
    alone[1:] &= apart
    alone[:-1] &= apart
    turns = turns[alone]
    pixels = size[0] * size[1]
    end = [] if len(turns) and turns[-1] == pixels else [pixels]
    return np.diff(np.concatenate([[0], turns, end])).astype(np.int64)


def compress(runs: Sequence[np.ndarray]) -> list[bytes]:
    """Compressed counts of N masks from their run lengths, each (R,) int64, below 2^34.

    From the fourth run on the difference to the run before the last is written: in groups of five bits, lowest first,
    as letters from "0" on; a sixth bit says that more follow, and the last group's highest bit is the sign.
    """
    if len(runs) == 0:
        return []
    lengths = np.array([len(r) for r in runs])
    values = np.concatenate(runs)
    place = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = values - np.where(place > 2, np.concatenate([[0, 0], values])[: len(values)], 0)
    shift = 5 * np.arange(7)
    groups = (values[:, None] >> shift) & 31
    # Another group follows unless what remains is all sign.
    follows = (values[:, None] >> (shift + 4)) != (values >> 63)[:, None]
    written = np.concatenate([np.ones((len(values), 1), dtype=bool), follows[:, :-1]], axis=1)
    letters = (groups + 48 + 32 * follows)[written].astype(np.uint8).tobytes()
    ends = np.concatenate([[0], np.cumsum(written.sum(axis=1))])[np.concatenate([[0], np.cumsum(lengths)])].tolist()
    return [letters[a:b] for a, b in pairwise(ends)]


def decompress(counts: bytes) -> np.ndarray:
    """Run lengths (R,) int64 of compressed counts.

    Raises:
        ValueError: letters outside the alphabet or an unfinished number.
    """
    letters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(letters):
        return letters
    if letters.min() < 0 or letters.max() > 63 or letters[-1] & 32:
        raise ValueError("not compressed run lengths")
    last = (letters & 32) == 0
    starts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(letters)) - np.repeat(starts, np.diff(np.append(starts, len(letters))))
    if place.max() > 9:  # more than 50 bits
        raise ValueError("not compressed run lengths")
    values = np.add.reduceat((letters & 31) << (5 * place), starts)
    values -= np.where(letters[last] & 16, np.int64(1) << (5 * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def cut(runs: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]) -> np.ndarray:
    """Bitmap (h, w) bool of a window (x1, y1, x2, y2) of the image with these run lengths; makes its columns only."""
    x1, y1, x2, y2 = window
    ends = np.cumsum(runs).clip(x1 * size[0], x2 * size[0])
    lengths = np.diff(ends, prepend=x1 * size[0])
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, lengths).reshape(x2 - x1, size[0])
    return columns[:, y1:y2].T
