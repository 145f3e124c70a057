"""`vision-tasks predict`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vision_tasks.cli.console import console, printable
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.files import make_folder
from vision_tasks.inference.sharding import Share

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.cli.predict_report import Bar
    from vision_tasks.inference.drawn import Drawn
    from vision_tasks.inference.frames import Frame, Source
    from vision_tasks.inference.outputs.registry import Outputs
    from vision_tasks.inference.predictor import Predictor
    from vision_tasks.inference.streaming import Trackers
    from vision_tasks.inference.threads import StageTimes
    from vision_tasks.structures import Prediction

_MAPS = ("maps", "panoptic")
"""Forms that are written of models that have them, whatever else is asked for."""
_WAITING = 4
"""Frames that wait to be drawn and written while the model goes on."""


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line; `cli.main.predict` says what each is."""

    checkpoint: str
    sources: list[str]
    out: Path
    threshold: float
    form: str
    draw: bool
    show: bool
    track: str
    track_options: list[str]
    speed: str
    batch_size: str
    device: str
    every: int
    start: float | None
    end: float | None
    codec: str
    audio: bool
    tile: int | None
    overlap: float | None
    flip: bool
    scales: str
    merge: str
    fuse: str
    categories: str


def run(request: Request) -> int:
    """Predict all; 0 if everything could be read, 1 if something could not, 2 (an error) if nothing could."""
    share = Share.of_this_process()
    forms = _forms(request.form)
    tracker_options = _tracker_options(request)
    batch_size, scales = _batch_size(request.batch_size), _factors(request.scales)
    screen = console()

    told: set[str] = set()

    def tell(problem: str) -> None:
        if problem not in told:  # sources may be opened twice
            told.add(problem)
            screen.print(f"problem: {printable(problem)}", style="yellow", markup=False, emoji=False)

    # Before the model is read, which takes seconds: a mistyped path is told at once.
    sources = _sources(request, 3, tell)
    show = _window() if request.show else None

    from vision_tasks.cli.predict_report import Bar, Report
    from vision_tasks.inference.drawn import Drawn, check_out
    from vision_tasks.inference.outputs.possible import Gives
    from vision_tasks.inference.outputs.registry import open_outputs
    from vision_tasks.inference.streaming import trackers_of
    from vision_tasks.inference.threads import StageTimes
    from vision_tasks.inference.tracking.registry import create_tracker

    trackers = trackers_of(request.track or None, **tracker_options)
    out = request.out if request.draw else None
    for source in sources if out is not None else ():
        check_out(request.out, source)
    times = StageTimes()
    drawn = Drawn(out, request.threshold, request.codec, audio=request.audio, show=show, times=times)
    predictor = _predictor(request, share, batch_size, scales)
    if predictor.channels != 3:
        sources = _sources(request, predictor.channels, tell)
    parts = _parts(sources, share)
    sources = [source for _, source in parts]
    head = predictor.model.head_of("semantic")
    maps = None if head is None else head.categories
    gives = Gives.of(predictor.model, bool(request.track))
    part = (share.rank, share.ranks)
    start = time.perf_counter()
    with (
        open_outputs(forms, request.out, maps, part, gives=gives, always=_MAPS) as outputs,
        drawn,
        Bar(sources, screen, share.rank == 0) as bar,
    ):
        wanted = drawn if out or show or "sheet" in forms else None
        make_folder(request.out)
        tally = _work(parts, predictor, trackers, wanted, outputs, bar, times)
        if share.alone and not outputs.frames:
            outputs.close(stopped=True)  # what an earlier run left stays
    seconds = time.perf_counter() - start
    for remark in drawn.problems:
        screen.print(f"note: {printable(remark)}", style="yellow", markup=False, emoji=False)
    problems = [problem for source in sources for problem in source.problems]
    numbers = share.totals([outputs.frames, outputs.objects, len(tally.tracks), len(problems)])
    if not numbers[0] and not drawn.stopped:
        first = f" The first problem: {problems[0]}" if problems else ""
        raise VisionTasksError(f"Nothing could be read of {', '.join(request.sources)}.{first}")
    if share.rank == 0:
        report = Report(request, predictor, *numbers)
        moving = any(source.kind != "images" for source in sources)
        report.say_written([*_merged(outputs, forms, request.out, share), *drawn.written], moving)
        if request.track:
            report.say_tracks(create_tracker(request.track, **tracker_options))
        report.say_pace(times, seconds, outputs.frames, moving)
        report.say_speed(times, tally.last)
    return 1 if problems else 0


