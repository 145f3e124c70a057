"""Large-scale jitter, crops that keep objects, holes, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painting import samples

from vision_tasks.config import load_config
from vision_tasks.data.crops import ObjectCrop
from vision_tasks.data.dataset import Sample
from vision_tasks.data.jitter import LargeScaleJitter
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import PRESETS, Transforms
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.structures import Masks, Target
from vision_tasks.training.loaders import combinations_of, min_sizes_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_jitter_scales_as_far_as_it_says_to_the_size_it_says():
    """A box of 40×30 on an image of 200×100, fitted into 300×200: 1.5 times the factor, where it is not cut."""
    target = Target(1, (100, 200), torch.tensor([[80.0, 35, 120, 65]]), torch.tensor([0]))
    image = np.zeros((100, 200, 3), np.uint8)
    jitter = LargeScaleJitter([200, 300], [0.2, 1.2])
    factors = []
    for seed in range(200):
        after, moved = jitter(image, target, np.random.default_rng(seed))
        assert after.shape == (200, 300, 3)
        x1, y1, x2, y2 = moved.boxes[0].tolist()
        if min(x1, y1) > 0 and x2 < 300 and y2 < 200:
            factors.append((x2 - x1) / 60)
            assert (y2 - y1) / 45 == pytest.approx((x2 - x1) / 60, abs=0.04)
    assert 0.19 < min(factors) < 0.25
    assert 1.1 < max(factors) < 1.21
    assert np.mean(factors) == pytest.approx(0.7, abs=0.08)


def test_jitter_keeps_the_size_of_the_image_unless_told_otherwise():
    image = np.full((50, 70, 1), 7, np.uint16)
    for seed in range(20):
        after, moved = LargeScaleJitter()(image, Target(1, (50, 70)), np.random.default_rng(seed))
        assert after.shape == image.shape
        assert after.dtype == image.dtype
        assert moved.size == (50, 70)
        assert set(np.unique(after)) <= {7, 123 * 257}
    one, _ = LargeScaleJitter(64, [1, 1])(np.zeros((1, 1, 5), np.uint8), Target(1, (1, 1)), np.random.default_rng(0))
    assert one.shape == (64, 64, 5)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(samples(), st.integers(0, 2**31), st.sampled_from([0.5, 0.7, 1.0]))
def test_an_object_crop_cuts_no_object_badly(sample, seed, visible):
    sample.target.masks = Masks(sample.target.size, shapes=[None] * 3)  # boxes are what it looks at
    sample.target.is_crowd = torch.zeros(3, dtype=torch.bool)
    _, moved = ObjectCrop(visible=visible)(sample.image, sample.target, np.random.default_rng(seed))
    assert len(moved.boxes)
    whole = (sample.target.boxes[:, 2:] - sample.target.boxes[:, :2]).prod(1)
    left = (moved.boxes[:, 2:] - moved.boxes[:, :2]).prod(1)
    assert (left >= visible * whole[moved.labels] * (1 - 1e-4)).all()


def test_object_crops_are_crops_and_vary():
    boxes = torch.tensor([[10.0, 10, 30, 30], [150, 60, 190, 90]])
    target = Target(1, (100, 200), boxes, torch.tensor([0, 1]))
    image = np.zeros((100, 200, 3), np.uint8)
    seen = [ObjectCrop()(image, target, np.random.default_rng(i)) for i in range(100)]
    assert len({m.size for _, m in seen}) > 80
    assert {len(m.boxes) for _, m in seen} == {1, 2}
    assert {tuple(m.labels.tolist()) for _, m in seen} == {(0,), (1,), (0, 1)}
    empty, _ = ObjectCrop()(image, Target(1, (100, 200), torch.zeros(0, 4)), np.random.default_rng(0))
    assert empty.shape != image.shape


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"LargeScaleJitter": {"size": [10]}}, "size is"),
        ({"LargeScaleJitter": {"size": 0}}, "size is"),
        ({"LargeScaleJitter": {"scale": [2, 1]}}, "scale is"),
        ({"LargeScaleJitter": {"p": 3}}, "p is 3"),
        ({"ObjectCrop": {"side": [0.5, 2]}}, "side is"),
        ({"ObjectCrop": {"visible": 0}}, "visible is 0"),
        ({"LargeScaleJitter": {"sizes": 3}}, "did you mean 'size'"),
        ({"LargeScaleJiter": {}}, "did you mean 'LargeScaleJitter'"),
        ({"Resize": {"height": 9, "width": 9, "mask_interpolation": 1}}, "labels do not blend"),
        ({"RandomRain": {"drop_size": 3}}, "RandomRain has no argument"),
    ],
)
def test_what_cannot_be_is_refused(entry, message):
    with pytest.raises(VisionTasksError, match=message):
        Transforms([entry])


NEED_COLOUR = ("RandomRain", "RandomFog", "RandomSnow", "ISONoise", "Spatter", "ChromaticAberration", "PlanckianJitter")
NEED_NONE = ("GaussNoise", "MotionBlur", "RandomShadow", "ImageCompression", "Defocus", "RandomGamma", "ShotNoise")


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", NEED_COLOUR)
def test_weather_is_refused_at_once_where_there_is_no_colour(name, channels):
    with pytest.raises(VisionTasksError, match=f"{name} is for images of three channels, but these have {channels}"):
        Transforms([name], channels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("name", "channels"),
    [*((n, c) for n in NEED_NONE for c in (1, 3, 4)), *((n, 3) for n in NEED_COLOUR), ("CLAHE", 1), ("CLAHE", 3)],
)
def test_pixels_change_and_nothing_else(name, channels, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (48, 64, channels)).astype(dtype)
    target = Target(1, (48, 64), torch.tensor([[1.0, 2, 9, 9]]), torch.tensor([0]))
    after = Transforms([{name: {"p": 1.0}}], channels)(Sample(image, target, Request(0)), np.random.default_rng(1))
    assert after.target is target
    assert after.image.shape == image.shape
    assert after.image.dtype == dtype
    assert (after.image != image).any()
    assert 0.2 < after.image.mean() / image.mean() < 5  # 16 bits stay 16 bits


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("channels", [1, 4])
def test_presets_suit_any_number_of_channels(preset, channels):
    image = np.zeros((48, 64, channels), np.uint8)
    sample = Sample(image, Target(1, (48, 64), torch.zeros(0, 4)), Request(0))
    assert Transforms(preset, channels)(sample, np.random.default_rng(1)).image.shape[2] == channels


@pytest.mark.slow
def test_importing_looks_for_no_update():
    """Albumentations asks a server for its newest version, unless it was told not to before the import."""
    code = (
        "import urllib.request as u, socket\n"
        "def no(*a, **k): raise SystemExit('asked ' + repr(a))\n"
        "u.urlopen = no; socket.create_connection = no\n"
        "import vision_tasks.data.transforms, os; assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
    )
    clean = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=clean, check=True, timeout=120)


def test_options_of_recipes():
    data = load_config(None, ["data.mosaic=1", "data.mosaic_tiles=9", "data.copy_paste=0.5", "data.mixup=0.2"]).data
    names = [type(c).__name__ for c in combinations_of(data, Preprocess())]
    assert names == ["Mosaic", "CopyPaste", "MixUp"]
    assert combinations_of(data, Preprocess())[0].tiles == 9
    with pytest.raises(VisionTasksError, match="mosaic_tiles"):
        load_config(None, ["data.mosaic_tiles=5"])


def test_several_sizes_per_model():
    data = load_config(None, ["data.min_sizes=[320,352]"]).data
    letterbox = Preprocess(resize="letterbox", size=(416, 416))
    assert min_sizes_of(data, letterbox) == [320, 352]
    image = torch.zeros(3, 100, 200, dtype=torch.uint8)
    assert [tuple(letterbox([image], min_size=s).images.shape[2:]) for s in (320, 352)] == [(320, 320), (352, 352)]
    with pytest.raises(VisionTasksError, match="made for 300×300 pixels alone"):
        min_sizes_of(data, Preprocess(resize="stretch", size=(300, 300), stride=1))
