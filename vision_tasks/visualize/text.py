"""Text on pictures: a font for any script, tags of a size that suits the image, and places where tags fit."""

from __future__ import annotations

import importlib.util
import math
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vision_tasks.structures import Color, Size

Box = tuple[int, int, int, int]
"""Whole pixels (x1, y1, x2, y2); x2 and y2 are the first beyond."""

_FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "C:/Windows/Fonts",
)
_MANY_SCRIPTS = (
    "NotoSansCJK",
    "SourceHanSans",
    "DroidSansFallback",
    "wqy",
    "PingFang",
    "Arial Unicode",
    "msyh",
    "Noto",
)
"""Beginnings of the names of fonts that cover many scripts, as the usual systems ship them."""

_RANKS = np.asarray([0, 3, 4, 1, 5, 8, 6, 9, 10, 11, 12, 7, 13, 2])
"""Of the spots around a box, by their order in `place_tag_at`: those above it are the best."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def text_height(size: Size) -> int:
    """Font size in pixels for an image of (height, width): small images stay legible, large ones when shown shrunk."""
    return max(9, min(round(7 + 0.0135 * math.sqrt(size[0] * size[1])), round(0.12 * size[0])))


def readable_on(color: Color) -> Color:
    """Black or white, whichever contrasts more with the colour (WCAG 2's relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in color)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # (1.05 / (L + 0.05)) equals ((L + 0.05) / 0.05) where L is 0.179.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


@lru_cache(maxsize=2048)
def text_mask(text: str, height: int) -> NDArray[np.uint8]:
    """Coverage 0..255 of the text's pixels, (h, w), with the padding of a tag around it. Lines break at newlines."""
    font = _font(_font_file("" if text.isascii() else text), height)
    pad = max(1, round(height * 0.22))
    probe = ImageDraw.Draw(Image.new("L", (1, 1)))
    _, _, right, _ = probe.textbbox((0, 0), text, font=font)
    lines = text.count("\n") + 1
    # All tags of one size are equally high, whatever letters they hold, so that rows of them look even.
    _, top, _, bottom = probe.textbbox((0, 0), "\n".join(["Ágj"] * lines), font=font)
    canvas = Image.new("L", (max(1, round(right)) + 2 * pad, max(1, round(bottom - top)) + 2 * pad))
    ImageDraw.Draw(canvas).text((pad, pad - top), text, font=font, fill=255)
    mask = np.asarray(canvas)
    mask.flags.writeable = False
    return mask


def fitted_text(text: str, height: int, frame: Size) -> NDArray[np.uint8] | None:
    """`text_mask` no larger than the frame (height, width): smaller letters first, then cut short, then None."""
    for smaller in (height, round(height * 0.8), 7):
        mask = text_mask(text, max(7, smaller))
        if mask.shape[1] <= frame[1] and mask.shape[0] <= frame[0]:
            return mask
    if mask.shape[0] > frame[0]:
        return None
    for length in range(min(len(text) - 1, frame[1] // 3), 0, -1):
        mask = text_mask(text[:length] + "…", 7)
        if mask.shape[1] <= frame[1]:
            return mask
    return None


def place_tag(box: Box, tag: Size, frame: Size, taken: NDArray[np.int64], wish: Box | None = None) -> Box:
    """Where a tag of (height, width) goes: at its box, inside the frame, on as little of other tags as possible.

    Args:
        box: what the tag belongs to. frame: (height, width) of the image, no smaller than the tag.
        taken: (T, 4) tags placed so far. wish: a place within the frame that is better than all at the box.
    """
    if wish is not None and not _overlap(np.asarray([wish]), taken).any():
        return wish
    return place_tag_at(box, tag, frame, taken)[0]


def place_tag_at(
    box: Box,
    tag: Size,
    frame: Size,
    taken: NDArray[np.int64],
    before: int | None = None,
    objects: NDArray[np.int64] | None = None,
) -> tuple[Box, int, float]:
    """As `place_tag`; at which of the spots around the box it is; how much of it lies on other tags, from 0, none.

    Args:
        before: the spot where it was in the last picture of a video. There it stays unless it is pushed away by the
            frame's edge, or covers others by more than a fifth.
        objects: (N, 4) boxes of all objects in pixels: of small ones a tag should leave something to be seen, of
            those that stand upright the head.
    """
    objects = np.zeros((0, 4), np.int64) if objects is None else objects
    x1, y1, x2, y2 = box
    height, width = tag
    above = (x1, y1 - height, x1 + width, y1)
    within = x1 >= 0 and above[1] >= 0 and above[2] <= frame[1] and y1 <= frame[0]
    first = np.asarray([above])
    if within and not before and not _overlap(first, taken).any() and not _hidden(first, objects, height).any():
        return above, 0, 0.0  # the first spot is the best: the others need no looking at
    spots = np.asarray(
        [
            (x1, y1 - height), (x1, y1), (x1, y2), (x2 - width, y1 - height), (x2 - width, y1),
            (x1, y2 - height), (x2 - width, y2), (x2 - width, y2 - height), (x2, y1), (x1 - width, y1),
            (x1, (y1 + y2 - height) // 2), (x1, y1 - 2 * height), (x1, y2 + height),
            ((x1 + x2 - width) // 2, y1 - height),
        ]
    )  # fmt: skip
    wished = spots
    spots = np.clip(spots, 0, [frame[1] - width, frame[0] - height])
    tags = np.concatenate([spots, spots + np.asarray([width, height])], axis=1)
    near = ((taken[:, :2] < tags[:, 2:].max(0)) & (taken[:, 2:] > tags[:, :2].min(0))).all(1)
    covered = _overlap(tags, taken[near]).sum(1)
    # Earlier spots are better; one that had to be pushed into the frame is worth a little less than a free one.
    pushed = np.abs(spots - wished).sum(1)
    cost = covered * 100 + pushed + _RANKS * 0.5 + _hidden(tags, objects, height) * 30 * height * width
    if before is not None and pushed[before] < height:
        cost[before] -= 20 * height * width
    spot = int(cost.argmin())
    left, top, right, bottom = tags[spot].tolist()
    return (left, top, right, bottom), spot, float(covered[spot]) / (height * width)


def _hidden(tags: NDArray[np.int64], objects: NDArray[np.int64], height: int) -> NDArray[np.float64]:
    """(N,) how many objects or heads each tag hides; hidden by less than a third, or a sixth of a head, none counts.

    A head is the upper quarter of what is higher than wide, and higher than four tags (of `height`).
    """
    near = ((objects[:, :2] < tags[:, 2:].max(0)) & (objects[:, 2:] > tags[:, :2].min(0))).all(1)
    objects = objects[near]
    sides = objects[:, 2:] - objects[:, :2]
    hidden = np.maximum(1.5 * _overlap(tags, objects) / np.maximum(1, sides.prod(1)) - 0.5, 0).sum(1)
    upright = (sides[:, 1] > sides[:, 0]) & (sides[:, 1] > 4 * height)
    heads = objects[upright].copy()
    heads[:, 3] = heads[:, 1] + sides[upright, 1] // 4
    areas = np.maximum(1, sides[upright, 0] * (sides[upright, 1] // 4))
    return np.asarray(hidden + np.maximum(1.2 * _overlap(tags, heads) / areas - 0.2, 0).sum(1))


def _overlap(tags: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, T) pixels that places have in common."""
    low = np.maximum(tags[:, None, :2], taken[None, :, :2])
    high = np.minimum(tags[:, None, 2:], taken[None, :, 2:])
    sides = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def paint_tag(canvas: NDArray[np.uint8], place: Box, mask: NDArray[np.uint8], color: Color) -> None:
    """Fill the place with the colour and write the text on it, in place. canvas: (H, W, 3) RGB."""
    x1, y1, x2, y2 = place
    canvas[y1:y2, x1:x2] = np.take(_shades(color, readable_on(color)), mask, axis=0)


def paint_text(canvas: NDArray[np.uint8], x: int, y: int, mask: NDArray[np.uint8], ground: Color, ink: Color) -> None:
    """Write the text, upper left corner at (x, y), on ground of one colour, in place; what leaves the canvas is cut."""
    part = canvas[y : y + mask.shape[0], x : x + mask.shape[1]]
    part[...] = _shades(ground, ink)[mask[: part.shape[0], : part.shape[1]]]


@lru_cache(maxsize=512)
def _shades(ground: Color, ink: Color) -> NDArray[np.uint8]:
    """(256, 3): from the colour of the ground at coverage 0 to that of the letters at 255."""
    low, high = np.asarray(ground), np.asarray(ink)
    return np.asarray(np.rint(low + (high - low) * np.arange(256)[:, None] / 255), np.uint8)


@lru_cache(maxsize=64)
def _font(path: str | None, height: int) -> Font:
    if path is None:
        return ImageFont.load_default(height)
    return ImageFont.truetype(path, height)


@lru_cache(maxsize=512)
def _font_file(text: str) -> str | None:
    """The first font that has every letter of the text; without one the first there is (it shows boxes)."""
    plain = _plain_font()
    if not text or (plain is not None and _has_letters(plain, text)):
        return plain
    return next((path for path in _further_fonts() if _has_letters(path, text)), plain)


@lru_cache(maxsize=1)
def _plain_font() -> str | None:
    """DejaVu Sans as matplotlib brings it along, found without importing matplotlib."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return str(path) if path.is_file() else None


@lru_cache(maxsize=1)
def _further_fonts() -> tuple[str, ...]:
    """Fonts of this machine, those known for many scripts first."""
    folders = [*map(Path, _FONT_FOLDERS), Path.home() / ".fonts", Path.home() / ".local/share/fonts"]
    files = [
        os.path.join(root, name)
        for folder in folders
        for root, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith((".ttf", ".ttc", ".otf"))
    ]

    def rank(path: str) -> tuple[int, str]:
        hits = [i for i, name in enumerate(_MANY_SCRIPTS) if name.lower() in os.path.basename(path).lower()]
        return (hits[0] if hits else len(_MANY_SCRIPTS), path)

    return tuple(sorted(files, key=rank))


@lru_cache(maxsize=4096)
def _has_letters(path: str, text: str) -> bool:
    from matplotlib.ft2font import FT2Font  # only for names beyond ASCII

    try:
        letters = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return False
    return all(ord(letter) in letters for letter in text if not letter.isspace())
