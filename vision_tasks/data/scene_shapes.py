"""The solid objects of the generated scenes: exact ray intersection, and the paint on their surfaces.

Everything is analytic (spheres, boxes and frusta, after any text book on ray tracing), so outlines, perspective
and occlusion are exact at any size. Units are metres; y points up and an object stands on y = 0 of its own frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""float32 throughout; NumPy's stubs cannot follow that through mixed expressions."""

Paint = Callable[[int, Array, Array], Array]
"""(part, (3, P) points, (3, P) normals), both in the object's frame -> (3, P) RGB in 0..1."""

THINGS = ("ball", "crate", "cone", "wheel", "bottle")

_MISS = np.float32(np.inf)


@dataclass(frozen=True)
class Part:
    """One convex piece. `sphere`: (radius,) at `center`; `box`: half sizes; `frustum`: y0, y1, r0, r1 about y."""

    kind: str
    numbers: tuple[float, ...]
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def hit(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """First intersection of P rays.

        Args:
            origin: (3, P) or (3, 1). direction: (3, P) or (3, 1), any length.

        Returns:
            Distances (P,) in lengths of `direction`, infinite where missed, and outward unit normals (3, P).
        """
        moved = origin - np.asarray(self.center, np.float32)[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.kind == "sphere":
                return _hit_sphere(moved, direction, self.numbers[0])
            if self.kind == "box":
                return _hit_box(moved, direction, self.numbers)
            return _hit_frustum(moved, direction, *self.numbers)


@dataclass(frozen=True)
class Solid:
    """One object: its parts, its paint, and where it stands.

    `turn` (3, 3) takes the object's frame to the world's, `place` (3,) is that frame's origin in the world. `reach`
    bounds it: half its width, and its height above the ground. `label` indexes `THINGS`; `crowd` is 0, or the number
    of the heap it belongs to.
    """

    label: int
    parts: tuple[Part, ...]
    paint: Paint
    turn: Array
    place: Array
    reach: tuple[float, float]
    gloss: float
    crowd: int = 0

    def hit(self, origin: Array, direction: Array) -> tuple[Array, Array, Array, Array]:
        """First intersection of P rays of the world, (3, P) or (3, 1) each.

        Returns:
            Distances (P,), parts (P,), points (3, P) and normals (3, P), the last two in the object's frame.
        """
        local_origin = rotated(self.turn.T, origin - self.place[:, None])
        local_direction = rotated(self.turn.T, direction)
        near, normal = self.parts[0].hit(local_origin, local_direction)
        part = np.zeros(near.shape, np.int8)
        for index, piece in enumerate(self.parts[1:], start=1):
            distance, other = piece.hit(local_origin, local_direction)
            closer = distance < near
            near = np.where(closer, distance, near)
            normal = np.where(closer, other, normal)
            part[closer] = index
        reached = np.where(np.isfinite(near), near, np.float32(0))
        return near, part, local_origin + local_direction * reached, normal

    def is_hit(self, origin: Array, direction: Array) -> NDArray[np.bool_]:
        """Whether each of P rays meets the object: its shadow."""
        local_origin = rotated(self.turn.T, origin - self.place[:, None])
        local_direction = rotated(self.turn.T, direction)
        hits = [np.isfinite(piece.hit(local_origin, local_direction)[0]) for piece in self.parts]
        return np.asarray(np.any(hits, axis=0))


def rotated(matrix: Array, vectors: Array) -> Array:
    """(3, 3) times (3, P). Not `@`: a threaded BLAS is slower on this shape, and rounds differently by machine."""
    return np.asarray(np.einsum("ij,jp->ip", matrix, vectors))


def _hit_sphere(origin: Array, direction: Array, radius: float) -> tuple[Array, Array]:
    a = (direction * direction).sum(0)
    b = (origin * direction).sum(0)
    c = (origin * origin).sum(0) - np.float32(radius**2)
    distance = (-b - np.sqrt(b * b - a * c)) / a
    distance = np.where(distance > 0, distance, _MISS)
    return distance, (origin + direction * np.where(np.isfinite(distance), distance, np.float32(0))) / np.float32(
        radius
    )


def _hit_box(origin: Array, direction: Array, half: tuple[float, ...]) -> tuple[Array, Array]:
    half_sizes = np.asarray(half, np.float32)[:, None]
    inverse = 1 / np.where(np.abs(direction) < 1e-7, np.float32(1e-7), direction)
    entries = np.broadcast_to(
        (-origin - np.sign(inverse) * half_sizes) * inverse, np.broadcast(origin, direction).shape
    )
    exits = (-origin + np.sign(inverse) * half_sizes) * inverse
    axis = entries.argmax(0)
    near, far = entries.max(0), exits.min(0)
    distance = np.where((near <= far) & (near > 0), near, _MISS)
    normal = -np.sign(inverse) * (axis[None] == np.arange(3)[:, None])
    return distance, normal.astype(np.float32)


def _hit_frustum(origin: Array, direction: Array, y0: float, y1: float, r0: float, r1: float) -> tuple[Array, Array]:
    """A cone cut off at two heights: x² + z² = (foot + slope·y)² between y0 and y1, and its two discs."""
    (ox, oy, oz), (dx, dy, dz) = origin, direction
    slope = np.float32((r1 - r0) / (y1 - y0))
    foot = np.float32(r0) - slope * np.float32(y0)
    reach = foot + slope * oy
    a = dx * dx + dz * dz - slope * slope * dy * dy
    b = ox * dx + oz * dz - slope * dy * reach
    c = ox * ox + oz * oz - reach * reach
    root = np.sqrt(b * b - a * c)
    best = np.full(np.broadcast(ox, dx).shape, _MISS, np.float32)
    normal_y = np.zeros_like(best)
    side = np.ones(best.shape, bool)
    for distance in ((-b - root) / a, (-b + root) / a):
        y = oy + dy * distance
        good = (distance > 0) & (y >= y0) & (y <= y1) & (distance < best) & (foot + slope * y >= 0)
        best = np.where(good, distance, best)
    for height, radius, up in ((y0, r0, -1.0), (y1, r1, 1.0)):
        distance = (np.float32(height) - oy) / dy
        x, z = ox + dx * distance, oz + dz * distance
        good = (distance > 0) & (x * x + z * z <= radius * radius) & (distance < best)
        best = np.where(good, distance, best)
        normal_y = np.where(good, np.float32(up), normal_y)
        side &= ~good
    reached = np.where(np.isfinite(best), best, np.float32(0))
    x, z = ox + dx * reached, oz + dz * reached
    length = np.maximum(np.sqrt(x * x + z * z), np.float32(1e-6)) * np.sqrt(1 + slope * slope)
    tilt = -slope / np.sqrt(1 + slope * slope)
    normal = np.stack([np.where(side, x / length, 0), np.where(side, tilt, normal_y), np.where(side, z / length, 0)])
    return best, normal.astype(np.float32)


@lru_cache(maxsize=1)
def noise_tile() -> Array:
    """A (512, 512) tile of pink noise, mean 0 and deviation about 1, that repeats without a seam."""
    size = 512
    white = np.random.default_rng(20240229).standard_normal((size, size))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    pink = np.fft.irfft2(np.fft.rfft2(white) / np.maximum(frequency, 4 / size), s=(size, size))
    return np.asarray(np.clip((pink - pink.mean()) / pink.std(), -2.5, 2.5), np.float32)


def noise_at(u: Array, v: Array) -> Array:
    """The tile's noise at any coordinates, in tile pixels, nearest neighbour."""
    return np.asarray(noise_tile()[v.astype(np.int32) & 511, u.astype(np.int32) & 511])


def _rgb(*color: float) -> Array:
    return np.asarray(color, np.float32).reshape(3, 1) / np.float32(255)


def _about_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)


def _about_x(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)


def make_solid(thing: str, height: float, place: Array, rng: np.random.Generator, crowd: int = 0) -> Solid:
    """A `thing` about `height` metres tall with its foot at `place` (3,), turned and painted at random."""
    make = {"ball": _ball, "crate": _crate, "cone": _cone, "wheel": _wheel, "bottle": _bottle}[thing]
    parts, paint, turn, reach, gloss = make(height, rng)
    origin = place + np.asarray([0, height / 2 if thing == "wheel" else 0, 0])
    return Solid(THINGS.index(thing), parts, paint, turn, origin.astype(np.float32), reach, gloss, crowd)


# What a maker below gives: parts, paint, turn, reach and gloss of a `Solid`.
_Made = tuple[tuple[Part, ...], Paint, Array, tuple[float, float], float]


def _ball(height: float, rng: np.random.Generator) -> _Made:
    radius = height / 2
    colors = [(214, 46, 58), (36, 92, 190), (250, 204, 40), (206, 62, 150), (110, 60, 170)]
    first = _rgb(*colors[int(rng.integers(len(colors)))])
    white = _rgb(246, 244, 238)
    spin = _about_x(float(rng.uniform(0.3, 2.2))) @ _about_y(float(rng.uniform(0, 6.3)))

    def paint(part: int, points: Array, normals: Array) -> Array:
        x, y, z = rotated(spin, normals)
        panel = np.floor(np.arctan2(z, x) * np.float32(3 / np.pi)).astype(np.int32) & 1
        cap = np.abs(y) > 0.93
        return np.where(cap | (panel == 0), white, first)

    return (Part("sphere", (radius,), (0, radius, 0)),), paint, _about_y(0), (radius, height), 0.45


def _crate(height: float, rng: np.random.Generator) -> _Made:
    half = (height * float(rng.uniform(0.45, 0.7)), height / 2, height * float(rng.uniform(0.4, 0.6)))
    wood = _rgb(196, 146, 88) * np.float32(rng.uniform(0.8, 1.12))
    offset = float(rng.uniform(0, 512))

    def paint(part: int, points: Array, normals: Array) -> Array:
        scaled = (points - np.asarray([[0], [half[1]], [0]], np.float32)) / np.asarray(half, np.float32)[:, None]
        on_x, on_y = np.abs(normals[0]) > 0.5, np.abs(normals[1]) > 0.5
        across = np.where(on_x, scaled[2], scaled[0])
        up = np.where(on_y, scaled[2], scaled[1])
        frame = (np.abs(across) > 0.8) | (np.abs(up) > 0.8)
        brace = ~on_y & (np.abs(across - up) < 0.2)
        raised = frame | brace
        plank = (up + 1) * np.float32(2.5)
        gap = ~raised & (np.abs(plank - np.round(plank)) < 0.07)
        edge = (np.abs(np.abs(across) - 0.8) < 0.035) & (np.abs(up) < 0.8) | (
            (np.abs(np.abs(up) - 0.8) < 0.035) & (np.abs(across) < 0.8)
        )
        grain = noise_at(across * 14 + offset, up * 150 + np.where(raised, np.float32(60), np.float32(0)))
        tone = np.where(raised, np.float32(1.12), np.float32(0.88)) + np.float32(0.07) * grain
        tone = np.where(gap | edge, np.float32(0.42), tone)
        return wood * tone

    reach = (float(np.hypot(half[0], half[2])), height)
    return (Part("box", half, (0, half[1], 0)),), paint, _about_y(float(rng.uniform(0, 3.1))), reach, 0.05


def _cone(height: float, rng: np.random.Generator) -> _Made:
    base, foot = height * 0.33, height * 0.06
    orange = _rgb(255, 104 + float(rng.uniform(-14, 18)), 22)

    def paint(part: int, points: Array, normals: Array) -> Array:
        level = points[1] / np.float32(height)
        band = (part == 0) & (((level > 0.32) & (level < 0.5)) | ((level > 0.64) & (level < 0.78)))
        dirt = np.float32(1) - np.float32(0.05) * noise_at(points[0] * 90, points[1] * 90)
        color = np.where(band, _rgb(244, 244, 240), orange)
        return np.asarray(color * dirt * np.float32(0.8 if part else 1.0))

    parts = (
        Part("frustum", (foot, height, height * 0.24, height * 0.035)),
        Part("box", (base, foot / 2, base), (0, foot / 2, 0)),
    )
    return parts, paint, _about_y(float(rng.uniform(0, 1.5))), (base * 1.42, height), 0.15


def _wheel(height: float, rng: np.random.Generator) -> _Made:
    radius, half_width = height / 2, height * 0.13
    spokes = int(rng.integers(5, 8))
    metal = _rgb(205, 210, 216)

    def paint(part: int, points: Array, normals: Array) -> Array:
        # The axle is the y axis of this frame: the parts are turned upright by `turn`.
        ring = np.sqrt(points[0] ** 2 + points[2] ** 2) / np.float32(radius)
        angle = np.arctan2(points[2], points[0])
        spoke = np.cos(angle * spokes) > 0.1
        tread = (ring > 0.97) & (np.cos(angle * 30) > 0.2)
        rubber = np.where(tread, np.float32(0.55), np.float32(1.0)) * _rgb(52, 52, 56)
        hub = (ring < 0.64) & ((ring > 0.54) | (ring < 0.17) | spoke)
        hole = (ring < 0.54) & ~hub
        return np.asarray(np.where(hub, metal, np.where(hole, _rgb(24, 24, 28), rubber)))

    tilt = np.float32(np.pi / 2 + rng.uniform(-0.08, 0.08))
    # Yaw within 60° of the camera keeps the face of the wheel in sight.
    turn = _about_y(float(rng.uniform(-1.05, 1.05))) @ _about_x(float(tilt))
    parts = (Part("frustum", (-half_width, half_width, radius, radius)),)
    return parts, paint, turn.astype(np.float32), (radius * 1.03, height), 0.3


def _bottle(height: float, rng: np.random.Generator) -> _Made:
    width = height * float(rng.uniform(0.15, 0.18))
    glass = [_rgb(28, 122, 70), _rgb(30, 130, 128), _rgb(88, 142, 40)][int(rng.integers(3))]
    label = [_rgb(240, 232, 206), _rgb(250, 240, 150)][int(rng.integers(2))]
    ink = [_rgb(176, 34, 40), _rgb(40, 50, 120)][int(rng.integers(2))]

    def paint(part: int, points: Array, normals: Array) -> Array:
        if part == 3:
            return np.broadcast_to(ink, points.shape)
        level = points[1] / np.float32(height)
        paper = (level > 0.16) & (level < 0.46)
        stripe = paper & (np.abs(level - 0.31) < 0.045)
        return np.where(stripe, ink, np.where(paper, label, glass * np.float32(0.9)))

    parts = (
        Part("frustum", (0, height * 0.56, width, width)),
        Part("frustum", (height * 0.56, height * 0.74, width, width * 0.38)),
        Part("frustum", (height * 0.74, height * 0.94, width * 0.38, width * 0.36)),
        Part("frustum", (height * 0.93, height, width * 0.44, width * 0.44)),
    )
    return parts, paint, _about_y(float(rng.uniform(0, 6.2))), (width, height), 0.8
