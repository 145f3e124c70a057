"""Threads that read ahead and work behind: order, bounds, and an end whatever happens. Every wait has a limit."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from vision_tasks.inference import threads
from vision_tasks.inference.threads import Behind, StageTimes, read_ahead

LIMIT = 20.0


def run_limited(work: Callable[[], None]) -> None:
    """Run in a thread of its own; fail, not hang, if it does not end."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "does not end"
    if errors:
        raise errors[0]


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    if not set(threading.enumerate()) <= before:  # collecting takes half a second where much is loaded
        gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before)


@pytest.mark.parametrize("size", [1, 2, 7, 500])
def test_read_ahead_keeps_order_and_count(size: int) -> None:
    run_limited(lambda: assert_equal(list(read_ahead(range(300), size)), list(range(300))))


def assert_equal(got: object, wanted: object) -> None:
    assert got == wanted


def test_read_ahead_of_nothing() -> None:
    run_limited(lambda: assert_equal(list(read_ahead([], 3)), []))


@pytest.mark.parametrize("size", [0, -1])
def test_a_queue_needs_a_place(size: int) -> None:
    with pytest.raises(ValueError, match="at least one place"):
        read_ahead([1], size)
    with pytest.raises(ValueError, match="at least one place"):
        Behind(print, size)


def test_read_ahead_reads_ahead_but_not_too_far() -> None:
    read = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    def work() -> None:
        ahead = read_ahead(items(), 3)
        assert next(ahead) == 0
        wait_until(lambda: len(read) == 4)  # the one that was taken and three that wait
        time.sleep(0.05)
        assert len(read) == 4
        ahead.close()

    run_limited(work)


def test_few_items_are_alive() -> None:
    class Item:
        pass

    alive: weakref.WeakSet[Item] = weakref.WeakSet()
    most = 0

    def items() -> Iterator[Item]:
        for _ in range(200):
            item = Item()
            alive.add(item)
            yield item
            del item

    def work() -> None:
        nonlocal most
        for _ in read_ahead(items(), 3):
            most = max(most, len(alive))

    run_limited(work)
    assert most <= 5


def test_read_ahead_raises_the_producers_error_after_its_items() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("unplugged")

    got = []

    def work() -> None:
        for item in read_ahead(items(), 1):
            got.append(item)

    with pytest.raises(OSError, match="unplugged"):
        run_limited(work)
    assert got == [1, 2]


@pytest.mark.parametrize("how", ["close", "drop", "raise"])
@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_consumer_that_stops_early_ends_the_thread_and_closes_the_items(how: str, taken: int) -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    def work() -> None:
        ahead = read_ahead(items(), 2)
        for _ in range(taken):
            next(ahead)
        if how == "close":
            ahead.close()
        elif how == "raise":
            with pytest.raises(KeyboardInterrupt):
                ahead.throw(KeyboardInterrupt())
        del ahead

    run_limited(work)
    if taken:
        assert closed.is_set()


def test_a_read_that_hangs_does_not_hang_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.05)
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(LIMIT)
        yield 2

    def work() -> None:
        ahead = read_ahead(items(), 2)
        assert next(ahead) == 1
        ahead.close()

    run_limited(work)
    go_on.set()


def test_behind_works_in_order_in_another_thread() -> None:
    done: list[int] = []
    names = set()

    def note(item: int) -> None:
        done.append(item)
        names.add(threading.current_thread().name)

    def work() -> None:
        with Behind(note, 3) as behind:
            for number in range(200):
                behind.put(number)

    run_limited(work)
    assert done == list(range(200))
    assert names == {"behind"}


def test_behind_waits_where_it_is_full() -> None:
    free = threading.Event()
    put: list[int] = []

    def work() -> None:
        with Behind(lambda item: free.wait(LIMIT), 2) as behind:
            for number in range(6):
                behind.put(number)
                put.append(number)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait_until(lambda: len(put) == 2)
    time.sleep(0.05)
    assert len(put) == 2
    free.set()
    thread.join(LIMIT)
    assert len(put) == 6


def test_put_raises_the_workers_error_even_while_it_waits() -> None:
    def fail(item: int) -> None:
        time.sleep(0.05)
        raise OSError("disk full")

    puts = 0

    behind = Behind(fail, 1)

    def work() -> None:
        nonlocal puts
        with behind:
            for number in range(100):
                behind.put(number)
                puts += 1

    with pytest.raises(OSError, match="disk full"):
        run_limited(work)
    assert puts <= 2
    with pytest.raises(RuntimeError, match="after close"):
        behind.put(1)
    behind.close()  # told once is enough


