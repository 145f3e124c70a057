"""The sound of one video carried into another, beside new pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.audio.stream import AudioStream

from vision_tasks.inference.video.codecs import reason

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

# What browsers and players expect in which file; anything else is encoded anew, with the first of the line.
TAKES = {
    "mp4": ("aac", "mp3", "opus", "flac", "alac", "ac3", "eac3"),
    "mov": ("aac", "mp3", "alac", "ac3", "eac3", "pcm_s16le", "pcm_s24le"),
    "matroska": ("aac", "mp3", "opus", "vorbis", "flac", "alac", "ac3", "eac3", "dts", "pcm_s16le"),
    "webm": ("opus", "vorbis"),
}
ENCODERS = {"aac": "aac", "opus": "libopus"}
RATES = {
    "aac": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "opus": (8000, 12000, 16000, 24000, 48000),
}
TAIL = 1.0  # seconds of sound after the last picture that still belong to a video; sound seldom ends with the picture


class Audio:
    """Copies the first audio stream of a file into a container that is being written, packet by packet.

    Where the container does not take the codec it is encoded anew (AAC; Opus in WebM). Times stay those of the source,
    less the time of the first picture written, so that sound and picture stay together.

    Args:
        path: the video whose sound is wanted.
        container: what is being written; a stream is added to it, so it must not have begun.
        kind: FFmpeg's name of the container's format, one of `TAKES`.
        start: the source's time of the first picture written, in seconds from the start of the source's pictures.
        problems: words about what could not be kept are added here; nothing is raised for the source's sake.
    """

    def __init__(self, path: Path, container: OutputContainer, kind: str, start: float, problems: list[str]) -> None:
        self._path, self._out, self._problems = path, container, problems
        self._input: InputContainer | None = None
        self._packets: Iterator[Packet] = iter(())
        self._waiting: Packet | None = None  # read and not yet due
        self._target: AudioStream
        self._last: int | None = None  # time of the last packet written
        try:
            self._input = av.open(
                str(path), options={"protocol_whitelist": "file"}
            )  # no file may make us fetch another
            self._packets = self._open(self._input, kind, start)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._give_up(error)

    def _open(self, source: InputContainer, kind: str, start: float) -> Iterator[Packet]:
        stream = source.streams.best("audio")
        if not isinstance(stream, AudioStream):
            return iter(())
        video = source.streams.best("video")
        zero = start
        if video is not None and video.start_time is not None and video.time_base is not None:
            zero += float(video.start_time * video.time_base)
        context = stream.codec_context
        if context.codec.canonical_name in TAKES[kind]:
            self._target = self._out.add_stream_from_template(stream)
            return self._copied(source, stream, zero, whole=start == 0)
        name = TAKES[kind][0]
        rate = context.sample_rate if context.sample_rate in RATES[name] else 48000
        layout = "mono" if context.channels == 1 else "stereo"
        target = self._out.add_stream(ENCODERS[name], rate=rate, layout=layout)
        assert isinstance(target, AudioStream)
        self._target = target
        return self._encoded(source, stream, zero)

    def _copied(self, source: InputContainer, stream: AudioStream, zero: float, whole: bool) -> Iterator[Packet]:
        for packet in source.demux(stream):
            if packet.pts is None or packet.time_base is None:  # the empty one at the end, or no telling when
                continue
            packet.pts -= round(Fraction(zero) / packet.time_base)
            packet.dts = packet.pts  # sound is never reordered
            # Codecs begin with a packet before time 0, which players need and leave out: kept where nothing is cut off.
            if whole or packet.pts + (packet.duration or 0) > 0:
                yield packet

    def _encoded(self, source: InputContainer, stream: AudioStream, zero: float) -> Iterator[Packet]:
        for frame in source.decode(stream):
            if frame.pts is None or frame.time_base is None:
                continue
            frame.pts -= round(Fraction(zero) / frame.time_base)
            if frame.pts * frame.time_base + Fraction(frame.samples, frame.sample_rate) > 0:
                yield from self._target.encode(frame)
        yield from self._target.encode(None)

    def _next(self) -> Packet | None:
        """The next packet that can be written; None after the last."""
        try:
            for packet in self._packets:
                if packet.pts is not None and (self._last is None or packet.pts > self._last):
                    return packet
        except (av.FFmpegError, OSError, ValueError) as error:
            self._give_up(error)
        return None

    def write_until(self, seconds: float) -> None:
        """Write the packets that begin before a time, in seconds of the new video.

        Raises:
            OSError (FFmpeg's): the container cannot be written.
        """
        while True:
            packet, self._waiting = self._waiting or self._next(), None
            if packet is None:
                return
            if _begin(packet) >= seconds:
                self._waiting = packet
                return
            self._write(packet)

    def _write(self, packet: Packet) -> None:
        self._last = packet.pts
        packet.stream = self._target
        self._out.mux(packet)

    def finish(self, end: float) -> None:
        """Write what is left: all of it if it ends shortly after the last picture, at `end` seconds; else up to there.

        Raises:
            OSError (FFmpeg's): the container cannot be written.
        """
        self.write_until(end)
        tail = [self._waiting] if self._waiting is not None else []
        self._waiting = None
        while tail and _begin(tail[-1]) < end + TAIL:
            packet = self._next()
            if packet is None:
                for waiting in tail:
                    self._write(waiting)
                break
            tail.append(packet)
        self.close()

    def _give_up(self, error: Exception) -> None:
        self._problems.append(
            f"{self._path}: its sound could not be kept (all of it, or from some point on): {reason(error)}"
        )
        self.close()

    def close(self) -> None:
        """Let go of the source. Calling again does nothing."""
        self._packets = iter(())
        if self._input is not None:
            self._input.close()
            self._input = None


def _begin(packet: Packet) -> float:
    assert packet.pts is not None
    assert packet.time_base is not None
    return float(packet.pts * packet.time_base)
