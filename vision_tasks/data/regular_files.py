"""Opening files whose names come with data: regular files alone.

A pipe has no end and waits for its writer; /dev/zero, to which a link in an archive may lead, has no end either. So
files are opened without waiting, looked at, and read to the size that they have.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):  # each only where the system has it
    _FLAGS |= getattr(os, _name, 0)


def descriptor(path: Path | str) -> int:
    """Descriptor of a regular file, to be closed by the caller.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe, device or socket.
    """
    number = os.open(path, _FLAGS)
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a regular file", str(path))
    except BaseException:
        os.close(number)
        raise
    return number


def open_regular(path: Path | str) -> BufferedReader:
    """A regular file, open for reading bytes; raises OSError as `descriptor` does."""
    return os.fdopen(descriptor(path), "rb")


def read_regular(path: Path | str, most: int | None = None) -> bytes:
    """What a regular file holds.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: as `descriptor`; EFBIG: it is larger than `most`.
    """
    number = descriptor(path)
    try:
        size = os.fstat(number).st_size
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"{size:,} bytes are too many for such a file", str(path))
        parts = []
        while size > 0 and (part := os.read(number, size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(number)


def read_regular_text(path: Path | str, most: int | None = None, errors: str = "strict") -> str:
    """What a regular file in UTF-8, with or without its mark, says; lines end with a line feed, as of `Path.read_text`.

    Args:
        most: bytes that it may have. errors: see `bytes.decode`.

    Raises:
        OSError: as `read_regular`. UnicodeDecodeError: it is not UTF-8.
    """
    text = read_regular(path, most).decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")
