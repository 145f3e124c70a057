"""Tags of objects: what each says, where it goes, and, in a video, that it stays there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vision_tasks.structures import Color, Size
from vision_tasks.visualize.text import Box, fitted_text, paint_tag, place_tag_at

Tag = tuple[Box, str, Color, int | None]
"""The pixels of an object's box, what its tag says, its colour, its track if it has one."""


_PATIENCE = 30
"""Pictures after which a tag that is not in the best place may look for it again."""
_SMALLEST = 11
"""Letters of small objects' tags, in pixels, if those of others are larger."""
_SHARE = 0.6
"""Of an object's longer side that the height of its tag's letters may be."""
_LEGIBLE = 18
"""Letters larger than this, in pixels, serve those who look at large pictures from afar; such are for large objects."""
_LARGE_SHARE = 0.18
"""What `_SHARE` is for letters above `_LEGIBLE`: about half of a word is as long as its object."""
_WIDER = 1.25
"""Of an object's width that its tag's may be in a crowd."""
_WIDER_ALONE = 2.2
"""The same of an object for itself, with letters above `_LEGIBLE`; with smaller ones it may have any."""
_LETTER = 0.57
"""Width of letters and digits by their height, in the mean."""
_LARGER = 4
"""Objects of so many times an object's area are what it stands before, not its neighbours."""
_STEP = 0.6
"""Between one size of letters and the next."""
_HIDDEN = 0.6
"""A tag of which more than this would lie under others cannot be read, and is left out."""


@dataclass(frozen=True)
class _Placed:
    """Where a tag was: the spot at its box, for how many pictures, the height of its letters."""

    spot: int
    pictures: int
    letters: int


class TagPlaces:
    """Remembers at which spot of its box each track's tag was, and how large, so that tags of a video do not jump."""

    def __init__(self) -> None:
        self._last: dict[int, _Placed] = {}
        self._now: dict[int, _Placed] = {}

    def spot(self, track: int | None) -> int | None:
        """Where the track's tag was in the last picture; None if it was not there, or may look for a better place."""
        last = None if track is None else self._last.get(track)
        return None if last is None or (last.spot and last.pictures >= _PATIENCE) else last.spot

    def letters(self, track: int | None) -> int | None:
        """How large it was in the last picture."""
        last = None if track is None else self._last.get(track)
        return None if last is None else last.letters

    def keep(self, track: int | None, spot: int, letters: int) -> None:
        """Say where the track's tag is in this picture, and how large."""
        if track is not None:
            last = self._last.get(track)
            goes_on = last is not None and last.spot == spot and last.pictures < _PATIENCE
            self._now[track] = _Placed(spot, last.pictures + 1 if last is not None and goes_on else 1, letters)

    def turn(self) -> None:
        """The picture is done: only the tracks in it are remembered."""
        self._last, self._now = self._now, {}


def letters_of(box: Box, height: int, before: int | None = None, length: int = 0, crowded: bool = False) -> int:
    """Height of the letters of one object's tag: not much larger than the object, as far as can be read.

    Args:
        height: of letters that suit the image. before: that of the same object's in the last picture, which is kept
            while the object's size is within a fifth of what it would be for. length: of the tag's words, in letters.
        crowded: whether the tag must not be wider than its object.
    """
    side, width = max(box[2] - box[0], box[3] - box[1]), box[2] - box[0]

    def fits(letters: int, scale: float) -> bool:
        share = _LARGE_SHARE if letters > _LEGIBLE else _SHARE
        wider = _WIDER if crowded else _WIDER_ALONE if letters > _LEGIBLE else math.inf
        return letters <= share * side * scale and letters * _LETTER * length <= wider * width * scale

    def fitting(scale: float) -> int:
        letters = height
        while letters > _SMALLEST and not fits(letters, scale):
            letters = max(_SMALLEST, round(letters * _STEP))
        return letters

    return before if before is not None and fitting(0.8) <= before <= fitting(1.25) else fitting(1)


def _crowded(box: Box, others: NDArray[np.int64], tag: Size, small: bool) -> bool:
    """Whether a tag of (height, width) above the box would reach over other objects, or they over it.

    Args:
        others: (N, 4) boxes of all objects. small: it was so in the last picture; then room is wanted for it to end.
    """
    x1, y1, x2, y2 = box
    room = tag[1] // 2 if small else 0
    low, high = (x1 - room, y1 - tag[0]), (max(x1 + tag[1], x2) + room, y2)
    near = others[((others[:, :2] < high) & (others[:, 2:] > low)).all(1)]
    areas = (near[:, 2:] - near[:, :2]).prod(1)
    return int((areas <= _LARGER * (x2 - x1) * (y2 - y1)).sum()) > 1  # it is one of them


def paint_tags(canvas: NDArray[np.uint8], tags: Sequence[Tag], height: int, places: TagPlaces | None = None) -> None:
    """Place tags one after another, each where it covers the least of those before, and paint them, the first on top.

    Args:
        canvas: (H, W, 3) RGB, painted in place. height: of the letters in pixels; less on small objects and in crowds.
        places: of the pictures before; tags of tracks that were there are placed first, and stay where they can.
    """
    frame: Size = (canvas.shape[0], canvas.shape[1])
    known = [places is not None and places.spot(tag[3]) is not None for tag in tags]
    order = sorted(range(len(tags)), key=lambda i: not known[i])
    taken = np.zeros((len(tags), 4), np.int64)
    objects = np.asarray([tag[0] for tag in tags], np.int64).reshape(-1, 4)
    placed: list[tuple[Box, NDArray[np.uint8], Color]] = []
    for i in order:
        box, words, color, track = tags[i]
        if not words:
            continue
        last = None if places is None else places.letters(track)
        letters = letters_of(box, height, last, len(words))
        room = (letters, round(letters * _LETTER * len(words)))
        if _crowded(box, objects, room, last is not None and last < letters):
            letters = letters_of(box, height, last, len(words), crowded=True)
        text = fitted_text(words, letters, frame)
        if text is None:
            continue
        before = None if places is None else places.spot(track)
        size: Size = (text.shape[0], text.shape[1])
        place, spot, hidden = place_tag_at(box, size, frame, taken[: len(placed)], before, objects)
        if hidden > _HIDDEN:
            continue
        taken[len(placed)] = place
        placed.append((place, text, color))
        if places is not None:
            places.keep(track, spot, letters)
    for place, text, color in reversed(placed):
        paint_tag(canvas, place, text, color)
    if places is not None:
        places.turn()
