"""Writing pictures to a video file that plays, whatever ends the writing."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.threads import Behind, StageTimes, Waitable
from vision_tasks.inference.video.audio import Audio
from vision_tasks.inference.video.clock import MILLISECONDS, Clock, checked_rate
from vision_tasks.inference.video.codecs import (
    available_codecs,
    container_of,
    find_codec,
    quiet_encoders,
    reason,
    system_error,
)
from vision_tasks.inference.video.picture import checked, even, fitted

WAITING = 2  # frames between the caller and the encoder
BT709 = 1  # the number of these primaries, of this transfer curve and of this matrix in ITU-T H.273


class VideoWriter:
    """Encodes frames one by one: 4:2:0, BT.709 and tagged as such, so that browsers play it in the right colours.

    Nothing is on disk before the first frame. The file grows under a hidden temporary name and gets its own name when
    it is closed, complete, with its index in front, so that browsers begin before they have all of it. Use it with
    `with`: after an error and after Ctrl-C, too, what was written is finished. Where the disk is full or the encoder
    fails, nothing stays.

    A side that is odd gains a row or a column that repeats the last, as 4:2:0 needs even ones. Frames of another size
    than the first are fitted into the first's with black bars, and `problems` says so once.

    Args:
        path: .mp4, .mov, .mkv or .webm, as the codec allows; its folder is made. A file that is there is replaced.
        rate: frames per second, taken as 0.0001 to 1000: how long the last frame stays, and those without a time.
            None: 30.
        size: (height, width) of the video in pixels; None: that of the first frame.
        codec: one of `video_codecs.VIDEO_CODECS`, if available.
        quality: 0 (smallest file) to 100 (nearly without loss).
        audio_from: a video whose sound is kept: copied as it is, or encoded anew where the file cannot have its codec.
        pixel_aspect: width of a pixel through its height, which players stretch the picture by.
        times: gets the seconds of encoding, in the thread that does it, as "encode".

    Attributes:
        frames: how many were written so far.
        problems: what did not go as it should and did not stop the writing.

    Raises:
        VisionTasksError: codec, ending, rate, size or quality cannot be had, or the video would overwrite `audio_from`.
    """

    def __init__(
        self,
        path: str | Path,
        rate: float | None,
        size: tuple[int, int] | None = None,
        codec: str = "h264",
        quality: int = 70,
        audio_from: str | Path | None = None,
        pixel_aspect: float = 1.0,
        times: StageTimes | None = None,
    ) -> None:
        self.path = Path(path)
        self.frames = 0
        self.problems: list[str] = []
        self._codec = find_codec(codec)
        self._kind = container_of(self.path, codec)
        self._rate = checked_rate(self.path, rate)
        if not 0 <= quality <= 100:
            raise VisionTasksError(f"{self.path}: a quality lies between 0 and 100, not at {quality}")
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise VisionTasksError(f"{self.path}: a video's size is (height, width), each at least 1, not {size}")
        self._quality = quality
        self._aspect = Fraction(pixel_aspect).limit_denominator(255)
        self._times = StageTimes() if times is None else times
        self._size = size
        self._audio_from = Path(audio_from) if audio_from is not None else None
        if self._audio_from is not None and self._audio_from.resolve() == self.path.resolve():
            raise VisionTasksError(
                f"{self.path}: would overwrite the video that its sound comes from; name another file"
            )
        self._temporary = self.path.with_name(f".{self.path.name}.part")
        self._container: av.container.OutputContainer | None = None
        self._audio: Audio | None = None
        self._closed = False
        self._error: BaseException | None = None
        self._behind: Behind[av.VideoFrame] | None = None
        self._told = False
        self._converter = VideoReformatter()  # one for all: making it takes a quarter of the time of a frame
        self._clock = Clock(self._rate, MILLISECONDS if self._kind in ("matroska", "webm") else self._codec.ticks)

    def write(self, picture: np.ndarray, time: float | None = None) -> None:
        """Hand over one frame; a thread encodes it, so that an error may come with a later frame or with `close`.

        Args:
            picture: (H, W, 3) uint8 RGB, or (H, W) grey. It may be changed after the call.
            time: seconds since some beginning; the first frame's becomes 0. Frames follow each other in the order in
                which they are written: a time that is not later than the last is put right behind it, and one that lies
                more than a second back (or more than four hours ahead) begins a new count, 1 / rate after the last.
                None: 1 / rate after the last.

        Raises:
            VisionTasksError: the picture is none, the file cannot be written, or the encoder fails; nothing stays then.
            RuntimeError: after `close`.
        """
        if self._closed:
            raise RuntimeError(f"{self.path}: write after close")
        if time is not None and not math.isfinite(time):
            raise VisionTasksError(f"{self.path}: a frame's time is a number of seconds, not {time}")
        picture = even(self._fitted(checked(self.path, picture)), self._codec.smallest)
        with self._nothing_half_done(av.FFmpegError, OSError):
            if self._behind is None:
                self._open(picture.shape[1], picture.shape[0], time or 0.0)
                self._behind = Behind(self._timed_encode, WAITING)
            rgb = av.VideoFrame.from_numpy_buffer(picture, "rgb24")
            frame = self._converter.reformat(
                rgb, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            frame.pts, frame.time_base, frame.duration = self._clock.place(time), self._clock.base, self._clock.step
            self._behind.put(frame)
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. Calling again does nothing; without frames there is no file.

        Ctrl-C while it does so is heeded when it has; a second one leaves no file.

        Raises:
            VisionTasksError: the file cannot be written; nothing stays then.
        """
        if self._closed:
            return
        self._closed = True
        if self._behind is None:
            self._abandon()
            self.problems.append(f"{self.path}: not written, as there was no frame")
            return
        with self._nothing_half_done(BaseException):
            finishing = Waitable(self._finish, "finish video")
            interrupted = _patiently(self._behind.close)
            finishing.start()
            interrupted = _patiently(lambda: finishing.wait(None)) or interrupted
            if self._error is not None:
                raise self._error
        if interrupted is not None:
            raise interrupted

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except VisionTasksError as raised:
            if error is None:
                raise
            error.add_note(str(raised))

    def _open(self, width: int, height: int, start: float) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise VisionTasksError(f"{self.path}: its folder cannot be made, as a file has that name") from error
        quiet_encoders()
        options = {"movflags": "+faststart"} if self._kind in ("mp4", "mov") else {}
        container = av.open(str(self._temporary), "w", format=self._kind, container_options=options)
        self._container = container
        stream = container.add_stream(
            self._codec.encoder,
            rate=min(self._clock.rate, Fraction(self._codec.fastest)),
            options=self._codec.options(self._quality),
        )
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = self._clock.base
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = ColorRange.MPEG
        if self._aspect > 0 and self._aspect != 1:
            context.sample_aspect_ratio = self._aspect
        context.thread_count = 0  # as many as it likes
        self._stream = stream
        if self._audio_from is not None:
            self._audio = Audio(self._audio_from, container, self._kind, start, self.problems)
        try:
            container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            if system_error(error):
                raise
            self._abandon()
            raise VisionTasksError(
                f"{self.path}: the encoder {self._codec.encoder} does not begin a video of {width}×{height} pixels "
                f"({reason(error)}); most take 16384 at most, hardware less: make it smaller, or choose another codec: "
                f"{', '.join(available_codecs())}"
            ) from error

    # Both run in other threads: Ctrl-C, which is raised in the main one, cannot come between a packet and the file.

    def _timed_encode(self, frame: av.VideoFrame) -> None:
        with self._times.measure("encode"):
            self._encode(frame)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
        if self._audio is not None and frame is not None and frame.pts is not None:
            self._audio.write_until(float((frame.pts + frame.duration) * self._clock.base))

    def _finish(self) -> None:
        assert self._container is not None
        try:
            if self._audio is not None:
                self._audio.finish(self._clock.end)
            self._encode(None)
            self._container.close()
            os.replace(self._temporary, self.path)
        except BaseException as error:
            self._error = error

    @contextlib.contextmanager
    def _nothing_half_done(self, *kinds: type[BaseException]) -> Iterator[None]:
        try:
            yield
        except kinds as error:
            self._abandon()
            if not isinstance(error, (av.FFmpegError, OSError)):
                raise
            raise VisionTasksError(f"{self.path}: cannot write the video: {reason(error)}") from error

    def _abandon(self) -> None:
        self._closed = True
        with contextlib.suppress(Exception):
            if self._behind is not None:
                self._behind.close(drop=True)
        if self._audio is not None:
            self._audio.close()
        with contextlib.suppress(Exception):
            if self._container is not None:
                self._container.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) of the video's size: with black bars where the shape differs."""
        if self._size is None:
            self._size = picture.shape[:2]
        if picture.shape[:2] == self._size:
            return picture
        if not self._told:
            self._told = True
            self.problems.append(
                f"{self.path}: frame {self.frames} has {picture.shape[1]}×{picture.shape[0]} pixels, the video "
                f"{self._size[1]}×{self._size[0]}; it is fitted in, as are all that differ"
            )
        return fitted(picture, self._size)


def _patiently(wait: Callable[[], None]) -> KeyboardInterrupt | None:
    """Wait to the end in spite of one Ctrl-C, which is returned; a second is raised."""
    try:
        wait()
    except KeyboardInterrupt as interrupt:
        wait()
        return interrupt
    return None
