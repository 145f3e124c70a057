"""Outlines of masks along the edges of their pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision_tasks.inference.outputs.outlines import outlines_of, window_of
from vision_tasks.ops import masks as mask_ops


@pytest.mark.parametrize("radius", [2, 9, 40])
def test_outlines_fill_what_they_outline(radius: int) -> None:
    """Filled by COCO's own rasteriser they give the mask again: all of it without tolerance, nearly all with it."""
    size = (100, 120)
    y, x = np.mgrid[: size[0], : size[1]]
    disc = torch.from_numpy((x - 50) ** 2 + 1.5 * (y - 45) ** 2 <= radius**2)
    disc[:10, :7] = radius == 9  # a second part, at the image's corner
    (rle,) = mask_ops.encode(disc[None])
    for tolerance, least in ((0.0, 1.0), (0.35, 0.99)):
        filled = mask_ops.decode([mask_ops.from_polygons(outlines_of(rle, tolerance), size)])[0]
        assert (filled & disc).sum() >= least * (filled | disc).sum()
    assert len(outlines_of(rle)) == 1 + (radius == 9)
    assert sum(map(len, outlines_of(rle))) < sum(map(len, outlines_of(rle, 0.0)))


def test_one_pixel_and_none() -> None:
    bitmaps = torch.zeros(2, 5, 6, dtype=torch.bool)
    bitmaps[0, 4, 5] = True
    one, none = mask_ops.encode(bitmaps)
    assert {tuple(p) for p in outlines_of(one)[0].tolist()} == {(5, 4), (6, 4), (6, 5), (5, 5)}
    assert outlines_of(none) == []
    assert window_of(one)[0] == (5, 4, 6, 5)
    assert window_of(none)[1].size == 0
