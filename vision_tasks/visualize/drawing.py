"""Predictions and truth drawn on images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Categories, Color, Masks, Prediction, Size, Target
from vision_tasks.visualize.text import Box, fitted_text, paint_tag, place_tag, text_height

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True)
class Mark:
    """One object as it is to be drawn: its box (x1, y1, x2, y2) in pixels, its colour, and what its tag says."""

    box: tuple[float, float, float, float]
    color: Color
    tag: str = ""
    mask: Masks | None = None


def draw(
    image: NDArray,
    found: Prediction | Target,
    categories: Categories | None = None,
    threshold: float = 0.5,
    labels: bool = True,
    masks: bool = True,
    zoom: int = 1,
) -> Picture:
    """The image with its objects drawn on it.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) array, RGB, uint8 or uint16. It is not modified.
        found: a prediction, or the truth of the image (which needs `categories` for names and colours).
        categories: what the labels mean; a prediction knows its own.
        threshold: objects with lower scores are left out.
        labels: whether boxes get a tag, `name 0.93`. masks: whether masks are drawn where there are any.
        zoom: how many times larger the picture is to be; on images of 200 pixels tags are finer on a picture of 600.

    Returns:
        (zoom·H, zoom·W, 3) uint8 RGB, a new array.

    Raises:
        VisionTasksError: if the image has another form, or the objects live on another size of image.
    """
    canvas = to_rgb8(image)
    check_size(canvas, found)
    if isinstance(found, Prediction):
        found = found.filter(threshold)
        categories = found.categories if categories is None else categories
    return paint(canvas, marks(found, categories, masks=masks), labels, zoom)


def to_rgb8(image: NDArray) -> Picture:
    """Any image `draw` takes as (H, W, 3) uint8; one that is so already is returned as it is, not copied.

    16-bit images are brought to 8 by the bits that they use: a 12-bit sensor's 4095 becomes 255.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or pixels.dtype not in (np.uint8, np.uint16):
        raise VisionTasksError(
            f"cannot draw on an array of shape {np.shape(image)} and type {np.asarray(image).dtype}; "
            "give (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) pixels of uint8 or uint16"
        )
    if pixels.dtype == np.uint16:
        bits = max(8, int(pixels.max(initial=0)).bit_length())
        pixels = (pixels >> (bits - 8)).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3], dtype=np.uint8)


def check_size(canvas: Picture, found: Prediction | Target) -> None:
    """Refuse objects of an image of another size: their boxes would be drawn in wrong places without a word."""
    if tuple(found.size) != canvas.shape[:2]:
        raise VisionTasksError(
            f"the objects are those of an image of {found.size[0]}×{found.size[1]} pixels (height × width), but this "
            f"image has {canvas.shape[0]}×{canvas.shape[1]}; scale one to the other, for example with "
            "Prediction.scaled_to"
        )


def marks(found: Prediction | Target, categories: Categories | None, masks: bool = True) -> list[Mark]:
    """What to draw for each object, best score first. A label without a category is drawn under its number."""
    if found.boxes is None:
        return []
    boxes = found.boxes.detach().cpu().float().tolist()
    count = len(boxes)
    labels = [-1] * count if found.labels is None else found.labels.tolist()
    scores = getattr(found, "scores", None)
    tracks = getattr(found, "track_ids", None)
    crowds = getattr(found, "is_crowd", None)
    order = range(count) if scores is None else torch.argsort(scores, descending=True, stable=True).tolist()
    palette = categories if categories is not None else Categories.of([])
    drawn = []
    for i in order:
        label = labels[i]
        known = 0 <= label < len(palette)
        name = palette.names[label] if known else "object" if found.labels is None else f"label {label}"
        words = [" ".join(name.split())]
        if tracks is not None:
            words.append(f"#{int(tracks[i])}")
        if scores is not None:
            words.append(f"{float(scores[i]):.2f}")
        if crowds is not None and bool(crowds[i]):
            words.append("(crowd)")
        mask = found.masks[[i]] if masks and found.masks is not None else None
        color = palette.colors[label] if known else (200, 200, 200)
        drawn.append(Mark(tuple(boxes[i]), color, " ".join(words), mask))
    return drawn


