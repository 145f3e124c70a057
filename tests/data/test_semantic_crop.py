"""Crops: every pixel holds its own place, so that a crop says itself where it was cut, and at which scale."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from small_coco import write_data
from test_transforms import check_hugs, painted

from vision_tasks.config import DataConfig, load_config
from vision_tasks.data.dataset import DetectionDataset, InOrder, Sample, collate
from vision_tasks.data.sampler import Request
from vision_tasks.data.semantic_crop import SemanticCrop, background_of
from vision_tasks.data.transforms import Transforms
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.structures import Categories, Target
from vision_tasks.training.loaders import transforms_of

SIZE = (150, 220)
PLAIN = Preprocess(resize="none", mean=(0.0,) * 3, std=(1.0,) * 3)


def mapped(seed: int = 0, dtype: type = np.uint8) -> Sample:
    """Pixel (r, c) is (r + 1, c + 1, 7), label (r + c) % 5, so that neither place nor label can be mistaken."""
    rows, columns = np.indices(SIZE)
    image = np.stack([rows + 1, columns + 1, np.full(SIZE, 7)], axis=-1).astype(dtype)
    semantic = torch.from_numpy(((rows + columns) % 5).astype(np.int16))
    return Sample(image, Target(seed, SIZE, semantic=semantic), Request(seed))


def crop_of(size: tuple[int, int] = (64, 96), rule: Preprocess = PLAIN, **options: object) -> SemanticCrop:
    return SemanticCrop(size, rule.network_size, **{"scale": (1.0, 1.0), **options})  # type: ignore[arg-type]


def place_of(sample: Sample) -> tuple[int, int]:
    """(top, left) of a crop of `mapped`, from its own pixels."""
    known = np.argwhere(sample.image[..., 2] == 7)
    y, x = known[0]
    row, column, _ = sample.image[y, x].astype(int)
    return row - 1 - y, column - 1 - x


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_crop_is_a_window_of_the_padded_image(dtype):
    """Equal to numpy's own padding and slicing; inside the image where it fits, around it where it does not."""
    for size in [(64, 96), (150, 220), (200, 96), (64, 300), (200, 300), (1, 1)]:
        before = mapped(dtype=dtype)
        peak = np.iinfo(dtype).max
        fill = (0.2, 0.6, 1.0)
        tops, lefts = set(), set()
        for seed in range(40):
            after = crop_of(size, fill=fill)(before, np.random.default_rng(seed))
            top, left = place_of(after)
            tops.add(top)
            lefts.add(left)
            pad = [(300, 300), (300, 300)]
            expected = np.stack([
                np.pad(before.image[..., c], pad, constant_values=round(fill[c] * peak)) for c in range(3)
            ], axis=-1)[300 + top :, 300 + left :][: size[0], : size[1]]  # fmt: skip
            np.testing.assert_array_equal(after.image, expected)
            assert after.image.dtype == dtype
            labels = np.pad(before.target.semantic.numpy(), pad, constant_values=-1)[300 + top :, 300 + left :]
            np.testing.assert_array_equal(after.target.semantic.numpy(), labels[: size[0], : size[1]])
            assert after.target.semantic.dtype == torch.int16
            assert after.target.size == after.size == size
        for starts, side, length in ((tops, SIZE[0], size[0]), (lefts, SIZE[1], size[1])):
            assert min(0, side - length) <= min(starts) <= max(starts) <= max(0, side - length)
            assert len(starts) == 1 if side == length else len(starts) > 10
    np.testing.assert_array_equal(before.image, mapped(dtype=dtype).image)


