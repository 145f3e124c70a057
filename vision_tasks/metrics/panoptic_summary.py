"""Panoptic quality from counts of matched and unmatched segments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vision_tasks.metrics.panoptic_matching import OVERLAP_UNIT
from vision_tasks.structures import Categories


@dataclass(frozen=True, eq=False)
class PanopticSummary:
    """Panoptic, segmentation and recognition quality (Kirillov et al. 2019), as panopticapi averages them.

    A category with neither a segment in the truth nor a wrong one in the predictions is in no mean, and its row says
    -1; so is a mean over no category.

    Attributes:
        counts: (K, 4) int64 as `panoptic_matching.COLUMNS`.
    """

    categories: Categories
    counts: np.ndarray
    main = "PQ"

    @cached_property
    def numbers(self) -> dict[str, float]:
        """PQ, SQ, RQ; PQ_things, SQ_things, RQ_things; PQ_stuff, SQ_stuff, RQ_stuff: means over categories."""
        thing = np.array(self.categories.is_thing, dtype=bool)
        groups = {"": np.ones(len(thing), dtype=bool), "_things": thing, "_stuff": ~thing}
        counted = self.counts[:, 1:].any(axis=1)
        return {
            name + group: float(values[rows & counted].mean()) if (rows & counted).any() else -1.0
            for group, rows in groups.items()
            for name, values in self._qualities.items()
        }

    @cached_property
    def per_category(self) -> list[dict[str, Any]]:
        """One row per category: name, id, thing (yes or no), truths, PQ, SQ, RQ, right, wrong, missed."""
        c = self.categories
        rows: list[dict[str, Any]] = []
        for k, (name, id_, is_thing) in enumerate(zip(c.names, c.ids, c.is_thing, strict=True)):
            right, wrong, missed = (int(n) for n in self.counts[k, 1:])
            seen = right + wrong + missed > 0
            rows.append(
                {"name": name, "id": id_, "thing": "yes" if is_thing else "no", "truths": right + missed}
                | {key: float(values[k]) if seen else -1.0 for key, values in self._qualities.items()}
                | {"right": right, "wrong": wrong, "missed": missed}
            )
        return rows

    @cached_property
    def _qualities(self) -> dict[str, np.ndarray]:
        """(K,) float64 each, 0 where there is nothing to divide by."""
        overlap, right, wrong, missed = self.counts.T.astype(np.float64)
        overlap = overlap / OVERLAP_UNIT
        segments = right + 0.5 * wrong + 0.5 * missed
        zero = np.zeros(len(self.counts))
        return {
            "PQ": np.divide(overlap, segments, out=zero.copy(), where=segments > 0),
            "SQ": np.divide(overlap, right, out=zero.copy(), where=right > 0),
            "RQ": np.divide(right, segments, out=zero.copy(), where=segments > 0),
        }
