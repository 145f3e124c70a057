"""Mosaics: samples made of four images or of nine.

Of four: Bochkovskiy et al., "YOLOv4" (2020), with the order and the ranges of Ge et al., "YOLOX" (2021), and of its
published recipes. Of nine: the layout of YOLOv5's `load_mosaic9` (Jocher et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.data.canvas import carried, fitted, grey, joined, of_one_type, scaling, warped
from vision_tasks.data.dataset import DetectionDataset, Sample
from vision_tasks.data.geometry import keep_rows
from vision_tasks.structures import Size, Target


@dataclass(frozen=True)
class Mosaic:
    """Four images around one point, or nine, then turned, scaled, sheared and moved together: one of a fixed size.

    Each image is brought into `size` as a letterbox would. Four are laid with one corner at a point drawn from the
    middle half of a canvas of twice that size. Of nine one lies in the middle and the others around it, each at its
    neighbour's edge; the canvas of twice the size is a window on them, drawn so that the middle one is mostly in it.
    The canvas is cut to `size` by an affine map about its centre. The image asked for lies at the upper left of four
    and in the middle of nine; the others are drawn from the whole data set, so that one may come twice; of several
    data sets in one from the same, as what nobody annotated in one part is then unknown in the whole.

    Objects that are then smaller than 2 pixels either way, or of which less than a fifth is left, are dropped with
    their masks. The result has 16 bits if one of the images has.

    Args:
        probability: of making one; else the sample stays as it is.
        size: (height, width) of the result.
        scale: smallest and largest factor; YOLOX takes (0.1, 2), and (0.5, 1.5) for its nano and tiny.
        degrees, shear: largest turn and shear, in degrees. translate: largest shift, as a share of the size.
        tiles: 4 or 9.
    """

    probability: float
    size: Size
    scale: tuple[float, float] = (0.1, 2.0)
    degrees: float = 10.0
    translate: float = 0.1
    shear: float = 2.0
    tiles: Literal[4, 9] = 4

    def __call__(self, sample: Sample, random: Generator, dataset: DetectionDataset) -> Sample:
        """The mosaic, which keeps the image id and the request of `sample`."""
        if random.random() >= self.probability or sample.image is None:
            return sample
        height, width = self.size
        like = dataset.rows_like(sample.request.index)
        rows = random.integers(like.start, like.stop, size=self.tiles - 1).tolist()
        # Where the four meet, or how far the window on the nine is to the right and down.
        low, high = (0.5, 1.5) if self.tiles == 4 else (0.0, 1.0)
        x, y = (int(side * random.uniform(low, high)) for side in (width, height))
        affine = self._affine(random)
        samples = [sample, *map(dataset.read, rows)]
        images = of_one_type([s.image for s in samples if s.image is not None])
        pieces = [fitted(image, self.size) for image in images]
        sizes = [(piece.shape[0], piece.shape[1]) for piece in pieces]
        places = _around_point(sizes, x, y) if self.tiles == 4 else _around_first(sizes, self.size, x, y)
        canvas = grey((2 * height, 2 * width), images[0])
        targets = []
        for image, piece, (left, top), member in zip(images, pieces, places, samples, strict=True):
            h, w = piece.shape[:2]
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + w, 2 * width), min(top + h, 2 * height)
            if x1 >= x2 or y1 >= y2:
                targets.append(_nothing_of(member.target, self.size))
                continue
            canvas[y1:y2, x1:x2] = piece[y1 - top : y2 - top, x1 - left : x2 - left]
            # What the canvas cuts off must be gone before anything turns.
            onto_piece = scaling(w / image.shape[1], h / image.shape[0], left - x1, top - y1)
            onto_result = affine @ scaling(1, 1, x1, y1)
            steps = [(onto_piece, (y2 - y1, x2 - x1)), (onto_result, self.size)]
            if (h, w) == (y2 - y1, x2 - x1):  # nothing is cut off: masks need to be drawn only once
                steps = [(onto_result @ onto_piece, self.size)]
            targets.append(carried(member.target, steps))
        return replace(
            sample,
            image=warped(canvas, affine, self.size),
            target=joined(targets, _semantic_side_by_side),
            unreadable=[entry for s in samples for entry in s.unreadable],
        )

    def _affine(self, random: Generator) -> np.ndarray:
        """(3, 3) map from the canvas to the result, in continuous pixels."""
        height, width = self.size
        angle = math.radians(random.uniform(-self.degrees, self.degrees))
        factor = random.uniform(*self.scale)
        shear_x, shear_y = (math.tan(math.radians(v)) for v in random.uniform(-self.shear, self.shear, 2))
        shift_x, shift_y = random.uniform(0.5 - self.translate, 0.5 + self.translate, 2) * (width, height)
        cos, sin = factor * math.cos(angle), factor * math.sin(angle)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]])
        return np.asarray(scaling(1, 1, shift_x, shift_y) @ shear @ turn @ scaling(1, 1, -width, -height))


def _around_point(sizes: Sequence[Size], x: int, y: int) -> list[tuple[int, int]]:
    """(left, top) of four images that meet at x, y: upper left, upper right, lower left, lower right."""
    return [((x - w, x)[i % 2], (y - h, y)[i // 2]) for i, (h, w) in enumerate(sizes)]


def _around_first(sizes: Sequence[Size], cell: Size, x: int, y: int) -> list[tuple[int, int]]:
    """(left, top) of nine images: the first at (cell's width, height), then clockwise from the one above it, less x, y.

    Each touches the one in the middle or its neighbour, so that little of the canvas stays grey; none overlap.
    """
    s, t = cell[1], cell[0]  # left and upper edge of the middle
    (h0, w0), (h1, w1), (h2, _), (h3, _), _, (_, w5), (_, w6), (h7, w7), (h8, w8) = sizes
    right, bottom = s + w0, t + h0
    places = [
        (s, t),
        (s, t - h1),
        (s + w1, t - h2),
        (right, t),
        (right, t + h3),
        (right - w5, bottom),
        (right - w5 - w6, bottom),
        (s - w7, bottom - h7),
        (s - w8, bottom - h7 - h8),
    ]
    return [(left - x, top - y) for left, top in places]


def _nothing_of(target: Target, size: Size) -> Target:
    """What is left of an image that lies outside: no object, no pixel of its map."""
    gone = target
    if target.boxes is not None:
        gone = keep_rows(target, torch.zeros(len(target.boxes), dtype=torch.bool))
    masks = None if gone.masks is None else replace(gone.masks, size=size)
    semantic = None if target.semantic is None else target.semantic.new_full((*target.semantic.shape[:-2], *size), -1)
    return replace(gone, size=size, masks=masks, semantic=semantic)


def _semantic_side_by_side(maps: list[torch.Tensor]) -> torch.Tensor:
    """Each is -1 where the others are."""
    return torch.stack(maps).amax(dim=0)
