"""Sources through a predictor, and a tracker: decoding runs ahead on a thread, a few frames are held at a time."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame, Source
from vision_tasks.inference.pixels import to_tensor
from vision_tasks.inference.threads import StageTimes, read_ahead
from vision_tasks.structures import Prediction

if TYPE_CHECKING:
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.inference.tracking.base import Tracker

log = logging.getLogger("vision_tasks")


Trackers = Callable[[Source], "Tracker | None"]
"""The tracker of a source, new or begun anew; None follows nothing."""


def trackers_of(track: str | Tracker | None, **options: Any) -> Trackers:
    """Trackers by name, made for each source's frame rate; or one that is there already.

    Args:
        options: of the named tracker; `rate`, if it is given, stands for all sources.

    Raises:
        VisionTasksError: no such tracker or option, or options without a name.
    """
    if isinstance(track, str):
        from vision_tasks.inference.tracking.registry import create_tracker

        create_tracker(track, **options)  # mistakes are told before anything is read
        return lambda source: create_tracker(track, **({"rate": source.rate} if source.rate else {}) | options)
    if options:
        raise VisionTasksError(f"{', '.join(options)}: no such option; trackers have more, but track names none.")

    def given(_: Source) -> Tracker | None:
        if track is not None:
            track.reset()
        return track

    return given


def predict_sources(
    predictor: Predictor,
    sources: Sequence[Source],
    trackers: Trackers | None = None,
    ahead: int = 4,
    times: StageTimes | None = None,
) -> Generator[tuple[Frame, Prediction], None, None]:
    """All frames of all sources, in order, each with what was found on it.

    Args:
        trackers: who follows the objects of each source. What is followed is kept, whatever it scores.
        ahead: frames decoded before they are asked for. times: adds up what stages take.

    Raises:
        VisionTasksError: a source cannot be read at all.
    """
    times = StageTimes() if times is None else times
    for source in sources:
        tracker = None if trackers is None else trackers(source)
        if tracker is not None and predictor.model.head_of("objects") is None:
            raise VisionTasksError("There is nothing to track: this model draws maps, and finds no objects.")
        # Somebody is waiting for what a camera sees now: no stale frames, no batches.
        live = source.kind == "live"
        with contextlib.closing(read_ahead(times.each("decode", source), 1 if live else ahead)) as frames:
            for batch, images in _on_device(_batches(frames, predictor, live), predictor, live):
                yield from zip(batch, _predicted(predictor, batch, images, tracker, times), strict=True)


def _batches(frames: Iterator[Frame], predictor: Predictor, live: bool) -> Iterator[list[Frame]]:
    while batch := list(itertools.islice(frames, 1 if live else predictor.batching.size or 1)):
        yield batch


def _on_device(
    batches: Iterator[list[Frame]], predictor: Predictor, live: bool
) -> Iterator[tuple[list[Frame], list[Tensor]]]:
    """Each batch with its images on the device; a GPU receives the next one while it works on this one."""
    if predictor.device.type != "cuda" or live:
        for batch in batches:
            yield batch, [to_tensor(frame.image, predictor.channels) for frame in batch]
        return
    lane, work = torch.cuda.Stream(predictor.device), torch.cuda.current_stream(predictor.device)

    def arrived(sent: tuple[list[Frame], list[Tensor], torch.cuda.Event]) -> tuple[list[Frame], list[Tensor]]:
        work.wait_event(sent[2])
        for image in sent[1]:
            image.record_stream(work)  # or its memory could be given away while it is in use
        return sent[:2]

    sent = None
    for batch in batches:
        pinned = [to_tensor(frame.image, predictor.channels).pin_memory() for frame in batch]
        with torch.cuda.stream(lane):
            following = batch, [image.to(predictor.device, non_blocking=True) for image in pinned], lane.record_event()
        if sent is not None:
            yield arrived(sent)
        sent = following
    if sent is not None:
        yield arrived(sent)


def _predicted(
    predictor: Predictor,
    frames: Sequence[Frame],
    images: Sequence[Tensor],
    tracker: Tracker | None,
    times: StageTimes,
) -> Iterator[Prediction]:
    with times.measure("predict", len(frames)):
        low = None if tracker is None else min(tracker.low_threshold, predictor.threshold)
        found = predictor.predict(images, low, tracker is not None and tracker.needs_embeddings)
    for frame, prediction in zip(frames, found, strict=True):
        if tracker is None:
            yield prediction
            continue
        with times.measure("track"):
            tracked = tracker.update(prediction, frame)
        yield tracked
