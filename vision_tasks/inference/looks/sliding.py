"""Scores of a large image from overlapping tiles, row by row of tiles, so that memory does not grow with its height.

Neighbouring tiles are cross-faded in the middle of their overlap; what lies nearer to a tile's edge is context, and its
scores are thrown away. A network whose output depends on `radius` pixels around gives the whole image's scores exactly
if that context, (overlap - blend) / 2, is at least `radius`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.looks.network_image import NetworkImage
from vision_tasks.structures import Size

Scores = Callable[[Tensor], Tensor]
"""(B, C, h, w) network images -> (B, K, h', w') scores whose cells cover them evenly."""


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles, in network pixels.

    Attributes:
        tile: (height, width), multiples of the model's stride.
        overlap: what neighbouring tiles share at least. blend: how much of it, in its middle, is cross-faded.

    Raises:
        VisionTasksError: tiles that are not larger than their overlap, or a blend that is not within it.
    """

    tile: Size
    overlap: int
    blend: int

    def __post_init__(self) -> None:
        if min(self.tile) < 1 or not 0 <= self.overlap < min(self.tile):
            raise VisionTasksError(
                f"Tiles of {self.tile[0]} × {self.tile[1]} pixels cannot overlap by {self.overlap}: the overlap must "
                "be at least 0 and less than the tile's shorter side. A quarter of it is usual."
            )
        if not 0 <= self.blend <= self.overlap:
            raise VisionTasksError(f"blend must be in 0..overlap, {self.overlap}, not {self.blend}.")

    @classmethod
    def of(cls, tile: int | Size, overlap: float | None = None, blend: int | None = None) -> Tiling:
        """Square tiles from one number; an overlap of a quarter of the shorter side, half of it blended.

        overlap: pixels, or, below 1, a part of the tile's shorter side.
        """
        sides = (tile, tile) if isinstance(tile, int) else tile
        if not (isinstance(sides, (tuple, list)) and len(sides) == 2 and all(isinstance(side, int) for side in sides)):
            raise VisionTasksError(f"tile must be a whole number of pixels, or (height, width), not {tile!r}.")
        if overlap is not None and not (isinstance(overlap, (int, float)) and math.isfinite(overlap)):
            raise VisionTasksError(f"overlap must be a number of pixels, or a part below 1, not {overlap!r}.")
        size = (sides[0], sides[1])
        part = 0.25 if overlap is None else overlap
        overlap = int(part * min(size)) if 0 <= part < 1 else math.floor(part)
        return cls(size, overlap, overlap // 2 if blend is None else blend)

    def check_stride(self, stride: int) -> None:
        """Raise `VisionTasksError` unless tiles can lie on the model's stride."""
        if any(side % stride for side in self.tile) or min(self.tile) - self.overlap < stride:
            near = max(math.ceil(min(self.tile) / stride), 1 + math.ceil(self.overlap / stride)) * stride
            raise VisionTasksError(
                f"Tiles of {self.tile[0]} × {self.tile[1]} pixels with an overlap of {self.overlap} do not fit this "
                f"model: their sides must be multiples of its stride, {stride}, and at least one stride larger than "
                f"the overlap. Try {near}."
            )


def origins(canvas: int, tile: int, overlap: int, stride: int) -> list[int]:
    """Where tiles begin along one axis, the fewest that do, evenly spread over multiples of the stride.

    Args:
        canvas, tile: lengths in network pixels, multiples of `stride`. overlap: of neighbours, at least.
    """
    if canvas <= tile:
        return [0]
    step, room = (tile - overlap) // stride, (canvas - tile) // stride
    gaps = math.ceil(room / step)
    return [i * room // gaps * stride for i in range(gaps + 1)]


def weights(starts: list[int], canvas: int, tile: int, overlap: int, blend: int, cell: int) -> Tensor:
    """Each tile's share in every cell of its own, (tiles, tile / cell) float32; those of a cell of the canvas sum to 1.

    A share is 0 in the context beside a neighbour, rises as sin² across the blend, and is 1 further inside, before
    the shares of more than two tiles, or of two that overlap more than they must, are brought to a sum of 1.
    """
    length = min(tile, canvas)
    centre = (torch.arange(length // cell, dtype=torch.float64) + 0.5) * cell
    context = (overlap - blend) / 2
    raw = torch.ones((len(starts), length // cell), dtype=torch.float64)
    for share, start in zip(raw, starts, strict=True):
        if start > 0:
            share *= _rise(centre - context, blend)
        if start + length < canvas:
            share *= _rise(length - centre - context, blend)
    total = torch.zeros(canvas // cell, dtype=torch.float64)
    for share, start in zip(raw, starts, strict=True):
        total[start // cell : start // cell + len(share)] += share
    for share, start in zip(raw, starts, strict=True):
        share /= total[start // cell : start // cell + len(share)]
    return raw.to(torch.float32)


def _rise(distance: Tensor, width: int) -> Tensor:
    if width == 0:
        return (distance >= 0).to(distance.dtype)
    return torch.sin((distance / width).clamp(0, 1) * (math.pi / 2)) ** 2


class TiledScores:
    """Rows of the whole image's scores, on demand from the top; each row of tiles runs when its scores are asked for.

    Attributes:
        cells: (height, width) of the scores. categories: K.

    Args:
        image: what to look at. scores: the network. tiling: None takes the image as one tile.
        stride: tiles lie on its multiples. batch_size: tiles of one forward pass.

    Raises:
        VisionTasksError: tiles do not fit the stride.
    """

    def __init__(
        self, image: NetworkImage, scores: Scores, tiling: Tiling | None, stride: int, batch_size: int = 1
    ) -> None:
        self._image, self._scores, self._batch_size = image, scores, batch_size
        canvas = image.canvas
        if tiling is None or (canvas[0] <= tiling.tile[0] and canvas[1] <= tiling.tile[1]):
            tiling = Tiling(canvas, 0, 0)
        else:
            tiling.check_stride(stride)
        self._size: Size = (min(tiling.tile[0], canvas[0]), min(tiling.tile[1], canvas[1]))
        self._tops = origins(canvas[0], tiling.tile[0], tiling.overlap, stride)
        self._lefts = origins(canvas[1], tiling.tile[1], tiling.overlap, stride)
        first = scores(image.window(0, 0, self._size)[None])
        self._seen: Tensor | None = first
        self.categories = first.shape[1]
        h, w = first.shape[-2:]
        if len(self._tops) == len(self._lefts) == 1:
            self._kept, self._cell, self.cells = first[0].float(), (0, 0), (h, w)
            self._waiting: list[int] = []
            self._final = h
        else:
            self._cell = (self._size[0] // h, self._size[1] // w)
            self._check_cells(h, w, stride)
            self.cells = (canvas[0] // self._cell[0], canvas[1] // self._cell[1])
            shape = (tiling.overlap, tiling.blend)
            self._down = weights(self._tops, canvas[0], tiling.tile[0], *shape, self._cell[0]).to(first.device)
            self._across = weights(self._lefts, canvas[1], tiling.tile[1], *shape, self._cell[1]).to(first.device)
            self._kept = torch.zeros((self.categories, 0, self.cells[1]), device=first.device)
            self._waiting, self._final = list(range(len(self._tops))), 0
        self._top = 0

    def _check_cells(self, height: int, width: int, stride: int) -> None:
        """Raise `VisionTasksError` if the scores' cells do not lie on the grid of tiles."""
        for side, cells in zip(self._size, (height, width), strict=True):
            if side % cells or stride % (side // cells):
                raise VisionTasksError(
                    f"This model makes {cells} cells of a tile's side of {side} pixels, so tiles do not fit together. "
                    "Predict without tiles, or choose sides that are multiples of 64."
                )

    def read(self, first: int, last: int) -> Tensor:
        """(K, last - first, w) float32. Rows above `first` are given up: later calls cannot ask for them."""
        if first < self._top:
            raise ValueError(f"row {first} was given up; rows are there from {self._top} on")
        if last > self._final:
            # A copy, so that the rows given up are free before more are made.
            self._kept, self._top = self._kept[:, first - self._top :].clone(), first
        while last > self._final:
            self._run_row()
        return self._kept[:, first - self._top : last - self._top]

    def _run_row(self) -> None:
        """Run one row of tiles and add its scores to what is kept."""
        number = self._waiting.pop(0)
        start = self._tops[number] // self._cell[0]
        height, width = self._size[0] // self._cell[0], self._size[1] // self._cell[1]
        end = start + height
        if end <= self._top:
            return
        grown = self._kept.new_zeros((self.categories, end - self._top, self.cells[1]))
        grown[:, : self._kept.shape[1]] = self._kept
        self._kept = grown
        # Where this row of tiles has no share, its scores may lie above what is still kept.
        hidden = max(0, self._top - start)
        rows = slice(start + hidden - self._top, end - self._top)
        for j, scores in self._row_scores(self._tops[number]):
            left = self._lefts[j] // self._cell[1]
            share = self._down[number, hidden:, None] * self._across[j]
            self._kept[:, rows, left : left + width].addcmul_(scores[:, hidden:].float(), share)
        self._final = end
        if self._waiting:
            above = self._down[self._waiting[0]] == 0
            self._final = self._tops[self._waiting[0]] // self._cell[0] + int(above.long().cumprod(0).sum())

    def _row_scores(self, top: int) -> Iterator[tuple[int, Tensor]]:
        """(column, (K, h, w) scores) of the tiles of one row. The very first tile has been run already."""
        begin = 0
        if self._seen is not None:
            yield 0, self._seen[0]
            self._seen, begin = None, 1
        for i in range(begin, len(self._lefts), self._batch_size):
            lefts = self._lefts[i : i + self._batch_size]
            images = torch.stack([self._image.window(top, left, self._size) for left in lefts])
            yield from enumerate(self._scores(images), start=i)
