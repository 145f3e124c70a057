"""Walking through a JSON file of any size with a few megabytes in hand.

Only brackets, quotes and backslashes are looked at, with array operations; what lies between is left to a parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vision_tasks.errors import VisionTasksError

BLOCK = 4 << 20
"""Bytes read at a time. Larger ones were not faster, and a decoded block takes several times its size."""

_SPACE = b" \t\r\n"
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_MARK = np.zeros(256, bool)
_MARK[list(b'"\\[]{}')] = True
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


@dataclass(frozen=True)
class Chunk:
    """Complete elements of an array, as they stand in the file.

    Attributes:
        text: the bytes from the first element to the last. starts, ends: where each bracketed element lies in `text`.
        offset: place of `text` in the file.
    """

    text: bytes
    starts: np.ndarray
    ends: np.ndarray
    offset: int


class JsonFile:
    """A top-level JSON object whose big arrays are read in chunks.

    Use: `for key in file.members():`, and for each key one of `chunks()`, `value()` or nothing (then it is skipped).

    Raises:
        VisionTasksError: from any method, if the file ends too early or is not JSON where it must be.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        self._buffer = b""
        self._at = 0  # place in the buffer
        self._offset = 0  # place of the buffer in the file
        self._ended = False
        self._pending = False  # a key was handed out whose value nobody took
        if self._fill() and self._buffer.startswith(b"\xef\xbb\xbf"):
            self._at = 3

    def first(self) -> str:
        """The first character that is no white space, "" in an empty file."""
        return chr(self._peek() or 0).strip("\0")

    def head(self) -> bytes:
        """The first bytes, to tell kinds of files apart."""
        return self._buffer[self._at : self._at + 4096]

    def members(self) -> Iterator[str]:
        """Keys of the object, in file order, each before its value."""
        self._expect(b"{")
        if self._peek() == ord("}"):
            return
        while True:
            key = self._string()
            self._expect(b":")
            self._pending = True
            yield key
            if self._pending:
                self.value(keep=False)
            follows = self._expect(b",}")
            if follows == ord("}"):
                return

    def value(self, keep: bool = True) -> bytes:
        """The value of the current key, as bytes (b"" if it is not to be kept)."""
        self._pending = False
        first = self._peek()
        if first == _QUOTE:
            return self._quoted()
        if first is not None and first in b"[{":
            pieces = [piece for piece in self._nested() if keep]
            return b"".join(pieces)
        return self._bare()

    def chunks(self, what: str) -> Iterator[Chunk]:
        """Elements of the array that is the value of the current key; `what` names it in errors."""
        self._pending = False
        if self._peek() != ord("["):
            raise self._error(f'"{what}" is not a list')
        self._at += 1
        done = 0
        grown = BLOCK
        while True:
            text = self._buffer[self._at :] if self._at else self._buffer
            starts, ends, close = _elements(text)
            if close >= 0 and text[close] != ord("]"):
                self._at += close
                raise self._error(f'"{what}" is not closed by "]"')
            cut = close if close >= 0 else (int(ends[-1]) if len(ends) else 0)
            if cut:
                if close < 0:
                    grown = BLOCK
                yield Chunk(text[:cut], starts, ends, self._offset + self._at)
                done += len(starts)
                self._at += cut
            if close >= 0:
                self._at += 1
                return
            del text
            if not self._fill(grown):
                raise self._error(
                    f'the file ends within "{what}", after {done:,} complete entries: it was cut off', end=True
                )
            if not cut:
                grown *= 2  # one element is larger than a block: avoid scanning it over and over

    def _nested(self) -> Iterator[bytes]:
        """A bracketed value, piece by piece."""
        depth, inside = 0, False
        carry = b""
        while True:
            text = carry + self._buffer[self._at :]
            # A block that ends in backslashes is cut before them: what they escape is in the next.
            body = text.rstrip(b"\\") if not self._ended else text
            carry = text[len(body) :]
            position, level, quoted = _levels(body, depth, inside)
            closing = np.flatnonzero(level == 0)
            if len(closing):
                end = int(position[closing[0]]) + 1
                self._at = len(self._buffer) - (len(text) - end)
                yield body[:end]
                return
            yield body
            depth, inside = (int(level[-1]) if len(level) else depth), quoted
            self._at = len(self._buffer)
            if not self._fill():
                raise self._error("the file ends within a value: it was cut off", end=True)

    def _string(self) -> str:
        if self._peek() != _QUOTE:
            raise self._error("a key in quotation marks should stand here")
        return self._quoted()[1:-1].decode("utf-8", "replace")

    def _quoted(self) -> bytes:
        text = bytearray(b'"')
        self._at += 1
        while True:
            end = self._at
            while end < len(self._buffer):
                if self._buffer[end] == _BACKSLASH:
                    end += 2
                    continue
                if self._buffer[end] == _QUOTE:
                    text += self._buffer[self._at : end + 1]
                    self._at = end + 1
                    return bytes(text)
                end += 1
            if not self._fill():
                raise self._error("the file ends within a text: it was cut off", end=True)

    def _bare(self) -> bytes:
        """A number or a word such as null."""
        text = bytearray()
        while (first := self._peek_raw()) is not None and first not in b",}] \t\r\n":
            text.append(first)
            self._at += 1
        if not text:
            raise self._error("a value should stand here")
        return bytes(text)

    def _expect(self, letters: bytes) -> int:
        first = self._peek()
        if first is None:
            raise self._error("the file ends too early: it was cut off", end=True)
        if first not in letters:
            raise self._error(f"{' or '.join(repr(chr(c)) for c in letters)} should stand here")
        self._at += 1
        return first

    def _peek(self) -> int | None:
        while (first := self._peek_raw()) is not None and first in _SPACE:
            self._at += 1
        return first

    def _peek_raw(self) -> int | None:
        if self._at >= len(self._buffer) and not self._fill():
            return None
        return self._buffer[self._at]

    def _fill(self, size: int = BLOCK) -> bool:
        """Adds a block to the buffer and drops what is behind; False at the end of the file."""
        more = self._stream.read(size)
        if not more:
            self._ended = True
            return False
        self._offset += self._at
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
        return True

    def _error(self, what: str, end: bool = False) -> VisionTasksError:
        near = self._buffer[max(0, self._at - 20) : self._at + 20].decode("utf-8", "replace")
        place = self._offset + (len(self._buffer) if end else self._at)
        return VisionTasksError(
            f"{self._path}: not complete, valid JSON: {what} (byte {place:,}{'' if end else f', near {near!r}'}). "
            f"Copy, download or export the file again."
        )


