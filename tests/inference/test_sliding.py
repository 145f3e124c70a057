"""Tiles put together give the whole image's scores, in bounded memory."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.inference.local_model import local_model, picture, radius_of
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.looks.network_image import NetworkImage
from vision_tasks.inference.looks.sliding import TiledScores, Tiling, origins, weights
from vision_tasks.models.preprocess import Preprocess

Strides = tuple[int, ...]


def tiled(strides: Strides, image: Tensor, tiling: Tiling | None, batch_size: int = 1) -> TiledScores:
    model = local_model(strides)
    head = model.heads["semantic"]
    stride = model.preprocess.stride
    seen = NetworkImage(image, model.preprocess, (image.shape[1], image.shape[2]), False, stride, whole=tiling is None)
    return TiledScores(
        seen, lambda x: head.logits(model.features(x), (x.shape[-2], x.shape[-1])), tiling, stride, batch_size
    )


def whole(strides: Strides, image: Tensor) -> Tensor:
    """Scores as the model makes them without tiles, (K, h, w)."""
    model = local_model(strides)
    batch = model.preprocess([image])
    return model.heads["semantic"].logits(model.features(batch.images), tuple(batch.images.shape[-2:]))[0]


@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 1, 2), (2, 1, 2, 1, 2)])
@pytest.mark.parametrize(
    "size", [(200, 264), (131, 65), (65, 129), (64, 200), (30, 40), (30, 200), (64, 64), (65, 65), (129, 66)]
)
@torch.inference_mode()
def test_equal_to_the_whole_image_if_the_context_is_the_radius(strides: Strides, size: tuple[int, int]) -> None:
    image = picture(*size)
    expected = whole(strides, image)
    overlap = 2 * radius_of(strides)
    for tile, blend, batch_size in (((64, 64), 0, 1), ((64, 72), 7, 3)):
        found = tiled(strides, image, Tiling(tile, overlap + blend, blend), batch_size)
        assert found.cells == expected.shape[-2:]
        torch.testing.assert_close(found.read(0, found.cells[0]), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_less_context_is_seen_at_the_seams_and_nowhere_else() -> None:
    strides, image = (1, 2, 1, 2), picture(64, 256)
    expected, radius = whole(strides, image), radius_of((1, 2, 1, 2))
    found = tiled(strides, image, Tiling((64, 64), 0, 0)).read(0, 16)
    wrong = (found - expected).abs().amax(dim=(0, 1)) > 1e-5
    seams = torch.arange(64, 256, 64)
    centres = (torch.arange(64) + 0.5) * 4
    near = (centres[:, None] - seams).abs().amin(dim=1) <= radius
    assert wrong.any()
    assert not wrong[~near].any()


@torch.inference_mode()
def test_any_way_of_reading_gives_the_same_and_keeps_little() -> None:
    image = picture(400, 100)
    tiling = Tiling((64, 64), 32, 8)
    at_once = tiled((1, 2, 1, 2), image, tiling).read(0, 100)
    for steps in ([1] * 100, [7] * 14 + [2], [50, 1, 49]):
        source, first = tiled((1, 2, 1, 2), image, tiling), 0
        for step in steps:
            # Bands share a row or two with the one before.
            begin = max(0, first - 2)
            torch.testing.assert_close(
                source.read(begin, first + step), at_once[:, begin : first + step], rtol=0, atol=0
            )
            assert source._kept.shape[1] <= max(steps) + 2 + 16
            first += step
    with pytest.raises(ValueError, match="row 0 was given up"):
        source.read(0, 1)


def test_no_tile_runs_twice_and_none_before_it_is_asked_for() -> None:
    image = NetworkImage(picture(256, 200), Preprocess(resize="none", stride=4), (256, 200), False, 4, False)
    seen: list[int] = []

    def scores(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images[:, :2, ::4, ::4]

    source = TiledScores(image, scores, Tiling((64, 64), 16, 8), 4, batch_size=3)
    source.read(0, 2)
    columns, rows = len(origins(200, 64, 16, 4)), len(origins(256, 64, 16, 4))
    assert sum(seen) == columns
    assert max(seen) == 3
    source.read(2, 64)
    assert sum(seen) == rows * columns


@given(
    st.integers(1, 40), st.integers(1, 12), st.integers(0, 95), st.floats(0, 1), st.integers(1, 8), st.integers(1, 3)
)
def test_origins_and_weights(
    cells: int, tile_cells: int, overlap: int, blended: float, cell: int, per_stride: int
) -> None:
    stride = cell * per_stride
    canvas, tile = cells * stride, tile_cells * stride
    overlap = min(overlap, tile - stride)
    blend = round(overlap * blended)
    starts = origins(canvas, tile, overlap, stride)
    length = min(tile, canvas)
    assert starts[0] == 0
    assert starts[-1] + length == canvas
    assert all(start % stride == 0 for start in starts)
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(0 < gap <= tile - overlap for gap in gaps)
    step = (tile - overlap) // stride * stride
    assert len(starts) == 1 + max(0, math.ceil((canvas - tile) / step))  # no more than needed

    share = weights(starts, canvas, tile, overlap, blend, cell)
    assert share.shape == (len(starts), length // cell)
    assert share.min() >= 0
    total = torch.zeros(canvas // cell)
    for start, row in zip(starts, share, strict=True):
        total[start // cell : start // cell + len(row)] += row
    torch.testing.assert_close(total, torch.ones(canvas // cell), rtol=0, atol=1e-6)
    context = (overlap - blend) / 2
    centre = (torch.arange(length // cell) + 0.5) * cell
    for start, row in zip(starts, share, strict=True):
        if start > 0:
            assert not row[centre < context].any()
        if start + length < canvas:
            assert not row[length - centre < context].any()


def test_a_fade_is_smooth_and_in_the_middle() -> None:
    one, two = weights([0, 64], 160, 96, 32, 16, 1)
    fade = two[:32]
    assert not fade[:8].any()
    assert (fade[24:] == 1).all()
    torch.testing.assert_close(fade + fade.flip(0), torch.ones(32), rtol=0, atol=1e-6)
    torch.testing.assert_close(one[64:], fade.flip(0), rtol=0, atol=1e-6)
    assert fade.diff().max() < 0.11  # a jump would be 1, a straight line 1/16 = 0.06
    assert math.isclose(float(fade[15]), math.sin(7.5 / 16 * math.pi / 2) ** 2, abs_tol=1e-6)


@pytest.mark.parametrize(
    "rule",
    [
        {"resize": "none", "stride": 8},
        {"resize": "none", "stride": 8, "pad_value": 0.4},
        {"resize": "none", "stride": 8, "channel_order": "bgr"},
        {"min_size": 90, "max_size": 400, "stride": 8},
        {"min_size": 37, "max_size": 400, "stride": 8, "pad_value": 0.0},
        {"min_size": 37, "max_size": 400, "stride": 8, "antialias": True},
        {"min_size": 90, "max_size": 400, "stride": 8, "interpolation": "bicubic"},
        {"resize": "stretch", "size": (72, 48), "stride": 8},
        {"resize": "letterbox", "size": (96, 96), "stride": 8, "place": "center", "pad_value": 0.5},
        {"resize": "letterbox", "size": (96, 96), "stride": 8},
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float"])
def test_windows_are_those_of_the_canvas(rule: dict, mirrored: bool, kind: str) -> None:
    preprocess = Preprocess(**rule)
    image = picture(57, 83)
    image = {"uint8": image, "uint16": (image.int() * 257).to(torch.uint16), "float": image / 255}[kind]
    flipped = torch.from_numpy(image.numpy()[..., ::-1].copy())
    batch = preprocess([flipped if mirrored else image])
    size = preprocess.network_size((57, 83))
    for whole in (False, True):
        seen = NetworkImage(image, preprocess, size, mirrored, 8, whole)
        canvas: tuple[int, int] = (batch.images.shape[-2], batch.images.shape[-1])
        assert seen.canvas == canvas
        assert (seen.scale, tuple(seen.offset)) == (batch.scales[0], tuple(batch.offsets[0]))
        for top, left, height, width in ((0, 0, *canvas), (8, 16, 24, 32), (canvas[0] - 16, canvas[1] - 24, 16, 24)):
            expected = batch.images[0, :, top : top + height, left : left + width]
            torch.testing.assert_close(seen.window(top, left, (height, width)), expected, rtol=0, atol=5e-6)


def test_a_canvas_may_be_padded_to_a_larger_stride_than_the_model_asks_for() -> None:
    preprocess = Preprocess(resize="none", stride=1, pad_value=0.25)
    seen = NetworkImage(picture(57, 83), preprocess, (57, 83), False, 32, False)
    assert seen.canvas == (64, 96)
    found = seen.window(32, 64, (32, 32))
    expected = preprocess.normalise(torch.full((3, 1, 1), 0.25))
    torch.testing.assert_close(found[:, 25:], expected.expand(-1, 7, 32), rtol=0, atol=0)
    torch.testing.assert_close(found[:, :, 19:], expected.expand(-1, 32, 13), rtol=0, atol=0)
    assert not torch.equal(found[:, :25, :19], expected.expand(-1, 25, 19))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((64, 64), "cannot overlap by 64"),
        ((64, -1), "cannot overlap by -1"),
        ((0, 0), "cannot overlap by 0"),
        ((64, 16, 17), r"blend must be in 0\.\.overlap, 16, not 17"),
    ],
)
def test_bad_tilings(options: tuple[int, ...], message: str) -> None:
    with pytest.raises(VisionTasksError, match=message):
        Tiling.of(*options)


def test_tiles_that_do_not_fit_the_stride() -> None:
    Tiling.of(64, 32).check_stride(32)
    for tile, overlap, near in ((100, 20, 128), (64, 40, 96), (24, 0, 32)):
        with pytest.raises(VisionTasksError, match=rf"multiples of its stride, 32.*Try {near}"):
            Tiling.of(tile, overlap).check_stride(32)
    image = NetworkImage(picture(100, 100), Preprocess(resize="none"), (100, 100), False, 32, False)
    with pytest.raises(VisionTasksError, match="makes 22 cells of a tile's side of 64 pixels"):
        TiledScores(image, lambda x: x[:, :, ::3, ::3], Tiling((64, 64), 32, 0), 32)