RULES = [
    PLAIN, Preprocess(75, 1000), Preprocess(300, 1000), Preprocess(300, 330),
    Preprocess(resize="stretch", size=(120, 120)), Preprocess(resize="letterbox", size=(160, 160)),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_objects_are_as_large_as_in_prediction(rule, factor):
    """One step along the image is as many network pixels in the crop as in the whole image, times the factor."""
    rule = dataclasses.replace(rule, mean=(0.0,) * 3, std=(1.0,) * 3)
    whole = rule([torch.from_numpy(mapped().image.transpose(2, 0, 1))])
    x, y = whole.scales[0]
    for seed in range(5):
        after = crop_of((64, 96), rule, scale=(factor, factor))(mapped(), np.random.default_rng(seed))
        batch = rule([torch.from_numpy(after.image.transpose(2, 0, 1))], None, None, after.size)
        assert batch.image_sizes == [(64, 96)]
        assert batch.images.shape[-2:] == (64, 96)
        assert batch.scales[0][0] == pytest.approx(x * factor, rel=0.5 / after.image.shape[1])
        assert batch.scales[0][1] == pytest.approx(y * factor, rel=0.5 / after.image.shape[0])


def test_pixels_are_not_resampled_where_nothing_is_scaled():
    after = crop_of()(mapped(), np.random.default_rng(0))
    batch = collate([after])
    assert batch.size == (64, 96)
    made = PLAIN(batch.images, batch.targets, batch.min_size, batch.size)
    assert torch.equal((made.images[0] * 255).round().to(torch.uint8), batch.images[0])
    assert torch.equal(made.targets[0].semantic, batch.targets[0].semantic)


def test_factors_are_drawn_evenly():
    sides = [crop_of(scale=(0.5, 2.0))(mapped(), np.random.default_rng(i)).image.shape[0] for i in range(600)]
    factors = np.sort(64 / np.array(sides))
    assert np.abs(factors - np.linspace(0.5, 2, 600)).max() < 0.12
    seen = crop_of(rule=Preprocess(75, 1000))
    wide = seen(dataclasses.replace(mapped(), request=Request(0, 0, 150)), np.random.default_rng(0))
    assert wide.image.shape == (64, 96, 3), "a batch of another size is seen at another scale"


def rare(seed: int) -> Sample:
    """Background 0, a few pixels of 1 and 2, some of 3, much ignored."""
    g = np.random.default_rng(seed)
    sample = mapped(seed)
    labels = np.zeros(SIZE, np.int16)
    labels[:, :40] = -1
    labels[60:90, 100:120] = 3
    for label in (1, 2):
        labels[g.integers(SIZE[0]), 45 + g.integers(50)] = label
    sample.target.semantic = torch.from_numpy(labels)
    return sample


@pytest.mark.parametrize("focus", ["foreground", "balanced"])
@pytest.mark.parametrize("size", [(16, 24), (3, 5), (1, 1), (170, 16)])
def test_what_is_focused_on_is_in_the_crop(focus, size):
    for seed in range(150):
        after = crop_of(size, focus=focus)(rare(seed), np.random.default_rng(seed))
        labels = after.target.semantic
        assert (labels > 0).any() if focus == "foreground" else (labels >= 0).any()
        top, left = place_of(after)
        for start, side, length in ((top, SIZE[0], size[0]), (left, SIZE[1], size[1])):
            assert min(0, side - length) <= start <= max(0, side - length)


def test_categories_are_balanced():
    """One pixel of 1 and 2, 600 of 3 and 26,400 of 0: a crop of one pixel hits each in a quarter of cases."""
    hits = np.zeros(4, dtype=int)
    layers = hits.copy()
    for seed in range(800):
        sample = rare(0)
        hits[int(crop_of((1, 1), focus="balanced")(sample, np.random.default_rng(seed)).target.semantic)] += 1
        labels = sample.target.semantic
        sample.target.semantic = (labels == torch.arange(4)[:, None, None]).to(torch.int8)
        sample.target.semantic[:, :, :40] = -1
        chosen = crop_of((1, 1), focus="balanced")(sample, np.random.default_rng(seed)).target.semantic
        layers += (chosen[:, 0, 0] == 1).numpy()
    assert np.abs(hits - 200).max() < 45, hits  # 3.7 standard deviations
    assert np.array_equal(hits, layers)


def test_every_foreground_pixel_and_every_place_around_it_is_as_likely():
    sample = mapped()
    sample.target.semantic = torch.zeros(SIZE, dtype=torch.int16)
    sample.target.semantic[70, 100] = sample.target.semantic[0, 219] = 4
    starts = []
    corners = 0
    for seed in range(900):
        top, left = place_of(crop_of((10, 15), focus="foreground")(sample, np.random.default_rng(seed)))
        if left > 150:
            corners += 1
            assert (top, left) == (0, SIZE[1] - 15), "the corner's pixel lies in one crop alone, in both directions"
        else:
            starts.append((70 - top, 100 - left))
    assert abs(corners - 450) < 55
    counts = np.zeros((10, 15))
    np.add.at(counts, tuple(np.array(starts).T), 1)
    assert counts.sum(1).min() > 20
    assert counts.sum(0).min() > 10


def test_nothing_to_focus_on():
    """All background, all ignored, nobody annotated: anywhere."""
    for semantic in (torch.zeros(SIZE, dtype=torch.int16), torch.full(SIZE, -1, dtype=torch.int16), None,
                     torch.zeros((2, *SIZE), dtype=torch.int8)):  # fmt: skip
        sample = mapped()
        sample.target.semantic = semantic
        for focus in ("foreground", "balanced"):
            places = {place_of(crop_of(focus=focus)(sample, np.random.default_rng(i))) for i in range(30)}
            assert len(places) > 25


def test_one_category_of_its_own_has_no_background():
    sample = mapped()
    sample.target.semantic = torch.zeros((1, *SIZE), dtype=torch.int8)
    sample.target.semantic[0, 140, 3] = 1
    for seed in range(30):
        after = crop_of((9, 9), focus="foreground", background=None)(sample, np.random.default_rng(seed))
        assert after.target.semantic.shape == (1, 9, 9)
        assert after.target.semantic.dtype == torch.int8
        assert (after.target.semantic == 1).sum() == 1
    large = crop_of((200, 300), background=None)(sample, np.random.default_rng(0)).target.semantic
    assert (large == -1).sum() == 200 * 300 - 150 * 220


def test_images_with_boxes_alone_are_focused_on_objects():
    boxes = torch.tensor([[0.0, 0, 30, 30], [100, 50, 140, 60], [215, 145, 220, 150], [60, 100, 90, 140]])
    target = Target(0, SIZE, boxes, torch.tensor([0, 0, 0, 1]), is_crowd=torch.tensor([False, False, False, True]))
    sample = dataclasses.replace(mapped(), target=target)
    seen = set()
    for seed in range(60):
        after = crop_of((20, 20), focus="foreground")(sample, np.random.default_rng(seed))
        assert len(after.target.boxes) > 0 or any((place_of(after)[i] + 20 > 100) for i in (0, 1))
        top, left = place_of(after)
        inside = [i for i, (x1, y1, x2, y2) in enumerate(boxes.tolist())
                  if min(x2, left + 20) > max(x1, left) and min(y2, top + 20) > max(y1, top)]  # fmt: skip
        seen.update(inside)
        assert inside
    assert {0, 1, 2} <= seen
    target.is_crowd[3] = False
    second = [crop_of((4, 4), focus="balanced")(sample, np.random.default_rng(i)).target.labels for i in range(200)]
    assert 70 < sum(bool(len(labels)) and int(labels[0]) == 1 for labels in second) < 130


def test_boxes_and_masks_go_along():
    for form in ("polygon", "rle"):
        for seed in range(12):
            sample = painted(form, seed=seed)
            after = crop_of((70, 90), scale=(0.4, 1.2))(sample, np.random.default_rng(seed))
            check_hugs(after)


def test_one_category_does_not_fill_the_crop():
    sample = mapped()
    sample.target.semantic = torch.zeros(SIZE, dtype=torch.int16)
    sample.target.semantic[:, 150:] = 1
    sample.target.semantic[:20] = -1

    def share(max_share: float, seed: int) -> float:
        after = crop_of((40, 40), max_share=max_share)(sample, np.random.default_rng(seed)).target.semantic
        counts = [int((after == label).sum()) for label in (0, 1)]
        return max(counts) / sum(counts)

    free, varied = ([share(value, i) for i in range(200)] for value in (1.0, 0.75))
    missed = np.mean(np.array(free) > 0.75)
    assert 0.8 < missed < 0.95
    assert np.mean(np.array(varied) > 0.75) == pytest.approx(missed**10, abs=0.1)
    sample.target.semantic[:] = 0
    assert share(0.75, 0) == 1, "the last try is taken"


def test_chance_is_the_generators_alone(tmp_path):
    records = write_data(tmp_path, [(60, 80), (80, 60), (70, 70)])
    crop = crop_of((32, 32), scale=(0.5, 2.0), focus="foreground", max_share=0.75)
    both = pickle.loads(pickle.dumps(InOrder((crop, Transforms("default")))))

    def made(seed: int, epoch: int) -> list[bytes]:
        dataset = DetectionDataset(records, both, seed)
        return [dataset[Request(i, epoch)].image.tobytes() for i in range(3)]

    assert made(0, 1) == made(0, 1)
    assert made(0, 1) != made(0, 2) != made(1, 2)
    batch = collate([DetectionDataset(records, both)[i] for i in range(3)])
    assert batch.size == (32, 32)
    with pytest.raises(ValueError, match="resized alike"):
        collate([DetectionDataset(records, both)[0], DetectionDataset(records)[0]])


def test_which_label_is_background():
    assert background_of(Categories.of(["road", "Background", "car"])) == 1
    assert background_of(Categories.of(["sky", "car"])) == 0
    assert background_of(Categories.of(["polyp"])) is None
    assert background_of(Categories.of(["a", "b"]), multi_label=True) is None


def test_a_recipe_has_crops(tmp_path):
    records = write_data(tmp_path, [(60, 80), (80, 60)])
    config = load_config(None, ["data.crop=[64,96]", "data.crop_scale=[1,1]", "data.augment=none"]).data
    rule = Preprocess(30, 1000, channel_order="bgr")
    made = transforms_of(config, records, rule)
    sample = made(DetectionDataset(records)[0], np.random.default_rng(0))
    assert sample.image.shape == (128, 192, 3)
    assert sample.size == (64, 96)
    edge = sample.image[(sample.image != 1).any(-1)]
    assert edge[0].tolist() == [round(v * 255) for v in rule.mean[::-1]]
    assert isinstance(transforms_of(DataConfig(), records, rule), Transforms)
    with pytest.raises(VisionTasksError, match="network pixels"):
        transforms_of(config, records)
    with pytest.raises(VisionTasksError, match="smaller factor"):
        load_config(None, ["data.crop_scale=[2,1]"])
    with pytest.raises(VisionTasksError, match="crop_focus"):
        load_config(None, ["data.crop_focus=centre"])
