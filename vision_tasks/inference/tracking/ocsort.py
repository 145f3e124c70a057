"""OC-SORT: trust what was seen more than what was predicted (Cao et al., "Observation-centric SORT", CVPR 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.tracking.association import assign, others
from vision_tasks.inference.tracking.base import Tracker
from vision_tasks.inference.tracking.camera_motion import moved_boxes
from vision_tasks.inference.tracking.kalman import AreaFilter
from vision_tasks.inference.tracking.options import check_number, check_whole, check_yes
from vision_tasks.inference.tracking.table import Detections, Tracks


@dataclass
class OcTracks(Tracks):
    """What was seen of each track.

    Attributes:
        last: (N, 4) the last box it was found at. history: (N, D, 4) its boxes one, two, ... pictures ago, NaN where it
            was not found; the first sight is none of them. direction: (N, 2) of length 1, where it goes; 0 if unknown.
        kept_state: (N, 5, 4) the filter when it was last found. again: (N,) bool, found since its first sight.
    """

    last: np.ndarray
    history: np.ndarray
    direction: np.ndarray
    kept_state: np.ndarray
    again: np.ndarray


@dataclass(kw_only=True, eq=False)
class OcSort(Tracker):
    """OC-SORT, with its authors' constants.

    Pairs are weighed by overlap and by whether the detection lies where the track is heading (momentum); tracks without
    a partner are tried where they were last seen (recovery); the filter of a track that is found again is led along the
    straight line between both sights, in place of what it had made up meanwhile (re-update).

    Attributes:
        threshold: detections with lower scores are passed over.
        iou: a track and a detection that overlap less are not the same.
        max_age: frames that a track waits to be found again.
        min_hits: a track is shown once it was found in so many pictures in a row after its first; of a source's first
            `min_hits` pictures all are shown.
        inertia: weight of the direction beside the overlap.
        delta: pictures over which the direction is taken.
        low_scores: detections from 0.1 up to `threshold` may carry a track on, as in ByteTrack.
    """

    threshold: float = 0.6
    iou: float = 0.3
    max_age: float = 30
    min_hits: int = 3
    inertia: float = 0.2
    delta: int = 3
    low_scores: bool = False

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, low=0, high=1)
        check_number("iou", self.iou, low=0, high=1)
        check_number("max_age", self.max_age, low=0)
        check_whole("min_hits", self.min_hits, low=0)
        check_number("inertia", self.inertia, low=0)
        check_whole("delta", self.delta, low=1)
        check_yes("low_scores", self.low_scores)
        if self.inertia > 0 and self.inertia >= 2 * self.iou:
            raise VisionTasksError(
                f"inertia={self.inertia:g} must be below twice iou={self.iou:g}: a pair that overlaps enough would be "
                "worth nothing for its direction."
            )
        self.motion = AreaFilter()
        super().__post_init__()

    @property
    def low_threshold(self) -> float:
        """`threshold`, or 0.1 with `low_scores`."""
        return min(0.1, self.threshold) if self.low_scores else self.threshold

    @property
    def first_threshold(self) -> tuple[str, float]:
        """`threshold`."""
        return "threshold", self.threshold

    @property
    def longest_loss(self) -> float:
        """`max_age`."""
        return self.max_age

    def _begun(self, found: Detections, detections: np.ndarray) -> OcTracks:
        columns, count = self._born(found, detections), len(detections)
        return OcTracks(
            **columns,
            last=found.boxes[detections],
            history=np.full((count, self.delta, 4), np.nan),
            direction=np.zeros((count, 2)),
            kept_state=columns["state"].copy(),
            again=np.zeros(count, bool),
        )

    def _shown_boxes(self, rows: np.ndarray) -> np.ndarray:
        assert isinstance(self.tracks, OcTracks)
        last: np.ndarray = self.tracks.last[rows]
        return last

    def _follow(self, found: Detections, step: float, warp: np.ndarray | None) -> np.ndarray:
        table = self.tracks
        assert isinstance(table, OcTracks)
        self._move(step, warp)
        if warp is not None:
            self._turn(table, warp)
        everything = np.arange(len(table))
        high = (found.scores >= self.threshold).nonzero()[0]
        low = (found.scores < self.threshold).nonzero()[0]
        predicted = self.motion.boxes(table.state)

        rows, columns, overlap = self._pairs(everything, predicted, found, high)
        enough = overlap >= self.iou
        rows, columns, gain = rows[enough], columns[enough], overlap[enough]
        gain += self._momentum(table, rows, found, columns) + self._likeness(rows, found, columns)
        rest, high = self._settle(everything, high, found, *assign(rows, columns, gain))
        rest, high = self._settle(rest, high, found, *self._recognise(rest, found, high))
        rest, _ = self._settle(rest, low, found, *self._overlapping(rest, predicted[rest], found, low), False)
        rest, high = self._settle(rest, high, found, *self._overlapping(rest, table.last[rest], found, high))

        seen = np.where((table.found >= 0)[:, None], table.last, np.nan)
        table.history = np.concatenate((seen[:, None], table.history[:, :-1]), axis=1)
        self.tracks = table.kept(table.lost <= self.max_age).joined(self._begun(found, high))
        ripe = (self.tracks.streak >= self.min_hits) | (self.pictures <= self.min_hits)
        shown: np.ndarray = ((self.tracks.found >= 0) & ripe).nonzero()[0]
        return shown

    def _overlapping(
        self, rows: np.ndarray, boxes: np.ndarray, found: Detections, among: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best choice by overlap alone, of tracks at these boxes (K, 4)."""
        tracks, detections, overlap = self._pairs(rows, boxes, found, among)
        enough = overlap >= self.iou
        return assign(tracks[enough], detections[enough], overlap[enough])

    def _momentum(self, table: OcTracks, rows: np.ndarray, found: Detections, columns: np.ndarray) -> np.ndarray:
        """-inertia/2..inertia/2 × score (P,): how little the way to a detection turns from the track's direction."""
        way = _direction(self._before(table, rows), found.boxes[columns])
        cosine = np.clip((table.direction[rows] * way).sum(axis=1), -1, 1)
        # No direction gives a cosine of 0, a right angle, and so no weight.
        gain: np.ndarray = self.inertia * found.scores[columns] * (0.5 - np.arccos(cosine) / np.pi)
        return gain

    def _before(self, table: OcTracks, rows: np.ndarray) -> np.ndarray:
        """(K, 4) the oldest box of the last `delta` pictures, or the last there was."""
        history = table.history[rows]
        known = np.isfinite(history[:, ::-1, 0])
        oldest = history[np.arange(len(rows)), self.delta - 1 - known.argmax(axis=1)]
        before: np.ndarray = np.where(known.any(axis=1)[:, None], oldest, table.last[rows])
        return before

    def _settle(
        self,
        tracks: np.ndarray,
        detections: np.ndarray,
        found: Detections,
        rows: np.ndarray,
        columns: np.ndarray,
        sure: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Updates tracks (K,) with detections (K,); of `tracks` and `detections` what is left."""
        if len(rows):
            table = self.tracks
            assert isinstance(table, OcTracks)
            boxes = found.boxes[columns]
            # As in the authors' code there is no direction before the third sight.
            moving = table.again[rows]
            table.again[rows] = True
            table.direction[rows[moving]] = _direction(self._before(table, rows[moving]), boxes[moving])
            away = table.missed[rows] > 1
            self._lead(table, rows[away], boxes[away])
            table.state[rows] = self.motion.update(table.state[rows], boxes)
            table.kept_state[rows] = table.state[rows]
            table.last[rows] = boxes
            self._mark(rows, found, columns, sure)
        return others(tracks, rows), others(detections, columns)

    def _lead(self, table: OcTracks, rows: np.ndarray, boxes: np.ndarray) -> None:
        """Observation-centric re-update: the filters (K) as if they had been seen on the line to these boxes (K, 4)."""
        if not len(rows):
            return
        missed, state = table.missed[rows], table.kept_state[rows]
        step = (table.lost[rows] / missed)[:, None]
        start, end = _centre_and_size(table.last[rows]), _centre_and_size(boxes)
        for number in range(1, int(missed.max()) + 1):
            going = number <= missed
            share = number / missed[going, None]
            between = start[going] + share * (end[going] - start[going])
            seen = np.column_stack((between[:, :2] - between[:, 2:] / 2, between[:, :2] + between[:, 2:] / 2))
            state[going] = self.motion.update(self.motion.predict(state[going], step[going]), seen)
        # The line ends at the new box, and the filter then sees that box again: so it is in the authors' code.
        table.state[rows] = state

    def _turn(self, table: OcTracks, warp: np.ndarray) -> None:
        """What was seen, as it would look from where the camera is now."""
        table.last = moved_boxes(table.last, warp)
        table.history = moved_boxes(table.history, warp)
        table.kept_state = self.motion.warp(table.kept_state, warp)
        turned = table.direction @ warp[:, :2].T
        table.direction = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-6)


def _centre_and_size(boxes: np.ndarray) -> np.ndarray:
    return np.column_stack(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]))


def _direction(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(K, 2) of length 1, from the centres of boxes (K, 4) to those of others."""
    way = (end[:, :2] + end[:, 2:] - start[:, :2] - start[:, 2:]) / 2
    unit: np.ndarray = way / (np.linalg.norm(way, axis=1, keepdims=True) + 1e-6)
    return unit
