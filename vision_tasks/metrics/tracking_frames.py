"""Truth and tracks of one sequence, brought into the form that the tracking metrics count in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from vision_tasks.errors import VisionTasksError

RULES: dict[str, tuple[int, ...] | None] = {
    "mot16": (2, 7, 8, 12),
    "mot17": (2, 7, 8, 12),
    "mot20": (2, 6, 7, 8, 12),
    "plain": None,
}
"""Classes of MOTChallenge's truth that a track may lie on without being wrong: people on vehicles, static people,
distractors and reflections, in MOT20 also vehicles without a motor. `plain`, for MOT15 and all else, knows none."""

_PEDESTRIAN = 1
_CLASSES = range(1, 14)

EPS = float(np.finfo(np.float64).eps)
"""By which an overlap may miss a threshold, as in TrackEval."""


class TrackRows(Protocol):
    """Objects of one sequence, as `data.formats.mot.MotRows` has them: N rows, ascending by frame."""

    @property
    def frames(self) -> NDArray[np.int64]:
        """(N,) from 0."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(N,) not negative."""

    @property
    def xywh(self) -> NDArray[np.float64]:
        """(N, 4) left, top, width, height; truth and results count pixels from the same number."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N,) of truth: 0 where a row is not to be judged."""

    @property
    def classes(self) -> NDArray[np.int64]:
        """(N,) category ids; below 1: unknown."""

    @property
    def length(self) -> int | None:
        """Frames of the sequence, if known."""


@dataclass(frozen=True, eq=False)
class TrackFrames:
    """What is left to be judged of one sequence.

    Attributes:
        truth_frames: (N,) int64 ascending. truth_ids: (N,) int64 0..G-1, every one there. truth_xywh: (N, 4) float64.
        found_frames: (M,) and so on: of the tracks, ids 0..T-1.
        length: frames of the sequence.
    """

    truth_frames: NDArray[np.int64]
    truth_ids: NDArray[np.int64]
    truth_xywh: NDArray[np.float64]
    found_frames: NDArray[np.int64]
    found_ids: NDArray[np.int64]
    found_xywh: NDArray[np.float64]
    length: int

    @property
    def truths(self) -> int:
        """G, tracks of the truth."""
        return int(self.truth_ids.max(initial=-1)) + 1

    @property
    def tracks(self) -> int:
        """T, tracks that were found."""
        return int(self.found_ids.max(initial=-1)) + 1

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Frame by frame, where there is anything: ids of truth (n,), of tracks (m,), and their IoU (n, m) float64.

        Overlaps are computed anew each time: kept, they would need far more memory than the rows.
        """
        for t, f in _pairs(self.truth_frames, self.found_frames):
            yield self.truth_ids[t], self.found_ids[f], iou(self.truth_xywh[t], self.found_xywh[f])


def prepare(
    truth: TrackRows, found: TrackRows, rules: str = "mot17", category: int | None = None, annotated_only: bool = False
) -> TrackFrames:
    """Leave out what the rules say is not to be judged, and number the tracks that are left from 0.

    By MOTChallenge's rules, tracks are first assigned to truth of every class, each frame for itself, by IoU of 0.5 and
    more. Those that fall to a class of `RULES[rules]` count for nothing. Then only pedestrians that are to be judged
    remain in the truth: a track on anything else, a car or an ignored pedestrian, is wrong.

    Args:
        truth: of one sequence. found: the tracks, as rows whose class is unknown or the one to be judged; others are
            left out. rules: of `RULES`.
        category: by `plain` the class to be judged, None for all; MOTChallenge's rules take none.
        annotated_only: leave out tracks in frames after the last row of truth.

    Raises:
        VisionTasksError: unknown rules or classes, an id twice in one frame, rows beyond the sequence's last frame.
    """
    check_rules(rules, category)
    distractors = RULES[rules]
    length = max(int(rows.frames.max(initial=-1)) + 1 for rows in (truth, found))
    if truth.length is not None:
        _check_end(truth, "the truth", truth.length)
        _check_end(found, "the results", truth.length)
        length = truth.length
    _check_ids(truth, "the truth")
    _check_ids(found, "the results")
    judged = truth.scores != 0
    kept = np.ones(len(found.frames), bool)
    if annotated_only:
        length = int(truth.frames.max(initial=-1)) + 1
        kept &= found.frames < length
    wanted = category if distractors is None else _PEDESTRIAN
    if wanted is not None:
        kept &= (found.classes < 1) | (found.classes == wanted)
    if distractors is not None:
        _check_classes(truth, rules)
        judged &= truth.classes == _PEDESTRIAN
        kept[kept] = ~_on_distractors(truth, found, kept, distractors)
    elif wanted is not None:
        judged &= (truth.classes < 1) | (truth.classes == wanted)
    return TrackFrames(
        truth.frames[judged], _numbered(truth.ids[judged]), truth.xywh[judged],
        found.frames[kept], _numbered(found.ids[kept]), found.xywh[kept],
        length,
    )  # fmt: skip


def check_rules(rules: str, category: int | None) -> None:
    """Raises VisionTasksError if there are no such rules, or they let nobody choose a category."""
    if rules not in RULES:
        raise VisionTasksError(f"there are no rules {rules!r} of judging tracks; there are {', '.join(RULES)}")
    if RULES[rules] is not None and category is not None:
        raise VisionTasksError(
            f"category {category}: by the rules of {rules} pedestrians are judged, class {_PEDESTRIAN} of its truth, "
            "and nothing else; a category goes with the rules 'plain'"
        )


def iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) intersection over union of (n, 4) and (m, 4) boxes as x, y, width, height; 0 where one has no area.

    In TrackEval's order of operations, as overlaps of exactly 0.5 occur.
    """
    (low1, high1), (low2, high2) = ((b[:, :2], b[:, :2] + b[:, 2:]) for b in (first, second))
    sides = np.minimum(high1[:, None], high2) - np.maximum(low1[:, None], low2)
    shared = np.maximum(sides[..., 0], 0) * np.maximum(sides[..., 1], 0)
    area1, area2 = ((high - low).prod(1) for low, high in ((low1, high1), (low2, high2)))
    union = area1[:, None] + area2 - shared
    there = (area1[:, None] > EPS) & (area2 > EPS) & (union > EPS)
    out: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=there)
    return out


