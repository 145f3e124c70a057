"""Fetching a published file once: with progress, resumed where it broke off, checked against its hash."""

from __future__ import annotations

import errno
import http.client
import logging
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights.files import sha256

log = logging.getLogger("vision_tasks")

_CHUNK = 1 << 20
_ATTEMPTS = 4  # that may follow each other without a byte arriving
_TIMEOUT = 30.0  # seconds of silence
_LINE_EVERY = 20.0  # seconds, where there is no terminal


def cache_folder() -> Path:
    """Where downloads go: `VISION_TASKS_CACHE`, or torch's own cache (`TORCH_HOME`), so that files there are found."""
    own = os.environ.get("VISION_TASKS_CACHE")
    return Path(own).expanduser() if own else Path(torch.hub.get_dir()) / "checkpoints"


def fetch(url: str, folder: Path | None = None, digits: str | None = None) -> Path:
    """Download a file, once. What has come of a download that broke off is kept in NAME.part and continued.

    Args:
        folder: where to; `cache_folder()` if None.
        digits: how the file's SHA-256 begins; if None, what stands after the last dash of its name. A file that states
            neither is taken as it comes, and the log says so.

    Raises:
        VisionTasksError: no network, no room, or the content does not match the hash.
    """
    folder = folder or cache_folder()
    path = folder / Path(urllib.parse.urlsplit(url).path).name
    stated = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    digits = digits or (stated[1] if stated else None)
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(path.with_name(path.name + ".part")) as part:
                if not path.exists():  # another process may have been quicker
                    _download(url, part, digits)
                    os.replace(part.name, path)
        except OSError as error:
            raise VisionTasksError(_why(error, url, path)) from error
        if digits is None:
            log.warning("The publisher of %s states no hash: it was taken as it came.", path.name)
    elif digits is not None and not sha256(path).startswith(digits):
        raise VisionTasksError(f"{path} is not what its publisher offers (SHA-256 differs). Delete it and try again.")
    return path


def _download(url: str, part: IO[bytes], digits: str | None) -> None:
    """Bring the part to the whole; it is emptied if it turns out damaged."""
    begun = part.seek(0, os.SEEK_END)
    failures = 0
    with _progress(Path(part.name).stem) as show:
        while True:
            before = part.seek(0, os.SEEK_END)
            try:
                _continue(url, part, show)
                break
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                failures = 1 if part.tell() > before else failures + 1
                if failures == _ATTEMPTS:
                    raise ConnectionError(str(error) or type(error).__name__) from error
                log.info("The download broke off (%s); going on.", str(error) or type(error).__name__)
                time.sleep(0.2 * 2**failures)
            except KeyboardInterrupt:
                log.warning("Stopped. What came is in %s; the next download goes on from there.", part.name)
                raise
    part.flush()
    if digits is None or sha256(part.name).startswith(digits):
        return
    part.truncate(0)
    if begun:  # the older half may have been the bad one
        log.warning("What was left of an earlier download of %s does not fit; starting anew.", url)
        return _download(url, part, digits)
    raise VisionTasksError(
        f"The download of {url} is damaged: its SHA-256 does not begin with {digits}. Try again; if it stays so, the "
        "publisher has replaced the file, or something on the way changes it."
    )


def _continue(url: str, part: IO[bytes], show: Callable[[int, int | None], None]) -> None:
    """One request for what is still lacking, appended to the part."""
    have = part.seek(0, os.SEEK_END)
    headers = {"User-Agent": "vision_tasks", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # all of it is there already
        part.truncate(0)
        raise ConnectionError("the part was longer than the file") from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise OSError("the answer is a web page, not a file")
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT or not _starts_at(answer.headers, have):
            have = part.seek(part.truncate(0))  # a server that cannot continue sends all of it again
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if total is not None:
            _room_for(total - have, Path(part.name).parent)
        show(have, total)
        while chunk := answer.read(_CHUNK):
            part.write(chunk)
            have += len(chunk)
            show(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"{have} of {total} bytes came")


def _starts_at(headers: http.client.HTTPMessage, place: int) -> bool:
    return headers.get("Content-Range", "").startswith(f"bytes {place}-")


def _room_for(size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{_megabytes(size)} are to come, {_megabytes(free)} are free")


def _why(error: OSError, url: str, path: Path) -> str:
    """What to tell a user about a download that failed."""
    reason = getattr(error, "reason", None) or error.strerror or error
    if error.errno == errno.ENOSPC:
        return (
            f"There is no room for {path} ({reason}). Make room, or name another folder in the environment variable "
            "VISION_TASKS_CACHE. What has come is kept, and continued next time."
        )
    if isinstance(error, urllib.error.HTTPError):
        return (
            f"Could not download {url}: the server answers {error.code} ({reason}). If the file can be had elsewhere, "
            f"put it at {path}, or give its path instead."
        )
    return (
        f"Could not download {url} ({reason}). If this machine is offline, fetch the file elsewhere, and put it at "
        f"{path} or give its path. What has come so far is kept, and continued next time."
    )


@contextmanager
def _alone(path: Path) -> Iterator[IO[bytes]]:
    """The file, open for reading and writing, by one process at a time; an empty one is removed at the end."""
    with path.open("a+b") as file:
        try:
            import fcntl
        except ImportError:  # Windows; two processes that fetch one file at once would end in a wrong hash
            pass
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("Another process downloads %s; waiting for it.", path.stem)
                fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield file
        finally:
            file.flush()
            if path.exists() and path.stat().st_size == 0:
                path.unlink()


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function to call with (bytes there, bytes in all): a bar on a terminal, now and then a line elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.progress import TransferSpeedColumn as Speed

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=None)
            yield lambda have, total: bar.update(task, completed=have, total=total)
        return
    shown = began = time.monotonic()
    first: int | None = None

    def line(have: int, total: int | None) -> None:
        nonlocal shown, first
        first = have if first is None else first
        now = time.monotonic()
        if now - shown > _LINE_EVERY:
            shown = now
            rate = max((have - first) / (now - began), 1.0)
            left = "" if total is None else f" of {_megabytes(total)}, about {(total - have) / rate:.0f} s left"
            log.info("%s: %s%s (%s/s)", name, _megabytes(have), left, _megabytes(int(rate)))

    yield line


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
