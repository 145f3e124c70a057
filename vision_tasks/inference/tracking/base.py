"""What all trackers share: reading detections, time, labels, looks, and the prediction that comes out."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.tracking.association import assign, overlapping_pairs
from vision_tasks.inference.tracking.camera_motion import METHODS, CameraMotion
from vision_tasks.inference.tracking.kalman import CHI2_95, BoxFilter, HeightFilter
from vision_tasks.inference.tracking.likeness import blended, cosine
from vision_tasks.inference.tracking.options import check_number, check_word, check_yes
from vision_tasks.inference.tracking.table import Detections, Tracks
from vision_tasks.inference.tracking.timing import FrameClock
from vision_tasks.structures import Prediction

_GATE = HeightFilter()


@dataclass(kw_only=True, eq=False)
class Tracker(ABC):
    """Gives the detections of one source, picture by picture, identities that last.

    Options are keyword arguments; each tracker adds its own. Times are in frames of `rate`: where pictures come with
    time stamps, their distance counts, not their number.

    Attributes:
        rate: frames per second of the source.
        per_class: objects never change their category, and never take the place of one of another. Otherwise boxes are
            matched whatever their labels, as in the papers, and a track's label is voted.
        label_memory: how much of the votes of the past is left at each sight, 0..1: 0 shows each detection's own label.
        boxes: "state" gives the filter's estimate, "detection" the detection's own box, "auto" what the tracker's
            authors give out.
        camera_motion: "none"; "flow" and "orb" estimate how the camera has moved, and need the pictures.
        appearance: what objects look like takes part; the predictions must have `embeddings`.
        appearance_weight: what is added to the overlap of a pair per cosine similarity of its two sides.
        appearance_distance: a lost track and a detection further apart than this cosine distance are not the same.

    Raises:
        VisionTasksError: an option out of range.
    """

    rate: float = 30.0
    per_class: bool = False
    label_memory: float = 0.95
    boxes: Literal["auto", "state", "detection"] = "auto"
    camera_motion: Literal["none", "flow", "orb"] = "none"
    appearance: bool = False
    appearance_weight: float = 0.3
    appearance_distance: float = 0.3

    motion: BoxFilter = field(init=False, repr=False)
    tracks: Tracks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_number("rate", self.rate, above=0)
        for name in ("per_class", "appearance"):
            check_yes(name, getattr(self, name))
        check_number("label_memory", self.label_memory, low=0, high=1)
        check_number("appearance_weight", self.appearance_weight, low=0)
        check_number("appearance_distance", self.appearance_distance, low=0, high=2)
        check_word("boxes", self.boxes, ("auto", "state", "detection"))
        check_word("camera_motion", self.camera_motion, ("none", *METHODS))
        self.reset()

    @property
    def needs_embeddings(self) -> bool:
        """Whether predictions must come with `embeddings`."""
        return self.appearance

    @property
    @abstractmethod
    def low_threshold(self) -> float:
        """Detections with lower scores are of no use to it; it wants all others."""

    @property
    def first_threshold(self) -> tuple[str, float]:
        """The option that says what begins a track, and the least score that does."""
        return "threshold", self.low_threshold

    @abstractmethod
    def _begun(self, found: Detections, detections: np.ndarray) -> Tracks:
        """A table of new tracks, one for each of these detections (K,)."""

    @abstractmethod
    def _follow(self, found: Detections, step: float, warp: np.ndarray | None) -> np.ndarray:
        """Moves the tracks on by `step` frames and `warp` (2, 3), finds them again; (K,) rows of those to show."""

    @abstractmethod
    def _shown_boxes(self, rows: np.ndarray) -> np.ndarray:
        """(K, 4) corners that the tracker's authors give out for tracks that were found."""

    def reset(self) -> None:
        """Forget everything, for a new source: numbers start at 1 again."""
        self.now = 0.0
        self.pictures = 0
        self._next_id = 1
        self._clock = FrameClock(self.rate)
        self._known_labels = np.empty(0, np.int64)
        self._camera = None if self.camera_motion == "none" else CameraMotion(self.camera_motion)
        self.tracks = self._none()

    def update(self, prediction: Prediction, frame: Frame | None = None) -> Prediction:
        """The tracked objects of the next picture, with `track_ids`, in the order of the detections.

        Call it for every picture, also one without objects. Masks, scores and embeddings are those of the detection of
        this picture; boxes and labels see `boxes` and `label_memory`.

        Args:
            prediction: what was found, with scores from `low_threshold` up; boxes that are not finite or have no area
                are passed over.
            frame: the picture, for its time and, with `camera_motion`, its pixels.

        Raises:
            VisionTasksError: no boxes at all (a model of maps), or embeddings or pixels that an option needs are
                missing.
        """
        found = self._read(prediction)
        step = self._clock.step(frame)
        warp = None
        if self._camera is not None:
            if frame is None:
                raise VisionTasksError(f"camera_motion={self.camera_motion!r} needs the picture: update(..., frame).")
            warp = self._camera.estimate(frame.image, found.boxes)
        self.now += step
        self.pictures += 1
        if step > max(self.rate, self.longest_loss):
            self.tracks = self._none()  # a cut: what overlaps now is chance
        self._learn_labels(found)
        if not len(self.tracks):
            self.tracks = self._begun(found, np.empty(0, np.int64))  # with columns as wide as these detections have
        self.tracks.found[:] = -1
        shown = self._follow(found, step, warp)
        return self._written(prediction, found, shown[np.argsort(self.tracks.found[shown], kind="stable")])

    @property
    @abstractmethod
    def longest_loss(self) -> float:
        """Frames after which a track that is not found again is given up."""

    def _none(self) -> Tracks:
        """A table without tracks."""
        none = np.empty(0, np.int64)
        return self._begun(Detections(np.empty((0, 4)), np.empty(0), none, none), none)

    def _read(self, prediction: Prediction) -> Detections:
        if prediction.boxes is None:
            raise VisionTasksError("A tracker follows boxes, and this model finds no objects. Leave tracking out.")
        boxes = prediction.boxes.detach().cpu().numpy().astype(np.float64)
        count = len(boxes)
        scores = np.ones(count) if prediction.scores is None else prediction.scores.cpu().numpy().astype(np.float64)
        labels = np.zeros(count, np.int64) if prediction.labels is None else prediction.labels.cpu().numpy()
        with np.errstate(invalid="ignore"):
            sound = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            sound &= scores >= self.low_threshold
        rows = sound.nonzero()[0]
        embeddings = None
        if self.appearance:
            if prediction.embeddings is None:
                raise VisionTasksError("appearance needs embeddings of the objects, and this prediction has none.")
            embeddings = prediction.embeddings.cpu().float().numpy()[rows]
        return Detections(boxes[rows], scores[rows], labels[rows], rows, embeddings)

    def _written(self, prediction: Prediction, found: Detections, shown: np.ndarray) -> Prediction:
        tracks = self.tracks
        new = shown[tracks.ids[shown] == 0]
        tracks.ids[new] = np.arange(self._next_id, self._next_id + len(new))
        self._next_id += len(new)
        seen = tracks.found[shown]
        out = prediction[torch.from_numpy(found.rows[seen])]
        changes: dict[str, Any] = {"track_ids": torch.from_numpy(tracks.ids[shown])}
        if self.boxes != "detection":
            boxes = self.motion.boxes(tracks.state[shown]) if self.boxes == "state" else self._shown_boxes(shown)
            assert out.boxes is not None
            changes["boxes"] = torch.from_numpy(boxes).to(out.boxes)
        if out.labels is not None:
            changes["labels"] = torch.from_numpy(self._labels(shown)).to(out.labels)
        return dataclasses.replace(out, **changes)

    def _move(self, step: float, warp: np.ndarray | None, still: np.ndarray | None = None) -> None:
        """All tracks `step` frames later, not found yet; those `still` (N,) bool go only where the camera turns."""
        table = self.tracks
        later = self.motion.predict(table.state, step)
        if still is not None:
            later[still] = table.state[still]
        table.state = later if warp is None else self.motion.warp(later, warp)
        table.streak[table.missed > 0] = 0
        table.lost += step
        table.missed += 1

    def _pairs(
        self, rows: np.ndarray, boxes: np.ndarray, found: Detections, among: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tracks (P,), detections (P,) and overlaps (P,) of all pairs that may be matched.

        Args:
            rows: (K,) tracks. boxes: (K, 4) where they are expected. among: (L,) detections.
        """
        tracks, detections, overlap = overlapping_pairs(boxes, found.boxes[among])
        tracks, detections = rows[tracks], among[detections]
        if self.per_class:
            same = self._labels(tracks) == found.labels[detections]
            return tracks[same], detections[same], overlap[same]
        return tracks, detections, overlap

    def _likeness(self, tracks: np.ndarray, found: Detections, detections: np.ndarray) -> np.ndarray | float:
        """What appearance adds to the overlap of pairs: 0, or (P,)."""
        if found.embeddings is None:
            return 0.0
        alike = cosine(self.tracks.embeddings[tracks], found.embeddings[detections])
        added: np.ndarray = self.appearance_weight * np.maximum(alike, 0)
        return added

    def _recognise(self, rows: np.ndarray, found: Detections, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of what is left that look alike and are near enough, DeepSORT's two gates.

        Near enough: within what DeepSORT's filter believes possible for an object that was seen once and then not for
        as long. A track's own filter would be no judge: that of SORT counts in pixels, whatever the size.
        """
        if found.embeddings is None or not len(rows) or not len(among):
            return rows[:0], among[:0]
        distance = 1 - self.tracks.embeddings[rows] @ found.embeddings[among].T
        near, close = (distance <= self.appearance_distance).nonzero()
        tracks, detections = rows[near], among[close]
        expected = _GATE.predict(
            _GATE.start(self.motion.boxes(self.tracks.state[tracks])), self.tracks.lost[tracks, None]
        )
        possible = _GATE.distance(expected, found.boxes[detections]) <= CHI2_95
        if self.per_class:
            possible &= self._labels(tracks) == found.labels[detections]
        gain = 2.5 - distance[near, close][possible]  # more pairs before better ones
        return assign(tracks[possible], detections[possible], gain)

    def _mark(self, tracks: np.ndarray, found: Detections, detections: np.ndarray, sure: bool = True) -> None:
        """These tracks (K,) have been found as these detections (K,); `sure` ones show what they look like."""
        table = self.tracks
        table.found[tracks] = detections
        table.lost[tracks] = 0
        table.missed[tracks] = 0
        table.streak[tracks] += 1
        votes = table.votes[tracks] * self.label_memory
        table.votes[tracks] = votes + self._votes(found, detections)
        if found.embeddings is not None and sure:
            table.embeddings[tracks] = blended(table.embeddings[tracks], found.embeddings[detections])

    def _labels(self, tracks: np.ndarray) -> np.ndarray:
        """(K,) int64, what most votes are for."""
        if not len(tracks):
            return np.empty(0, np.int64)
        labels: np.ndarray = self._known_labels[self.tracks.votes[tracks].argmax(axis=1)]
        return labels

    def _votes(self, found: Detections, detections: np.ndarray) -> np.ndarray:
        """(K, labels known) scores of detections under their labels; a little above 0, so that one vote counts."""
        columns = np.searchsorted(self._known_labels, found.labels[detections])
        votes = np.zeros((len(detections), len(self._known_labels)))
        votes[np.arange(len(detections)), columns] = found.scores[detections] + 1e-6
        return votes

    def _born(self, found: Detections, detections: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of `Tracks` for detections (K,) that begin one."""
        count = len(detections)
        looks = np.zeros((len(found), 0), np.float32) if found.embeddings is None else found.embeddings
        return {
            "state": self.motion.start(found.boxes[detections]),
            "ids": np.zeros(count, np.int64),
            "lost": np.zeros(count),
            "missed": np.zeros(count, np.int64),
            "streak": np.zeros(count, np.int64),
            "start": np.full(count, self.now),
            "found": detections,
            "votes": self._votes(found, detections),
            "embeddings": looks[detections],
        }

    def _learn_labels(self, found: Detections) -> None:
        """Labels that were not seen before get a column of votes."""
        known = np.union1d(self._known_labels, found.labels)
        if len(known) > len(self._known_labels):
            votes = np.zeros((len(self.tracks), len(known)))
            votes[:, np.searchsorted(known, self._known_labels)] = self.tracks.votes
            self.tracks.votes, self._known_labels = votes, known
