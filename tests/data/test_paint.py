"""Whatever is done to an image, boxes and masks must still hug the paint of their objects."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from painting import Shelf, check_hugs, samples, shown_alone

from vision_tasks.data import transforms as module
from vision_tasks.data.copy_paste import CopyPaste
from vision_tasks.data.dataset import Sample
from vision_tasks.data.mixup import MixUp
from vision_tasks.data.mosaic import Mosaic
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import OWN, PRESETS, Transforms
from vision_tasks.structures import Masks, Target

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# How often hypothesis draws; many times more in the slow tests.
QUICK = settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)
SEEDS = st.integers(0, 2**31)

ARGUMENTS: dict[str, dict] = {
    **{name: {} for name in ("HorizontalFlip", "VerticalFlip", "Transpose", "D4", "SquareSymmetry", "RandomRotate90")},
    "Rotate": {"limit": [-175, 175]},
    "SafeRotate": {"limit": [-175, 175]},
    "Affine": {"rotate": [-30, 30], "scale": [0.7, 1.4], "shear": [-8, 8], "translate_px": [-30, 30]},
    "Perspective": {"scale": [0.05, 0.1]},
    "RandomCrop": {"height": 70, "width": 90},
    "CenterCrop": {"height": 70, "width": 90},
    "Crop": {"x_min": 30, "y_min": 20, "x_max": 110, "y_max": 90},
    "CropAndPad": {"percent": [-0.2, 0.2]},
    "RandomCropFromBorders": {"crop_left": 0.3, "crop_top": 0.3},
    "RandomResizedCrop": {"size": [150, 130], "scale": [0.3, 1.0]},
    "RandomSizedCrop": {"min_max_height": [60, 100], "size": [90, 140]},
    "RandomSizedBBoxSafeCrop": {"height": 150, "width": 150},
    "BBoxSafeRandomCrop": {},
    "AtLeastOneBBoxRandomCrop": {"height": 70, "width": 90},
    "Pad": {"padding": [3, 5, 7, 9]},
    "PadIfNeeded": {"min_height": 200, "min_width": 201},
    "Resize": {"height": 203, "width": 111},
    "RandomScale": {"scale_limit": [-0.4, 0.6]},
    "LongestMaxSize": {"max_size": 251},
    "SmallestMaxSize": {"max_size": 151},
    "ElasticTransform": {"alpha": 60, "sigma": 8},
    "GridDistortion": {"distort_limit": [0.3, 0.3]},
    "OpticalDistortion": {"distort_limit": [-0.4, 0.4]},
    "ThinPlateSpline": {"scale_range": [0.05, 0.15]},
    "GridElasticDeform": {"num_grid_xy": [5, 5], "magnitude": 8},
    "CoarseDropout": {"num_holes_range": [1, 4], "hole_height_range": [0.1, 0.5], "hole_width_range": [0.1, 0.4]},
    "GridDropout": {"unit_size_range": [40, 60]},
    "XYMasking": {"num_masks_x": [1, 2], "num_masks_y": [1, 2], "mask_x_length": [5, 40], "mask_y_length": [5, 40]},
    "IoUCrop": {},
    "ZoomOut": {"side": 2.5},
    "ObjectCrop": {},
    "LargeScaleJitter": {},
}
FACTORS = dict.fromkeys(module._WARPS, 3.0) | {
    "RandomSizedBBoxSafeCrop": 8.0,
    "RandomResizedCrop": 4.0,
    "RandomSizedCrop": 2.0,
    "LargeScaleJitter": 2.0,
}


def test_every_transform_that_moves_or_hides_is_tested():
    assert set(ARGUMENTS) == {*module._MOVES, *module._WARPS, *module._HOLES, *OWN}


def test_a_box_does_not_follow_edges_that_enclose_nothing():
    """Of a bracket open to the right, its back lies at the left of the crop and one arm above it: the other is left."""
    outline = np.float32([[70, 10], [10, 10], [10, 60], [70, 60], [70, 50], [20, 50], [20, 20], [70, 20]])
    sample = Sample(
        np.zeros((70, 90, 3), np.uint8),
        Target(1, (70, 90), torch.tensor([[10.0, 10, 70, 60]]), torch.tensor([0]), Masks((70, 90), shapes=[[outline]])),
        Request(0),
    )
    crop = Transforms([{"Crop": {"x_min": 30, "y_min": 30, "x_max": 90, "y_max": 70, "p": 1}}])
    assert crop(sample, np.random.default_rng(0)).target.boxes.tolist() == [[0, 20, 40, 30]]


def check(name: str, sample: Sample, seed: int) -> None:
    result = Transforms([{name: ARGUMENTS[name] | {"p": 1.0}}])(sample, np.random.default_rng(seed))
    hides = name in module._HOLES
    # IoUCrop drops objects by their middle, as the paper has it.
    check_hugs(result, sample, factor=FACTORS.get(name, 1.7), lost=0.2 if hides else 0, may_lose=name == "IoUCrop")


@pytest.mark.parametrize("name", ARGUMENTS)
def test_labels_stay_on_the_paint(name):
    @QUICK
    @given(samples(), SEEDS)
    def holds(sample: Sample, seed: int) -> None:
        check(name, sample, seed)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_labels_stay_on_the_paint_many_times(name):
    @settings(MANY, max_examples=60)
    @given(samples(), SEEDS)
    def holds(sample: Sample, seed: int) -> None:
        check(name, sample, seed)

    holds()


COMBINATIONS = {
    "mosaic": (Mosaic(1.0, (150, 190), scale=(0.6, 1.6)), 2.4, 1.0),
    "mosaic of nine": (Mosaic(1.0, (150, 190), scale=(0.6, 1.6), tiles=9), 2.4, 1.0),
    "upright nine": (Mosaic(1.0, (150, 190), scale=(1.0, 1.0), degrees=0, shear=0, tiles=9), 1.7, 1.0),
    "copy-paste": (CopyPaste(1.0, scale=(0.5, 1.5)), 2.0, 1.0),
    "mixup": (MixUp(1.0), 2.4, 0.5),
}


def check_combination(name: str, given_samples: list[Sample], shown: int, seed: int) -> None:
    combine, factor, peak = COMBINATIONS[name]
    first, *mates = shown_alone(shown, given_samples)
    result = combine(first, np.random.default_rng(seed), Shelf(mates))
    assert result.target.image_id == 0
    # Where both images of a mixup have a map, it is unknown.
    if name == "mixup":
        kept = result.target.semantic.clone()
        for k in range(3):
            paint = result.image[..., k] > 255 * peak / 2
            kept[paint & (kept.numpy() == -1)] = 3 * shown + k + 1
        result = dataclasses.replace(result, target=dataclasses.replace(result.target, semantic=kept))
    check_hugs(result, given_samples[shown], factor=factor, lost=0.2, peak=peak)


def images_of(name: str) -> st.SearchStrategy:
    number = {"mosaic": 4, "mosaic of nine": 9, "upright nine": 9}.get(name, 2)
    return st.tuples(*(samples(i) for i in range(number))).map(list)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_combined_images_keep_their_labels(name):
    @settings(QUICK, max_examples=8)
    @given(images_of(name), st.data(), SEEDS)
    def holds(images: list[Sample], data: st.DataObject, seed: int) -> None:
        check_combination(name, images, data.draw(st.integers(0, len(images) - 1)), seed)

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINATIONS)
def test_combined_images_keep_their_labels_many_times(name):
    @settings(MANY, max_examples=60)
    @given(images_of(name), st.data(), SEEDS)
    def holds(images: list[Sample], data: st.DataObject, seed: int) -> None:
        check_combination(name, images, data.draw(st.integers(0, len(images) - 1)), seed)

    holds()


CHAINS = {
    "strong after copy-paste": ([CopyPaste(1.0, (0.5, 1.5))], "strong"),
    "jitter after copy-paste": ([CopyPaste(1.0, (0.5, 1.5))], [{"LargeScaleJitter": {"scale": [0.5, 2.0]}}]),
    "crop and holes after a mosaic": (
        [Mosaic(1.0, (150, 190), scale=(0.6, 1.4), tiles=9)],
        [{"ObjectCrop": {"p": 1.0}}, {"CoarseDropout": ARGUMENTS["CoarseDropout"] | {"p": 1.0}}],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_keep_their_labels(name):
    combinations, entries = CHAINS[name]
    entries = (
        [e for e in PRESETS["strong"] if {"ColorJitter", "ToGray"}.isdisjoint(e)] if entries == "strong" else entries
    )
    augment = Transforms(entries)

    @settings(QUICK, max_examples=10)
    @given(images_of("mosaic of nine" if "mosaic" in name else "copy-paste"), SEEDS)
    def holds(images: list[Sample], seed: int) -> None:
        random = np.random.default_rng(seed)
        first, *mates = shown_alone(0, images)
        for combination in combinations:
            first = combination(first, random, Shelf(mates))
        check_hugs(augment(first, random), images[0], factor=3.0, lost=0.25)

    holds()