@dataclass
class _Tally:
    """What came by: the last frame, and every track as (number of its source, id)."""

    last: Frame | None = None
    tracks: set[tuple[int, int]] = field(default_factory=set)


def _work(
    parts: Sequence[tuple[int, Source]],
    predictor: Predictor,
    trackers: Trackers,
    drawn: Drawn | None,
    outputs: Outputs,
    bar: Bar,
    times: StageTimes,
) -> _Tally:
    """Predict the sources; draw and write on a thread of its own."""
    from vision_tasks.inference.streaming import predict_sources
    from vision_tasks.inference.threads import Behind

    tally = _Tally()

    def finish(item: tuple[int, Source, Frame, Prediction]) -> None:
        number, source, frame, prediction = item
        picture = drawn.add(source, frame, prediction) if drawn is not None else None
        with times.measure("write"):
            outputs.add(frame, prediction, order=(number, frame.index), drawn=picture)
        if prediction.track_ids is not None:
            tally.tracks.update((number, track) for track in prediction.track_ids.tolist())
        bar.advance()

    with Behind(finish, _WAITING) as behind:
        for number, source in parts:
            with contextlib.closing(predict_sources(predictor, [source], trackers, times=times)) as found:
                for tally.last, prediction in found:
                    behind.put((number, source, tally.last, prediction))
                    if drawn is not None and drawn.stopped:
                        return tally
    return tally


def _window() -> Callable[[np.ndarray], bool]:
    from vision_tasks.inference.video.window import Window

    return Window("vision-tasks: q ends").show


def _merged(outputs: Outputs, forms: list[str], out: Path, share: Share) -> list[str]:
    """What was written, in words, once the parts of all processes are joined."""
    from vision_tasks.inference.outputs.merge import merge_parts

    return outputs.written if share.alone else merge_parts(out, share.ranks, [*forms, *_MAPS] if forms else [])


def _forms(words: str) -> list[str]:
    from vision_tasks.inference.outputs.registry import check_forms

    return check_forms([word.strip() for word in words.split(",") if word.strip()])


def _tracker_options(request: Request) -> dict[str, Any]:
    import yaml

    if request.track_options and not request.track:
        raise VisionTasksError("--track-option is for a tracker: give --track bytetrack, say, as well.")
    options: dict[str, Any] = {}
    for word in request.track_options:
        key, equals, value = word.partition("=")
        if not equals or not key.isidentifier():
            raise VisionTasksError(f"--track-option must be KEY=VALUE, such as buffer=60, not {word!r}.")
        options[key] = yaml.safe_load(value)
    return options


def _batch_size(word: str) -> int | Literal["auto"]:
    if word == "auto":
        return "auto"
    try:
        return int(word)
    except ValueError:
        raise VisionTasksError(f"--batch-size must be a number or auto, not {word!r}.") from None


def _factors(scales: str) -> tuple[float, ...]:
    """ "0.75,1,1.25" as numbers."""
    try:
        return tuple(float(part) for part in scales.split(",") if part.strip())
    except ValueError:
        raise VisionTasksError(f"--scales must be numbers with commas, such as 0.75,1,1.25, not {scales!r}.") from None


def _sources(request: Request, channels: int, tell: Callable[[str], None]) -> list[Source]:
    from vision_tasks.inference.sources.opening import open_sources

    return open_sources(request.sources, channels, request.out, tell, request.every, request.start, request.end)


def _parts(sources: Sequence[Source], share: Share) -> list[tuple[int, Source]]:
    """What this process reads, each with its place in the whole: whole videos, and images one by one in turn."""
    turns = ((n, s, (share.rank - (n if s.kind != "images" else 0)) % share.ranks) for n, s in enumerate(sources))
    parts = ((number, source.part(turn, share.ranks)) for number, source, turn in turns)
    return [(number, part) for number, part in parts if part is not None]


def _predictor(
    request: Request, share: Share, batch_size: int | Literal["auto"], scales: tuple[float, ...]
) -> Predictor:
    from vision_tasks.inference.predictor import Predictor

    names = [Path(name) for name in request.checkpoint.split(",")]
    whole = len(names) == 1 or Path(request.checkpoint).is_file()  # a comma may be part of a file's name
    return Predictor(
        Path(request.checkpoint) if whole else names,
        share.device(request.device),
        request.threshold,
        request.speed,
        batch_size,
        request.tile,
        request.overlap,
        merge=request.merge,  # type: ignore[arg-type]  # it says what there is
        flip=request.flip,
        scales=scales,
        fuse=request.fuse,  # type: ignore[arg-type]
        categories=[name.strip() for name in request.categories.split(",") if name.strip()] or None,
    )
