"""A camera for the generated scenes: ground, sky or wall, lit objects with shadows, and what stands at each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_tasks.data.scene_shapes import Array, Solid, noise_tile, rotated

GROUND, SKY, WALL = -1, -2, -3
"""What a pixel without an object shows; objects are 0..N-1."""

OVERSAMPLE = 3
"""Rays per pixel and axis. Odd, so that the middle one passes through the pixel's centre and decides its label."""

_OUTDOORS, _INDOORS = ("grass", "asphalt", "sand", "tiles"), ("planks", "tiles", "grass", "asphalt")
_GROUNDS = {
    "grass": ((92, 128, 62), 0.20, 0.0),
    "asphalt": ((112, 112, 116), 0.10, 0.0),
    "sand": ((206, 184, 142), 0.08, 0.0),
    "tiles": ((176, 170, 160), 0.05, 0.9),
    "planks": ((156, 128, 100), 0.10, 0.5),
}
_WALLS = ((188, 172, 150), (150, 164, 176), (196, 190, 184), (168, 140, 124), (172, 180, 160))


@dataclass(frozen=True)
class Surroundings:
    """Where a scene takes place. Lengths in metres, angles in radians, colours RGB in 0..1.

    `wall` is the distance of a wall, or None for open sky.
    """

    size: tuple[int, int]
    eye: float
    pitch: float
    focal: float
    ground: str
    wall: float | None
    sun: Array
    warmth: float
    seed_u: float
    seed_v: float
    tint: Array

    @classmethod
    def draw(cls, size: tuple[int, int], rng: np.random.Generator) -> Surroundings:
        """At random, for an image of (height, width)."""
        side = float(rng.choice([-1.0, 1.0]))
        sun = np.asarray([side * rng.uniform(0.35, 0.9), rng.uniform(0.75, 1.2), -rng.uniform(-0.15, 0.6)])
        walls = np.asarray(_WALLS[int(rng.integers(len(_WALLS)))], np.float32) / 255
        walled = bool(rng.random() < 0.45)
        return cls(
            size=size,
            eye=float(rng.uniform(1.5, 2.3)),
            pitch=float(rng.uniform(0.19, 0.33)),
            focal=float(rng.uniform(1.0, 1.15)) * max(size),
            ground=str(rng.choice(_INDOORS if walled else _OUTDOORS)),
            wall=float(rng.uniform(8, 12)) if walled else None,
            sun=(sun / np.linalg.norm(sun)).astype(np.float32),
            warmth=float(rng.uniform(-0.05, 0.07)),
            seed_u=float(rng.uniform(0, 512)),
            seed_v=float(rng.uniform(0, 512)),
            tint=walls,
        )

    def rays(self, step: int) -> Array:
        """Directions in the world, (3, height·step, width·step), scaled so that distance means depth along the axis."""
        height, width = self.size
        x = ((np.arange(width * step) + 0.5) / step - width / 2) / self.focal
        y = (height / 2 - (np.arange(height * step) + 0.5) / step) / self.focal
        right, up = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        c, s = np.float32(np.cos(self.pitch)), np.float32(np.sin(self.pitch))
        return np.stack([right, c * up - s, c + s * up])

    def project(self, points: Array) -> Array:
        """World (3, P) -> pixels (2, P), x then y."""
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        x, y, z = points[0], points[1] - self.eye, points[2]
        depth = np.maximum(c * z - s * y, 1e-3)
        height, width = self.size
        return np.stack([width / 2 + self.focal * x / depth, height / 2 - self.focal * (c * y + s * z) / depth])

    def window(self, solid: Solid, step: int) -> tuple[slice, slice]:
        """Rows and columns, in sub-pixels, outside of which no ray meets the solid."""
        half, height = solid.reach[0] * 1.02, solid.reach[1] * 1.02
        corners = np.asarray(np.meshgrid([-half, half], [-0.02, height], [-half, half])).reshape(3, -1)
        corners = corners + np.asarray([[solid.place[0]], [0], [solid.place[2]]])
        seen = self.project(corners) * step
        low, high = seen.min(1), seen.max(1)
        rows, columns = self.size[0] * step, self.size[1] * step
        top, bottom = (int(np.clip(v, 0, rows)) for v in (np.floor(low[1]), np.ceil(high[1])))
        left, right = (int(np.clip(v, 0, columns)) for v in (np.floor(low[0]), np.ceil(high[0])))
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class Picture:
    """`image` (H, W, 3) uint8 RGB; `owner` (H, W) int16: object index or GROUND, SKY, WALL at each pixel's centre;
    `whole` (N,): how many pixel centres inside the frame each object would cover if nothing hid it."""

    image: NDArray[np.uint8]
    owner: NDArray[np.int16]
    whole: NDArray[np.int64]


