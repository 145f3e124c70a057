"""How many frames have passed since the picture before, also where a source skips or has no even rate."""

from __future__ import annotations

import math

from vision_tasks.inference.frames import Frame

_NEARLY_WHOLE = 0.1
"""Time stamps are rounded to a clock's ticks: so close to a whole number of frames is that number."""


class FrameClock:
    """Turns time stamps into steps in frames.

    Args:
        rate: frames per second that count as one frame a step.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._time: float | None = None
        self._index: int | None = None

    def step(self, frame: Frame | None) -> float:
        """Frames since the call before, above 0.

        By the time stamps, if both have one and it grows; else by the numbers of the frames, if these grow; else 1.
        """
        if frame is None:
            return 1.0
        before, self._time = self._time, frame.time
        number, self._index = self._index, frame.index
        if before is not None and frame.time is not None:
            step = (frame.time - before) * self._rate
            whole = round(step) if math.isfinite(step) else 0
            if whole >= 1 and abs(step - whole) <= _NEARLY_WHOLE:
                return float(whole)
            if math.isfinite(step) and step > 0:
                return step
        if number is not None and frame.index > number:
            return float(frame.index - number)
        return 1.0
