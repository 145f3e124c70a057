"""From columns in file order, as a reader collects them, to sorted and judged `Records`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vision_tasks.data.problems import EXAMPLES, Problems
from vision_tasks.data.records import Records, clipped_corners
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

MISSING = np.iinfo(np.int64).min
"""Stands for an id that the file does not give."""


@dataclass
class Columns:
    """What a reader collected, in file order; each list holds arrays that follow each other."""

    image_ids: list[np.ndarray] = field(default_factory=list)
    widths: list[np.ndarray] = field(default_factory=list)
    heights: list[np.ndarray] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)
    name_lengths: list[np.ndarray] = field(default_factory=list)
    annotation_ids: list[np.ndarray] = field(default_factory=list)
    owners: list[np.ndarray] = field(default_factory=list)  # image ids
    category_ids: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    areas: list[np.ndarray] = field(default_factory=list)
    is_crowd: list[np.ndarray] = field(default_factory=list)
    shape_starts: list[np.ndarray] = field(default_factory=list)
    rle_sizes: list[tuple[int, int, int]] = field(default_factory=list)  # annotation, height, width

    def take(self, name: str, dtype: type) -> np.ndarray:
        """The whole column; its pieces are let go, so that only one column exists twice at a time."""
        pieces = getattr(self, name)
        setattr(self, name, [])
        return np.concatenate(pieces).astype(dtype, copy=False) if pieces else np.zeros(0, dtype)