def _levels(text: bytes, depth: int = 0, inside: bool = False) -> tuple[np.ndarray, np.ndarray, bool]:
    """Places of the brackets outside of texts, the depth after each, and whether the end lies in a text."""
    letters = np.frombuffer(text, np.uint8)
    places = np.flatnonzero(_MARK[letters])
    marks = letters[places]
    quotes = marks == _QUOTE
    slashes = places[marks == _BACKSLASH]
    if len(slashes):
        quotes &= ~_escaped(places, slashes)
    # An odd count of quotation marks before a bracket puts it in a text.
    outside = (np.cumsum(quotes) + inside) % 2 == 0
    step = _STEP[marks]
    real = outside & (step != 0)
    level = depth + np.cumsum(step[real], dtype=np.int64)
    return places[real], level, bool((np.count_nonzero(quotes) + inside) % 2)


def _escaped(places: np.ndarray, slashes: np.ndarray) -> np.ndarray:
    """Whether an odd run of backslashes ends just before each place."""
    run_start = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)
    lengths = np.diff(np.append(run_start, len(slashes)))
    run_ends = slashes[run_start] + lengths - 1
    return np.isin(places, run_ends[lengths % 2 == 1] + 1)


def _elements(text: bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """Starts and ends of the complete bracketed elements at the front, and the place of the array's `]`, or -1."""
    places, level, _ = _levels(text)
    if not len(places):
        return places, places, -1
    closing = np.flatnonzero(level < 0)
    close = -1
    if len(closing):
        close = int(places[closing[0]])
        places, level = places[: closing[0]], level[: closing[0]]
    before = np.concatenate([[0], level[:-1]])
    starts = places[(before == 0) & (level == 1)]
    ends = places[(before == 1) & (level == 0)] + 1
    return starts[: len(ends)], ends, close