def _pairs(first: NDArray[np.int64], second: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Where each frame's rows stand in two ascending lists of frames, for frames that are in either."""
    frames = np.union1d(first, second)
    edges = [np.searchsorted(rows, frames, side).tolist() for rows in (first, second) for side in ("left", "right")]  # type: ignore[call-overload]
    for a, b, c, d in zip(*edges, strict=True):
        yield slice(a, b), slice(c, d)


def _on_distractors(
    truth: TrackRows, found: TrackRows, kept: NDArray[np.bool_], distractors: tuple[int, ...]
) -> NDArray[np.bool_]:
    """(number of kept rows,) which of them the assignment gives to a distractor."""
    frames, xywh = found.frames[kept], found.xywh[kept]
    removed = np.zeros(len(frames), bool)
    distracting = np.isin(truth.classes, distractors)
    for t, f in _pairs(truth.frames, frames):
        overlap = iou(truth.xywh[t], xywh[f])
        overlap[overlap < 0.5 - EPS] = 0
        rows, columns = linear_sum_assignment(-overlap)
        matched = overlap[rows, columns] > EPS
        removed[f.start + columns[matched & distracting[t][rows]]] = True
    return removed


def _numbered(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same tracks with ids 0, 1, ... in the order of their ids."""
    return np.asarray(np.unique(ids, return_inverse=True)[1], np.int64)


def _check_end(rows: TrackRows, whose: str, length: int) -> None:
    last = int(rows.frames.max(initial=-1)) + 1
    if last > length:
        raise VisionTasksError(f"{whose} have a row in frame {last}, but the sequence has {length} (counted from 1)")


def _check_ids(rows: TrackRows, whose: str) -> None:
    if rows.ids.min(initial=0) < 0:
        row = int(rows.ids.argmin())
        raise VisionTasksError(
            f"{whose}: id {rows.ids[row]} in frame {rows.frames[row] + 1} (counted from 1): a row of no track, as in "
            "files of detections; give tracks"
        )
    keys = np.stack([rows.frames, rows.ids], axis=1)
    unique, counts = np.unique(keys, axis=0, return_counts=True)
    if (counts > 1).any():
        frame, track = unique[int(counts.argmax())].tolist()
        raise VisionTasksError(
            f"{whose}: id {track} stands {counts.max()} times in frame {frame + 1} (counted from 1); once is possible"
        )


def _check_classes(truth: TrackRows, rules: str) -> None:
    unknown = sorted(set(np.unique(truth.classes).tolist()) - set(_CLASSES))
    if unknown:
        raise VisionTasksError(
            f"the truth has class {unknown[0]}, and the rules of {rules} know 1 to 13; for other data use the rules "
            "'plain'"
        )
