"""Semantic maps under augmentation: in a painted scene every label is its colour, and must stay so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_mosaic import Shelf
from test_transforms import MOVES, WARPS, certain, name_of

from vision_tasks.data.dataset import Sample
from vision_tasks.data.mixup import MixUp
from vision_tasks.data.mosaic import Mosaic
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import PRESETS, Transforms
from vision_tasks.structures import Target

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (121, 168)

FREE = [*MOVES, *WARPS]


def scene(seed: int = 0, size: tuple[int, int] = SIZE, form: str = "labels", channels: int = 3) -> Sample:
    """Stripes, a disc and a block in pure colours: channel k is full where label k is, and nothing else."""
    g = np.random.default_rng(seed)
    rows, columns = np.indices(size) + 0.5
    labels = ((rows * g.uniform(-1, 1) + columns) // 37 % 2).astype(np.int16)
    cy, cx = np.array(size) * g.uniform(0.35, 0.65, 2)
    labels[(rows - cy) ** 2 + (columns - cx) ** 2 < (min(size) / 4) ** 2] = 2
    labels[: size[0] // 4, : size[1] // 5] = 2
    layers = labels == np.arange(channels)[:, None, None]
    image = np.ascontiguousarray(layers.transpose(1, 2, 0).astype(np.uint8) * 255)
    semantic = torch.from_numpy(labels if form == "labels" else layers.astype(np.int8))
    return Sample(image, Target(seed, size, semantic=semantic), Request(seed))


def check_painted(sample: Sample, slack: float = 0.0) -> None:
    """The label of a pixel is a colour that it has at least a good part of, without any shift."""
    assert sample.image is not None
    paint = sample.image.astype(np.float64) / 255
    labels = sample.target.semantic
    assert labels is not None
    assert labels.dtype == torch.int16
    assert labels.shape == paint.shape[:2] == sample.target.size
    labels = labels.numpy()
    inside = labels >= 0
    own = np.take_along_axis(paint, labels.clip(0)[..., None].astype(np.int64), axis=2)[..., 0]
    # The nearest of four pixels has at least a quarter of the bilinear weight.
    assert (own[inside] <= 0.2).mean() <= slack
    assert (paint.max(axis=2)[~inside] < 0.8).all()
    # Half a pixel of shift would give every second mixed pixel to the wrong side.
    mixed = inside & (paint.max(axis=2) < 0.99) & (paint.sum(axis=2) > 0.95)
    assert (paint.argmax(axis=2)[mixed] != labels[mixed]).sum() <= 0.2 * mixed.sum() + 3


@pytest.mark.parametrize("entry", FREE, ids=name_of)
def test_labels_stay_their_colours(entry):
    transforms = Transforms([certain(entry)])
    for seed in range(4):
        check_painted(transforms(scene(seed), np.random.default_rng(seed)))


@pytest.mark.parametrize("entry", FREE, ids=name_of)
def test_layers_move_as_labels_do(entry):
    transforms = Transforms([certain(entry)])
    labels = transforms(scene(1), np.random.default_rng(1)).target.semantic
    layers = transforms(scene(1, form="layers"), np.random.default_rng(1)).target.semantic
    assert layers.dtype == torch.int8
    expected = torch.where(labels == -1, -1, (labels == torch.arange(3)[:, None, None]).to(torch.int8))
    assert (layers != expected).sum() <= 4, "OpenCV rounds ties differently for 8 and for 16 bits"


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("entry", [
    {"Affine": {"translate_px": [40, 40]}}, {"Rotate": {"limit": [30, 30]}}, {"SafeRotate": {"limit": [30, 30]}},
    {"Perspective": {"scale": [0.1, 0.1], "fit_output": True}}, {"Pad": {"padding": 9}},
    {"CropAndPad": {"percent": [0.2, 0.2]}}, {"PadIfNeeded": {"min_height": 200, "min_width": 200}},
    {"ElasticTransform": {"alpha": 900, "sigma": 8}}, {"OpticalDistortion": {"distort_limit": [0.9, 0.9]}},
], ids=name_of)  # fmt: skip
def test_outside_is_ignored_whatever_is_painted_there(entry, mode):
    """Also where the border's colour is drawn on: nobody saw what lies beyond an image."""
    ((name, arguments),) = entry.items()
    sample = scene(0)
    sample.target.semantic = torch.zeros(SIZE, dtype=torch.int16)
    moved = []
    for fill in (0, 255):
        transforms = Transforms([{name: arguments | {"border_mode": mode, "p": 1.0, "fill": fill}}])
        moved.append(transforms(sample, np.random.default_rng(0)))
    labels = moved[0].target.semantic
    assert (labels == -1).any()
    if mode == 0:
        outside = (
            np.abs(moved[0].image.astype(int) - moved[1].image).max(-1) == 255
        )  # a scalar fills the first channel alone
        assert (labels.numpy()[outside] == -1).all()
        assert ((labels.numpy() == -1) & ~outside).mean() < 0.02


