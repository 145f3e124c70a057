"""Files of results: written under another name and then renamed, so that what is there is whole; and names for them.

Nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.structures import Categories

_LONGEST = 255
"""Bytes of a name in the file systems that are in use."""

_STEM = 180
"""Bytes of a name that endings and numbers may be added to."""

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        VisionTasksError: a file has that name, or nothing may be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VisionTasksError(
            f"The folder {path} cannot be made ({error.strerror}). Choose another one for the results."
        ) from error


def temporary(path: Path) -> Path:
    """Where a file is written before it is whole: hidden, beside it, the same each time."""
    name = f".{path.name}.part"
    return path.with_name(name if len(os.fsencode(name)) <= _LONGEST else f".{_digest(path.name)}.part")


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, whole or not at all; text as UTF-8, what is none of a file's name as an escape.

    Raises:
        VisionTasksError: no room, or nothing may be written there.
    """
    # Several processes may write the same file at once.
    part = temporary(path.with_name(f"{path.name}.{os.getpid()}"))
    try:
        part.write_bytes(content if isinstance(content, bytes) else as_bytes(content))
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        refuse(path, error)


def as_bytes(text: str) -> bytes:
    """UTF-8; bytes of a file name that is none become the escapes that JSON has for them, too."""
    return text.encode("utf-8", "backslashreplace")


def refuse(path: Path, error: OSError) -> NoReturn:
    """Say that a file could not be written."""
    raise VisionTasksError(
        f"{path} cannot be written: {error.strerror or error}. Make room or choose another folder."
    ) from error


class RecordFile:
    """A file that grows by whole records. It has its name when it is finished, and until then a hidden one.

    Each record is handed to the system at once, so that a killed process loses none, and one that did not fit on the
    disk is cut off again.

    Attributes:
        path: its name to be. part: its name until then. size: bytes written so far.
    """

    def __init__(self, path: Path) -> None:
        """Begin a file.

        Raises:
            VisionTasksError: it cannot be made.
        """
        make_folder(path.parent)
        self.path = path
        self.part = temporary(path)
        self.size = 0
        try:
            self._file = self.part.open("wb", buffering=0)
        except OSError as error:
            refuse(path, error)

    def rest(self) -> None:
        """Give the file back to the system until the next record: of many files only one need be open."""
        self._file.close()

    def write(self, record: bytes | str) -> None:
        """Append a record, all of it or nothing.

        Raises:
            VisionTasksError: no room.
        """
        rest = memoryview(record if isinstance(record, bytes) else as_bytes(record))
        size = len(rest)
        try:
            if self._file.closed:
                self._file = self.part.open("r+b", buffering=0)
                self._file.seek(self.size)
            while len(rest):
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            if not self._file.closed:
                self.cut(self.size)
            if isinstance(error, OSError):
                refuse(self.path, error)
            raise
        self.size += size

    def cut(self, size: int) -> None:
        """Take back what was written after the first `size` bytes."""
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def append(self, other: RecordFile) -> None:
        """Add what another file holds."""
        other.rest()
        with other.part.open("rb") as file:
            while block := file.read(1 << 20):
                self.write(block)

    def finish(self) -> None:
        """Close the file and give it its name.

        Raises:
            VisionTasksError: it cannot have it.
        """
        try:
            self._file.close()
            os.replace(self.part, self.path)
        except OSError as error:
            refuse(self.path, error)

    def discard(self) -> None:
        """Close the file and remove it."""
        self._file.close()
        self.part.unlink(missing_ok=True)


def plain_name(text: str, otherwise: str = "_") -> str:
    """A text as a name that every system takes for a file or folder: letters, digits, space, `_`, `.` and `-`.

    Args:
        text: any. otherwise: the name of a text of which nothing is left.
    """
    name = re.sub(r"[^\w .-]", "_", unicodedata.normalize("NFC", text)).strip(" .") or otherwise
    if name.split(".")[0].strip().casefold() in _RESERVED:
        name = f"_{name}"
    return _shortened(name)


def file_stem(name: str) -> str:
    """A frame's name as it is where that can be part of one file's name; else with what cannot replaced."""
    if "/" in name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        name = plain_name(name)
    return _shortened(name)


def folder_names(categories: Categories) -> list[str]:
    """Names of folders, one a category: its own where that can be a folder's, never two the same."""
    names: list[str] = []
    taken: set[str] = set()
    for name, own_id in zip(categories.names, categories.ids, strict=True):
        plain = folder = plain_name(name, str(own_id))
        number = own_id
        while folder.casefold() in taken:
            folder, number = f"{plain}-{number}", number + 1
        taken.add(folder.casefold())
        names.append(folder)
    return names


def _shortened(name: str) -> str:
    """At most 180 bytes; a longer one ends in a number made of all of it."""
    coded = os.fsencode(name)
    if len(coded) <= _STEM:
        return name
    return coded[: _STEM - 9].decode("utf-8", "ignore") + "-" + _digest(name)


def _digest(name: str) -> str:
    return hashlib.blake2b(os.fsencode(name), digest_size=4).hexdigest()
