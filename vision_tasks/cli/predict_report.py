"""What `vision-tasks predict` says: how far it is, what it wrote, how fast it was, and how it would be faster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vision_tasks.cli.console import say

if TYPE_CHECKING:
    from rich.console import Console

    from vision_tasks.cli.predict import Request
    from vision_tasks.inference.frames import Frame, Source
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.inference.threads import StageTimes
    from vision_tasks.inference.tracking.base import Tracker
    from vision_tasks.structures import Prediction

_WORTH_SAYING = 5.0
"""Seconds of prediction from which on a faster way is worth a word."""
_SAME = 0.75
"""Overlap from which on two boxes are called the same object."""


class Bar:
    """Frames done, frames per second and the time left, on a terminal."""

    def __init__(self, sources: Sequence[Source], screen: Console, wanted: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        lengths = [source.length for source in sources]
        self._total = None if None in lengths else sum(length or 0 for length in lengths)
        self._progress = Progress(
            TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=screen, transient=True, disable=not screen.is_terminal or not wanted,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=self._total, rate="")

    def advance(self) -> None:
        """One frame more is done."""
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, advance=1, rate=f"{speed:.1f} frames/s" if speed else "")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *rest: object) -> None:
        self._progress.stop()


class Report:
    """The words at the end.

    Args:
        request: what was asked for. predictor: who did it.
        frames, objects, tracks, problems: how many there were, in all processes.
    """

    def __init__(
        self, request: Request, predictor: Predictor, frames: int, objects: int, tracks: int, problems: int
    ) -> None:
        self._request, self._predictor = request, predictor
        self._frames, self._objects, self._tracks, self._problems = frames, objects, tracks, problems

    def say_written(self, written: Sequence[str], moving: bool) -> None:
        """What there is now, and what to do if that is nothing."""
        finds, objects = self._predictor.model.head_of("objects") is not None, self._objects
        found = f", {objects} objects" if finds else ""
        tracked = f" on {self._tracks} tracks" if self._request.track else ""
        say(f"{self._frames} {'frames' if moving else 'images'}{found}{tracked}: {self._request.out}")
        say("Written: " + (", ".join(written) or "nothing") + ".")
        if finds and not objects and self._frames:
            say(
                f"Nothing scored {self._request.threshold} or more. Try a lower --threshold; evaluate prints the best "
                "per category."
            )
        if self._problems:
            say(f"{self._problems} could not be read, or not wholly (see above).")

    def say_tracks(self, tracker: Tracker) -> None:
        """What it takes to begin a track: objects that score less, and that no track takes up, are left out."""
        option, score = tracker.first_threshold
        less = max(0.1, score - 0.3)
        say(f"A track begins at a score of {score:.3g}; --track-option {option}={less:.2g} begins more.")

    def say_pace(self, times: StageTimes, seconds: float, frames: int, always: bool) -> None:
        """Frames per second of this process's part, of the whole and of each stage, which overlap."""
        if not frames or (seconds < 2 and not always):
            return
        stages = ", ".join(f"{stage} {rate:.3g}" for stage, rate in times.summary().items())
        say(f"{frames / seconds:.1f} frames/s in all; what each stage could do alone: {stages}.")

    def say_speed(self, times: StageTimes, frame: Frame | None) -> None:
        """What `--speed fast` would give, measured on one frame, where it would help."""
        import torch

        from vision_tasks.inference.speed.prepare import half_precision

        predictor = self._predictor
        spent = times.seconds.get("predict", 0.0)
        if (
            frame is None
            or predictor.speed != "exact"
            or spent < _WORTH_SAYING
            or half_precision(predictor.device) is torch.float32
        ):
            return
        from vision_tasks.inference.predictor import Predictor

        fast = Predictor(predictor.model, predictor.device, predictor.threshold, "fast")
        slow = Predictor(predictor.model, predictor.device, predictor.threshold, "exact")
        (one, before), (two, after) = _timed(slow, frame), _timed(fast, frame)
        if after > 0.8 * before:
            return
        say(
            f"With --speed fast the model would have taken about {spent * after / before:.0f} s instead of "
            f"{spent:.0f} s ({_agreement(one, two)} on the last image; docs/speed.md)."
        )


def _timed(predictor: Predictor, frame: Frame) -> tuple[Prediction, float]:
    """The prediction, and the best of two times after a first."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        found = predictor(frame.image)
        seconds.append(time.perf_counter() - start)
    return found, min(seconds[1:])


def _agreement(exact: Prediction, fast: Prediction) -> str:
    from vision_tasks.ops.boxes import pairwise_iou

    if exact.boxes is not None and fast.boxes is not None and exact.labels is not None and fast.labels is not None:
        if not len(exact):
            return "nothing to compare"
        same = (pairwise_iou(exact.boxes, fast.boxes) >= _SAME) & (exact.labels[:, None] == fast.labels)
        return f"{int(same.any(dim=1).sum())} of {len(exact)} objects the same"
    if exact.semantic is not None and fast.semantic is not None:
        return f"{float((exact.semantic == fast.semantic).float().mean()):.2%} of the pixels the same"
    return "nothing to compare"
