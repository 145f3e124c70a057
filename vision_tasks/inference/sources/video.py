"""Frames of video files, by PyAV (FFmpeg's libraries): upright, with their true times, past damaged places."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.sources.names import numbered
from vision_tasks.inference.sources.problems import TellingSource
from vision_tasks.inference.sources.video_damage import Clock, Damage
from vision_tasks.inference.sources.video_decode import Pixels, decoded
from vision_tasks.inference.sources.video_open import (
    VideoFile,
    check_channels,
    header_duration,
    header_rate,
    open_video,
)

_WITH_HIDDEN = ("vp8", "vp9", "av1", "libvpx", "libdav1d", "libaom")  # codecs with packets that are only referred to


class VideoSource(TellingSource):
    """Frames of one video.

    Iterating decodes it from the beginning; a few frames are held at a time. Frames are upright (the display matrix is
    applied) and 8-bit, of whatever pixel format the file has; grey video of more than 8 bits is uint16, stretched to
    the full range. Pixels stay as stored where they are not square: `pixel_aspect` says what they are.

    Attributes:
        length: frames that will come; from the header, or from duration and rate. rate: of the frames that will come.
        pixel_aspect: width to height of a stored pixel as it is to be shown (sample aspect ratio).
    """

    kind = "video"

    def __init__(
        self,
        file: VideoFile,
        source: str,
        name: str,
        channels: int = 3,
        every: int = 1,
        start: float | None = None,
        end: float | None = None,
        on_problem: Callable[[str], None] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        """Reads the header.

        Args:
            file: a path, or a function that opens the file anew, for reading and seeking.
            source: what people call it. name: of the series of frames, as `Names` gave it.
            channels: 1 (grey), 3 (RGB) or 4 (with transparency).
            every: only frames 0, every, 2 * every, ...; numbers and times stay those of the video.
            start, end: only frames from `start` on and before `end`, in seconds.
            options: for FFmpeg, of an address; those of a file by default.

        Raises:
            VisionTasksError: it cannot be opened, has no pictures, or its frames are too large.
        """
        check_channels(source, channels)
        if every < 1 or (end is not None and end <= (start or 0.0)):
            raise VisionTasksError(f"every must be 1 or more, and end after start, not {every}, {end} and {start}.")
        super().__init__(name, on_problem)
        self._file, self._source, self._channels, self._options = file, source, channels, options
        self._every, self._start, self._end = every, start, end
        with contextlib.ExitStack() as stack:
            container, stream = open_video(file, source, stack, options)
            rate = header_rate(stream)
            self._own_rate = float(rate) if rate else None
            self._duration = header_duration(container, stream)
            self._stated = stream.frames
            self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.rate = None if self._own_rate is None else self._own_rate / every
        self.length = self._expected()

    @property
    def folders(self) -> set[Path]:
        """The folder of its file, if it is one."""
        return {Path(self._file).parent} if isinstance(self._file, str) and Path(self._file).is_file() else set()

    def __iter__(self) -> Iterator[Frame]:
        damage = Damage()
        try:
            yield from self._frames(damage)
        except VisionTasksError as error:  # it was there when the header was read
            self.tell(str(error))
        finally:
            if said := damage.said():
                self.tell(f"{self._source}: {said}")

    def _frames(self, damage: Damage) -> Iterator[Frame]:
        with contextlib.ExitStack() as stack:
            container, stream = open_video(self._file, self._source, stack, self._options)
            pixels = Pixels(self._channels)
            clock = Clock(stream.start_time, stream.time_base, self._own_rate, self._duration)
            for index, picture in enumerate(decoded(container, stream, damage)):
                time = clock.of(picture)
                damage.frame(time, picture.is_corrupt)
                if self._end is not None and time >= self._end:
                    return
                if index % self._every or (self._start is not None and time < self._start):
                    continue
                try:
                    image = pixels.of(picture)
                except (OSError, ValueError, MemoryError) as error:
                    damage.failed(error)
                    continue
                yield Frame(image, self._source, numbered(self.name, index), index, time)
            frame_each = not stream.codec_context.name.startswith(_WITH_HIDDEN)
            damage.ended(self._stated, self._duration, self._own_rate, frame_each)

    def _expected(self) -> int | None:
        rate = self._own_rate
        total: float | None = self._stated or None
        if total is None and self._duration is not None and rate is not None:
            total = self._duration * rate
        if total is None:
            return None
        if rate is not None:
            last = total if self._end is None else min(total, self._end * rate)
            total = max(0.0, last - (self._start or 0.0) * rate)
        return -(-round(total) // self._every)


class BrokenSource(TellingSource):
    """A video that cannot be opened: no frames, and why."""

    kind = "video"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name)
        self.known([problem])
        self.length = 0

    def __iter__(self) -> Iterator[Frame]:
        return iter(())
