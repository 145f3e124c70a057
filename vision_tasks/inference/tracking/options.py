"""Checks of a tracker's options, in words that a user can act on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from vision_tasks.errors import VisionTasksError


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> None:
    """Raises VisionTasksError if a value is not a finite number in low..high, or not above `above`."""
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if number and low <= value <= high and value > above:
        return
    wanted = f"above {above:g}" if above > -math.inf else f"{low:g} or more"
    if math.isfinite(low) and math.isfinite(high):
        wanted = f"in {low:g}..{high:g}"
    raise VisionTasksError(f"{name} must be a number {wanted}, not {value!r}.")


def check_whole(name: str, value: Any, low: int) -> None:
    """Raises VisionTasksError if a value is not a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise VisionTasksError(f"{name} must be a whole number of at least {low}, not {value!r}.")


def check_yes(name: str, value: Any) -> None:
    """Raises VisionTasksError if a value is neither true nor false."""
    if not isinstance(value, bool):
        raise VisionTasksError(f"{name} must be true or false, not {value!r}.")


def check_word(name: str, value: Any, known: Iterable[str]) -> None:
    """Raises VisionTasksError if a value is not one of the known words; it names the nearest."""
    words = list(known)
    if value not in words:
        raise VisionTasksError(f"{name} must be one of {', '.join(words)}, not {value!r}.{nearest(value, words)}")


def nearest(word: Any, known: Iterable[str]) -> str:
    """ " Did you mean ...?", or nothing."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""
