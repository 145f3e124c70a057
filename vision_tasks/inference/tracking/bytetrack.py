"""ByteTrack: low scores count, too.

Zhang et al., "ByteTrack: multi-object tracking by associating every detection box", ECCV 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.tracking.association import assign, others, overlapping_pairs
from vision_tasks.inference.tracking.base import Tracker
from vision_tasks.inference.tracking.kalman import VELOCITY, HeightFilter
from vision_tasks.inference.tracking.options import check_number
from vision_tasks.inference.tracking.table import Detections, Tracks

_SAME_TRACK = 0.85
"""A lost track and one that is not, overlapping by more, are one object: the one that was followed longer stays."""


@dataclass
class ByteTracks(Tracks):
    """`confirmed` (N,) bool: found a second time, or begun in the first picture."""

    confirmed: np.ndarray


@dataclass(kw_only=True, eq=False)
class ByteTrack(Tracker):
    """ByteTrack, with its authors' constants.

    Detections of high score are matched first, to tracks that are followed or lost; then those of low score, which are
    often objects half hidden, to tracks that are still without one. A track begins with a high score and is shown when
    it is found again in the very next picture; those of a source's first picture are shown at once.

    Attributes:
        high_threshold: a score from here on is high.
        threshold: lower scores are passed over.
        new_threshold: what begins a track scores at least this; `high_threshold` + 0.1 if not given.
        match: a track and a high score match where 1 - overlap × score is at most this.
        low_match: a track and a low score match where 1 - overlap is at most this.
        new_match: like `match`, for tracks that were seen only once.
        buffer: frames, of 1/30 s each whatever the rate, that a track waits to be found again.
    """

    high_threshold: float = 0.6
    threshold: float = 0.1
    new_threshold: float | None = None
    match: float = 0.8
    low_match: float = 0.5
    new_match: float = 0.7
    buffer: float = 30

    def __post_init__(self) -> None:
        for name in ("high_threshold", "threshold", "match", "low_match", "new_match"):
            check_number(name, getattr(self, name), low=0, high=1)
        if self.new_threshold is not None:
            check_number("new_threshold", self.new_threshold, low=0, high=1)
        check_number("buffer", self.buffer, low=0)
        if self.threshold > self.high_threshold:
            raise VisionTasksError(
                f"threshold={self.threshold:g} must not be above high_threshold={self.high_threshold:g}."
            )
        self.motion = HeightFilter()
        super().__post_init__()

    @property
    def low_threshold(self) -> float:
        """`threshold`."""
        return self.threshold

    @property
    def first_threshold(self) -> tuple[str, float]:
        """`new_threshold`."""
        return "new_threshold", self.high_threshold + 0.1 if self.new_threshold is None else self.new_threshold

    @property
    def longest_loss(self) -> float:
        """`buffer` in frames of the source's own rate."""
        return int(self.rate / 30 * self.buffer)

    def _begun(self, found: Detections, detections: np.ndarray) -> ByteTracks:
        return ByteTracks(**self._born(found, detections), confirmed=np.full(len(detections), self.pictures == 1))

    def _shown_boxes(self, rows: np.ndarray) -> np.ndarray:
        return self.motion.boxes(self.tracks.state[rows])

    def _follow(self, found: Detections, step: float, warp: np.ndarray | None) -> np.ndarray:
        table = self.tracks
        assert isinstance(table, ByteTracks)
        table.state[table.missed > 0, VELOCITY, 3] = 0  # a lost object keeps its height
        # What was seen once does not move on, nor grow uncertain: it is matched where it was, or given up.
        self._move(step, warp, still=~table.confirmed)
        high = (found.scores >= self.high_threshold).nonzero()[0]
        low = (found.scores < self.high_threshold).nonzero()[0]
        confirmed = table.confirmed.nonzero()[0]

        rows, columns = self._matched(confirmed, found, high, 1 - self.match, by_score=True)
        rest, high = others(confirmed, rows), others(high, columns)
        again, known = self._recognise(rest, found, high)
        self._see(again, found, known)
        rest, high = others(rest, again), others(high, known)

        rows, _ = self._matched(rest[table.missed[rest] == 1], found, low, 1 - self.low_match, sure=False)
        _, columns = self._matched((~table.confirmed).nonzero()[0], found, high, 1 - self.new_match, by_score=True)
        table.confirmed |= table.found >= 0
        high = others(high, columns)

        least = self.high_threshold + 0.1 if self.new_threshold is None else self.new_threshold
        new = self._begun(found, high[found.scores[high] >= least])
        alive = table.confirmed & ((table.missed <= 1) | (table.lost <= self.longest_loss))
        self.tracks = table.kept(alive).joined(new)
        self.tracks = self.tracks.kept(~self._doubles())
        assert isinstance(self.tracks, ByteTracks)
        shown: np.ndarray = ((self.tracks.found >= 0) & self.tracks.confirmed).nonzero()[0]
        return shown

    def _matched(
        self,
        tracks: np.ndarray,
        found: Detections,
        among: np.ndarray,
        least: float,
        by_score: bool = False,
        sure: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Matches and updates; tracks (K,) and detections (K,) whose overlap, times the score, is above `least`."""
        if not len(tracks) or not len(among):
            return tracks[:0], among[:0]
        rows, columns, overlap = self._pairs(tracks, self.motion.boxes(self.tracks.state[tracks]), found, among)
        gain = (overlap * found.scores[columns] if by_score else overlap) - least
        enough = gain > 0
        rows, columns, gain = rows[enough], columns[enough], gain[enough]
        if sure:
            gain = gain + self._likeness(rows, found, columns)
        rows, columns = assign(rows, columns, gain)
        self._see(rows, found, columns, sure)
        return rows, columns

    def _see(self, rows: np.ndarray, found: Detections, columns: np.ndarray, sure: bool = True) -> None:
        if not len(rows):
            return
        self.tracks.state[rows] = self.motion.update(self.tracks.state[rows], found.boxes[columns])
        self._mark(rows, found, columns, sure)

    def _doubles(self) -> np.ndarray:
        """(N,) bool: tracks that are the shorter half of one object."""
        table = self.tracks
        here, lost = (table.missed == 0).nonzero()[0], (table.missed > 0).nonzero()[0]
        doubles = np.zeros(len(table), bool)
        if not len(lost):
            return doubles
        boxes = self.motion.boxes(table.state)
        first, second, overlap = overlapping_pairs(boxes[here], boxes[lost])
        same = overlap > _SAME_TRACK
        first, second = here[first[same]], lost[second[same]]
        if self.per_class:
            alike = self._labels(first) == self._labels(second)
            first, second = first[alike], second[alike]
        length = self.now - table.lost - table.start
        longer = length[first] > length[second]
        doubles[second[longer]] = True
        doubles[first[~longer]] = True
        return doubles
