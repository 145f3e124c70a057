"""Tags of objects: what each says, where it goes, and, in a video, that it stays there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vision_tasks.structures import Color, Size
from vision_tasks.visualize.text import Box, fitted_text, paint_tag, place_tag_at

Tag = tuple[Box, str, Color, int | None]
"""The pixels of an object's box, what its tag says, its colour, its track if it has one."""


_PATIENCE = 30
"""Pictures after which a tag that is not in the best place may look for it again."""


class TagPlaces:
    """Remembers at which spot of its box each track's tag was, so that tags of a video do not jump."""

    def __init__(self) -> None:
        self._spots: dict[int, tuple[int, int]] = {}
        self._now: dict[int, tuple[int, int]] = {}

    def spot(self, track: int | None) -> int | None:
        """Where the track's tag was in the last picture; None if it was not there, or may look for a better place."""
        spot, pictures = (0, 0) if track is None else self._spots.get(track, (0, 0))
        return spot if 0 < pictures < _PATIENCE or (pictures and spot == 0) else None

    def keep(self, track: int | None, spot: int) -> None:
        """Say where the track's tag is in this picture."""
        if track is not None:
            before, pictures = self._spots.get(track, (spot, 0))
            self._now[track] = (spot, pictures + 1 if spot == before and pictures < _PATIENCE else 1)

    def turn(self) -> None:
        """The picture is done: only the tracks in it are remembered."""
        self._spots, self._now = self._now, {}


def paint_tags(canvas: NDArray[np.uint8], tags: Sequence[Tag], height: int, places: TagPlaces | None = None) -> None:
    """Place tags one after another, each where it covers the least of those before, and paint them, the first on top.

    Args:
        canvas: (H, W, 3) RGB, painted in place. height: of the letters in pixels.
        places: of the pictures before; tags of tracks that were there are placed first, and stay where they can.
    """
    frame: Size = (canvas.shape[0], canvas.shape[1])
    known = [places is not None and places.spot(tag[3]) is not None for tag in tags]
    order = sorted(range(len(tags)), key=lambda i: not known[i])
    taken = np.zeros((len(tags), 4), np.int64)
    placed: list[tuple[Box, NDArray[np.uint8], Color]] = []
    for i in order:
        box, words, color, track = tags[i]
        text = fitted_text(words, height, frame) if words else None
        if text is None:
            continue
        before = None if places is None else places.spot(track)
        place, spot = place_tag_at(box, (text.shape[0], text.shape[1]), frame, taken[: len(placed)], before)
        taken[len(placed)] = place
        placed.append((place, text, color))
        if places is not None:
            places.keep(track, spot)
    for place, text, color in reversed(placed):
        paint_tag(canvas, place, text, color)
    if places is not None:
        places.turn()
