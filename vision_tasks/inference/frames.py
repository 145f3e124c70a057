"""What flows from sources through a predictor into outputs: one picture at a time, and where it came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        image: (H, W, C) uint8 or uint16, RGB where C is 3, upright.
        source: the file or address it came from, as it was given or found.
        name: what files written of it are called, without an ending; no two of a run have the same.
        index: its number in its source, from 0; what could not be read counts.
        time: seconds from the start of its video or stream; None of an image.
    """

    image: np.ndarray
    source: str
    name: str
    index: int = 0
    time: float | None = None


class Source(ABC):
    """Where frames come from. Iterating reads them one by one; nothing is held but the frame at hand.

    Attributes:
        name: of the source, for people and for what is written of it.
        kind: "images", "video" (has an end and a clock) or "live" (has neither).
        length: how many frames there are, if that is known; an estimate for videos.
        rate: average frames per second, if there is such a thing.
        problems: what could not be read so far, each with its file; grows while iterating.
    """

    name: str
    kind: Literal["images", "video", "live"]
    length: int | None = None
    rate: float | None = None
    problems: list[str]

    @property
    def folders(self) -> set[Path]:
        """Of the files that it reads, as they are named, where they are known; nothing may be written there."""
        return set()

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The frames, in order."""

    def part(self, rank: int, ranks: int) -> Source | None:
        """What process `rank` of `ranks` reads, the frames' `index` unchanged; None for nothing.

        The first takes all of what cannot be divided, as a video cannot.
        """
        return self if rank == 0 else None
