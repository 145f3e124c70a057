"""Tracks judged against truth: CLEAR (MOTA, ...), identity (IDF1, ...) and HOTA, equal to TrackEval 1.3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, TypeVar

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.tracking_clear import ClearCounts, clear_counts
from vision_tasks.metrics.tracking_frames import TrackRows, check_rules, prepare
from vision_tasks.metrics.tracking_hota import ALPHAS, HotaCounts, hota_counts
from vision_tasks.metrics.tracking_identity import IdentityCounts, identity_counts

Counts = TypeVar("Counts", ClearCounts, IdentityCounts, HotaCounts)


@dataclass(frozen=True, eq=False)
class SequenceCounts:
    """All counts of one sequence.

    Attributes:
        boxes: judged boxes of tracks. truth_boxes: of truth. tracks: judged tracks. truth_tracks: of truth.
        frames: of the sequence.
    """

    clear: ClearCounts
    identity: IdentityCounts
    hota: HotaCounts
    boxes: int = 0
    truth_boxes: int = 0
    tracks: int = 0
    truth_tracks: int = 0
    frames: int = 0

    @property
    def numbers(self) -> dict[str, float]:
        """Every measure by its usual name: shares in 0..1, counts as they are."""
        hota = self.hota.numbers
        first = ("HOTA", "DetA", "AssA")
        return (
            {name: hota[name] for name in first}
            | self.clear.numbers
            | self.identity.numbers
            | {name: value for name, value in hota.items() if name not in first}
            | {
                "Dets": self.boxes,
                "GT_Dets": self.truth_boxes,
                "IDs": self.tracks,
                "GT_IDs": self.truth_tracks,
                "Frames": self.frames,
            }
        )


@dataclass(frozen=True, eq=False)
class TrackingSummary:
    """The measures of several sequences, and of all together: counts are summed, then divided.

    Attributes:
        sequences: counts by the sequence's name.
    """

    sequences: dict[str, SequenceCounts]
    main = "HOTA"

    @cached_property
    def combined(self) -> SequenceCounts:
        """The sums over all sequences."""
        every = list(self.sequences.values())
        sizes = {
            name: sum(getattr(one, name) for one in every)
            for name in ("boxes", "truth_boxes", "tracks", "truth_tracks", "frames")
        }
        return SequenceCounts(
            _summed(ClearCounts(), [one.clear for one in every]),
            _summed(IdentityCounts(), [one.identity for one in every]),
            _summed(HotaCounts(), [one.hota for one in every]),
            **sizes,
        )

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Of all sequences together."""
        return self.combined.numbers

    @cached_property
    def per_sequence(self) -> list[dict[str, Any]]:
        """One row per sequence: its name, and its numbers."""
        return [{"name": name} | counts.numbers for name, counts in self.sequences.items()]

    @cached_property
    def curves(self) -> dict[str, list[float]]:
        """HOTA and its parts of all sequences together, at each of `alpha`."""
        parts = {name: values.tolist() for name, values in self.combined.hota.curves.items()}
        return {"alpha": ALPHAS.tolist()} | parts


def _summed(zero: Counts, counts: list[Counts]) -> Counts:
    names = [f.name for f in fields(zero)]
    return type(zero)(*(sum((getattr(one, name) for one in counts), getattr(zero, name)) for name in names))


def tracking_evaluate(
    truth: TrackRows | Mapping[str, TrackRows],
    results: TrackRows | Mapping[str, TrackRows],
    rules: str = "mot17",
    category: int | None = None,
    iou_threshold: float = 0.5,
    annotated_only: bool = False,
) -> TrackingSummary:
    """Judge tracks.

    Args:
        truth: rows of one sequence (`data.formats.mot.read_mot`, or `mot_rows` of predictions), or of several by name.
        results: rows of the tracks, for one sequence or for every name.
        rules: what is left out before judging: "mot16", "mot17", "mot20", or "plain" for MOT15 and all other data.
        category: by the rules "plain" the class to be judged; None: all as one.
        iou_threshold: of CLEAR and identity; HOTA has its own 19.
        annotated_only: leave out tracks after the last frame that has truth, for sequences annotated in part.

    Raises:
        VisionTasksError: a sequence without results or truth; an id twice in a frame; frames beyond the end; rules or
            classes that are unknown.
    """
    if not isinstance(truth, Mapping) and not isinstance(results, Mapping):
        truth, results = {"sequence": truth}, {"sequence": results}
    if not isinstance(truth, Mapping) or not isinstance(results, Mapping):
        raise VisionTasksError("give truth and results both as one sequence, or both as sequences by name")
    for names, others, what in ((truth, results, "results"), (results, truth, "truth")):
        missing = [name for name in names if name not in others]
        if missing:
            there = f"; there are those of {', '.join(map(str, others))}" if others else ", and none of other sequences"
            raise VisionTasksError(
                f"there are no {what} of {', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}{there}. "
                "Sequences go together by their names."
            )
    check_rules(rules, category)
    sequences = {}
    for name, rows in truth.items():
        try:
            frames = prepare(rows, results[name], rules, category, annotated_only)
        except VisionTasksError as error:
            raise VisionTasksError(f"{name}: {error}") from error
        sequences[name] = SequenceCounts(
            clear_counts(frames, iou_threshold),
            identity_counts(frames, iou_threshold),
            hota_counts(frames),
            len(frames.found_ids), len(frames.truth_ids), frames.tracks, frames.truths, frames.length,
        )  # fmt: skip
    return TrackingSummary(sequences)
