"""Colours are shifted to the bit as Albumentations shifts them."""

from __future__ import annotations

import random

import albumentations as A
import numpy as np
import pytest
from albumentations.augmentations.pixel import functional

from vision_tasks.data.colour import shift_hsv
from vision_tasks.data.dataset import Sample
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import Transforms
from vision_tasks.structures import Target


@pytest.mark.parametrize("limit", [(5, 30, 30), (180, 255, 255), (400, 300, 300), (1, 1, 1)])
def test_every_shift_equals_albumentations(limit: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    for i in range(150):
        image = rng.integers(0, 256, (*rng.integers(5, 20, 2), 3), dtype=np.uint8)
        image[:3] = image[:3, :, :1]  # greys have no saturation, and get none
        shifts = rng.uniform(-1, 1, 3) * limit * rng.integers(0, 2, 3)  # often one or more are 0
        shifts = shifts if i % 2 else np.round(shifts)
        assert np.array_equal(shift_hsv(image, *shifts), functional.shift_hsv(image, *shifts)), shifts


def test_all_hues_turn_by_all_shifts() -> None:
    image = np.zeros((1, 360, 3), np.uint8)
    image[0] = [[(h * 7) % 256, (h * 13 + 50) % 256, h % 256] for h in range(360)]
    for shift in (*range(-181, 182), 179.5, -179.5, 0.5, -0.5):
        assert np.array_equal(shift_hsv(image, shift, 0, 0), functional.shift_hsv(image, shift, 0, 0)), shift


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (4, 1), (1, 4), (9, 1)])
def test_images_of_one_column(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    twice = np.repeat(image, 2, axis=1)  # as Albumentations fails with (4, 1), too
    for shifts in ((5, 0, 0), (0, 20, 0), (0, 0, -5), (-3, -20, 30)):
        assert np.array_equal(shift_hsv(image, *shifts), functional.shift_hsv(twice, *shifts)[:, ::2])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_drawn_is_what_albumentations_draws(dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(dtype)
    arguments = {"hue_shift_limit": 5, "sat_shift_limit": 30, "val_shift_limit": 30, "p": 1.0}
    sample = Sample(image, Target(1, (20, 30)), Request(0))
    ours = Transforms([{"HueSaturationValue": arguments}])(sample, np.random.default_rng(7)).image

    generator = np.random.default_rng(7)
    step = A.HueSaturationValue(**arguments)
    step.set_random_state(generator, random.Random(int(generator.integers(2**63))))
    given = image if dtype is np.uint8 else image.astype(np.float32) / 65535
    theirs = step(image=given, force_apply=True)["image"]
    if dtype is np.uint16:
        theirs = np.rint(theirs.clip(0, 1) * 65535).astype(np.uint16)
    assert np.array_equal(ours, theirs)
    assert not np.array_equal(ours, image)
