"""Maps from several looks at an image: flipped, scaled, in tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import vision_tasks as vt
from tests.inference.local_model import local_model, picture
from vision_tasks.models.vision_model import VisionModel


def predictor(model: VisionModel, **options: Any) -> vt.Predictor:
    return vt.Predictor(model, device="cpu", **options)


def by_hand(model: VisionModel, image: Tensor, sizes: list[tuple[int, int]], flip: bool) -> Tensor:
    """Mean probabilities (K, H, W): resize, run, resize back to the canvas, cut, resize back to the image."""
    head = model.heads["semantic"]
    height, width = image.shape[-2:]
    found = []
    for size in sizes:
        for mirrored in (False, True) if flip else (False,):
            seen = image.flip(-1) if mirrored else image
            batch = model.preprocess([seen], size=size)
            canvas = (batch.images.shape[-2], batch.images.shape[-1])
            logits = head.logits(model.features(batch.images), canvas)
            y = (torch.arange(height) + 0.5) * size[0] / height * logits.shape[-2] / canvas[0]
            x = (torch.arange(width) + 0.5) * size[1] / width * logits.shape[-1] / canvas[1]
            grid = torch.stack(
                torch.meshgrid(2 * x / logits.shape[-1] - 1, 2 * y / logits.shape[-2] - 1, indexing="xy"), dim=-1
            )
            full = F.grid_sample(logits, grid[None], padding_mode="border", align_corners=False)[0]
            probabilities = full.sigmoid() if head.multi_label else full.softmax(dim=0)
            found.append(probabilities.flip(-1) if mirrored else probabilities)
    return torch.stack(found).mean(dim=0)


def agree(found: Tensor, expected: Tensor) -> None:
    """But for pixels where the two best are equal to rounding."""
    best = expected.topk(2, dim=0).values
    sure = best[0] - best[1] > 1e-4
    assert sure.float().mean() > 0.99
    assert torch.equal(found.long()[sure], expected.argmax(0)[sure])


RULES: list[dict[str, Any]] = [
    {"resize": "none"},
    {"resize": "shortest", "min_size": 60, "max_size": 200},
    {"resize": "shortest", "min_size": 60, "max_size": 200, "antialias": True},
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("flip", "scales"), [(True, ()), (False, (0.75, 1.25)), (True, (0.75, 1, 1.25))])
@torch.inference_mode()
def test_looks_equal_the_slow_mean(rule: dict[str, Any], flip: bool, scales: tuple[float, ...]) -> None:
    model, image = local_model(**rule), picture(75, 101)
    whole = model.preprocess.network_size((75, 101))
    sizes = [(round(whole[0] * s), round(whole[1] * s)) for s in scales or (1,)]
    found = predictor(model, flip=flip, scales=scales)(image)
    assert found.semantic is not None
    assert found.semantic.dtype == torch.int16
    assert found.semantic_categories is model.categories
    agree(found.semantic, by_hand(model, image, sizes, flip))


@torch.inference_mode()
def test_categories_that_are_decided_one_by_one() -> None:
    model, image = local_model(multi_label=True), picture(75, 101)
    found = predictor(model, flip=True, scales=(1, 1.5))(image)
    expected = by_hand(model, image, [(75, 101), (round(112.5), round(151.5))], True)
    assert found.semantic is not None
    assert found.semantic.dtype == torch.bool
    sure = (expected - 0.5).abs() > 1e-4
    assert sure.float().mean() > 0.99
    assert torch.equal(found.semantic[sure], expected[sure] > 0.5)
    assert 0 < found.semantic.float().mean() < 1


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scales", [(), (0.7, 1, 1.3)])
@pytest.mark.parametrize("tile", [None, 64])
def test_the_mirror_image_gives_the_mirrored_map_exactly(
    rule: dict[str, Any], scales: tuple[float, ...], tile: int | None
) -> None:
    ask = predictor(local_model(**rule), flip=True, scales=scales, tile=tile)
    for width in (100, 75):
        image = picture(75, width)
        one, two = ask(image).semantic, ask(image.flip(-1)).semantic
        assert one is not None
        assert two is not None
        assert torch.equal(one, two.flip(-1))
        assert len(one.unique()) > 1


def test_without_flip_the_mirror_image_is_another() -> None:
    ask = predictor(local_model())
    one, two = ask(picture(75, 101)).semantic, ask(picture(75, 101).flip(-1)).semantic
    assert one is not None
    assert two is not None
    assert not torch.equal(one, two.flip(-1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("options", [{}, {"flip": True}, {"flip": True, "scales": (0.6, 1, 1.4)}])
def test_tiles_change_nothing_if_their_overlap_is_wide_enough(rule: dict[str, Any], options: dict[str, Any]) -> None:
    model, image = local_model(**rule), picture(170, 230)
    whole = predictor(model, **options)(image).semantic
    tiled = predictor(model, tile=64, overlap=48, batch_size=4, **options)(image).semantic
    assert whole is not None
    assert tiled is not None
    assert (whole == tiled).float().mean() > 0.999  # rounding may decide between equals


def test_one_look_is_what_the_model_says() -> None:
    model, images = local_model(), [picture(50, 60), picture(50, 60, seed=1), picture(40, 70, seed=2)]
    with torch.inference_mode():
        expected = [model.predict(model.preprocess([image]))[0].semantic for image in images]
    for options in ({}, {"tile": 128}, {"scales": (1,)}, {"tile": (64, 96), "overlap": 0, "batch_size": 2}):
        for one, two in zip(expected, predictor(model, **options)(images), strict=True):
            assert torch.equal(one, two.semantic)


def test_a_tile_may_be_wide_and_low() -> None:
    model, image = local_model(), picture(150, 300)
    whole = predictor(model)(image).semantic
    tiled = predictor(model, tile=(64, 160), overlap=48)(image).semantic
    assert (whole == tiled).float().mean() > 0.999


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_the_smallest_images(size: tuple[int, int]) -> None:
    found = predictor(local_model(), flip=True, scales=(0.1, 1), tile=64)(picture(*size))
    assert found.size == size
    assert found.semantic is not None
    assert found.semantic.shape == size


def test_the_threshold_is_for_objects_alone() -> None:
    image = picture(40, 50)
    for options in ({}, {"flip": True}):
        low, high = (
            predictor(local_model(multi_label=True), threshold=t, **options)(image).semantic for t in (0.0, 1.0)
        )
        assert torch.equal(low, high)
        assert low.any()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_models_of_any_number_of_channels(channels: int) -> None:
    model = local_model(mean=(0.5,) * channels, std=(0.2,) * channels)
    image = picture(50, 60, channels)
    with torch.inference_mode():
        expected = model.predict(model.preprocess([image]))[0].semantic
    for ask in (predictor(model), predictor(model, tile=128)):
        assert torch.equal(ask(image).semantic, expected)
        assert torch.equal(ask(image.permute(1, 2, 0).numpy()).semantic, expected)
    deep = (image.int() * 257).to(torch.uint16)
    assert torch.equal(predictor(model)(deep).semantic, expected)


def test_colours_for_a_model_of_greys(tmp_path: Path) -> None:
    model = local_model(mean=(0.5,), std=(0.2,))
    grey = picture(50, 60, 1)
    ask = predictor(model)
    expected = ask(grey).semantic
    for image in (grey.expand(3, -1, -1), grey[0].numpy(), np.repeat(grey.permute(1, 2, 0).numpy(), 4, axis=2)):
        assert torch.equal(ask(image).semantic, expected)
    color = picture(50, 60)
    luma = Image.fromarray(color.permute(1, 2, 0).numpy()).convert("L")
    expected = ask(luma).semantic
    assert torch.equal(ask(color).semantic, expected)
    assert torch.equal(ask(np.array(luma)).semantic, expected)
    color_path, luma_path = tmp_path / "color.png", tmp_path / "luma.png"
    Image.fromarray(color.permute(1, 2, 0).numpy()).save(color_path)
    luma.save(luma_path)
    assert torch.equal(ask(color_path).semantic, expected)
    assert torch.equal(ask(luma_path).semantic, expected)
    assert (ask(color / 255).semantic == expected).float().mean() > 0.95  # not rounded to whole greys


def test_transparency_for_a_model_of_four_channels(tmp_path: Path) -> None:
    ask = predictor(local_model(mean=(0.5,) * 4, std=(0.2,) * 4))
    image = Image.fromarray(picture(50, 60, 4).permute(1, 2, 0).numpy())
    image.save(tmp_path / "a.png")
    expected = ask(np.array(image)).semantic
    assert torch.equal(ask(image).semantic, expected)
    assert torch.equal(ask(tmp_path / "a.png").semantic, expected)
    with pytest.raises(vt.VisionTasksError, match=r"takes images as \(4, H, W\)"):
        ask(picture(50, 60))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 32}, "overlap is that of tiles: give tile"),
        ({"tile": 64, "overlap": 64}, "cannot overlap by 64"),
        ({"tile": 0}, "Tiles of 0 × 0"),
        ({"tile": 62}, "multiples of its stride, 4, .* Try 64"),
        ({"scales": (1, 0)}, r"scales must be factors above 0 and up to 16, not \(1, 0\)"),
        ({"scales": (float("nan"),)}, "scales must be"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(vt.VisionTasksError, match=message):
        predictor(local_model(), **options)


@pytest.mark.parametrize(
    ("rule", "options", "says"),
    [
        ({"resize": "shortest", "min_size": 32, "max_size": 64, "stride": 4}, {"tile": 64}, "(4,) (--scales 4)"),
        ({"resize": "shortest", "min_size": 32, "max_size": 64, "stride": 4}, {"tile": 64, "scales": (4,)}, ""),
        ({"resize": "shortest", "min_size": 32, "max_size": 64, "stride": 4}, {"tile": 32}, ""),
        ({"resize": "shortest", "min_size": 32, "max_size": 64, "stride": 4}, {"tile": 192}, ""),
        ({"resize": "shortest", "min_size": 32, "max_size": 64, "stride": 4}, {}, ""),
        ({}, {"tile": 64}, ""),
    ],
)
def test_tiles_that_change_nothing_are_told_once(
    rule: dict[str, Any], options: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = vt.Predictor(local_model(**rule), device="cpu", **options)
    for _ in range(2):
        predictor(picture(128, 192))
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == (1 if says else 0)
    assert not says or ("this 192×128 image at 48×32" in told[0] and says in told[0])
