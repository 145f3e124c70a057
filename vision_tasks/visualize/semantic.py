"""Semantic maps and panoptic segments painted on pictures, and what their legends say."""

from __future__ import annotations

import colorsys
from collections import Counter

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vision_tasks.structures import Categories, Color, Panoptic
from vision_tasks.visualize.legend import Entry
from vision_tasks.visualize.regions import areas, enlarged_regions, hatch, paint_regions, regions_of
from vision_tasks.visualize.text import Box, fitted_text, paint_tag, place_tag

UNDECIDED: Color = (140, 140, 140)
UNKNOWN: Color = (200, 200, 200)
"""Of pixels that count for nothing, and of labels that no category has."""

_COARSE = 512
"""Pixels of the longer side of the map on which places for tags are looked for."""
_LIGHTNESS = (0.0, 0.15, -0.13, 0.08, -0.2, 0.22, -0.07)


def paint_semantic(
    canvas: NDArray[np.uint8], semantic: Tensor, categories: Categories, opacity: float, line: int, zoom: int = 1
) -> list[Entry]:
    """Tint the canvas as the map says, in place.

    Args:
        canvas: (zoom·H, zoom·W, 3) RGB.
        semantic: (H, W) labels, -1 is hatched; or (L, H, W), 1 or True where category l is, -1 unknown: these may lie
            over each other, small ones on top.
        opacity: of the tint, 0..1. line: width of the line along a region's border.

    Returns:
        Entries of a legend for what is there, largest first, with its share of the picture.
    """
    values = semantic.detach().cpu().numpy()
    if values.ndim == 3:
        return _paint_layers(canvas, values, categories, opacity, line, zoom)
    regions = regions_of(values, 0, len(categories), zoom)
    paint_regions(canvas, regions, [*categories.colors, UNKNOWN], opacity, line)
    pixels = areas(regions, len(categories) + 1)
    names = ["ignored", *categories.names, "unknown label"]
    colors = [UNDECIDED, *categories.colors, UNKNOWN]
    return _entries(names, colors, pixels, pixels.sum())


def paint_panoptic(
    canvas: NDArray[np.uint8], panoptic: Panoptic, opacity: float, line: int, letters: int, zoom: int = 1
) -> list[Entry]:
    """Tint every segment, in place: stuff in its category's colour, each thing in a shade of it, with a tag.

    Args:
        canvas: (zoom·H, zoom·W, 3) RGB. letters: height of those of tags in pixels; 0 for no tags.

    Returns:
        Entries of a legend: categories that are there, largest first, with the number of things and their share.
    """
    labels = panoptic.labels.tolist()
    categories = panoptic.categories
    regions = regions_of(panoptic.ids.detach().cpu().numpy(), 1, len(labels), zoom)
    counted: Counter[int] = Counter()
    colors: list[Color] = []
    for label in labels:
        base = categories.colors[label] if 0 <= label < len(categories) else UNKNOWN
        colors.append(shade(base, counted[label]))
        counted[label] += 1
    paint_regions(canvas, regions, [*colors, UNKNOWN], opacity, line)
    if letters:
        _paint_tags(canvas, regions, panoptic, colors, letters)
    pixels = areas(regions, len(labels) + 1)
    by_category: dict[int, float] = {}
    for label, area in zip(labels, pixels[1:-1], strict=True):
        by_category[label] = by_category.get(label, 0.0) + float(area)
    names = ["undecided", *(_counted(categories, label, counted[label]) for label in by_category), "unknown segment"]
    tones = [UNDECIDED, *(_known(categories, label)[1] for label in by_category), UNKNOWN]
    return _entries(names, tones, np.asarray([pixels[0], *by_category.values(), pixels[-1]]), pixels.sum())


def shade(color: Color, index: int) -> Color:
    """The colour of the thing with this number in its category: the first has its category's own."""
    if index == 0:
        return color
    hue, light, saturation = colorsys.rgb_to_hls(*(c / 255 for c in color))
    turn, step = divmod(index, len(_LIGHTNESS))
    light = min(0.9, max(0.1, light + _LIGHTNESS[step]))
    hue = (hue + 0.025 * (turn % 3) * (-1) ** turn) % 1.0
    r, g, b = colorsys.hls_to_rgb(hue, light, saturation)
    return (round(r * 255), round(g * 255), round(b * 255))


def share(part: float, whole: float) -> str:
    """A part of the picture as a legend says it."""
    percent = 100 * part / max(whole, 1)
    return f"{percent:.1f} %" if percent >= 0.05 else "< 0.1 %"


