"""When the frames of a video that is written are shown."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

from vision_tasks.errors import VisionTasksError

USUAL_RATE = 30.0  # frames/s of frames without times, where no rate is known
SLOWEST, FASTEST = 0.0001, 1000.0  # frames/s
MILLISECONDS = 1000
JUMP_BACK = 1.0  # seconds; a clock that jumps back by more has begun anew
LONGEST = 4 * 3600.0  # seconds between two frames; MP4 counts them in 31 bits, at up to 90,000 ticks a second


class Clock:
    """When each frame is shown, in whole ticks that rise from 0.

    Args:
        rate: frames per second of frames without times. ticks: the most there may be in a second.

    Attributes:
        rate: the same as a ratio. base: seconds of a tick. step: ticks from one frame to the next at that rate.
    """

    def __init__(self, rate: float, ticks: int) -> None:
        self.rate = _fraction(rate, 60_000)
        # A multiple of the rate, so that frames without times lie evenly. Matroska counts milliseconds all the same.
        self.ticks = ticks if ticks == MILLISECONDS else self.rate.numerator * (ticks // self.rate.numerator)
        self.base = Fraction(1, self.ticks)
        self._apart = self.ticks / self.rate
        self.step = max(1, round(self._apart))
        self._zero: float | None = None  # the time that is tick 0
        self._ideal = Fraction(0)
        self._last = -1

    def place(self, time: float | None) -> int:
        """The tick of the next frame; `time` as in `VideoWriter.write`."""
        if self._last < 0:
            self._zero = time
        else:
            ideal = self._ideal + self._apart
            if time is not None:
                asked = None if self._zero is None else (Fraction(time) - Fraction(self._zero)) * self.ticks
                if asked is not None and -JUMP_BACK <= float((asked - self._last) / self.ticks) <= LONGEST:
                    ideal = asked
                else:
                    self._zero = float(time - ideal / self.ticks)
            self._ideal = ideal
        self._last = max(round(self._ideal), self._last + 1)
        return self._last

    @property
    def end(self) -> float:
        """Seconds at which the last frame has been shown."""
        return (self._last + self.step) / self.ticks


def _fraction(rate: float, ticks: int) -> Fraction:
    """The rate as a ratio whose numerator is at most `ticks`: 30000/1001 for 29.97003."""
    bounds = (1001, 100, 10, 1)
    ratios = (Fraction(rate).limit_denominator(bound) for bound in bounds)
    return next((ratio for ratio in ratios if 0 < ratio.numerator <= ticks), Fraction(1, max(1, round(1 / rate))))


def checked_rate(path: Path, rate: float | None) -> float:
    """The rate, within `SLOWEST` and `FASTEST`; `USUAL_RATE` for None. A header's may be off; frames have times, too.

    Raises:
        VisionTasksError: it is not a number above 0.
    """
    if rate is None:
        return USUAL_RATE
    if not math.isfinite(rate) or rate <= 0:
        raise VisionTasksError(f"{path}: a video has more than 0 frames per second, not {rate}")
    return float(min(max(rate, SLOWEST), FASTEST))
