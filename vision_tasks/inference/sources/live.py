"""Frames of cameras and streams: the newest one, again and again, through broken connections."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import av.error
import cv2
import numpy as np

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.sources.addresses import live_options, shown
from vision_tasks.inference.sources.names import numbered
from vision_tasks.inference.sources.problems import TellingSource
from vision_tasks.inference.sources.video_decode import Pixels
from vision_tasks.inference.sources.video_open import open_video, reason

Taken = tuple[Callable[[], np.ndarray], float | None]
"""A picture that is converted, to (H, W, C) RGB, only if it is wanted; its time by the sender's clock, in seconds."""

Opener = Callable[[], AbstractContextManager[Iterator[Taken]]]
"""Connects, and gives pictures until the connection ends or breaks (any exception)."""

LONGEST_WAIT = 30.0  # seconds between two tries to connect
_HEALTHY = 25  # frames after which a connection counts as good, and the next failure as the first
_REMEMBERED = 1000  # outages in `problems`: a camera may run for years
_DRIFT = 1.0  # seconds by which a sender's clock may be off before it is set anew


class StreamEndedError(Exception):
    """A stream of known length came to its end: there is nothing to connect to again."""


class LiveSource(TellingSource):
    """Frames of a camera or stream, received on a thread of its own.

    Whoever takes frames too slowly gets the newest and misses those in between: `Frame.index` counts them all.
    Where the connection breaks, or nothing comes, it is made again, after 1, 2, 4, ... seconds; each time this is said.

    Attributes:
        dropped: frames that nobody took in time.
    """

    kind = "live"

    def __init__(
        self,
        opener: Opener,
        source: str,
        name: str,
        every: int = 1,
        on_problem: Callable[[str], None] | None = None,
        tries: int = 8,
        tries_at_first: int = 3,
        wait: float = 1.0,
        newest: bool = True,
    ) -> None:
        """Connects to nothing yet.

        Args:
            every: only frames 0, every, 2 * every, ...
            tries: to connect again, one after another, before it is given up. tries_at_first: as long as there was
                no frame. wait: seconds before the first; each further wait is twice as long, up to LONGEST_WAIT.
            newest: skip frames that were not taken in time; else the sender waits, or loses them.
        """
        super().__init__(name, on_problem)
        self.dropped = 0
        self._opener, self._source, self._every = opener, source, every
        self._tries, self._tries_at_first, self._wait, self._newest = tries, tries_at_first, wait, newest

    def __iter__(self) -> Iterator[Frame]:
        """Raises: VisionTasksError: there never was a frame."""
        self.dropped = 0
        slot = _Slot(self._newest)
        thread = threading.Thread(target=self._receive, args=(slot,), name=f"receive {self.name}", daemon=True)
        thread.start()
        try:
            while (taken := slot.take()) is not None:
                index, seconds, picture = taken
                self.dropped = slot.dropped
                try:
                    image = picture()
                except (OSError, ValueError):  # a damaged one; the next comes at once
                    continue
                yield Frame(image, self._source, numbered(self.name, index), index, seconds)
            if slot.error is not None:
                raise slot.error
        finally:
            slot.stop()
            thread.join(2.0)  # one that waits for the network ends with its time-out

    def _receive(self, slot: _Slot) -> None:
        """On the thread: connects, receives, waits, until stopped or given up."""
        failures, index, clock = 0, 0, _Clock()
        while not slot.stopped.is_set():
            received = 0
            try:
                with self._opener() as pictures:
                    clock.connected()
                    for picture, stamp in pictures:
                        if index % self._every == 0:
                            slot.put((index, clock.of(stamp), picture))
                        index, received = index + 1, received + 1
                        if slot.stopped.is_set():
                            return
                why: Exception = VisionTasksError(f"{self._source}: the stream ended")
            except StreamEndedError:
                break
            except Exception as error:  # FFmpeg's, the network's, the driver's
                known = isinstance(error, VisionTasksError)
                why = error if known else VisionTasksError(f"{self._source}: {reason(error)}")
            failures = 1 if received >= _HEALTHY else failures + 1
            tries = self._tries if index else self._tries_at_first
            if failures > tries:
                self._give_up(slot, why, index, tries)
                break
            seconds = min(LONGEST_WAIT, self._wait * 2 ** (failures - 1))
            text = str(why).removesuffix(".")
            self._say(f"{text}. Connecting again in {seconds:g} s (try {failures} of {tries}).", failures == 1)
            slot.stopped.wait(seconds)
        slot.close()

    def _give_up(self, slot: _Slot, why: Exception, index: int, tries: int) -> None:
        after = f" after {tries} {'tries' if tries > 1 else 'try'}" if tries else ""
        text = f"{str(why).removesuffix('.')}. Given up{after}."
        if index:
            self._say(text, True)
        else:
            slot.error = VisionTasksError(text + " Check the address, and whether the camera is on.")

    def _say(self, text: str, remember: bool) -> None:
        if remember and len(self.problems) < _REMEMBERED:
            self.problems.append(text)
        if self._on_problem is not None:
            self._on_problem(text)


