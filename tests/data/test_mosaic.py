"""Mosaic and mixup: objects are painted, boxes and masks must still hug the paint; order and chance never change."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from small_coco import write_data

from vision_tasks.data.dataset import DetectionDataset, Sample, Unreadable
from vision_tasks.data.mixup import MixUp
from vision_tasks.data.mosaic import Mosaic
from vision_tasks.data.sampler import Request
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Target

SIZE = (150, 190)
UPRIGHT = {"degrees": 0.0, "shear": 0.0}
SIZES = [(120, 170), (260, 90), (80, 300), (400, 410), (97, 111)]


def painted(number: int, size: tuple[int, int], form: str, dtype: type = np.uint8, seed: int = 0) -> Sample:
    """Three disjoint objects, ellipses or (for "box") rectangles, one per channel, labelled 3 · number + channel."""
    g = np.random.default_rng((number, seed))
    h, w = size
    outlines = []
    for k in range(3):
        centre = np.array([w * (k + 0.5) / 3, h * g.uniform(0.3, 0.7)])
        reach = np.array([w, h]) * g.uniform(0.08, 0.15, 2)
        if form == "box":
            x1, y1, x2, y2 = np.concatenate([centre - reach, centre + reach]).round()
            outlines.append(np.float32([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))
        else:
            t = np.linspace(0, 2 * np.pi, 50, endpoint=False)[:, None]
            outlines.append(np.float32(centre + reach * np.concatenate([np.cos(t), np.sin(t)], 1)))
    full = Masks(size, shapes=[[p] for p in outlines])
    rles = mask_ops.to_rles(full)
    image = np.ascontiguousarray(mask_ops.render(full).numpy().transpose(1, 2, 0)) * dtype(np.iinfo(dtype).max)
    target = Target(
        image_id=number,
        size=size,
        boxes=torch.tensor(np.array([[*p.min(0), *p.max(0)] for p in outlines])),
        labels=torch.arange(3) + 3 * number,
        masks={"polygon": full, "rle": Masks(size, shapes=list(rles)), "box": None}[form],
        area=mask_ops.area(rles).to(torch.float32),
        is_crowd=torch.tensor([False, True, False]),
        semantic=torch.from_numpy((image > 0).any(-1).astype(np.int16)),
    )
    return Sample(image, target, Request(number))


class Shelf:
    """Stands in for the data set: gives its samples in turn, whatever row is asked for."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = itertools.cycle(samples)
        self.length = len(samples)

    def __len__(self) -> int:
        return self.length

    def rows_like(self, row: int) -> range:
        return range(self.length)

    def read(self, row: int) -> Sample:
        assert 0 <= row < self.length
        return next(self.samples)

    def has_annotations(self, row: int) -> bool:
        return True


def only(shown: int, samples: list[Sample]) -> list[Sample]:
    """The paint of one sample; the others are black, but keep their truth."""
    return [s if i == shown else dataclasses.replace(s, image=s.image * 0) for i, s in enumerate(samples)]


