"""Objects are painted into the image; after each transform boxes and masks must still hug the paint."""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_tasks.data.dataset import Sample
from vision_tasks.data.geometry import clip_polygon
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import PRESETS, TRANSFORMS, Transforms
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Target

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (120, 170)

MOVES = [
    {"HorizontalFlip": {}},
    {"VerticalFlip": {}},
    {"Transpose": {}},
    {"D4": {}},
    {"SquareSymmetry": {}},
    {"RandomRotate90": {}},
    {"Rotate": {"limit": [150, 170]}},  # where half a pixel of misunderstanding becomes one and a half
    {"Rotate": {"limit": [-20, 20], "crop_border": True}},
    {"SafeRotate": {"limit": [-170, -140]}},
    {"Affine": {"rotate": [-30, 30], "scale": [0.7, 1.4], "shear": [-8, 8], "translate_px": [-30, 30]}},
    {"Affine": {"rotate": [150, 170], "fit_output": True}},
    {"Perspective": {"scale": [0.05, 0.1]}},
    {"Perspective": {"scale": [0.05, 0.1], "fit_output": True, "keep_size": False}},
    {"RandomCrop": {"height": 70, "width": 90}},
    {"CenterCrop": {"height": 70, "width": 90}},
    {"Crop": {"x_min": 30, "y_min": 20, "x_max": 140, "y_max": 100}},
    {"CropAndPad": {"percent": [-0.2, 0.2]}},
    {"CropAndPad": {"percent": [-0.2, 0.2], "keep_size": False}},
    {"RandomCropFromBorders": {"crop_left": 0.3, "crop_top": 0.3}},
    {"RandomResizedCrop": {"size": [200, 180], "scale": [0.3, 1.0]}},
    {"RandomSizedCrop": {"min_max_height": [50, 110], "size": [90, 140]}},
    {"RandomSizedBBoxSafeCrop": {"height": 150, "width": 150}},
    {"BBoxSafeRandomCrop": {}},
    {"AtLeastOneBBoxRandomCrop": {"height": 70, "width": 90}},
    {"Pad": {"padding": [3, 5, 7, 9]}},
    {"PadIfNeeded": {"min_height": 150, "min_width": 201}},
    {"Resize": {"height": 203, "width": 111}},
    {"RandomScale": {"scale_limit": [-0.4, 0.6]}},
    {"LongestMaxSize": {"max_size": 301}},
    {"SmallestMaxSize": {"max_size": 201}},
    {"ZoomOut": {"side": 2.5}},
]
WARPS = [
    {"ElasticTransform": {"alpha": 60, "sigma": 8}},
    {"GridDistortion": {"distort_limit": [0.3, 0.3]}},
    {"OpticalDistortion": {"distort_limit": [-0.4, 0.4]}},
    {"ThinPlateSpline": {}},
    {"GridElasticDeform": {"num_grid_xy": [5, 5], "magnitude": 8}},
]


def certain(entry: dict) -> dict:
    return {name: arguments | {"p": 1.0} for name, arguments in entry.items()}


def name_of(entry: dict) -> str:
    return next(iter(entry))


