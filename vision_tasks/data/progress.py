"""Telling whoever wants to know how far a long piece of work on a data set is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Listener = Callable[[str, int, int | None], None]
"""Called with what is being done, how many are done, and how many there are in all (None: unknown)."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def reporting_to(listener: Listener) -> Iterator[None]:
    """Within, `counted` tells this listener. Readers and writers of formats need no argument for it."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(items: Iterable[T], what: str, total: int | None = None, each: int = 1) -> Iterator[T]:
    """The items; each one done is told to the listener, if there is one.

    Args:
        what: such as "copying images". total: how many; the length of `items` where it has one. each: so many things
            are in each item, in the last one perhaps fewer.
    """
    listener = _listener.get()
    if listener is None:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    listener(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        listener(what, done * each if total is None else min(done * each, total), total)