def bounds(paint: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(paint.any(1)), np.flatnonzero(paint.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check_paint(
    result: Sample, number: int, before: Sample, factor: float, *, full_scale: float = 255, tight: bool = True
) -> list[np.ndarray]:
    """The objects of image `number`, alone painted in `result`, against their paint.

    before, factor: that image, and by how much it was scaled: paint is only as exact as the pixels of then.
    Returns how far (y, x) the middle of each object's mask (or box) lies from the middle of its paint.
    """
    full = (before.image > 0).sum((0, 1)) * factor**2
    reach = 1 + 0.6 * factor
    offsets = []
    target = result.target
    assert target.size == result.image.shape[:2]
    for name in ("labels", "area", "is_crowd"):
        assert len(getattr(target, name)) == len(target.boxes)
    found = {label: i for i, label in enumerate(target.labels.tolist()) if label // 3 == number}
    for k in range(3):
        paint = result.image[..., k] > full_scale / 2
        i = found.get(3 * number + k)
        if i is None:
            side = np.ptp(bounds(paint).reshape(2, 2), axis=0).min() if paint.any() else 0
            assert side <= 3 or paint.sum() < 0.25 * full[k] + 12
            continue
        perimeter = 2 * np.ptp(bounds(paint).reshape(2, 2), axis=0).sum()
        assert paint.sum() > 0.15 * full[k] - 12 or not tight
        assert bool(target.is_crowd[i]) == (k == 1)
        slack = bounds(paint) - target.boxes[i].numpy()
        assert (slack[:2] >= -reach).all()
        assert (slack[2:] <= reach).all()
        if tight:
            assert np.abs(slack).max() <= reach
            assert abs(float(target.area[i]) - paint.sum()) <= 0.04 * paint.sum() + 0.7 * reach * perimeter
        if target.masks is not None:
            mask = mask_ops.render(target.masks[[i]])[0].numpy()
            assert (mask != paint).sum() <= 0.5 * reach * perimeter + 4
            offsets.append(np.argwhere(mask).mean(0) - np.argwhere(paint).mean(0))
        elif tight:
            offsets.append(slack.reshape(2, 2).mean(0)[::-1])
    return offsets


@pytest.mark.parametrize(
    ("form", "dtype", "turned"),
    [
        ("polygon", np.uint8, True),
        ("polygon", np.uint8, False),
        ("rle", np.uint8, True),
        ("polygon", np.uint16, True),
        pytest.param("rle", np.uint8, False, marks=pytest.mark.slow),
        pytest.param("polygon", np.uint16, False, marks=pytest.mark.slow),
    ],
)
def test_a_mosaic_keeps_labels_on_the_paint(form, dtype, turned):
    offsets = []
    for seed, scale in enumerate((0.4, 1.0, 1.6, 2.0) * 3):
        mosaic = Mosaic(1.0, SIZE, scale=(scale, scale), **({} if turned else UPRIGHT))
        samples = [painted(i, SIZES[(seed + i) % 5], form, dtype, seed) for i in range(4)]
        for number in range(4):
            first, *mates = only(number, samples)
            result = mosaic(first, np.random.default_rng(seed), Shelf(mates))
            assert result.image.dtype == dtype
            assert result.image.shape == (*SIZE, 3)
            assert result.target.image_id == 0
            assert result.request == samples[0].request
            h, w = samples[number].target.size
            factor = scale * min(SIZE[0] / h, SIZE[1] / w)
            offsets += check_paint(result, number, samples[number], factor, full_scale=np.iinfo(dtype).max)
            semantic, inside = result.target.semantic, (result.image > np.iinfo(dtype).max / 2).any(-1)
            assert (semantic[torch.from_numpy(inside)] != 1).float().sum() <= 0.2 * inside.sum() + 4
    assert len(offsets) > 45
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.06


@pytest.mark.parametrize("turned", [True, False])
def test_boxes_without_masks_hold_the_paint(turned):
    """Upright they hug it; a turned box grows, but must hold all that is visible."""
    for seed in range(10):
        mosaic = Mosaic(1.0, SIZE, scale=(0.8, 0.8), **({} if turned else UPRIGHT))
        samples = [painted(i, SIZES[(seed + i) % 4], "box", seed=seed) for i in range(4)]
        for number in range(4):
            first, *mates = only(number, samples)
            result = mosaic(first, np.random.default_rng(seed), Shelf(mates))
            h, w = samples[number].target.size
            assert result.target.masks is None
            check_paint(result, number, samples[number], 0.8 * min(SIZE[0] / h, SIZE[1] / w), tight=not turned)


def test_four_images_of_the_mosaic_size_tile_it_exactly():
    """Nothing turned, scaled or shifted: the middle of the canvas, cut by one upright and one level line."""
    size = (60, 80)
    colours = (10, 60, 120, 200)
    samples = [
        Sample(
            np.full((*size, 3), c, np.uint8), Target(c, size, torch.tensor([[0.0, 0, 80, 60]]), torch.tensor([c])),
            Request(0),
        )
        for c in colours
    ]  # fmt: skip
    mosaic = Mosaic(1.0, size, scale=(1.0, 1.0), translate=0.0, **UPRIGHT)
    crossings = set()
    for seed in range(20):
        result = mosaic(samples[0], np.random.default_rng(seed), Shelf(samples[1:]))
        seen = {c: bounds(result.image[..., 0] == c) for c in colours if (result.image == c).any()}
        assert sum((b[2] - b[0]) * (b[3] - b[1]) for b in seen.values()) == 60 * 80
        for label, box in zip(result.target.labels.tolist(), result.target.boxes.numpy(), strict=True):
            np.testing.assert_allclose(box, seen[label], atol=1e-4)
            # A fifth of an image must be left.
            assert (box[2] - box[0]) * (box[3] - box[1]) >= 0.2 * 60 * 80
        for label in set(seen) - set(result.target.labels.tolist()):
            b = seen[label]
            assert (b[2] - b[0]) * (b[3] - b[1]) < 0.2 * 60 * 80
        x, y = seen[10][2:]
        crossings.add((int(x), int(y)))
        assert (result.image[:y, x:] == 60).all()
        assert (result.image[y:, :x] == 120).all()
        assert (result.image[y:, x:] == 200).all()
    assert len(crossings) > 15


def test_what_no_image_covers_is_grey():
    mosaic = Mosaic(1.0, SIZE, scale=(0.2, 0.2))
    for dtype, grey in ((np.uint8, 114), (np.uint16, 114 * 257)):
        result = mosaic(
            painted(0, SIZE, "polygon", dtype),
            np.random.default_rng(0),
            Shelf([painted(1, SIZE, "polygon", dtype)] * 3),
        )
        assert (result.image[[0, 0, -1, -1], [0, -1, 0, -1]] == grey).all()
        assert (result.target.semantic[[0, 0, -1, -1], [0, -1, 0, -1]] == -1).all()


@pytest.mark.parametrize("form", ["polygon", "rle", "box"])
def test_mixup_keeps_labels_on_the_paint(form):
    sample = painted(0, SIZE, form)
    black = dataclasses.replace(sample, image=sample.image * 0)
    offsets = []
    for seed, scale in enumerate((0.5, 0.8, 1.0, 1.5) * 4):
        other = painted(1, SIZES[seed % 5], form, seed=seed)
        result = MixUp(1.0, (scale, scale))(black, np.random.default_rng(seed), Shelf([other]))
        h, w = other.target.size
        factor = scale * min(SIZE[0] / h, SIZE[1] / w)
        offsets += check_paint(result, 1, other, factor, full_scale=127.5)  # as both weigh a half
        torch.testing.assert_close(result.target.boxes[:3], sample.target.boxes, rtol=0, atol=0)
        assert result.target.labels[:3].tolist() == [0, 1, 2]
        assert result.target.image_id == 0
        assert result.image.shape == black.image.shape
    assert len(offsets) > 25
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.06


def test_mixup_is_half_of_each():
    sample = painted(0, SIZE, "polygon")
    white = Sample(np.full((*SIZE, 3), 201, np.uint8), Target(9, SIZE, torch.zeros(0, 4)), Request(0))
    mixed = MixUp(1.0, (1.0, 1.0))(sample, np.random.default_rng(0), Shelf([white])).image.astype(int)
    assert np.abs(mixed - (sample.image.astype(int) + 201) / 2).max() <= 0.5
    small = MixUp(1.0, (0.5, 0.5))(sample, np.random.default_rng(0), Shelf([white])).image.astype(int)
    low = small - sample.image.astype(int) / 2
    assert {round(v) for v in np.unique(low)} <= {100, 101, 56, 57}
    assert (np.abs(low - 100.5) <= 0.5).all(-1).sum() == 75 * 95


def test_mixup_mirrors_half_the_time_and_wanders():
    gradient = np.tile(np.arange(100, dtype=np.uint8)[None, :, None] * 2, (50, 1, 3))
    black = Sample(np.zeros((50, 100, 3), np.uint8), Target(1, (50, 100), torch.zeros(0, 4)), Request(0))
    shelf = Shelf([Sample(gradient, Target(2, (50, 100), torch.zeros(0, 4)), Request(0))])
    results = [MixUp(1.0, (1.0, 1.0))(black, np.random.default_rng(i), shelf).image for i in range(40)]
    mirrored = [int(r[0, 0, 0]) > int(r[0, -1, 0]) for r in results]
    assert 10 < sum(mirrored) < 30
    small = [MixUp(1.0, (0.5, 0.5))(black, np.random.default_rng(i), shelf).image[..., 0] == 57 for i in range(40)]
    assert len({m.tobytes() for m in small}) > 30


def test_eight_and_sixteen_bits_meet_at_the_same_brightness():
    eight, sixteen = (np.full((*SIZE, 3), v, t) for v, t in ((80, np.uint8), (80 * 257, np.uint16)))
    samples = [Sample(image, Target(1, SIZE, torch.zeros(0, 4)), Request(0)) for image in (eight, sixteen)]
    tile = Mosaic(1.0, SIZE, scale=(1.0, 1.0), translate=0.0, **UPRIGHT)
    for make, (first, mate) in itertools.product((tile, MixUp(1.0, (1.0, 1.0))), (samples, samples[::-1])):
        result = make(first, np.random.default_rng(0), Shelf([mate]))
        assert result.image.dtype == np.uint16
        assert np.unique(result.image).tolist() == [80 * 257]


@pytest.mark.parametrize("make", [Mosaic(1.0, SIZE), MixUp(1.0)])
def test_nobody_looked_is_not_nothing_there(make):
    none = Sample(np.zeros((*SIZE, 3), np.uint8), Target(4, SIZE), Request(0))
    empty = Sample(np.zeros((*SIZE, 3), np.uint8), nothing_there(), Request(0))
    fields = ("boxes", "labels", "masks", "area", "is_crowd", "semantic")
    for first, mate in ((none, none), (none, painted(1, SIZE, "polygon")), (painted(1, SIZE, "polygon"), none)):
        result = make(first, np.random.default_rng(0), Shelf([mate]))
        assert [getattr(result.target, name) for name in fields] == [None] * 6
    result = make(empty, np.random.default_rng(0), Shelf([empty])).target
    assert [len(getattr(result, name)) for name in fields[:5]] == [0] * 5
    unlabelled = painted(1, SIZE, "polygon")
    unlabelled.target.labels = None
    result = make(painted(0, SIZE, "polygon"), np.random.default_rng(0), Shelf([unlabelled])).target
    assert result.labels is None
    assert len(result.boxes) == len(result.masks) == len(result.area)


def nothing_there() -> Target:
    return Target(
        image_id=4, size=SIZE, boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64),
        masks=Masks(SIZE, shapes=[]), area=torch.zeros(0), is_crowd=torch.zeros(0, dtype=torch.bool),
    )  # fmt: skip


def test_semantic_maps_under_mixup():
    lower, upper = (painted(i, SIZE, "polygon") for i in range(2))
    lower.target.semantic = torch.full(SIZE, 3, dtype=torch.int16)
    upper.target.semantic = torch.full(SIZE, 5, dtype=torch.int16)
    upper.target.semantic[:, :95] = 3
    maps = MixUp(1.0, (1.0, 1.0))(lower, np.random.default_rng(0), Shelf([upper])).target.semantic
    assert sorted(maps.unique().tolist()) == [-1, 3]
    assert (maps == 3).sum() == 150 * 95
    for sample in (lower, upper):
        sample.target.semantic = (sample.target.semantic[None] > 3).to(torch.int8)
    labels = MixUp(1.0, (1.0, 1.0))(lower, np.random.default_rng(0), Shelf([upper])).target.semantic
    assert labels.dtype == torch.int8
    assert labels.sum() == 150 * 95


def test_probability_is_the_share():
    sample, shelf = painted(0, (20, 30), "box"), Shelf([painted(1, (20, 30), "box")])
    for make in (Mosaic(0.3, (32, 32)), MixUp(0.3)):
        made = [make(sample, np.random.default_rng(i), shelf) is not sample for i in range(300)]
        assert 60 < sum(made) < 120
    assert Mosaic(0.0, (32, 32))(sample, np.random.default_rng(0), shelf) is sample


def test_unreadable_mates_are_replaced_and_named(tmp_path):
    records = write_data(tmp_path, [(40, 50)] * 5, broken=(1, 2, 3))
    dataset = DetectionDataset(records, combinations=[Mosaic(1.0, (64, 64)), MixUp(1.0)])
    named: set[int] = set()
    for epoch in range(6):
        sample = dataset[Request(0, epoch)]
        assert sample.image.shape == (64, 64, 3)
        assert sample.target.image_id == 100
        assert all(isinstance(entry, Unreadable) for entry in sample.unreadable)
        named |= {entry.image_id for entry in sample.unreadable}
    assert named == {101, 102, 103}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_data_sets_repeat_themselves(tmp_path, count):
    dataset = DetectionDataset(
        write_data(tmp_path, [(30, 40)] * count), combinations=[Mosaic(1.0, (64, 96), scale=(0.5, 0.5)), MixUp(1.0)]
    )
    for index, epoch in itertools.product(range(count), range(3)):
        sample = dataset[Request(index, epoch)]
        assert sample.image.shape == (64, 96, 3)
        assert (sample.target.boxes[:, 2:] - sample.target.boxes[:, :2] >= 2).all()
    assert dataset[Request(0, plain=True)].image.shape == (30, 40, 3)


def test_mixup_looks_for_an_annotated_image(tmp_path):
    records = write_data(tmp_path, [(30, 40)] * 30)  # a third of them without objects
    dataset = DetectionDataset(records, combinations=[MixUp(1.0, (1.0, 1.0))])
    assert all(len(dataset[Request(0, epoch)].target.boxes) for epoch in range(40))


def test_one_object_per_corner_stays_with_its_image(tmp_path):
    """Pixels and truth through the whole data set: each grey value is its image's, each box lies on the right one."""
    records = write_data(tmp_path, [(40, 50)] * 9)
    dataset = DetectionDataset(records, combinations=[Mosaic(1.0, (80, 100), scale=(1.0, 1.0), translate=0.0)])
    seen = set()
    for index in range(9):
        sample = dataset[Request(index, 3)]
        counts = {int(v) - 1 for v in np.unique(sample.image) if v < 10}
        assert index in counts or len(counts) < 4
        seen |= counts
        if all(row % 3 == 0 for row in counts):
            assert len(sample.target.boxes) == 0
    assert len(seen) > 6


def test_augmentation_depends_on_seed_epoch_and_index_only(tmp_path):
    records = write_data(tmp_path, [(40, 50)] * 8)

    def pixels(seed: int, index: int, epoch: int) -> bytes:
        made = DetectionDataset(records, None, seed, combinations=[Mosaic(1.0, (64, 64)), MixUp(1.0)])
        sample = made[Request(index, epoch)]
        return sample.image.tobytes() + sample.target.boxes.numpy().tobytes()

    assert pixels(0, 1, 2) == pixels(0, 1, 2)
    assert len({pixels(0, 1, 2), pixels(0, 1, 3), pixels(1, 1, 2), pixels(0, 4, 2)}) == 4