def render(around: Surroundings, solids: list[Solid], rng: np.random.Generator) -> Picture:
    """Take the photo."""
    height, width = around.size
    backdrop, owner = _backdrop(around, solids)
    shape = (width * OVERSAMPLE, height * OVERSAMPLE)
    color = cv2.resize(backdrop, shape, interpolation=cv2.INTER_LINEAR)
    rays = around.rays(OVERSAMPLE)
    eye = np.asarray([[0], [around.eye], [0]], np.float32)
    depth = np.full(rays.shape[1:], np.inf, np.float32)
    fine_owner = np.full(rays.shape[1:], GROUND, np.int16)
    middle = slice(OVERSAMPLE // 2, None, OVERSAMPLE)
    whole = np.zeros(len(solids), np.int64)
    for index, solid in enumerate(solids):
        window = around.window(solid, OVERSAMPLE)
        directions = rays[:, window[0], window[1]]
        shape_here = directions.shape[1:]
        if 0 in shape_here:
            continue
        flat = directions.reshape(3, -1)
        distance, part, points, normals = solid.hit(eye, flat)
        alone = np.zeros(depth.shape, bool)
        alone[window] = np.isfinite(distance).reshape(shape_here)
        whole[index] = np.count_nonzero(alone[middle, middle])
        seen = np.flatnonzero(distance < depth[window].ravel())
        lit = _light(around, solid, flat[:, seen], part[seen], points[:, seen], normals[:, seen])
        rows, columns = np.unravel_index(seen, shape_here)
        rows, columns = rows + window[0].start, columns + window[1].start
        depth[rows, columns] = distance[seen]
        fine_owner[rows, columns] = index
        color[rows, columns] = lit.T
    color = cv2.resize(color, (width, height), interpolation=cv2.INTER_AREA)
    middle_owner = fine_owner[middle, middle]
    return Picture(_expose(color, around, rng), np.where(middle_owner >= 0, middle_owner, owner), whole)


def _light(around: Surroundings, solid: Solid, rays: Array, part: Array, points: Array, normals: Array) -> Array:
    """Colour (3, P) of surface points: sky light from above, the sun, a highlight, and darkness close to the ground."""
    albedo = np.empty_like(points)
    for piece in range(len(solid.parts)):
        chosen = np.flatnonzero(part == piece)
        albedo[:, chosen] = solid.paint(piece, points[:, chosen], normals[:, chosen])
    world = rotated(solid.turn, normals)
    above = rotated(solid.turn, points)[1] + solid.place[1]
    sun = around.sun[:, None]
    diffuse = np.maximum((world * sun).sum(0), 0)
    contact = np.float32(0.55) + np.float32(0.45) * np.clip(above / np.float32(0.45 * solid.reach[1]), 0, 1)
    ambient = (np.float32(0.52) + np.float32(0.2) * world[1]) * contact
    view = rays / np.sqrt((rays * rays).sum(0))
    mirrored = view - 2 * (view * world).sum(0) * world
    glint = np.maximum((mirrored * sun).sum(0), 0)
    for _ in range(5):  # to the 32nd power: Phong's highlight
        glint = glint * glint
    warm = np.asarray([[1 + around.warmth], [1], [1 - around.warmth]], np.float32)
    lit = albedo * (ambient + np.float32(0.72) * diffuse * warm)
    return np.asarray(lit + np.float32(0.8 * solid.gloss) * glint)


def _backdrop(around: Surroundings, solids: list[Solid]) -> tuple[Array, NDArray[np.int16]]:
    """Everything but the objects: (H, W, 3) colours with the shadows, and which of GROUND, SKY, WALL is where."""
    x, y, z = around.rays(1)
    drop = np.where(y < -1e-4, np.float32(around.eye) / -np.minimum(y, np.float32(-1e-4)), np.float32(np.inf))
    far = np.float32(60 if around.wall is None else around.wall)
    is_ground = (y < -1e-4) & (drop * z < far)
    reach = np.where(is_ground, drop, np.float32(0))
    ground = _ground(around, x * reach, z * reach, reach)
    ground *= _shadow(around, x, y, z, solids)[..., None]
    if around.wall is None:
        behind, haze = _sky(around, x / z, y / z), np.clip(reach / 60, 0, 1)[..., None] ** 2
        ground = ground * (1 - haze) + behind * haze
    else:
        behind = _wall(around, x * far / z, np.float32(around.eye) + y * far / z)
        ground *= (1 - np.float32(0.45) * np.exp(np.minimum(reach * z - far, 0) * np.float32(1.6)))[..., None]
    owner = np.where(is_ground, GROUND, SKY if around.wall is None else WALL).astype(np.int16)
    return np.where(is_ground[..., None], ground, behind).astype(np.float32), owner


def _sample(u: Array, v: Array) -> Array:
    """The noise tile at (H, W) coordinates, interpolated and repeated."""
    return np.asarray(
        cv2.remap(noise_tile(), np.mod(u, 512), np.mod(v, 512), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    )


def _ground(around: Surroundings, x: Array, z: Array, depth: Array) -> Array:
    color, roughness, joints = _GROUNDS[around.ground]
    # Detail finer than a pixel would flicker: let it fade with the size of a pixel on the ground.
    pixel = depth * depth / (around.focal * around.eye)
    u, v = x * 60 + around.seed_u, z * 60 + around.seed_v
    fine = _sample(u, v) * np.clip(0.09 / np.maximum(pixel, 1e-6), 0, 1)
    coarse = _sample(u / 9, v / 9)
    tone = 1 + np.float32(roughness) * (np.float32(0.8) * fine + np.float32(0.6) * coarse)
    if joints:
        across, along = (0.9, 0.9) if around.ground == "tiles" else (0.42, 4.0)
        column = x / across + around.seed_u
        row = z / along + around.seed_v + (np.floor(column) * 0.37 if around.ground == "planks" else 0)
        near_x, near_z = (np.abs(c - np.round(c)) * s for c, s in ((column, across), (row, along)))
        width = np.maximum(0.022, pixel * 0.5)
        line = np.exp(-((np.minimum(near_x, near_z) / width) ** 2)) * np.clip(0.022 / width, 0, 1) ** 0.5
        checker = np.mod(np.floor(column) + np.floor(row), 2) * np.clip(0.6 / np.maximum(pixel, 1e-6), 0, 1)
        tone = tone * (1 - np.float32(0.45 * joints) * line) * (1 - np.float32(0.13) * checker)
    warm = np.asarray([1 + around.warmth, 1, 1 - around.warmth], np.float32)
    return (np.asarray(color, np.float32) / 255 * warm * tone[..., None]).astype(np.float32)


def _sky(around: Surroundings, right: Array, up: Array) -> Array:
    level = np.clip(up * 1.9, 0, 1)[..., None]
    low, high = np.asarray([0.84, 0.89, 0.94], np.float32), np.asarray([0.36, 0.58, 0.86], np.float32)
    blue = low + (high - low) * level**0.7
    stretch = 1 / (np.maximum(up, 0) + 0.22)
    clouds = _sample(right * stretch * 34 + around.seed_u, stretch * 60 + around.seed_v)
    # Towards the horizon the clouds would be finer than pixels.
    cover = (np.clip((clouds - 0.3) * 0.75, 0, 0.85) * np.clip(up * 7 - 0.15, 0, 1))[..., None]
    return (blue * (1 - cover) + np.asarray([0.97, 0.97, 0.98], np.float32) * cover).astype(np.float32)


def _wall(around: Surroundings, x: Array, y: Array) -> Array:
    tone = 1 + np.float32(0.05) * _sample(x * 16 + around.seed_u, y * 16) + np.float32(0.03) * _sample(x * 90, y * 90)
    course = y / 0.55
    stone = x / 1.1 + np.mod(np.floor(course), 2) * 0.5 + around.seed_u
    joint = np.minimum(np.abs(course - np.round(course)) * 0.55, np.abs(stone - np.round(stone)) * 1.1)
    tone = tone * (1 - np.float32(0.2) * np.exp(-((joint / 0.035) ** 2)))
    tone = tone * (1 - np.float32(0.3) * np.exp(-np.maximum(y, 0) * np.float32(1.5)))
    glow = 1 + np.float32(0.05) * x * np.sign(around.sun[0]) / np.float32(4)
    return np.asarray(around.tint * (tone * glow)[..., None], np.float32)


def _shadow(around: Surroundings, x: Array, y: Array, z: Array, solids: list[Solid]) -> Array:
    """(H, W) factor of the ground's brightness: sun blocked by objects, softly, and less sky light at their feet."""
    light = np.ones(x.shape, np.float32)
    if not solids:
        return light
    reach = np.float32(around.eye) / -np.minimum(y, np.float32(-1e-2))
    step = 2
    ground_x, ground_z = (x * reach)[::step, ::step], (z * reach)[::step, ::step]
    points = np.stack([ground_x, np.full_like(ground_x, 0.002), ground_z]).reshape(3, -1)
    dark = np.zeros(points.shape[1], bool)
    dim = np.zeros(points.shape[1], np.float32)
    sun = around.sun[:, None]
    for solid in solids:
        half, height = solid.reach
        dx, dz = points[0] - solid.place[0], points[2] - solid.place[2]
        away = dx * dx + dz * dz
        longest = half * 1.5 + height * float(np.hypot(sun[0, 0], sun[2, 0]) / sun[1, 0])
        close = np.flatnonzero(away < longest * longest)
        dark[close] |= solid.is_hit(points[:, close], sun)
        foot = half if solid.reach[0] < height * 0.45 else half * 0.75
        dim = np.maximum(dim, np.exp(-away / np.float32((foot * 0.95) ** 2)))
    coarse = dark.reshape(ground_x.shape).astype(np.float32)
    blocked = cv2.GaussianBlur(cv2.resize(coarse, x.shape[::-1], interpolation=cv2.INTER_LINEAR), (0, 0), 1.2)
    feet = cv2.resize(dim.reshape(ground_x.shape), x.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(light * (1 - np.float32(0.5) * blocked) * (1 - np.float32(0.35) * feet), np.float32)


def _expose(color: Array, around: Surroundings, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lens and sensor: a little blur, vignette, exposure, noise; 8 bits."""
    height, width = around.size
    color = cv2.GaussianBlur(color, (0, 0), float(rng.uniform(0.3, 0.6)))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    vignette = 1 - np.float32(0.16) * (x * x + y * y) / 2
    color = color * vignette[..., None] * np.float32(rng.uniform(0.9, 1.1))
    # A shoulder keeps highlights from clipping hard.
    color = np.where(color > 0.8, 0.8 + 0.2 * np.tanh((color - 0.8) / 0.2), color) * 255
    color += rng.standard_normal(color.shape, np.float32) * np.float32(rng.uniform(1.0, 3.0))
    return np.asarray(np.clip(np.rint(color), 0, 255), np.uint8)
