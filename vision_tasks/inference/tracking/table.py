"""What was found in one picture, and all tracks, as columns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass
class Detections:
    """The usable boxes of one picture.

    Attributes:
        boxes: (M, 4) float64 corners, finite, of positive width and height. scores: (M,) float64. labels: (M,) int64.
        rows: (M,) int64, where each stands in the prediction. embeddings: (M, D) float32 of length 1.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    embeddings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass
class Tracks:
    """All tracks, one row each; trackers that need more columns extend it.

    Attributes:
        state: (N, 5, 4) float64, see `kalman`. ids: (N,) int64, 0 until it is shown for the first time.
        lost: (N,) frames since it was last seen, 0 if it is. missed: (N,) pictures without it since then.
        streak: (N,) pictures in a row that it was found in, without the first. start: (N,) when it was first seen,
            frames. found: (N,) int64, its detection of this picture, else -1.
        votes: (N, K) sums of scores by label, K the labels seen so far. embeddings: (N, D) float32 of length 1.
    """

    state: np.ndarray
    ids: np.ndarray
    lost: np.ndarray
    missed: np.ndarray
    streak: np.ndarray
    start: np.ndarray
    found: np.ndarray
    votes: np.ndarray
    embeddings: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def kept(self, where: np.ndarray) -> Self:
        """The tracks where this (N,) bool is true; the same object if that is all."""
        if where.all():
            return self
        return dataclasses.replace(self, **{name: column[where] for name, column in vars(self).items()})

    def joined(self, more: Self) -> Self:
        """These and then those; the same object if those are none."""
        if not len(more):
            return self
        return dataclasses.replace(
            self, **{name: np.concatenate((column, getattr(more, name))) for name, column in vars(self).items()}
        )
