"""Two semantic maps of one image, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vision_tasks.structures import Categories, Color
from vision_tasks.visualize.legend import Entry
from vision_tasks.visualize.regions import enlarged_regions, hatch, regions_of
from vision_tasks.visualize.semantic import UNDECIDED, share

IGNORED, RIGHT, MISSED, MADE_UP = 0, 1, 2, 3
"""What became of a pixel. Of maps with one label a pixel, one that has another label is MADE_UP."""

COLORS: dict[int, Color] = {IGNORED: UNDECIDED, RIGHT: (0, 158, 115), MISSED: (230, 159, 0), MADE_UP: (213, 94, 0)}
"""Okabe and Ito's green, orange and vermilion."""


@dataclass(frozen=True)
class Difference:
    """What became of every pixel, and of every category.

    Attributes:
        verdict: (H, W) uint8.
        counts: pixels ignored, right, missed, made up.
        truth, shared, either: (K,) pixels of each category in the truth, in both maps, in at least one; of pixels that
            count.
    """

    verdict: NDArray[np.uint8]
    counts: tuple[int, int, int, int]
    truth: NDArray[np.float64]
    shared: NDArray[np.float64]
    either: NDArray[np.float64]

    @property
    def mean_iou(self) -> float | None:
        """Over the categories that either map has; None if there are none."""
        there = self.either > 0
        return float((self.shared[there] / self.either[there]).mean()) if there.any() else None


def difference(truth: Tensor, predicted: Tensor, count: int) -> Difference:
    """Compare two maps, both (H, W) labels or both (L, H, W), of `count` categories.

    Of layers, a pixel is missed where a category that is there was not found, made up where one was found that is not
    there and none was missed.
    """
    have, found = truth.detach().cpu().numpy(), predicted.detach().cpu().numpy()
    if have.ndim == 3:
        return _of_layers(have, found)
    theirs, ours = regions_of(have, 0, count), regions_of(found, 0, count)
    verdict = np.where(theirs == ours, np.uint8(RIGHT), np.uint8(MADE_UP))
    verdict[theirs == 0] = IGNORED
    bins, span = [count + 2] * 2, [0, count + 2] * 2
    table = np.asarray(cv2.calcHist([theirs, ours], [0, 1], None, bins, span), np.float64)[1:]
    pixels, shared = table.sum(1)[:-1], np.diagonal(table[:-1, 1:-1])
    return Difference(verdict, _counts(verdict), pixels, shared, pixels + table.sum(0)[1:-1] - shared)


def _of_layers(have: NDArray, found: NDArray) -> Difference:
    known = have >= 0
    there, said = have == 1, (found == 1) & known
    verdict = np.full(have.shape[1:], RIGHT, np.uint8)
    verdict[(said & ~there).any(0)] = MADE_UP
    verdict[(there & ~said).any(0)] = MISSED
    verdict[~known.any(0)] = IGNORED

    def pixels(layers: NDArray) -> NDArray[np.float64]:
        return np.asarray(layers.sum((1, 2)), np.float64)

    return Difference(verdict, _counts(verdict), pixels(there), pixels(there & said), pixels(there | said))


def _counts(verdict: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    ignored, right, missed, made_up = np.bincount(verdict.reshape(-1), minlength=4)[:4].tolist()
    return ignored, right, missed, made_up


def paint_difference(canvas: NDArray[np.uint8], verdict: NDArray[np.uint8], line: int, zoom: int = 1) -> None:
    """The photo in grey with what is wrong in colour, in place; what does not count is hatched.

    canvas: (zoom·H, zoom·W, 3) RGB. line: width of the lines of the hatching.
    """
    grey = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)
    canvas[...] = cv2.cvtColor(cv2.addWeighted(grey, 0.8, grey, 0, 0), cv2.COLOR_GRAY2RGB)
    verdict = enlarged_regions(verdict, zoom)
    for value, color in ((MISSED, COLORS[MISSED]), (MADE_UP, COLORS[MADE_UP])):
        where = (verdict == value).view(np.uint8)
        cv2.copyTo(cv2.addWeighted(canvas, 0.25, np.full_like(canvas, color), 0.75, 0), where, canvas)
    ignored = (verdict == IGNORED).view(np.uint8)
    cv2.copyTo(cv2.addWeighted(canvas, 0.3, np.full_like(canvas, UNDECIDED), 0.7, 0), ignored, canvas)
    hatch(canvas, ignored, line)


def compared_entries(found: Difference, categories: Categories) -> list[Entry]:
    """A legend's entries: categories of either map, the largest truth first, with their share and IoU here."""
    whole = float(found.verdict.size)
    rows = [k for k in np.lexsort((-found.either, -found.truth)).tolist() if found.either[k]]
    return [
        Entry(
            categories.colors[k],
            categories.names[k],
            f"{share(found.truth[k], whole) if found.truth[k] else '–'} · IoU {found.shared[k] / found.either[k]:.2f}",
        )
        for k in rows
    ]
