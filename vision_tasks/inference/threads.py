"""Stages that overlap: reading ahead of whoever consumes, and working behind whoever produces.

Both hold a bounded number of items, hand errors to the caller's thread, and end their thread whatever ends the
caller. There is no lock written in Python here: a `SimpleQueue` carries the items and another the free places, and each
of their calls is atomic, so that Ctrl-C between any two lines leaves nothing locked. Interrupted where a place has been
taken and not yet filled, a queue has one place less; the loop is over then anyhow.

`torch.inference_mode` and its like hold for one thread: work done behind has to enter them itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

PATIENCE = 5.0  # seconds given to a read that is under way (a camera that hangs) when nobody wants its result


class _End:
    """The last item of a queue; with what ended it, if that was an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Waitable:
    """A daemon thread that can be waited for again after Ctrl-C has interrupted the waiting.

    `threading.Thread.join`, interrupted, takes the thread for ended (Python before 3.13).
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._over = False
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._over = True
            self._ended.put(None)

    def start(self) -> None:
        self._thread.start()

    def wait(self, patience: float | None) -> None:
        """Until it has ended, for `patience` seconds at most."""
        # The garbage collector may close a forgotten generator in any thread, the one to be waited for included.
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        if not self._over:
            try:
                self._ended.get(timeout=patience)
            except Empty:
                return
        self._thread.join(patience)


def _places(size: int) -> SimpleQueue[None]:
    if size < 1:
        raise ValueError(f"a queue needs at least one place, not {size}")
    places: SimpleQueue[None] = SimpleQueue()
    for _ in range(size):
        places.put(None)
    return places


def read_ahead(items: Iterable[T], size: int) -> Generator[T, None, None]:
    """The same items in the same order, read by a thread that is up to `size` of them ahead.

    At most `size` + 2 are alive: those that wait, the one being read, the one at the caller. The thread starts with the
    first `next`. An error of `items` is raised here, after the items before it. Closing the generator (or dropping it,
    or leaving it by an error) stops the thread, closes `items` where that is a generator, and waits for both; a read
    that does not return within `PATIENCE` seconds is left to end by itself.

    Raises:
        ValueError: for a size below 1, at once.
    """
    return _read_ahead(items, _places(size))


def _read_ahead(items: Iterable[T], places: SimpleQueue[None]) -> Generator[T, None, None]:
    read: SimpleQueue[T | _End] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        try:
            _read(items, read, places, stopped)
        except BaseException as error:
            read.put(_End(error))
        else:
            read.put(_End())

    thread = Waitable(work, "read ahead")
    try:
        thread.start()
        while not isinstance(item := read.get(), _End):
            places.put(None)
            yield item
            del item  # or it would live on while the next is waited for
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        places.put(None)  # wakes a thread that waits for a place
        thread.wait(PATIENCE)


def _read(items: Iterable[T], read: SimpleQueue[T | _End], places: SimpleQueue[None], stopped: threading.Event) -> None:
    iterator = iter(items)
    try:
        while True:
            places.get()
            if stopped.is_set():
                return
            try:
                item = next(iterator)
            except StopIteration:
                return
            read.put(item)
            del item
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


class Behind(Generic[T]):
    """A thread that does `work` on one item after another while the caller goes on.

    Use it with `with`: leaving finishes what was handed over, after an error and after Ctrl-C, too (a second Ctrl-C
    drops it). Once `work` has raised, what follows is dropped and every `put` raises the same error; leaving raises it
    if no `put` has, unless another error is under way.

    Args:
        work: called in the thread with each item, in order.
        size: how many items may wait, at least 1.

    Raises:
        ValueError: for a size below 1.
    """

    def __init__(self, work: Callable[[T], object], size: int) -> None:
        self._work = work
        self._places = _places(size)
        self._items: SimpleQueue[T | _End] = SimpleQueue()
        self._dropping = False
        self._closed = False
        self._error: BaseException | None = None
        self._told = False
        self._thread = Waitable(self._run, "behind")
        try:
            self._thread.start()
        except BaseException:
            self._items.put(_End())
            raise

    def _run(self) -> None:
        # After an error it goes on taking items, so that nobody waits for a place in vain.
        while not isinstance(item := self._items.get(), _End):
            if not self._dropping:
                try:
                    self._work(item)
                except BaseException as raised:
                    self._error, self._dropping = raised, True
            del item
            self._places.put(None)

    def _raise(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def put(self, item: T) -> None:
        """Hand over an item; waits while `size` of them wait.

        Raises:
            RuntimeError: after `close`.
            Whatever `work` raised, on this or an earlier item.
        """
        if self._closed:
            raise RuntimeError("put after close: the thread has ended")
        self._raise()
        self._places.get()
        self._raise()
        self._items.put(item)

    def close(self, drop: bool = False) -> None:
        """Finish what was handed over (`drop`: only what is under way) and end the thread. Calling again does nothing.

        Raises:
            Whatever `work` raised, if no `put` has raised it.
        """
        if drop:
            self._dropping = True
        if not self._closed:
            self._closed = True
            self._items.put(_End())
        try:
            self._thread.wait(None)
        except BaseException:
            self._dropping = True
            raise
        if not self._told:
            self._raise()

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except BaseException as raised:
            if error is None or raised is not self._error:
                raise


class StageTimes:
    """Seconds spent and frames handled by stage ("decode", "predict", "track", "draw", "encode", ...), from any thread.

    Stages overlap, so that their seconds may add up to more than has passed; the slowest one sets the pace.
    """

    def __init__(self) -> None:
        # One entry for each stage and thread: none is ever written by two threads, so that no lock is needed.
        self._entries: dict[tuple[str, int], list[float]] = {}

    def add(self, stage: str, seconds: float, frames: int = 1) -> None:
        """Count `frames` that took `seconds` together."""
        entry = self._entries.setdefault((stage, threading.get_ident()), [0.0, 0.0])
        entry[0] += seconds
        entry[1] += frames

    @contextmanager
    def measure(self, stage: str, frames: int = 1) -> Iterator[None]:
        """Time a block that handles `frames`; one that raises is not counted."""
        start = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start, frames)

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The same items, with the time that each took to come: `read_ahead(times.each("decode", source), 4)`."""
        iterator = iter(items)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                self.add(stage, time.perf_counter() - start)
                yield item
                del item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _sum(self, place: int) -> dict[str, float]:
        total: dict[str, float] = {}
        for (stage, _), entry in list(self._entries.items()):
            total[stage] = total.get(stage, 0.0) + entry[place]
        return total

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage, in the order in which the stages were first seen."""
        return self._sum(0)

    @property
    def counts(self) -> dict[str, int]:
        """Frames by stage."""
        return {stage: int(count) for stage, count in self._sum(1).items()}

    def summary(self) -> dict[str, float]:
        """Frames per second that each stage would reach alone; stages without frames are left out."""
        seconds = self.seconds
        return {stage: count / max(seconds[stage], 1e-9) for stage, count in self.counts.items() if count}
