"""Copy-paste and what it covers, against bitmaps counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painting import Shelf, samples

from vision_tasks.data.copy_paste import CopyPaste
from vision_tasks.data.dataset import Sample
from vision_tasks.data.occlusion import covered
from vision_tasks.data.sampler import Request
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Target

SIZE = (60, 80)


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[np.ndarray]:
    return [np.float32([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]


def target(boxes: list[tuple[float, ...]], masks: str = "polygon", crowd: tuple[int, ...] = ()) -> Target:
    shapes: list = [rectangle(*box) for box in boxes]
    if masks == "rle":
        shapes = list(mask_ops.to_rles(Masks(SIZE, shapes=shapes)))
    return Target(
        image_id=1,
        size=SIZE,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        masks=Masks(SIZE, shapes=[None] * len(boxes) if masks == "box" else shapes),
        area=torch.tensor([(b[2] - b[0]) * (b[3] - b[1]) for b in boxes], dtype=torch.float32),
        is_crowd=torch.tensor([i in crowd for i in range(len(boxes))]),
        semantic=torch.ones(SIZE, dtype=torch.int16),
    )


def cover_of(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    cover = np.zeros(SIZE, bool)
    cover[y1:y2, x1:x2] = True
    return cover


@pytest.mark.parametrize("form", ["polygon", "rle"])
def test_a_half_covered_object_loses_that_half(form):
    after = covered(target([(10, 10, 30, 20), (50, 30, 70, 50)], form), cover_of(20, 0, 40, 40))
    assert after.boxes.tolist() == [[10, 10, 20, 20], [50, 30, 70, 50]]
    assert after.area.tolist() == [100, 400]
    assert mask_ops.area(mask_ops.to_rles(after.masks)).tolist() == [100, 400]
    assert not mask_ops.render(after.masks)[0][:, 20:40].any()
    assert (after.semantic == -1).sum() == 20 * 40


def test_an_object_covered_in_the_middle_keeps_its_box_and_gets_a_hole():
    after = covered(target([(10, 10, 40, 20)]), cover_of(20, 0, 30, 60))
    assert after.boxes.tolist() == [[10, 10, 40, 20]]
    assert after.area.tolist() == [200]


@pytest.mark.parametrize(("edge", "left"), [(26, 4), (27, 3), (30, 0)])
def test_less_than_a_fifth_is_dropped_but_not_of_crowds(edge, left):
    """20 pixels wide: a fifth is four."""
    before = target([(10, 10, 30, 20), (10, 30, 30, 40)], crowd=(1,))
    after = covered(before, cover_of(0, 0, edge, 60))
    assert after.labels.tolist() == ([0] if left >= 4 else []) + ([1] if left else [])
    assert after.is_crowd.tolist() == ([False] if left >= 4 else []) + ([True] if left else [])


def test_a_box_alone_stays_as_it_is_until_hardly_a_pixel_of_it_is_seen():
    before = target([(10, 10, 30, 20)], "box")
    assert covered(before, cover_of(0, 0, 20, 60)).boxes.tolist() == [[10, 10, 30, 20]]
    assert covered(before, cover_of(0, 0, 20, 60)).area.tolist() == [200]
    assert len(covered(before, cover_of(0, 0, 28, 60)).boxes) == 0


def test_what_is_not_touched_is_the_same_object():
    before = target([(10, 10, 30, 20)])
    assert covered(before, np.zeros(SIZE, bool)) is before
    after = covered(before, cover_of(40, 30, 50, 40))
    assert after.masks.shapes[0] is before.masks.shapes[0]
    nothing = Target(1, SIZE)
    assert covered(nothing, cover_of(0, 0, 9, 9)) == nothing
    assert len(covered(target([]), cover_of(0, 0, 9, 9)).boxes) == 0


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(samples(0), samples(1), st.integers(0, 2**31))
def test_pixels_and_masks_after_pasting(sample, other, seed):
    """Everything is recomputed from the result: pixels come from either image, masks from what is in front."""
    ground = dataclasses.replace(sample, image=sample.image // 5 + 20)
    front = dataclasses.replace(other, image=other.image // 5 + 120)
    result = CopyPaste(1.0, (0.5, 1.5))(ground, np.random.default_rng(seed), Shelf([front]))
    labels = result.target.labels.tolist()
    pasted = [i for i, label in enumerate(labels) if label >= 3]
    assert not any(bool(result.target.is_crowd[i]) for i in pasted)
    assert all(result.target.masks.shapes[i] is not None for i in pasted)
    changed = (result.image != ground.image).any(-1)
    bitmaps = mask_ops.render(result.target.masks).numpy()
    cover = bitmaps[pasted].any(0) if pasted else np.zeros(sample.target.size, bool)
    assert (changed == cover).all()  # the other image is brighter everywhere
    assert (result.image[cover] >= 110).all()
    whole = mask_ops.render(sample.target.masks).numpy()
    for i, label in enumerate(labels):
        if label >= 3:
            assert (result.target.semantic.numpy()[bitmaps[i]] != label + 1).mean() < 0.3
        elif result.target.masks.shapes[i] is not None:
            assert (bitmaps[i] == (whole[label] & ~cover)).all()
            if (whole[label] & cover).any():
                rows, columns = np.flatnonzero(bitmaps[i].any(1)), np.flatnonzero(bitmaps[i].any(0))
                assert result.target.boxes[i].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    for label in set(range(3)) - set(labels):
        if sample.target.masks.shapes[label] is not None:
            seen, crowd = (whole[label] & ~cover).sum() / whole[label].sum(), bool(sample.target.is_crowd[label])
            rest = whole[label] & ~cover
            thin = not rest.any() or min(np.ptp(np.argwhere(rest), axis=0)) < 2
            assert seen == 0 if crowd else seen < 0.2 or thin
    assert (result.target.semantic.numpy()[~cover] == sample.target.semantic.numpy()[~cover]).all()


def plain(image_id: int, **given_target: object) -> Sample:
    return Sample(np.full((*SIZE, 3), 50 * image_id, np.uint8), Target(image_id, SIZE, **given_target), Request(0))


def test_where_nothing_can_be_pasted_the_sample_stays():
    first = Sample(np.zeros((*SIZE, 3), np.uint8), target([(10, 10, 30, 20)]), Request(0))
    for other in (target([(10, 10, 30, 20)], "box"), target([(10, 10, 30, 20)], crowd=(0,)), target([])):
        mate = Sample(np.full((*SIZE, 3), 200, np.uint8), other, Request(1))
        result = CopyPaste(1.0)(first, np.random.default_rng(0), Shelf([mate]))
        assert result.image is first.image
        assert result.target is first.target
    boxes_only = plain(1, boxes=torch.tensor([[1.0, 1, 9, 9]]), labels=torch.tensor([0]))
    assert CopyPaste(1.0)(boxes_only, np.random.default_rng(0), Shelf([first])) is boxes_only


def test_a_pasted_object_without_a_map_is_unknown_in_the_map():
    first = Sample(np.zeros((*SIZE, 3), np.uint8), target([]), Request(0))
    mate = Sample(np.full((*SIZE, 3), 200, np.uint8), target([(10, 10, 70, 50)]), Request(1))
    mate.target.semantic = None
    result = CopyPaste(1.0, (1.0, 1.0))(first, np.random.default_rng(0), Shelf([mate]))
    front = result.image[..., 0] > 0
    assert front.any()
    assert ((result.target.semantic.numpy() == -1) == front).all()


def test_sixteen_bits_and_the_share():
    first = Sample(np.zeros((*SIZE, 3), np.uint8), target([]), Request(0))
    mate = Sample(np.full((*SIZE, 3), 9999, np.uint16), target([(10, 10, 70, 50)]), Request(1))
    result = CopyPaste(1.0, (1.0, 1.0))(first, np.random.default_rng(0), Shelf([mate]))
    assert result.image.dtype == np.uint16
    assert np.unique(result.image).tolist() == [0, 9999]
    made = [CopyPaste(0.3)(first, np.random.default_rng(i), Shelf([mate])) is not first for i in range(200)]
    assert 35 < sum(made) < 85
