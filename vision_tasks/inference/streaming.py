"""Sources through a predictor, and a tracker: decoding runs ahead on a thread, a few frames are held at a time."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame, Source
from vision_tasks.inference.pixels import to_tensor
from vision_tasks.inference.threads import StageTimes, read_ahead
from vision_tasks.structures import Prediction

if TYPE_CHECKING:
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.inference.tracking.base import Tracker

log = logging.getLogger("vision_tasks")


def tracker_of(track: str | Tracker | None, **options: Any) -> Tracker | None:
    """The tracker of a name; one that is one already is returned as it is.

    Raises:
        VisionTasksError: no such tracker or option, or options without a name.
    """
    if isinstance(track, str):
        from vision_tasks.inference.tracking.registry import create_tracker

        return create_tracker(track, **options)
    if options:
        raise VisionTasksError(f"{', '.join(options)}: options of a tracker, but track names none.")
    return track


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    tracker: Tracker | None = None,
    ahead: int = 8,
    times: StageTimes | None = None,
) -> Iterator[tuple[Frame, Prediction]]:
    """All frames of all sources, in order, each with what was found on it.

    Args:
        tracker: begins anew with every source. What it follows is kept, whatever it scores.
        ahead: frames decoded before they are asked for. times: adds up what stages take.

    Raises:
        VisionTasksError: a source cannot be read at all.
    """
    times = StageTimes() if times is None else times
    if tracker is not None and predictor.model.head_of("objects") is None:
        raise VisionTasksError("There is nothing to track: this model draws maps, and finds no objects.")
    if tracker is not None and tracker.needs_embeddings:
        predictor.embed = True
    for source in sources:
        if tracker is not None:
            tracker.reset(source.rate)
        # Somebody is waiting for what a camera sees now: no stale frames, no batches.
        live = source.kind == "live"
        with contextlib.closing(read_ahead(_timed(source, times), 1 if live else ahead)) as frames:
            while batch := list(itertools.islice(frames, 1 if live else predictor.batching.size or 1)):
                yield from zip(batch, _predicted(predictor, batch, tracker, times), strict=True)


def _predicted(
    predictor: Predictor, frames: Sequence[Frame], tracker: Tracker | None, times: StageTimes
) -> Iterator[Prediction]:
    with times.measure("predict", len(frames)):
        images = [to_tensor(frame.image, predictor.channels) for frame in frames]
        low = None if tracker is None else min(tracker.low_threshold, predictor.threshold)
        found = predictor.predict(images, low)
    for frame, prediction in zip(frames, found, strict=True):
        if tracker is None:
            yield prediction
            continue
        with times.measure("track"):
            tracked = tracker.update(prediction, frame)
        yield tracked


def _timed(frames: Iterable[Frame], times: StageTimes) -> Iterator[Frame]:
    iterator = iter(frames)
    while True:
        with times.measure("decode"):
            frame = next(iterator, None)
        if frame is None:
            return
        yield frame
