"""Opening a video file or address, and what its header says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import av.error
import av.stream
from av.container import InputContainer
from av.video.stream import VideoStream

from vision_tasks.errors import VisionTasksError

FRAME_LIMIT = 150_000_000
"""Pixels of a frame; larger ones are refused before memory is taken. 16K video has 133 million."""

FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}
"""FFmpeg's names of 8-bit pixels, by how many channels a model takes."""

_PLAYLISTS = ("hls", "applehttp", "concat", "dash", "sdp", "webm_dash_manifest")  # forms that name other files
_THREADS = 8  # of the decoder; each holds a frame or two

VideoFile = str | Callable[[], Any]
"""A path or address, or a function that opens a file anew, for reading and seeking."""


def check_channels(source: str, channels: int) -> None:
    """Raises: VisionTasksError: a video cannot have as many."""
    if channels not in FORMATS:
        raise VisionTasksError(
            f"{source}: a video has 1, 3 or 4 channels, but the model takes {channels}. Use images of {channels}."
        )


def open_video(
    file: VideoFile,
    source: str,
    stack: contextlib.ExitStack,
    options: dict[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
) -> tuple[InputContainer, VideoStream]:
    """The container and its stream of pictures, ready to decode; `stack` closes it.

    Args:
        source: what messages call it.
        options: for FFmpeg; by default those of a file: no network, and no playlists.
        timeout: seconds to open and to read.

    Raises:
        VisionTasksError: it cannot be opened, has no pictures, is in an unknown code, or its frames are too large.
    """
    named = "path" if options is None else "address"
    options = {"protocol_whitelist": "file"} if options is None else options
    try:
        opened = stack.enter_context(file()) if callable(file) else file
        container = av.open(
            opened, "r", options={**options, "max_pixels": str(FRAME_LIMIT)}, metadata_errors="ignore", timeout=timeout
        )
    except VisionTasksError:
        raise
    except Exception as error:  # FFmpeg's, the operating system's, and whatever a damaged header leads to
        raise VisionTasksError(f"{source}: {_why_not_opened(error, named)}") from error
    stack.enter_context(container)
    if named == "path" and container.format.name in _PLAYLISTS:
        raise VisionTasksError(f"{source}: a playlist, no video. Name the videos, or the playlist's address.")
    # A song's cover is a stream of one picture.
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        held = "sound, but no pictures" if container.streams.audio else "no pictures"
        raise VisionTasksError(f"{source}: the file holds {held}. Name a video.")
    known = [s for s in streams if s.codec_context is not None]
    if not known:
        raise VisionTasksError(f"{source}: its pictures are in a code that is not known here. Convert it to H.264.")
    stream = max(known, key=lambda s: (s.width * s.height, -s.index))
    if stream.width * stream.height > FRAME_LIMIT:
        raise VisionTasksError(
            f"{source}: frames of {stream.width} × {stream.height} pixels are more than the limit of {FRAME_LIMIT:,}. "
            "Scale it down."
        )
    context = stream.codec_context
    context.options = {"max_pixels": str(FRAME_LIMIT)}
    context.thread_type = "AUTO"
    context.thread_count = min(_THREADS, os.cpu_count() or 1)
    return container, stream


def _why_not_opened(error: Exception, named: str) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return (
            "not a video, of an unknown form, or cut off before its index was written (as when recording is broken "
            "off). Convert it, or record it again."
        )
    if isinstance(error, (EOFError, IndexError)):
        return "there is nothing in it that could be played. Copy it again."
    return f"cannot be opened ({reason(error)}). Check the {named}."


def reason(error: BaseException) -> str:
    """Why, without the name of the file or address, which may hold a password."""
    if isinstance(error, av.error.ExitError):  # what FFmpeg says when its time is up
        return "nothing came in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).removesuffix(".")


def header_rate(stream: VideoStream) -> Fraction | None:
    """Average frames per second; None if the header says nothing that can be true."""
    for rate in (stream.average_rate, stream.guessed_rate):
        # Matroska files of a variable rate come with one frame per tick, 1000 in a second.
        ticks = not stream.frames and stream.time_base is not None and rate == 1 / stream.time_base
        if rate and 0 < rate <= (240 if ticks else 10_000):
            return rate
    return None


def header_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of the pictures; None if the file does not say, or says it of its sound."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if said := stream.metadata.get("DURATION"):  # Matroska's statistics, "00:00:03.000000000"
        with contextlib.suppress(ValueError):
            hours, minutes, seconds = said.split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    if container.duration and not container.streams.audio:
        return container.duration / 1e6
    return None
