"""SORT: a Kalman filter, overlap, assignment (Bewley et al., "Simple online and realtime tracking", ICIP 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision_tasks.inference.tracking.association import assign, others
from vision_tasks.inference.tracking.base import Tracker
from vision_tasks.inference.tracking.kalman import AreaFilter
from vision_tasks.inference.tracking.options import check_number, check_whole
from vision_tasks.inference.tracking.table import Detections, Tracks


@dataclass(kw_only=True, eq=False)
class Sort(Tracker):
    """SORT, with its authors' constants.

    Attributes:
        threshold: detections with lower scores are passed over; the paper takes those above 0.5.
        iou: a track and a detection that overlap less are not the same.
        max_age: frames that a track lives on without being found. Objects that come back later get a new number.
        min_hits: a track is shown once it was found in so many pictures in a row after its first; of a source's first
            `min_hits` pictures all are shown.
    """

    threshold: float = 0.5
    iou: float = 0.3
    max_age: float = 1
    min_hits: int = 3

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, low=0, high=1)
        check_number("iou", self.iou, low=0, high=1)
        check_number("max_age", self.max_age, low=0)
        check_whole("min_hits", self.min_hits, low=0)
        self.motion = AreaFilter()
        super().__post_init__()

    @property
    def low_threshold(self) -> float:
        """`threshold`."""
        return self.threshold

    @property
    def longest_loss(self) -> float:
        """`max_age`."""
        return self.max_age

    def _begun(self, found: Detections, detections: np.ndarray) -> Tracks:
        return Tracks(**self._born(found, detections))

    def _shown_boxes(self, rows: np.ndarray) -> np.ndarray:
        return self.motion.boxes(self.tracks.state[rows])

    def _follow(self, found: Detections, step: float, warp: np.ndarray | None) -> np.ndarray:
        self._move(step, warp)
        table, everything, detections = self.tracks, np.arange(len(self.tracks)), np.arange(len(found))
        rows, columns, overlap = self._pairs(everything, self.motion.boxes(table.state), found, detections)
        enough = overlap >= self.iou
        rows, columns = rows[enough], columns[enough]
        rows, columns = assign(rows, columns, overlap[enough] + self._likeness(rows, found, columns))
        self._see(rows, found, columns)
        rest, left = others(everything, rows), others(detections, columns)
        rows, columns = self._recognise(rest, found, left)
        self._see(rows, found, columns)
        self.tracks = table.joined(self._begun(found, others(left, columns)))
        self.tracks = self.tracks.kept(self.tracks.lost <= self.max_age)
        ripe = (self.tracks.streak >= self.min_hits) | (self.pictures <= self.min_hits)
        shown: np.ndarray = ((self.tracks.found >= 0) & ripe).nonzero()[0]
        return shown

    def _see(self, rows: np.ndarray, found: Detections, columns: np.ndarray) -> None:
        if not len(rows):
            return
        self.tracks.state[rows] = self.motion.update(self.tracks.state[rows], found.boxes[columns])
        self._mark(rows, found, columns)