def _paint_layers(
    canvas: NDArray[np.uint8], layers: NDArray, categories: Categories, opacity: float, line: int, zoom: int
) -> list[Entry]:
    """Layers of categories that may lie over each other: all tints, the largest first, then all outlines."""
    there = [np.ascontiguousarray(layer == 1).view(np.uint8) for layer in layers]
    pixels = np.asarray([cv2.countNonZero(layer) for layer in there], np.float64)
    order = [int(i) for i in np.argsort(-pixels, kind="stable") if pixels[i]]
    kernel = np.ones((2 * line + 1,) * 2, np.uint8)
    outlines = []
    for i in order:
        x, y, width, height = cv2.boundingRect(there[i])
        part = canvas[y * zoom : (y + height) * zoom, x * zoom : (x + width) * zoom]
        inside = enlarged_regions(there[i][y : y + height, x : x + width], zoom)
        fill = np.full_like(part, _known(categories, i)[1])
        part[...] = cv2.copyTo(cv2.addWeighted(part, 1 - opacity, fill, opacity, 0), inside, part.copy())
        edge = inside - cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        outlines.append((part, fill, edge))
    for part, fill, edge in outlines:
        part[...] = cv2.copyTo(fill, edge, part.copy())
    unknown = np.ascontiguousarray((layers == -1).all(0)).view(np.uint8) if layers.dtype != bool else None
    ignored = 0
    if unknown is not None and (ignored := cv2.countNonZero(unknown)):
        hatch(canvas, enlarged_regions(unknown, zoom), line)
    names = ["ignored", *(_known(categories, i)[0] for i in range(len(layers)))]
    colors = [UNDECIDED, *(_known(categories, i)[1] for i in range(len(layers)))]
    return _entries(names, colors, np.asarray([ignored, *pixels]), float(np.prod(layers.shape[1:])))


def _paint_tags(
    canvas: NDArray[np.uint8], regions: NDArray, panoptic: Panoptic, colors: list[Color], letters: int
) -> None:
    """A tag in the middle of each thing that is large enough to be seen beside it; best score on top."""
    frame = (canvas.shape[0], canvas.shape[1])
    scale = max(1.0, max(frame) / _COARSE)
    size = (max(1, round(frame[1] / scale)), max(1, round(frame[0] / scale)))
    coarse = np.asarray(cv2.resize(regions, size, interpolation=cv2.INTER_NEAREST), regions.dtype)
    pixels = areas(coarse, len(colors) + 1) * scale**2
    taken = np.zeros((len(colors), 4), np.int64)
    count = 0
    for i in np.argsort(-pixels[1:-1], kind="stable").tolist():
        label = int(panoptic.labels[i])
        thing = not 0 <= label < len(panoptic.categories) or panoptic.categories.is_thing[label]
        text = fitted_text(_tag(panoptic, i), letters, frame) if thing and pixels[1 + i] else None
        if text is None or pixels[1 + i] < 0.5 * text.size:
            continue
        height, width = text.shape
        box, (x, y) = _middle(coarse == i + 1, scale)
        middle: Box | None = None
        if width <= box[2] - box[0] and height <= box[3] - box[1]:
            left, top = min(max(0, x - width // 2), frame[1] - width), min(max(0, y - height // 2), frame[0] - height)
            middle = (left, top, left + width, top + height)
        place = place_tag(box, (height, width), frame, taken[:count], middle)
        taken[count] = place
        count += 1
        paint_tag(canvas, place, text, colors[i])


def _middle(mask: NDArray[np.bool_], scale: float) -> tuple[Box, tuple[int, int]]:
    """The box of a mask, and the point in it that is farthest from its border; pixels of the finer map."""
    inside = np.ascontiguousarray(mask).view(np.uint8)
    x, y, width, height = cv2.boundingRect(inside)
    # A border of nothing round it: the frame of the picture is a border as well.
    crop = cv2.copyMakeBorder(inside[y : y + height, x : x + width], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    _, _, _, deepest = cv2.minMaxLoc(cv2.distanceTransform(crop, cv2.DIST_L2, 3))
    box = (round(x * scale), round(y * scale), round((x + width) * scale), round((y + height) * scale))
    return box, (round((x + deepest[0] - 0.5) * scale), round((y + deepest[1] - 0.5) * scale))


def _tag(panoptic: Panoptic, row: int) -> str:
    words = [" ".join(_known(panoptic.categories, int(panoptic.labels[row]))[0].split())]
    if panoptic.scores is not None:
        words.append(f"{float(panoptic.scores[row]):.2f}")
    if panoptic.is_crowd is not None and bool(panoptic.is_crowd[row]):
        words.append("(crowd)")
    return " ".join(words)


def _counted(categories: Categories, label: int, count: int) -> str:
    name = _known(categories, label)[0]
    thing = 0 <= label < len(categories) and categories.is_thing[label]
    return f"{name} × {count}" if thing and count > 1 else name


def _known(categories: Categories, label: int) -> tuple[str, Color]:
    known = 0 <= label < len(categories)
    return (categories.names[label], categories.colors[label]) if known else (f"label {label}", UNKNOWN)


def _entries(names: list[str], colors: list[Color], pixels: NDArray[np.float64], whole: float) -> list[Entry]:
    """What has pixels, largest first; what is undecided, the first of the rows given, stands last."""
    order = [*(1 + np.argsort(-pixels[1:], kind="stable")).tolist(), 0]
    return [Entry(colors[i], names[i], share(pixels[i], whole)) for i in order if pixels[i]]