def ellipse(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x, y = rx * np.cos(t), ry * np.sin(t)
    return np.stack([cx + x * np.cos(turn) - y * np.sin(turn), cy + x * np.sin(turn) + y * np.cos(turn)], 1)


def painted(form: str = "polygon", dtype: type = np.uint8, seed: int = 0) -> Sample:
    """Three disjoint objects, one per channel, each at the channel's highest value."""
    g = np.random.default_rng(seed)
    place = np.array([[35, 40], [95, 80], [140, 35]]) + g.uniform(-6, 6, (3, 2))
    outlines = [ellipse(*place[i], *g.uniform(12, 22, 2), turn=g.uniform(0, 3)).astype(np.float32) for i in range(3)]
    full = Masks(SIZE, shapes=[[p] for p in outlines])
    rles = mask_ops.to_rles(full)
    image = np.ascontiguousarray(mask_ops.render(full).numpy().transpose(1, 2, 0)) * dtype(np.iinfo(dtype).max)
    boxes = torch.tensor(np.array([[*p.min(0), *p.max(0)] for p in outlines]))
    return Sample(
        image=image,
        target=Target(
            image_id=7,
            size=SIZE,
            boxes=boxes,
            labels=torch.tensor([4, 5, 6]),
            masks={"polygon": full, "rle": Masks(SIZE, shapes=list(rles)), "box": None}[form],
            area=mask_ops.area(rles).to(torch.float32),
            is_crowd=torch.tensor([False, True, False]),
            semantic=torch.from_numpy((image > 0).any(-1).astype(np.int16)),
        ),
        request=Request(0),
    )


def paint_bounds(paint: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(paint.any(1)), np.flatnonzero(paint.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def centroid(paint: np.ndarray) -> np.ndarray:
    return np.argwhere(paint).mean(axis=0)


def check_hugs(sample: Sample, *, box_slack: float = 1.6) -> None:
    image, target = sample.image, sample.target
    half = np.iinfo(image.dtype).max / 2
    assert target.size == image.shape[:2]
    assert image.flags["C_CONTIGUOUS"]
    present = {4 + c: image[..., c] > half for c in range(3) if (image[..., c] > half).any()}
    kept = target.labels.tolist()
    assert all(paint.sum() < 30 for label, paint in present.items() if label not in kept)
    rendered = [None] * len(kept) if target.masks is None else mask_ops.render(target.masks).numpy()
    for i, label in enumerate(kept):
        paint = image[..., label - 4] > half
        edge = 2 * sum(paint.shape)
        assert bool(target.is_crowd[i]) == (label == 5)
        if not paint.any():
            assert float(target.area[i]) < 10
            continue
        assert np.abs(target.boxes[i].numpy() - paint_bounds(paint)).max() <= box_slack
        perimeter = 2 * np.ptp(paint_bounds(paint).reshape(2, 2), axis=0).sum()
        assert abs(float(target.area[i]) - paint.sum()) <= 0.1 * paint.sum() + 1.5 * perimeter < edge + paint.size
        if rendered[i] is not None:
            assert (rendered[i] != paint).sum() <= 0.6 * perimeter + 4
            if paint.sum() > 100:
                assert np.abs(centroid(rendered[i]) - centroid(paint)).max() < 0.45
    inside = (image > half).any(-1)
    semantic = target.semantic.numpy()
    assert semantic.shape == inside.shape
    assert ((semantic == 1) != inside).mean() < 0.02


@pytest.mark.parametrize("form", ["polygon", "rle"])
@pytest.mark.parametrize("entry", MOVES, ids=name_of)
def test_moves_keep_labels_on_the_paint(entry, form):
    transforms = Transforms([certain(entry)])
    for seed in range(6):
        check_hugs(transforms(painted(form, seed=seed), np.random.default_rng(seed)))


@pytest.mark.parametrize("form", ["polygon", "rle"])
@pytest.mark.parametrize("entry", WARPS, ids=name_of)
def test_warps_keep_labels_on_the_paint(entry, form):
    transforms = Transforms([certain(entry)])
    for seed in range(4):
        check_hugs(transforms(painted(form, seed=seed), np.random.default_rng(seed)))


@pytest.mark.parametrize("entry", [*MOVES, *WARPS], ids=name_of)
def test_boxes_alone_stay_around_the_paint(entry):
    """Without masks a turned box grows, but must hold all of its object that is visible."""
    transforms = Transforms([certain(entry)])
    for seed in range(3):
        sample = transforms(painted("box", seed=seed), np.random.default_rng(seed))
        assert sample.target.masks is None
        for label, box in zip(sample.target.labels.tolist(), sample.target.boxes.numpy(), strict=True):
            paint = sample.image[..., label - 4] > 127
            if paint.any():
                bounds = paint_bounds(paint)
                assert (box[:2] <= bounds[:2] + 1.6).all()
                assert (box[2:] >= bounds[2:] - 1.6).all()


def test_a_flip_is_exact_and_changes_nothing_else():
    before = painted("polygon")
    after = Transforms([{"HorizontalFlip": {"p": 1}}])(before, np.random.default_rng(0)).target
    x1, y1, x2, y2 = before.target.boxes.unbind(1)
    expected = torch.stack([SIZE[1] - x2, y1, SIZE[1] - x1, y2], 1)
    torch.testing.assert_close(after.boxes, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(after.area, before.target.area, rtol=1e-5, atol=0)
    flipped = before.target.masks.shapes[0][0] * [-1, 1] + [SIZE[1], 0]
    np.testing.assert_allclose(after.masks.shapes[0][0], flipped, atol=2e-5)


def test_an_upright_box_larger_than_its_mask_keeps_its_own_edges():
    before = painted("polygon")
    before.target.boxes = before.target.boxes + torch.tensor([-3.0, -2, 4, 1])
    after = Transforms([{"HorizontalFlip": {"p": 1}}])(before, np.random.default_rng(0)).target
    torch.testing.assert_close(
        after.boxes[:, 3] - after.boxes[:, 1], before.target.boxes[:, 3] - before.target.boxes[:, 1]
    )


@pytest.mark.parametrize("entry", [*MOVES, WARPS[0]], ids=name_of)
def test_sixteen_bit_images_move_as_eight_bit_ones_do(entry):
    transforms = Transforms([certain(entry)])
    sample = transforms(painted("polygon", np.uint16), np.random.default_rng(3))
    assert sample.image.dtype == np.uint16
    check_hugs(sample)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_presets_keep_type_and_labels(preset, dtype):
    transforms = Transforms(preset)
    for seed in range(8):
        sample = transforms(painted("polygon", dtype, seed), np.random.default_rng(seed))
        assert sample.image.dtype == dtype
        assert sample.image.shape[2] == 3
        assert (sample.target.boxes[:, 2:] > sample.target.boxes[:, :2]).all()


def test_sixteen_bit_colour_equals_eight_bit_colour():
    entry = [{"RandomBrightnessContrast": {"brightness_limit": [0.2, 0.2], "contrast_limit": [-0.1, -0.1], "p": 1}}]
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    out = [
        Transforms(entry)(Sample(image, Target(1, (16, 16)), Request(0)), np.random.default_rng(0)).image
        for image in (eight, eight.astype(np.uint16) * 257)
    ]
    assert np.abs(out[1] / 257 - out[0]).max() <= 1.01


@pytest.mark.parametrize("entry", [*MOVES, *WARPS], ids=name_of)
@pytest.mark.parametrize("annotated", ["nothing there", "nobody looked"])
def test_images_without_objects(entry, annotated):
    none = annotated == "nobody looked"
    target = Target(
        image_id=1,
        size=SIZE,
        boxes=None if none else torch.zeros(0, 4),
        labels=None if none else torch.zeros(0, dtype=torch.int64),
        masks=None if none else Masks(SIZE, shapes=[]),
        area=None if none else torch.zeros(0),
        is_crowd=None if none else torch.zeros(0, dtype=torch.bool),
    )
    image = np.full((*SIZE, 3), 9, dtype=np.uint8)
    after = Transforms([certain(entry)])(Sample(image, target, Request(0)), np.random.default_rng(0))
    assert after.target.size == after.image.shape[:2]
    for name in ("boxes", "labels", "masks", "area", "is_crowd"):
        value = getattr(after.target, name)
        assert value is None if none else len(value) == 0


def test_objects_that_leave_the_image_leave_the_target():
    sample = painted("polygon")
    crop = Transforms([{"Crop": {"x_min": 0, "y_min": 0, "x_max": 62, "y_max": 120, "p": 1}}])
    after = crop(sample, np.random.default_rng(0)).target
    assert after.labels.tolist() == [4]
    assert len(after.masks) == len(after.area) == len(after.is_crowd) == 1


def test_an_outline_without_area_leaves_the_box_its_say():
    sample = painted("polygon")
    sample.target.masks.shapes[0] = [np.float32([[30, 30], [40, 40], [30, 30]])]
    after = Transforms([{"VerticalFlip": {"p": 1}}])(sample, np.random.default_rng(0)).target
    assert after.labels.tolist() == [4, 5, 6]
    assert after.masks.shapes[0] is None


def test_multi_label_semantic_maps_move():
    sample = painted("polygon")
    layers = np.ascontiguousarray((sample.image > 0).transpose(2, 0, 1))
    sample.target.semantic = torch.from_numpy(layers.astype(np.int8))
    after = Transforms([{"Transpose": {"p": 1}}])(sample, np.random.default_rng(0))
    assert np.array_equal(after.target.semantic.numpy(), (after.image > 0).transpose(2, 0, 1))


def test_semantic_outside_the_old_image_is_ignored():
    sample = painted("polygon")
    after = Transforms([{"Pad": {"padding": 4, "p": 1}}])(sample, np.random.default_rng(0)).target
    assert (after.semantic[:4] == -1).all()
    assert (after.semantic[4:-4, 4:-4] == sample.target.semantic).all()


STRONG_SEEDS = [(3, 1, 4), (3, 1, 5), (3, 2, 4), (4, 1, 4)]


def augmented(seeds: tuple[int, ...], transforms: Transforms) -> bytes:
    sample = transforms(painted("polygon"), np.random.default_rng(seeds))
    return sample.image.tobytes() + sample.target.boxes.numpy().tobytes()


def test_augmentation_is_a_function_of_the_generator_alone():
    transforms = Transforms(["HorizontalFlip", *PRESETS["strong"], *WARPS, {"GaussNoise": {"p": 1}}, "CoarseDropout"])
    first = [augmented(seeds, transforms) for seeds in STRONG_SEEDS]
    assert len(set(first)) == len(first)
    np.random.seed(5)  # noqa: NPY002
    random.seed(6)
    torch.manual_seed(7)
    again = pickle.loads(pickle.dumps(transforms))
    assert [augmented(seeds, again) for seeds in reversed(STRONG_SEEDS)] == first[::-1]


def test_steps_draw_independently():
    """Albumentations' own Compose with a seed flips both ways or not at all."""
    transforms = Transforms(["HorizontalFlip", "VerticalFlip"])
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, 2)
    sample = Sample(image, Target(1, (2, 2)), Request(0))
    corners = {int(transforms(sample, np.random.default_rng(i)).image[0, 0, 0]) for i in range(40)}
    assert corners == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"HorizontalFlop": {}}], "did you mean 'HorizontalFlip'"),
        ([{"HorizontalFlip": {"probability": 1}}], "HorizontalFlip has no argument 'probability'"),
        ([{"ColorJitter": {"brightnes": 1}}], "did you mean 'brightness'"),
        ([{"ColorJitter": {"brightness": "much"}}], "refuses its arguments"),
        ([{"Rotate": {"border_mode": 4}}], "mirror"),
        ([{"Normalize": {}}], "there is no 'Normalize'"),
        ([{"HorizontalFlip": {}, "VerticalFlip": {}}], "one {name: arguments}"),
        ([7], "one {name: arguments}"),
        ("strongest", "did you mean 'strong'"),
        ([{"ZoomOut": {"sides": 3}}], "did you mean 'side'"),
        ([{"ZoomOut": {"side": 0.5}}], "ZoomOut: side is 0.5"),
        ([{"IoUCrop": {"p": 2}}], "p is 2"),
    ],
)
def test_bad_configuration_says_what_is_near(entries, message):
    with pytest.raises(VisionTasksError, match=message.replace("{", r"\{").replace("}", r"\}")):
        Transforms(entries)


