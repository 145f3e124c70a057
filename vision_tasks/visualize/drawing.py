"""Predictions and truth drawn on images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vision_tasks.categories import beside_map
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Color, Masks, Panoptic, Prediction, Size, Target
from vision_tasks.visualize.instances import paint_mask
from vision_tasks.visualize.legend import Entry, with_legend
from vision_tasks.visualize.semantic import paint_panoptic, paint_semantic
from vision_tasks.visualize.tags import paint_tags
from vision_tasks.visualize.text import Box, text_height
from vision_tasks.visualize.tracks import Trails, track_color

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

OPACITY = 0.5
"""Of the tint of maps: half of what is seen is the photo."""


@dataclass(frozen=True)
class Mark:
    """One object as it is to be drawn: its box (x1, y1, x2, y2) in pixels, its colour, what its tag says, its track."""

    box: tuple[float, float, float, float]
    color: Color
    tag: str = ""
    mask: Masks | None = None
    track: int | None = None


def draw(
    image: NDArray,
    found: Prediction | Target | Panoptic,
    categories: Categories | None = None,
    threshold: float = 0.5,
    labels: bool = True,
    masks: bool = True,
    zoom: int = 1,
    legend: bool = True,
    panoptic: bool = True,
    semantic_categories: Categories | None = None,
    opacity: float = OPACITY,
    trails: Trails | None = None,
    names: bool = True,
    scores: bool = True,
) -> Picture:
    """The image with what is known of it: its map or segments, its objects on top, and a legend of the map's colours.

    Args:
        image: (H, W) or (H, W, C) array, RGB, uint8 or uint16; of two channels the first is shown, of more than three
            the first three. It is not modified.
        found: a prediction, or the truth of the image (which needs `categories` for names and colours).
        categories: what the labels mean; a prediction knows its own.
        threshold: objects with lower scores are left out.
        labels: whether boxes and segments of things get a tag, `name 0.93`. masks: whether objects' masks are drawn.
        zoom: how many times larger the picture is to be; on images of 200 pixels tags are finer on a picture of 600.
        legend: whether a picture with a map grows by a legend below or at its right: categories that are there, the
            largest first, with their share of the picture.
        panoptic: a prediction that is merged into segments is drawn so; False: the map and the objects that it is of.
        semantic_categories: what the values of a truth's map mean, if not `categories`.
        opacity: of the map's tint, 0..1.
        trails: of a video's tracks, brought up to this frame (`Trails.update`): their ways are drawn, and tags stay
            where they were.
        names, scores: what tags tell of objects besides their track's number, `cat #4 0.93`. Segments have all
            or, without names, none.

    Returns:
        (zoom·H, zoom·W, 3) uint8 RGB, a new array; with a legend larger, the image in the upper left corner.

    Raises:
        VisionTasksError: if the image has another form, or what is known of it belongs to another size of image.
    """
    pixels = to_rgb8(image)
    check_size(pixels, found)
    canvas = enlarged(pixels, zoom)
    entries: list[Entry] = []
    frame: Size = (canvas.shape[0], canvas.shape[1])
    line = max(1, round(line_width(frame) / 3))
    merged = found if isinstance(found, Panoptic) else getattr(found, "panoptic", None) if panoptic else None
    palette = None
    if merged is not None:
        entries = paint_panoptic(canvas, merged, opacity, line, text_height(frame) if labels and names else 0, zoom)
    elif not isinstance(found, Panoptic):
        if found.semantic is not None:
            palette = semantic_categories or getattr(found, "semantic_categories", None) or categories
            palette = palette or getattr(found, "categories", None) or Categories.of([])
            entries = paint_semantic(canvas, found.semantic, palette, opacity, line, zoom)
        if isinstance(found, Prediction):
            found = found.filter(threshold)
            categories = found.categories if categories is None else categories
        drawn = marks(found, _in_colors_of(palette, categories), masks, names, scores)
        paint_marks(canvas, drawn, labels, zoom, trails=trails)
    return with_legend(canvas, entries) if legend else canvas


def _in_colors_of(names: Categories | None, categories: Categories | None) -> Categories | None:
    """The categories, in colours that go with those of a map: a car is of one colour in one picture."""
    return categories if names is None or categories is None else beside_map(categories, names)


def to_rgb8(image: NDArray) -> Picture:
    """Any image `draw` takes as (H, W, 3) uint8; one that is so already is returned as it is, not copied.

    16-bit images are brought to 8 by the bits that they use: a 12-bit sensor's 4095 becomes 255.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or not pixels.size or pixels.dtype not in (np.uint8, np.uint16):
        raise VisionTasksError(
            f"cannot draw on an array of shape {np.shape(image)} and type {np.asarray(image).dtype}; "
            "give (H, W) or (H, W, channels) pixels of uint8 or uint16"
        )
    pixels = pixels[..., : 3 if pixels.shape[2] > 2 else 1]
    if pixels.dtype == np.uint16:
        bits = max(8, int(pixels.max(initial=0)).bit_length())
        pixels = (pixels >> (bits - 8)).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def check_size(canvas: Picture, found: Prediction | Target | Panoptic) -> None:
    """Refuse what belongs to an image of another size: it would be drawn in wrong places without a word."""
    sizes: dict[str, Sequence[int]] = {}
    merged = found if isinstance(found, Panoptic) else getattr(found, "panoptic", None)
    if not isinstance(found, Panoptic):
        sizes["the objects are"] = found.size
        if found.semantic is not None:
            sizes["the semantic map is"] = found.semantic.shape[-2:]
    if merged is not None:
        sizes["the segments are"] = merged.ids.shape
    for what, size in sizes.items():
        if tuple(size) != canvas.shape[:2]:
            raise VisionTasksError(
                f"{what} of an image of {size[0]}×{size[1]} pixels (height × width), but this image has "
                f"{canvas.shape[0]}×{canvas.shape[1]}; give the image that it was made of, or scale one to the other "
                "(for boxes and masks with Prediction.scaled_to)"
            )