def test_close_raises_an_error_that_no_put_has_raised() -> None:
    def work() -> None:
        behind = Behind(lambda item: 1 // item, 4)
        behind.put(0)
        with pytest.raises(ZeroDivisionError):
            behind.close()

    run_limited(work)


def test_nothing_is_worked_on_after_an_error() -> None:
    done: list[int] = []

    def fail(item: int) -> None:
        done.append(item)
        raise OSError("disk full")

    def work() -> None:
        behind = Behind(fail, 9)
        for _ in range(9):
            behind._items.put(1)  # as if all had been handed over before the first was looked at
        with pytest.raises(OSError, match="disk full"):
            behind.close()

    run_limited(work)
    assert done == [1]


def test_the_callers_own_error_comes_first_and_the_work_is_finished() -> None:
    done: list[int] = []

    def note(item: int) -> None:
        time.sleep(0.01)
        done.append(item)
        if item == 3:
            raise OSError("disk full")

    def work() -> None:
        with Behind(note, 4) as behind:
            for number in range(4):
                behind.put(number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_limited(work)
    assert done == [0, 1, 2, 3]


def test_close_may_drop_what_waits() -> None:
    started, free = threading.Event(), threading.Event()
    done: list[int] = []

    def note(item: int) -> None:
        started.set()
        free.wait(LIMIT)
        done.append(item)

    def work() -> None:
        behind = Behind(note, 5)
        for number in range(5):
            behind.put(number)
        started.wait(LIMIT)
        closing = threading.Thread(target=behind.close, kwargs={"drop": True}, daemon=True)
        closing.start()
        wait_until(lambda: behind._closed)
        free.set()
        closing.join(LIMIT)

    run_limited(work)
    assert done == [0]


def run_interrupted(script: str) -> str:
    """Run a script, send it Ctrl-C once it has printed "ready", and return what it prints after that."""
    started = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    time.sleep(0.2)
    started.send_signal(signal.SIGINT)
    try:
        out, errors = started.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        pytest.fail("does not end after Ctrl-C")
    assert not errors, errors
    return out


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent there")
def test_ctrl_c_in_the_middle_of_put() -> None:
    out = run_interrupted("""
        import threading, time
        from vision_tasks.inference.threads import Behind
        free, done = threading.Event(), []
        def note(item):
            free.wait(20)
            done.append(item)
        try:
            with Behind(note, 2) as behind:
                try:
                    for number in range(3):
                        if number == 2:
                            print("ready", flush=True)
                        behind.put(number)
                finally:
                    free.set()
        except KeyboardInterrupt:
            print(done, threading.active_count())
    """)
    assert out == "[0, 1] 1\n"


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent there")
def test_a_second_ctrl_c_drops_what_waits() -> None:
    out = run_interrupted("""
        import threading, time
        from vision_tasks.inference.threads import Behind
        first, free, done = threading.Event(), threading.Event(), []
        def note(item):
            first.set()
            free.wait(20)
            done.append(item)
        behind = Behind(note, 9)
        for number in range(9):
            behind.put(number)
        first.wait(20)
        print("ready", flush=True)
        try:
            behind.close()
        except KeyboardInterrupt:
            free.set()
            behind.close()
            print(done, threading.active_count())
    """)
    assert out == "[0] 1\n"


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent there")
def test_ctrl_c_while_waiting_for_what_is_read() -> None:
    out = run_interrupted("""
        import threading, time
        from vision_tasks.inference.threads import read_ahead
        closed = []
        def items():
            try:
                yield 1
                print("ready", flush=True)
                time.sleep(1)
                yield 2
                yield from range(10**9)
            finally:
                closed.append(True)
        ahead = read_ahead(items(), 2)
        try:
            next(ahead)
            next(ahead)
        except KeyboardInterrupt:
            print(closed, threading.active_count())
    """)
    assert out == "[True] 1\n"


def test_stage_times_count_frames_of_all_threads() -> None:
    times = StageTimes()

    def work() -> None:
        for _ in range(100):
            times.add("draw", 0.5)

    many = [threading.Thread(target=work) for _ in range(8)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join()
    times.add("predict", 2.0, frames=8)
    assert times.counts == {"draw": 800, "predict": 8}
    assert times.seconds == {"draw": 400.0, "predict": 2.0}
    assert times.summary() == {"draw": 2.0, "predict": 4.0}


def test_measure_counts_what_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(threads.time, "perf_counter", lambda: float(next(clock)))
    times = StageTimes()
    with times.measure("draw"):
        pass
    with times.measure("draw", frames=3):
        pass
    with pytest.raises(OSError, match="full"), times.measure("draw"):
        raise OSError("full")
    assert times.counts == {"draw": 4}
    assert times.seconds == {"draw": 2.0}
    assert list(times.each("decode", "abc")) == ["a", "b", "c"]
    assert times.counts == {"draw": 4, "decode": 3}
    assert times.summary() == {"draw": 2.0, "decode": 1.0}


def test_each_closes_its_items_and_works_within_read_ahead() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    def work() -> None:
        times = StageTimes()
        ahead = read_ahead(times.each("decode", items()), 2)
        assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
        ahead.close()
        assert 5 <= times.counts["decode"] <= 8

    run_limited(work)
    assert closed.is_set()