def test_a_failing_transform_names_the_image():
    image = np.zeros((8, 8, 5), dtype=np.uint8)
    with pytest.raises(VisionTasksError, match="ColorJitter failed on image id 42"):
        Transforms([{"ColorJitter": {"p": 1}}])(Sample(image, Target(42, (8, 8)), Request(0)), np.random.default_rng(0))


def test_every_listed_transform_exists():
    assert len(TRANSFORMS) == len(set(TRANSFORMS)) > 80


coordinate = st.floats(-40, 90, width=32)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=3).map(np.float32))
def test_a_clipped_triangle_covers_what_the_triangle_covered(points):
    """A triangle is convex; compared with COCO's rasteriser on a canvas moved so that nothing is negative."""
    clipped = clip_polygon(points.astype(np.float64), (50, 60))
    assert (clipped >= 0).all()
    assert (clipped <= [60, 50]).all()
    whole = mask_ops.decode([mask_ops.from_polygons([points + 40], (140, 140))])[0, 40:90, 40:100]
    part = mask_ops.decode([mask_ops.from_polygons([clipped + 40] if len(clipped) else [], (140, 140))])[
        0, 40:90, 40:100
    ]
    different = whole != part
    # The rasteriser rounds a vertex to a fifth of a pixel, so only pixels on the outline may differ.
    assert int(different.sum()) <= 0.05 * 400 + 4
