"""Preprocessing of semantic maps, of crops, and of images that are not RGB, against torch and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_preprocess import image

from vision_tasks.errors import VisionTasksError
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.structures import Target


def test_a_batch_stretched_to_one_size_is_torchs_resize() -> None:
    """Crops: whatever the model's own rule, and without a second resampling where a region has that size already."""
    pictures = [image((31, 47), 0), image((64, 96), 1)]
    boxes = [torch.tensor([[1.0, 2, 30, 25]])] * 2
    targets = [Target(i, (p.shape[1], p.shape[2]), boxes=boxes[i]) for i, p in enumerate(pictures)]
    rules: list[dict[str, Any]] = [
        {}, {"resize": "none"}, {"resize": "stretch", "size": (99, 99)},
        {"resize": "letterbox", "size": (320, 320), "place": "center"},
    ]  # fmt: skip
    for rule in rules:
        batch = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3, **rule)(pictures, targets, 480, (64, 96))
        assert batch.images.shape == (2, 3, 64, 96)
        assert batch.image_sizes == [(64, 96)] * 2
        assert batch.offsets == [(0.0, 0.0)] * 2
        smooth = torch.nn.functional.interpolate(pictures[0][None] / 255, (64, 96), mode="bilinear")[0]
        torch.testing.assert_close(batch.images[0], smooth, rtol=0, atol=1e-5)
        torch.testing.assert_close(batch.images[1], pictures[1] / 255)
        assert batch.targets is not None
        assert batch.targets[0].boxes is not None
        scale = torch.tensor([96 / 47, 64 / 31] * 2)
        torch.testing.assert_close(batch.targets[0].boxes, boxes[0] * scale)
    assert Preprocess(stride=32)(pictures, None, None, (50, 70)).images.shape == (2, 3, 64, 96)


@pytest.mark.parametrize("old", [(48, 64), (37, 101), (1, 1), (7, 5)])
@pytest.mark.parametrize("new", [(48, 64), (96, 128), (24, 32), (33, 77), (300, 2)])
def test_semantic_maps_are_sampled_where_cells_have_their_centres(old: tuple[int, int], new: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 1000, old, generator=generator).to(torch.int16)
    layers = torch.randint(-1, 2, (4, *old), generator=generator).to(torch.int8)
    rule = Preprocess(resize="stretch", size=new)
    batch = rule([image(old, i) for i in range(3)], [
        Target(0, old, semantic=labels), Target(1, old, semantic=layers), Target(2, old)
    ])  # fmt: skip
    assert batch.targets is not None
    first, second, third = (t.semantic for t in batch.targets)
    assert third is None
    assert first is not None
    assert second is not None
    assert (first.dtype, first.shape) == (torch.int16, new)
    assert (second.dtype, second.shape) == (torch.int8, (4, *new))
    rows = [int((i + 0.5) * old[0] / new[0]) for i in range(new[0])]
    columns = [int((i + 0.5) * old[1] / new[1]) for i in range(new[1])]
    assert torch.equal(first, torch.stack([labels[r][columns] for r in rows]))
    theirs = torch.nn.functional.interpolate(layers[None].double(), new, mode="nearest-exact")[0]
    assert (second != theirs).float().mean() < 0.05  # ties, in float32


def test_labels_stay_on_the_paint_when_images_are_resized() -> None:
    rows, columns = torch.meshgrid(torch.arange(90), torch.arange(130), indexing="ij")
    labels = (((rows - 40) ** 2 + (columns - 60) ** 2 < 900).int() + (columns * 3 + rows > 400).int()).to(torch.int16)
    picture = torch.nn.functional.one_hot(labels.long(), 3).permute(2, 0, 1).to(torch.uint8) * 255
    for size in (50, 72, 133, 240):
        batch = Preprocess(size, 9999, mean=(0.0,) * 3, std=(1.0,) * 3)(
            [picture], [Target(0, (90, 130), semantic=labels)]
        )
        assert batch.targets is not None
        found = batch.targets[0].semantic
        assert found is not None
        assert batch.targets[0].size == found.shape == batch.image_sizes[0]
        paint = batch.images[0, :, : found.shape[0], : found.shape[1]]
        own = paint.gather(0, found[None].long())[0]
        assert (own < 0.2).float().mean() < 1e-3
        edge = paint.amax(0) < 0.99
        assert (paint.argmax(0) != found)[edge].float().mean() < 0.2


@pytest.mark.parametrize("channels", [1, 2, 4, 12])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_any_number_of_channels(channels: int, dtype: torch.dtype) -> None:
    high = 256 if dtype == torch.uint8 else 65536
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, high, (channels, 40, 50), generator=generator).to(dtype)
    mean, std = tuple(0.1 + 0.05 * i for i in range(channels)), tuple(0.2 + 0.01 * i for i in range(channels))
    batch = Preprocess(resize="none", mean=mean, std=std)([picture])
    expected = (picture.double() / (high - 1) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(batch.images[0, :, :40, :50], expected.float(), rtol=1e-5, atol=1e-5)
    with pytest.raises(VisionTasksError, match=rf"\({channels}, H, W\)"):
        Preprocess(resize="none", mean=mean, std=std)([image((40, 50), 0)])