def marks(
    found: Prediction | Target,
    categories: Categories | None,
    masks: bool = True,
    names: bool = True,
    scores: bool = True,
) -> list[Mark]:
    """What to draw for each object, best score first. A label without a category is drawn under its number.

    Tracked objects have their track's colour, and stand in the order of their tracks: what lies on top stays there.
    """
    if found.boxes is None:
        return []
    boxes = found.boxes.detach().cpu().float().tolist()
    count = len(boxes)
    labels = [-1] * count if found.labels is None else found.labels.tolist()
    values, tracks, crowds = (
        None if given is None else given.tolist()
        for given in (getattr(found, name, None) for name in ("scores", "track_ids", "is_crowd"))
    )
    order = list(range(count))
    if values is not None:
        order = torch.argsort(torch.tensor(values), descending=True, stable=True).tolist()
    if tracks is not None:
        order = sorted(order, key=tracks.__getitem__)
    shapes = found.masks if masks else None
    if shapes is not None and shapes.grid is not None and shapes.boxes is not None:
        shapes = Masks(shapes.size, grid=shapes.grid.detach().cpu(), boxes=shapes.boxes.detach().cpu())
    palette = categories if categories is not None else Categories.of([])
    drawn = []
    for i in order:
        label = labels[i]
        known = 0 <= label < len(palette)
        name = palette.names[label] if known else "object" if found.labels is None else f"label {label}"
        words = [" ".join(name.split())] if names else []
        track = None if tracks is None or tracks[i] < 0 else tracks[i]
        if track is not None:
            words.append(f"#{track}")
        if scores and values is not None:
            words.append(f"{values[i]:.2f}")
        if crowds is not None and crowds[i]:
            words.append("(crowd)")
        mask = None if shapes is None else shapes[[i]]
        color = palette.colors[label] if known else (200, 200, 200)
        if track is not None:
            color = track_color(track)
        drawn.append(Mark(tuple(boxes[i]), color, " ".join(words), mask, track))
    return drawn


def paint_marks(
    canvas: Picture,
    drawn: list[Mark],
    labels: bool = True,
    zoom: int = 1,
    text_scale: float = 1,
    trails: Trails | None = None,
) -> None:
    """Draw the marks on the canvas, which is `zoom` times larger than what they lie on, in place; the first on top.

    Boxes that are not finite or lie outside are left out. Trails lie below boxes and tags, above nothing but the image.
    """
    frame: Size = (canvas.shape[0], canvas.shape[1])
    placed = [(mark, box) for mark in drawn if (box := _whole_pixels(mark.box, frame, zoom)) is not None]
    width = line_width(frame)
    if trails is not None:
        trails.paint(canvas, width + 1, zoom)
    for mark, box in reversed(placed):
        line = _own_width(box, width)
        if mark.mask is not None:
            touched = _whole_pixels(mark.box, mark.mask.size, 1)
            if touched is not None:
                paint_mask(canvas, mark.mask, touched, mark.color, line, zoom)
        _paint_box(canvas, box, mark.color, line)
    if labels:
        tags = [(box, mark.tag, mark.color, mark.track) for mark, box in placed]
        paint_tags(canvas, tags, round(text_height(frame) * text_scale), None if trails is None else trails.tags)


def line_width(size: Size) -> int:
    """Width of box lines in pixels for an image of (height, width)."""
    return max(1, round(math.sqrt(size[0] * size[1]) / 240))


def enlarged(image: Picture, zoom: int) -> Picture:
    """A copy, `zoom` times larger."""
    if zoom == 1:
        return image.copy()
    size = (image.shape[1] * zoom, image.shape[0] * zoom)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _whole_pixels(box: tuple[float, float, float, float], frame: Size, zoom: int) -> Box | None:
    """The pixels that a box touches within the frame, at least one; None if it lies outside or is not finite."""
    if not all(map(math.isfinite, box)):
        return None
    x1, y1, x2, y2 = (edge * zoom for edge in box)
    if x2 < 0 or y2 < 0 or x1 > frame[1] or y1 > frame[0] or x2 < x1 or y2 < y1:
        return None
    left, top = min(max(int(np.floor(x1)), 0), frame[1] - 1), min(max(int(np.floor(y1)), 0), frame[0] - 1)
    right, bottom = min(int(np.ceil(min(x2, frame[1]))), frame[1]), min(int(np.ceil(min(y2, frame[0]))), frame[0])
    return (left, top, max(right, left + 1), max(bottom, top + 1))


def _own_width(box: Box, width: int) -> int:
    """Lines of one object: half as wide on small ones, and so on; few widths, so that they do not flicker in videos."""
    short = min(box[2] - box[0], box[3] - box[1])
    while width > 2 and short < 12 * width:
        width = (width + 1) // 2
    return width


def _paint_box(canvas: Picture, box: Box, color: Color, width: int) -> None:
    """A frame just inside the box's pixels; a thin dark line inside it keeps pale colours visible on pale ground."""
    x1, y1, x2, y2 = box
    width = max(1, min(width, (x2 - x1) // 4, (y2 - y1) // 4))
    casing = width // 3
    dark = (color[0] // 4, color[1] // 4, color[2] // 4)
    for i in range(min(width + casing, (x2 - x1 + 1) // 2, (y2 - y1 + 1) // 2)):
        tone = color if i < width else dark
        cv2.rectangle(canvas, (x1 + i, y1 + i), (x2 - 1 - i, y2 - 1 - i), tone, 1)