def test_colour_changes_leave_the_map_alone():
    sample = scene(3)
    after = Transforms([{"ColorJitter": {"p": 1}}, {"GaussNoise": {"p": 1}}, {"PixelDropout": {"p": 1}}])(
        sample, np.random.default_rng(0)
    )
    assert after.target.semantic is sample.target.semantic
    assert not np.array_equal(after.image, sample.image)


@pytest.mark.parametrize("form", ["labels", "layers"])
def test_mosaic_and_its_grey(form):
    """Four images turned, scaled and sheared: still every label is its colour, and grey is nobody's."""
    shelf = Shelf([scene(i + 1, size, form) for i, size in enumerate([(90, 140), (150, 80), (100, 100)])])
    for seed in range(6):
        made = Mosaic(1.0, (130, 150), (0.5, 1.5))(scene(0, form=form), np.random.default_rng(seed), shelf)
        if form == "layers":
            layers = made.target.semantic
            assert layers.dtype == torch.int8
            assert ((layers == -1).all(0) | (layers.clamp(min=0).sum(0) == 1)).float().mean() > 0.999
            made.target.semantic = torch.where(layers[0] == -1, -1, layers.argmax(0)).to(torch.int16)
        image = made.image.copy()
        made.image[(made.image == 114).all(-1)] = 0
        seams = np.abs(made.image.astype(int).sum(-1) - 255) > 6  # where two images, or one and the grey, are mixed
        made.target.semantic[torch.from_numpy(seams)] = -1
        made.image[seams] = 0
        check_painted(made, slack=0.002)  # images are resized before they are turned, labels move once
        assert (made.target.semantic.numpy()[(image == 114).all(-1)] == -1).all()


def test_mixup_is_sure_only_where_both_agree():
    for seed in range(5):
        made = MixUp(1.0)(scene(0), np.random.default_rng(seed), Shelf([scene(1)]))
        labels = made.target.semantic.numpy()
        both = made.image.max(-1) > 250  # the same colour in both
        assert (labels[both] == made.image.argmax(-1)[both]).all()
        unlike = ((made.image > 120) & (made.image < 135)).sum(-1) == 2
        assert unlike.any()
        assert (labels[unlike] == -1).mean() > 0.99


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 12])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_number_of_channels(channels, dtype):
    """Every channel moves as the first does, and presets leave colour alone where there is none."""
    peak = np.iinfo(dtype).max

    def grey(seed: int) -> Sample:
        sample = scene(seed)
        sample.image = np.repeat(sample.image[..., :1].astype(dtype) * dtype(peak // 255), channels, axis=2)
        return sample

    steps = [Transforms([certain({"ZoomOut": {"side": 2.5}})]), Transforms([certain({"HorizontalFlip": {}})])]
    for seed in range(3):
        shelf = Shelf([grey(i + 1) for i in range(3)])
        made = [step(grey(0), np.random.default_rng(seed)) for step in steps]
        made += [m(grey(0), np.random.default_rng(seed), shelf) for m in (Mosaic(1.0, (130, 150)), MixUp(1.0))]
        for i, after in enumerate(made):
            assert after.image.dtype == dtype
            assert after.image.shape == (*after.target.size, channels)
            first = after.image[..., :1]
            if i == 0:  # on the mean colour, whose channels differ
                first, after.image = (np.where(v < peak * 0.55, 0, v) for v in (first, after.image))
            assert (after.image == first).all()
    for preset in PRESETS:
        transforms = Transforms(preset, channels)
        changed = 0
        for seed in range(6):
            after = transforms(grey(seed), np.random.default_rng(seed))
            assert after.image.shape == (*after.target.size, channels)
            assert after.image.dtype == dtype
            assert after.target.semantic.shape == after.target.size
            changed += not np.array_equal(after.image, grey(seed).image)
        assert changed > 1 or preset == "none"
