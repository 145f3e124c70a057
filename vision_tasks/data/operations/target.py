"""The folder that a data set is written to: whether it can be, and what went wrong when it could not."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from vision_tasks.errors import VisionTasksError

# What only writing can end in; of a stream that is written, the error does not say which file it is.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def resolved(out: Path | str) -> Path:
    """The folder that is meant, without ".." and links: it is put in place by its name in the folder above it."""
    return Path(out).resolve()


def check_free(out: Path | str) -> None:
    """Refuses, before long work, a folder that could not be put in place after it.

    Raises:
        VisionTasksError: it holds something, is where somebody stands, or its disk; or nothing can be written there.
    """
    try:
        place = resolved(out)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise VisionTasksError(f"{out} holds something already. Name a new folder.")
        if place.exists() and (place == Path.cwd() or os.path.ismount(place)):
            what = "the current folder" if place == Path.cwd() else "a disk of its own"
            raise VisionTasksError(f"{out} is {what}, which cannot be replaced when all is written. Name a new folder.")
        above = next(folder for folder in place.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise VisionTasksError(f"{out}: nothing can be written in {above}. Name another folder.")
    except (OSError, RuntimeError) as error:  # RuntimeError: links in circles
        raise VisionTasksError(f"{out}: cannot be written ({error}). Name another folder.") from error


@contextlib.contextmanager
def writing_to(out: Path | str) -> Iterator[None]:
    """Within, errors of a full or write-protected disk that name no file, or two as copying does, name `out` alone."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or (error.filename is not None and error.filename2 is None):
            raise
        raise OSError(error.errno, error.strerror, str(out)) from error
