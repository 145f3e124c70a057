"""Samples whose objects are painted, drawn by hypothesis, and the rule that labels must still hug the paint."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from hypothesis import strategies as st

from vision_tasks.data.dataset import Sample
from vision_tasks.data.sampler import Request
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Target

SHAPES = ("ellipse", "rectangle", "corner", "pieces")
FORMS = ("polygon", "rle", "box")


def outlines(shape: str, centre: np.ndarray, reach: np.ndarray, turn: float) -> list[np.ndarray]:
    """Polygons (P, 2) float32 within `reach` of the centre, or a little more where they are turned."""
    if shape == "ellipse":
        t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        parts = [np.stack([np.cos(t), np.sin(t)], 1)]
    elif shape == "rectangle":
        parts = [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])]
    elif shape == "corner":
        parts = [np.array([[-1, -1], [1, -1], [1, 0], [0, 0], [0, 1], [-1, 1]])]
    else:
        parts = [np.array([[a, -1], [b, -1], [b, 1], [a, 1]]) for a, b in ((-1, -0.25), (0.25, 1))]
    cos, sin = np.cos(turn), np.sin(turn)
    return [((p * reach) @ np.array([[cos, sin], [-sin, cos]]) + centre).astype(np.float32) for p in parts]


@st.composite
def samples(draw: st.DrawFn, number: int = 0, dtype: type = np.uint8) -> Sample:
    """An image of three objects side by side, each at the highest value of its own channel, else black.

    Labels are 3 · number + channel; the semantic map is label + 1 on objects and 0 elsewhere. Each object is a polygon,
    a run length or a box alone, and may be a crowd. Objects do not touch.
    """
    h, w = draw(st.integers(105, 180)), draw(st.integers(125, 220))
    parts, shapes, boxes, crowds = [], [], [], []
    for k in range(3):
        x, y, rx, ry = (draw(st.floats(0, 1, width=16)) for _ in range(4))
        reach = (8 + np.array([rx, ry]) * (w / 6 - 10)) / 1.42
        centre = np.array([w * (k + 0.5) / 3 + (x - 0.5) * 2, h * (0.3 + 0.4 * y)])
        turned = outlines(draw(st.sampled_from(SHAPES)), centre, reach, draw(st.sampled_from((0.0, 0.0, 0.5, 1.2))))
        points = np.concatenate(turned)
        parts.append(turned)
        boxes.append([*points.min(0), *points.max(0)])
        crowds.append(draw(st.integers(0, 4)) == 0)
    size = (h, w)
    bitmaps = mask_ops.render(Masks(size, shapes=list(parts))).numpy()
    rles = mask_ops.to_rles(Masks(size, shapes=list(parts)))
    for k, turned in enumerate(parts):
        form = draw(st.sampled_from(FORMS))
        shapes.append({"polygon": turned, "rle": rles[k], "box": None}[form])
    labels = torch.arange(3) + 3 * number
    semantic = (bitmaps * (labels.numpy() + 1)[:, None, None]).max(0).astype(np.int16)
    image = np.ascontiguousarray(bitmaps.transpose(1, 2, 0)) * dtype(np.iinfo(dtype).max)
    target = Target(
        image_id=number,
        size=size,
        boxes=torch.tensor(np.array(boxes, np.float32)),
        labels=labels,
        masks=Masks(size, shapes=shapes),
        area=mask_ops.area(rles).to(torch.float32),
        is_crowd=torch.tensor(crowds),
        semantic=torch.from_numpy(semantic),
    )
    return Sample(image, target, Request(number))


def shown_alone(shown: int, given: list[Sample]) -> list[Sample]:
    """The paint of one sample; the others are black, but keep their truth."""
    return [s if i == shown else dataclasses.replace(s, image=s.image * 0) for i, s in enumerate(given)]


class Shelf:
    """Stands in for the data set: gives its samples in turn, whatever row is asked for."""

    def __init__(self, given: list[Sample]) -> None:
        self.given, self.length = itertools.cycle(given), len(given)

    def rows_like(self, row: int) -> range:
        return range(self.length)

    def read(self, row: int) -> Sample:
        return next(self.given)

    def has_annotations(self, row: int) -> bool:
        return True


def bounds(paint: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(paint.any(1)), np.flatnonzero(paint.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def check_hugs(
    result: Sample, before: Sample, *, factor: float = 1.0, lost: float = 0.0, peak: float = 1.0, may_lose: bool = False
) -> None:
    """Hold the truth of the objects of `before` against their paint in `result`.

    Args:
        factor: by how much the image was enlarged at most: paint is only as exact as the pixels of then.
        lost: the part of an object that may be seen of it although it was dropped. may_lose: any part.
        peak: how bright paint is in the result, of the highest value.
    """
    image, target, first = result.image, result.target, int(before.target.labels[0])
    assert target.size == image.shape[:2] == tuple(target.semantic.shape)
    assert len(target.boxes) == len(target.labels) == len(target.masks) == len(target.area) == len(target.is_crowd)
    assert target.masks.size == target.size
    assert ((target.boxes[:, 2:] - target.boxes[:, :2]) > 0).all()
    assert (target.boxes >= 0).all()
    assert (target.boxes[:, [2, 3]] <= torch.tensor([target.size[1], target.size[0]])).all()
    half, reach = np.iinfo(image.dtype).max * peak / 2, max(factor, 1.0)
    semantic = target.semantic.numpy()
    where = {label: i for i, label in enumerate(target.labels.tolist())}
    for k in range(3):
        paint = image[..., k] > half
        count, i = int(paint.sum()), where.get(first + k)
        whole = int((before.image[..., k] > 0).sum())
        if i is None:
            thin = count == 0 or np.ptp(bounds(paint).reshape(2, 2), axis=0).min() <= 3 * reach
            assert may_lose or thin or count <= 1.3 * lost * whole * factor**2 + 20 * reach, (
                k,
                count,
                whole,
                "dropped",
            )
            continue
        if not count:
            side = float((target.boxes[i, 2:] - target.boxes[i, :2]).min())
            assert side <= 3 * reach or target.masks.shapes[i] is None, (k, side, "kept, but not seen")
            continue
        if count < 15 * reach:  # slivers of which shrinking leaves little paint
            continue
        tight = bounds(paint)
        perimeter = 2 * np.ptp(tight.reshape(2, 2), axis=0).sum()
        edge = 1.0 * reach * perimeter + 8 * reach
        assert bool(target.is_crowd[i]) == bool(before.target.is_crowd[k])
        box, slack = target.boxes[i].numpy(), 1.0 + 1.5 * reach
        assert (box[:2] <= tight[:2] + slack).all(), (k, box, tight)
        assert (box[2:] >= tight[2:] - slack).all(), (k, box, tight)
        if target.masks.shapes[i] is not None:
            assert np.abs(box - tight).max() <= slack, (k, box, tight, slack)
            mask = mask_ops.render(target.masks[[i]])[0].numpy()
            assert (mask != paint).sum() <= edge, (k, (mask != paint).sum(), edge)
            if count > 12 * perimeter:
                assert (mask & paint).sum() / (mask | paint).sum() > 0.85, k
            assert abs(float(target.area[i]) - count) <= edge + 0.05 * count, (k, target.area[i], count)
        wrong = int((semantic[paint] != first + k + 1).sum())
        assert wrong <= edge, (k, wrong, edge, "of the map")
    if first == 0 and not may_lose:  # the sample's own map: no category where there is no paint of it
        for k in range(3):
            paint = image[..., k] > half
            perimeter = 2 * np.ptp(bounds(paint).reshape(2, 2), axis=0).sum() if paint.any() else 8
            away = int(((semantic == k + 1) & ~paint).sum())
            assert away <= reach * perimeter + 20 * reach, (k, away, perimeter)
