"""Where the objects of a generated scene stand: on the ground, inside the frame, nearly all of them in sight."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.scene_render import Surroundings
from vision_tasks.data.scene_shapes import THINGS, Array, Solid, make_solid

_HEIGHTS = {"ball": (0.6, 1.1), "crate": (0.7, 1.1), "cone": (0.8, 1.2), "wheel": (0.75, 1.1), "bottle": (0.9, 1.4)}
"""Metres, lowest and highest."""


def place_objects(around: Surroundings, rng: np.random.Generator) -> list[Solid]:
    """Put objects on the ground, apart from each other; about one image in twelve stays empty."""
    if rng.random() < 0.08:
        return []
    solids: list[Solid] = []
    for _ in range(int(rng.integers(3, 8))):
        for _ in range(20):
            thing = THINGS[int(rng.integers(len(THINGS)))]
            place = _spot(around, rng, 0.22, 0.92)
            candidate = make_solid(thing, rng.uniform(*_HEIGHTS[thing]), place, rng)
            if _fits(around, candidate, solids):
                solids.append(candidate)
                break
    if rng.random() < 0.15:
        solids.extend(_heap(around, solids, rng))
    return solids


def _spot(around: Surroundings, rng: np.random.Generator, low: float, high: float) -> Array:
    """A place (3,) on the ground, `low`..`high` of the way from the ground's far end down to the frame's bottom."""
    height, width = around.size
    horizon = height / 2 - around.focal * np.tan(around.pitch)
    top = max(horizon, 0.0)
    if around.wall is not None:
        top = max(top, float(around.project(np.asarray([[0.0], [0.0], [around.wall]]))[1, 0]))
    row = top + (height - top) * rng.uniform(low, high)
    column = rng.uniform(0.02, 0.98) * width
    right, up = (column - width / 2) / around.focal, (height / 2 - row) / around.focal
    c, s = np.cos(around.pitch), np.sin(around.pitch)
    reach = around.eye / -(c * up - s)
    return np.asarray([right * reach, 0.0, (c + s * up) * reach])


def _fits(around: Surroundings, candidate: Solid, solids: list[Solid]) -> bool:
    """Whether it stands free on the ground and hides no other object, and is not hidden, by more than half."""
    rows, columns = around.window(candidate, 1)
    if min(rows.stop - rows.start, columns.stop - columns.start) < 12:
        return False
    for other in solids:
        gap = np.hypot(*(candidate.place - other.place)[[0, 2]])
        if gap < 0.9 * (candidate.reach[0] + other.reach[0]):
            return False
        other_rows, other_columns = around.window(other, 1)
        shared_rows = min(rows.stop, other_rows.stop) - max(rows.start, other_rows.start)
        shared_columns = min(columns.stop, other_columns.stop) - max(columns.start, other_columns.start)
        smaller = min(_extent(rows, columns), _extent(other_rows, other_columns))
        if shared_rows > 0 and shared_columns > 0 and shared_rows * shared_columns > 0.6 * smaller:
            return False
    return True


def _extent(rows: slice, columns: slice) -> int:
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _heap(around: Surroundings, solids: list[Solid], rng: np.random.Generator) -> list[Solid]:
    """Many small things of one kind close together, far back: annotated as one crowd."""
    thing = THINGS[int(rng.integers(len(THINGS)))]
    middle = _spot(around, rng, 0.3, 0.42)
    heap: list[Solid] = []
    for _ in range(14):
        place = middle + np.asarray([rng.normal(0, 0.55), 0.0, rng.normal(0, 0.4)])
        candidate = make_solid(thing, 0.6 * rng.uniform(*_HEIGHTS[thing]), place, rng, crowd=1)
        apart = (
            np.hypot(*(candidate.place - s.place)[[0, 2]]) > 0.75 * (candidate.reach[0] + s.reach[0])
            for s in solids + heap
        )
        if all(apart):
            heap.append(candidate)
    return heap