def paint(image: Picture, drawn: list[Mark], labels: bool = True, zoom: int = 1, text_scale: float = 1.0) -> Picture:
    """A copy of the image, `zoom` times larger, with the marks, the first on top.

    Boxes that are not finite or lie outside are left out.
    """
    canvas = image.copy() if zoom == 1 else _enlarged(image, zoom)
    frame: Size = (canvas.shape[0], canvas.shape[1])
    placed = [(mark, box) for mark in drawn if (box := _whole_pixels(mark.box, frame, zoom)) is not None]
    width = line_width(frame)
    for mark, box in reversed(placed):
        if mark.mask is not None:
            _paint_mask(canvas, mark, width, zoom)
        _paint_box(canvas, box, mark.color, width)
    if labels:
        _paint_tags(canvas, placed, round(text_height(frame) * text_scale))
    return canvas


def _paint_tags(canvas: Picture, placed: list[tuple[Mark, Box]], height: int) -> None:
    frame: Size = (canvas.shape[0], canvas.shape[1])
    taken = np.zeros((len(placed), 4), np.int64)
    tags: list[tuple[Box, Picture, Color]] = []
    for mark, box in placed:
        text = fitted_text(mark.tag, height, frame) if mark.tag else None
        if text is not None:
            place = place_tag(box, (text.shape[0], text.shape[1]), frame, taken[: len(tags)])
            taken[len(tags)] = place
            tags.append((place, text, mark.color))
    for place, text, color in reversed(tags):
        paint_tag(canvas, place, text, color)


def line_width(size: Size) -> int:
    """Width of box lines in pixels for an image of (height, width)."""
    return max(1, round(math.sqrt(size[0] * size[1]) / 240))


def _enlarged(image: Picture, zoom: int) -> Picture:
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


def _paint_box(canvas: Picture, box: Box, color: Color, width: int) -> None:
    """A frame just inside the box's pixels; a thin dark line inside it keeps pale colours visible on pale ground."""
    x1, y1, x2, y2 = box
    width = max(1, min(width, (x2 - x1) // 4, (y2 - y1) // 4))
    casing = width // 3
    dark = tuple(c // 4 for c in color)
    for tone, outer, inner in ((color, 0, width), (dark, width, width + casing)):
        left, top, right, bottom = x1 + outer, y1 + outer, x2 - outer, y2 - outer
        thick = inner - outer
        if thick > 0 and right > left and bottom > top:
            canvas[top : top + thick, left:right] = tone
            canvas[max(top, bottom - thick) : bottom, left:right] = tone
            canvas[top:bottom, left : left + thick] = tone
            canvas[top:bottom, max(left, right - thick) : right] = tone


def _paint_mask(canvas: Picture, mark: Mark, width: int, zoom: int) -> None:
    """Blend one mask within its box, one pixel to spare, and draw its outline."""
    assert mark.mask is not None
    size = mark.mask.size
    box = _whole_pixels(mark.box, size, 1)
    if box is None:
        return
    x1, y1, x2, y2 = max(box[0] - 1, 0), max(box[1] - 1, 0), min(box[2] + 1, size[1]), min(box[3] + 1, size[0])
    inside = mask_ops.render(mark.mask, (x1, y1, x2, y2))[0].cpu().numpy()
    if zoom > 1:
        inside = inside.repeat(zoom, axis=0).repeat(zoom, axis=1)
    region = canvas[y1 * zoom : y2 * zoom, x1 * zoom : x2 * zoom]
    tone = np.asarray(mark.color, np.uint16)
    # A table of all 256 values, and OpenCV's copy: several times as fast as NumPy's masked arithmetic.
    blended = ((np.arange(256, dtype=np.uint16)[:, None, None] * 13 + tone * 7) // 20).astype(np.uint8)
    region[...] = cv2.copyTo(cv2.LUT(region, blended), inside.view(np.uint8), region.copy())
    kernel = np.ones((2 * ((width + 1) // 2) + 1,) * 2, np.uint8)
    core = cv2.erode(inside.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    region[inside & (core == 0)] = mark.color
