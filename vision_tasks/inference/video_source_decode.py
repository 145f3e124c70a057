"""From a video's bytes to upright pictures with times; what is damaged is passed over and counted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import av.stream
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vision_tasks.errors import VisionTasksError

FRAME_LIMIT = 150_000_000
"""Pixels of a frame; larger ones are refused before memory is taken. 16K video has 133 million."""

FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}
"""FFmpeg's names of 8-bit pixels, by how many channels a model takes."""

_THREADS = 8  # of the decoder; each holds a frame or two
_PATIENCE = 50  # failures to read, one right after another, after which the rest of a file is given up

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
        options: for FFmpeg; by default those of a file, which may name no other file and no address.
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
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).removesuffix(".")


class Damage:
    """What could not be read or decoded of one video, and where."""

    def __init__(self) -> None:
        self.packets, self.frames, self.mended, self.lost, self.unread = 0, 0, 0, 0, 0
        self._over = False
        self._time = 0.0
        self._first: float | None = None
        self._last = 0.0
        self._cut = ""
        self._why = ""

    def frame(self, time: float, mended: bool) -> None:
        """A frame was decoded; perhaps the decoder had to make up parts of it."""
        self.frames += 1
        self._time = time
        if mended:
            self.mended += 1
            self._mark()

    def failed(self, error: Exception, reading: bool = False) -> None:
        """A packet could not be decoded, or read."""
        self.lost += not reading
        self.unread += reading
        self._why = self._why or reason(error)
        self._mark()

    def ended(self, stated: int, duration: float | None, rate: float | None) -> None:
        """The file came to its end; notes whether it should have been longer.

        Args:
            stated: frames by the header, 0 if it says nothing. duration: seconds by the header.
        """
        self._over = True
        if duration is None or not self.frames:
            return
        missing = duration - self._time - (1 / rate if rate else 0.0)
        # Where frames are counted a few are told from none; durations are rounded, or those of the sound.
        if missing > max(1.0, 0.01 * duration) or (self.packets < stated and rate and missing > 1.5 / rate):
            of = f" of {stated}" if stated else ""
            self._cut = f"ends at {self._time:.2f} s of {duration:.2f} s, after {self.frames}{of} frames: it is cut off"

    def said(self) -> str:
        """One sentence; empty if nothing is amiss."""
        parts = []
        if self._over and not self.frames:
            why = f" ({self._why})" if self._why else ""
            return f"not one frame could be decoded{why}. Copy it again, or convert it."
        if self._first is not None:
            where = f"at {self._first:.2f} s"
            if self._last > self._first:
                where = f"between {self._first:.2f} and {self._last:.2f} s"
            done = []
            if self.lost:
                done.append(f"{self.lost} packet{'s' * (self.lost > 1)} left out")
            if self.mended:
                done.append(f"{self.mended} frame{'s' * (self.mended > 1)} only partly right")
            if self.unread:
                done.append(f"{self.unread} place{'s' * (self.unread > 1)} that could not be read")
            why = f" ({self._why})" if self._why else ""
            parts.append(f"damaged {where}{why}: {', '.join(done)}")
        if self._cut:
            parts.append(self._cut)
        return ", and ".join(parts) + ". Copy it again." if parts else ""

    def _mark(self) -> None:
        self._first = self._time if self._first is None else self._first
        self._last = self._time


class Clock:
    """Times of frames from the first frame on, in seconds, always growing."""

    def __init__(self, stream: VideoStream, rate: float | None) -> None:
        self._base = stream.time_base
        self._step = 1 / rate if rate else 0.04
        self._start: int | None = None
        self._last: float | None = None

    def of(self, frame: VideoFrame) -> float:
        stamp = frame.pts if frame.pts is not None else frame.dts
        base = frame.time_base or self._base
        if stamp is None or base is None:
            time = 0.0 if self._last is None else self._last + self._step
        else:
            self._start = stamp if self._start is None else self._start
            time = float((stamp - self._start) * base)
        if self._last is not None and time <= self._last:
            time = self._last + min(self._step, 0.001)
        self._last = time
        return time


class Pixels:
    """Decoded frames as (H, W, channels) arrays, upright; one converter for the whole video."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._format = FORMATS[channels]
        self._converter = VideoReformatter()

    def of(self, frame: VideoFrame) -> np.ndarray:
        """(H, W, channels) uint8, contiguous; uint16 of grey frames with more than 8 bits."""
        if frame.width * frame.height > FRAME_LIMIT:
            raise ValueError(f"a frame of {frame.width} × {frame.height} pixels")
        if frame.format.name.startswith("gray") and frame.format.components[0].bits > 8:
            grey = self._converted(frame, "gray16le").astype(np.uint16, copy=False)[..., None]
            image = np.repeat(grey, self._channels, 2)
            if self._channels == 4:
                image[..., 3] = 65535
        else:
            image = self._converted(frame, self._format)
            image = image[..., None] if image.ndim == 2 else image
        return np.ascontiguousarray(upright(image, display_matrix(frame)))

    def _converted(self, frame: VideoFrame, form: str) -> np.ndarray:
        array: np.ndarray = self._converter.reformat(frame, format=form).to_ndarray()
        return array


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the matrix by which a player turns the frame: x' = a x + c y, y' = b x + d y; None for none."""
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of side data that FFmpeg does
        quarter = {90: (0, -1, 1, 0), -90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1)}
        return quarter.get(frame.rotation)
    if data is None:
        return None
    values = np.frombuffer(data, np.int32, 5).tolist()
    return values[0], values[1], values[3], values[4]


def upright(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """(H, W, C) turned and mirrored as the display matrix says, to quarter turns."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    image = image[:, ::-1] if right < 0 else image
    return image[::-1] if down < 0 else image


def decoded(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[VideoFrame]:
    """All frames that can be decoded, in order of showing."""
    context = stream.codec_context
    for packet in _packets(container, stream, damage):
        for _ in range(2):
            try:
                yield from context.decode(packet)
            except BlockingIOError:  # it has frames to hand out first, and took nothing
                continue
            except EOFError:
                pass
            except Exception as error:  # FFmpeg's, and whatever damaged bytes lead to in between
                damage.failed(error)
            break


def _packets(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[Packet | None]:
    """The stream's packets, past places that cannot be read; then None, at which a decoder gives what it still has."""
    failures = 0
    while 0 <= failures < _PATIENCE:
        try:
            for packet in container.demux(stream):
                failures = 0
                if (
                    packet.size
                ):  # empty ones stand for a frame that was dropped, and a decoder would take them for the end
                    damage.packets += 1
                    yield packet
            failures = -1
        except Exception as error:  # as above
            failures += 1
            if failures == 1:
                damage.failed(error, reading=True)
    yield None


def header_rate(stream: VideoStream) -> Fraction | None:
    """Average frames per second."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= 10_000:
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
