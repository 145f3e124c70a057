"""Legends: what the colours of a picture mean, below it or beside it, so that nothing is covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_tasks.structures import Color, Size
from vision_tasks.visualize.text import fitted_text, paint_text, text_height, text_mask

GROUND: Color = (30, 31, 35)
_INK: Color = (238, 238, 240)
_SOFT: Color = (166, 169, 178)

_ROOM = 0.35
"""Of the picture's height, or width, that a legend may add..."""
_ALWAYS = 8
"""...but so many entries there are always room for, however small the picture."""
_LETTERS = 26


@dataclass(frozen=True)
class Entry:
    """One line of a legend: the colour, its name, and a number beside it."""

    color: Color
    name: str
    value: str = ""


@dataclass(frozen=True)
class _Layout:
    """Where entries go: `columns` of `rows`, filled column by column, below the picture or at its right."""

    below: bool
    rows: int
    columns: int
    picture: Size
    cell: Size

    @property
    def room(self) -> int:
        return self.rows * self.columns

    def size(self, pad: int) -> Size:
        height, width = self.rows * self.cell[0] + 2 * pad, self.columns * self.cell[1] + pad
        if self.below:
            return (self.picture[0] + height, max(self.picture[1], width))
        return (max(self.picture[0], height), self.picture[1] + width)


def with_legend(picture: NDArray[np.uint8], entries: Sequence[Entry], letters: int | None = None) -> NDArray[np.uint8]:
    """The picture with a legend, in the order given; without entries the picture itself.

    The picture keeps its place in the upper left corner. It grows below or at its right: where more entries have room,
    or else where it grows less. What finds no room is counted in the last line. A picture smaller than eight lines of
    letters grows as far as these need.

    Args:
        picture: (H, W, 3) RGB. letters: height of the letters in pixels; default as tags have on such a picture.
    """
    if not entries:
        return picture
    frame: Size = (picture.shape[0], picture.shape[1])
    letters = text_height(frame) if letters is None else letters
    names = [text_mask(_short(entry.name), letters) for entry in entries]
    values = [text_mask(entry.value, letters) if entry.value else None for entry in entries]
    row = names[0].shape[0]
    swatch, gap = round(row * 0.62), max(2, round(row * 0.3))
    widths = [n.shape[1] + (0 if v is None else v.shape[1]) for n, v in zip(names, values, strict=True)]
    layout = _arranged(frame, (row, swatch + max(widths) + 4 * gap), len(entries), gap)
    height, width = layout.size(gap)
    canvas = np.full((height, width, 3), GROUND, np.uint8)
    canvas[: frame[0], : frame[1]] = picture
    left, top = (gap, frame[0] + gap) if layout.below else (frame[1] + gap, gap)
    shown = min(len(entries), layout.room)
    hidden = len(entries) - shown + 1 if shown < len(entries) else 0
    for i in range(shown - (hidden > 0)):
        x, y = left + i // layout.rows * layout.cell[1], top + i % layout.rows * row
        inset = (row - swatch) // 2
        canvas[y + inset : y + inset + swatch, x : x + swatch] = entries[i].color
        paint_text(canvas, x + swatch + gap // 2, y, names[i], GROUND, _INK)
        value = values[i]
        if value is not None:
            paint_text(canvas, x + layout.cell[1] - 3 * gap - value.shape[1], y, value, GROUND, _SOFT)
    if hidden:
        more = fitted_text(f"+ {hidden} more", letters, layout.cell)
        if more is not None:
            i = shown - 1
            paint_text(
                canvas, left + i // layout.rows * layout.cell[1], top + i % layout.rows * row, more, GROUND, _SOFT
            )
    return canvas


def _arranged(frame: Size, cell: Size, count: int, pad: int) -> _Layout:
    """The layout that shows most, and of two that show all the one that makes the smaller picture."""
    across = max(1, (frame[1] - pad) // cell[1])
    across = -(-count // -(-count // across))
    rows = min(-(-count // across), max(int(_ROOM * frame[0]) // cell[0], -(-_ALWAYS // across)))
    down = max(_ALWAYS, (frame[0] - 2 * pad) // cell[0])
    columns = min(-(-count // down), max(int(_ROOM * frame[1]) // cell[1], 1))
    layouts = [
        _Layout(True, rows, across, frame, cell),
        _Layout(False, min(down, -(-count // columns)), columns, frame, cell),
    ]

    def cost(layout: _Layout) -> tuple[int, int]:
        height, width = layout.size(pad)
        return (-min(count, layout.room), height * width)

    return min(layouts, key=cost)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
