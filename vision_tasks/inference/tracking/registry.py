"""Trackers by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.tracking.base import Tracker
from vision_tasks.inference.tracking.bytetrack import ByteTrack
from vision_tasks.inference.tracking.ocsort import OcSort
from vision_tasks.inference.tracking.options import check_word, nearest
from vision_tasks.inference.tracking.sort import Sort

TRACKERS: dict[str, Callable[..., Tracker]] = {"sort": Sort, "bytetrack": ByteTrack, "ocsort": OcSort}
"""What makes a tracker, by name: called with `rate` and the tracker's own options as keywords."""


def create_tracker(name: str, rate: float = 30.0, **options: Any) -> Tracker:
    """A tracker for one source at a time.

    Args:
        name: in `TRACKERS`. rate: frames per second of the source. options: see the tracker's own class.

    Raises:
        VisionTasksError: no such tracker or option, or a value out of range.
    """
    check_word("tracker", name, TRACKERS)
    build = TRACKERS[name]
    parameters = inspect.signature(build).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    known = [word for word in parameters if word != "rate"]
    for word in options:
        if word not in known and not free:
            raise VisionTasksError(
                f"{name} has no option {word!r}.{nearest(word, known)} Its options: {', '.join(known)}."
            )
    return build(rate=rate, **options)