class _Slot:
    """One place between the thread that receives and the one that takes."""

    def __init__(self, newest: bool) -> None:
        self.stopped = threading.Event()
        self.dropped = 0
        self.error: VisionTasksError | None = None
        self._newest = newest
        self._changed = threading.Condition()
        self._held: tuple[int, float, Callable[[], np.ndarray]] | None = None
        self._closed = False

    def put(self, item: tuple[int, float, Callable[[], np.ndarray]]) -> None:
        """Lays down the newest; if `newest` is off, waits until the place is free."""
        with self._changed:
            if not self._newest:
                self._changed.wait_for(lambda: self._held is None or self.stopped.is_set())
            self.dropped += self._held is not None
            self._held = item
            self._changed.notify_all()

    def take(self) -> tuple[int, float, Callable[[], np.ndarray]] | None:
        """Waits for the next; None when no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._held is not None or self._closed)
            item, self._held = self._held, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """No more are wanted."""
        with self._changed:
            self.stopped.set()
            self._changed.notify_all()


class _Clock:
    """Seconds since the first frame: by the sender's clock within a connection, by our own across connections."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._offset: float | None = None
        self._last = 0.0

    def connected(self) -> None:
        """The sender's clock may have begun anew."""
        self._offset = None

    def of(self, stamp: float | None) -> float:
        now = time.monotonic()
        if self._began is None:
            self._began = now
            self._last = -0.001
        here = now - self._began
        if stamp is None:
            seconds = here
        else:
            if self._offset is None or abs(stamp + self._offset - here) > _DRIFT:
                self._offset = here - stamp
            seconds = stamp + self._offset
        self._last = max(seconds, self._last + 0.001)
        return self._last


@contextlib.contextmanager
def stream(address: str, channels: int, seconds: float = 10.0) -> Iterator[Iterator[Taken]]:
    """Pictures of the stream at an address.

    Args:
        seconds: without an answer or a picture, after which the connection counts as broken.

    Raises:
        VisionTasksError: no connection, or no pictures in it.
    """
    with contextlib.ExitStack() as stack:
        container, pictures = open_video(address, shown(address), stack, live_options(), (seconds, seconds))
        context = pictures.codec_context
        context.thread_type = "SLICE"  # threads by frames would hold back as many frames
        convert = Pixels(channels).of
        clocked = container.format.name != "mpjpeg"  # whose times FFmpeg makes up

        def received() -> Iterator[Taken]:
            for packet in container.demux(pictures):
                try:
                    frames = context.decode(packet) if packet.size else []
                except (av.error.InvalidDataError, EOFError):
                    continue  # a stream that was joined in the middle, or a lost packet
                for frame in frames:
                    if not frame.is_corrupt:
                        yield partial(convert, frame), frame.time if clocked else None
            if container.duration:
                raise StreamEndedError

        yield received()


@contextlib.contextmanager
def camera(number: int, channels: int) -> Iterator[Iterator[Taken]]:
    """Pictures of a camera of this computer, by OpenCV.

    Raises:
        VisionTasksError: there is no such camera, or another program has it.
    """
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        device = cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not device.isOpened():
            raise VisionTasksError(f"camera {number}: there is none, or another program uses it")
        codes = {1: cv2.COLOR_BGR2GRAY, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGR2RGBA}

        def received() -> Iterator[Taken]:
            while True:
                there, picture = device.read()
                if not there:
                    return
                yield partial(_converted, picture, codes[channels]), None

        yield received()
    finally:
        device.release()


def _converted(picture: np.ndarray, code: int) -> np.ndarray:
    image: np.ndarray = cv2.cvtColor(picture, code)
    return image[..., None] if image.ndim == 2 else image
