"""What was wrong with a video while it was decoded, and when its frames are shown all the same."""

from __future__ import annotations

from fractions import Fraction

from av.video.frame import VideoFrame

from vision_tasks.inference.sources.video_open import reason


class Damage:
    """What could not be read or decoded of one video, and where."""

    def __init__(self) -> None:
        self.packets, self.hidden = 0, 0  # read; of them those that an edit leaves out
        self.frames, self.mended, self.lost, self.unread = 0, 0, 0, 0
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

    def ended(self, stated: int, duration: float | None, rate: float | None, frame_each: bool = True) -> None:
        """The file came to its end; notes whether it should have been longer.

        Args:
            stated: frames by the header, 0 if it says nothing. duration: seconds by the header.
            frame_each: whether each packet is a frame to be shown, as in most codecs.
        """
        self._over = True
        silent = self.packets - self.hidden - self.lost - self.frames
        # Decoders with threads say nothing of errors in the last frames. Many more packets than frames are no errors:
        # the fields of interlaced video may come one by one.
        if frame_each and 0 < silent <= min(_IN_FLIGHT, self.frames // 2):
            self.lost += silent  # where, nobody knows
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
        if self._first is not None or self.lost:
            where = "" if self._first is None else f" at {self._first:.2f} s"
            if self._first is not None and self._last > self._first:
                where = f" between {self._first:.2f} and {self._last:.2f} s"
            done = []
            if self.lost:
                done.append(f"{self.lost} packet{'s' * (self.lost > 1)} left out")
            if self.mended:
                done.append(f"{self.mended} frame{'s' * (self.mended > 1)} only partly right")
            if self.unread:
                done.append(f"{self.unread} place{'s' * (self.unread > 1)} that could not be read")
            why = f" ({self._why})" if self._why else ""
            parts.append(f"damaged{where}{why}: {', '.join(done)}")
        if self._cut:
            parts.append(self._cut)
        return ", and ".join(parts) + ". Copy it again." if parts else ""

    def _mark(self) -> None:
        self._first = self._time if self._first is None else self._first
        self._last = self._time


_IN_FLIGHT = 32  # the most packets a decoder holds


class Clock:
    """Times of frames from the beginning of their stream on, in seconds, always growing.

    Stamps that are missing, or beyond the end of the video, are replaced by the frame before's and the rate; where the
    stamps begin anew, as in files that were put together, time goes on.

    Args:
        start: stamp of the beginning, if the header says it. base: seconds of a unit of stamps.
        rate: frames per second. duration: seconds, if they are known.
    """

    def __init__(
        self, start: int | None, base: Fraction | None, rate: float | None, duration: float | None = None
    ) -> None:
        self._start, self._base, self._duration = start, base, duration
        self._step = 1 / rate if rate else 0.04
        self._last: float | None = None

    def of(self, frame: VideoFrame) -> float:
        """The time of the next frame."""
        return self.at(frame.pts if frame.pts is not None else frame.dts, frame.time_base)

    def at(self, stamp: int | None, base: Fraction | None = None) -> float:
        """The time of a frame with this stamp, in units of `base` (that of the stream, if there is none)."""
        base = base or self._base
        follows = 0.0 if self._last is None else self._last + self._step
        if stamp is None or base is None:
            time = follows
        else:
            if self._start is None or (self._last is None and not 0 <= (stamp - self._start) * base <= _LATE):
                self._start = stamp
            time = float((stamp - self._start) * base)
            if self._duration is not None and time > self._duration + _LATE:
                time = follows
            elif self._last is not None and time < self._last - _LATE:
                self._start = stamp - round(Fraction(follows) / base)
                time = follows
        if self._last is not None and time <= self._last:
            time = self._last + min(self._step, 0.001)
        self._last = time
        return time


_LATE = 2.0  # seconds by which stamps may be off
