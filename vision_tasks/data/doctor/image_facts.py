"""What one pass over image files tells about each: whether it can be read, its size, its bits, and how it looks, small.

Processes that look at files load nothing but decoders: they are at work within a fraction of a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vision_tasks.data.band_images import file_bands
from vision_tasks.data.decoding import PIXEL_LIMIT, decode, exif_orientation, file_bytes, open_header
from vision_tasks.data.image_errors import (
    ImageEmptyError,
    ImageError,
    ImageMissingError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from vision_tasks.data.progress import counted
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.data.records import ImageArchive

THUMB = 32
"""Side of the small grey pictures that images are compared by: what the perceptual hash takes."""

STATES = ("", "image_missing", "image_zero_bytes", "image_truncated", "image_unreadable", "image_too_large")
"""What `FACTS["state"]` counts: "" for an image that can be read, else the code of a finding."""

OTHER, GREY, COLOUR, CMYK = range(4)

FACTS = np.dtype(
    [
        ("state", np.uint8),  # into STATES
        ("height", np.int32),  # as stored, before any turning; 0 if unknown
        ("width", np.int32),
        ("turn", np.uint8),  # EXIF orientation 2..8, 0 for upright, absent or nonsense
        ("colours", np.uint8),  # OTHER, GREY, COLOUR or CMYK
        ("bits", np.uint8),  # of a channel, 8 or 16; 0 if unknown
        ("format", "S8"),  # what Pillow calls it; empty if unknown
        ("digest", "S16"),  # of the file's bytes
        ("thumb", np.uint8, (THUMB, THUMB)),  # the whole image, grey, as stored
    ]
)

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
_CHUNK = 32  # files a process takes at a time: Ctrl-C waits for no more than these
_FEW = 48  # files that are looked at sooner than processes start


@dataclass(frozen=True)
class Member:
    """An image file that lies in another file.

    Attributes:
        path: what it is called. archive: of this one image.
    """

    path: Path
    archive: ImageArchive


File = Path | Member | None
"""None stands for one that must not be looked for."""


@dataclass(frozen=True)
class Facts:
    """Of N files, in their order.

    Attributes:
        table: (N,) of dtype `FACTS`. errors: what reading said of those that cannot be read, by number.
    """

    table: np.ndarray
    errors: dict[int, str]


def facts_of(files: Sequence[File], workers: int | None = None, pixel_limit: int = PIXEL_LIMIT) -> Facts:
    """Looks at every file, over all cores; the result does not depend on how many there are.

    Memory is bounded: a few chunks of files are under way at a time, and about 1.1 KB a file are kept.

    Args:
        files: to look at. workers: processes; None takes one a core, 1 stays in this one.
        pixel_limit: images of more are not decoded.

    Raises:
        VisionTasksError: a process ended, most often for lack of memory.
    """
    workers = workers or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    table = np.zeros(len(files), FACTS)
    errors: dict[int, str] = {}
    chunks = [files[at : at + _CHUNK] for at in range(0, len(files), _CHUNK)]
    alone = workers == 1 or len(files) <= _FEW
    results = (_looked(c, pixel_limit) for c in chunks) if alone else _spread(chunks, workers, pixel_limit)
    at = 0
    with contextlib.closing(results):  # an error, or Ctrl-C, ends the processes
        for part, said in counted(results, "looking at images", len(files), _CHUNK):
            table[at : at + len(part)] = part
            errors |= {at + i: text for i, text in said.items()}
            at += len(part)
    return Facts(table, errors)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def look(file: File, pixel_limit: int = PIXEL_LIMIT) -> tuple[np.ndarray, str]:
    """Facts of one file, () of dtype `FACTS`, and what reading says if it cannot be read, else ""."""
    facts = np.zeros((), FACTS)
    if file is None:
        facts["state"] = STATES.index("image_missing")
        return facts, "its name leads out of the image folder, which is refused"
    path = file.path if isinstance(file, Member) else file
    data = None
    try:
        data = file.archive.read(0) if isinstance(file, Member) else None
        data = file_bytes(path) if data is None else data
        facts["digest"] = hashlib.blake2b(data.data, digest_size=16).digest()
        _see(facts, data, path, pixel_limit)
    except ImageError as error:
        facts["state"] = STATES.index(_state(error, data))
        return facts, str(error).removeprefix(f"{path}: ")
    return facts, ""


def _state(error: ImageError, data: np.ndarray | None) -> str:
    kinds = {
        ImageMissingError: "image_missing",
        ImageEmptyError: "image_zero_bytes",
        ImageTruncatedError: "image_truncated",
        ImageTooLargeError: "image_too_large",
    }
    code = kinds.get(type(error), "image_unreadable")
    if code == "image_unreadable" and data is not None and "not an image" in str(error):
        # A file that is cut within its header is no image to a decoder, but was one.
        return "image_truncated" if data[:16].tobytes().startswith(_BEGINNINGS) else code
    return code


def _see(facts: np.ndarray, data: np.ndarray, path: Path, pixel_limit: int) -> None:
    """Fills the facts of a file that holds something.

    JPEGs are decoded at an eighth of their size if that is enough: the decoder still goes through all bytes, so that
    what is cut off is noticed as in full decoding, but it computes a 64th of the pixels, and only the grey ones.
    """
    bands = file_bands(data, path, 3, pixel_limit)
    if bands is not None:
        facts["height"], facts["width"] = bands.shape[:2]
        facts["colours"] = GREY if bands.shape[2] < 3 else COLOUR
        _picture(facts, bands)
        return
    header = open_header(data, path)
    facts["width"], facts["height"] = header.size
    if header.width * header.height > pixel_limit:
        raise ImageTooLargeError(
            f"{path}: {header.width} × {header.height} pixels are more than the limit of {pixel_limit:,}. "
            "Scale it down or tile it."
        )
    facts["format"] = (header.format or "").encode()
    facts["turn"] = exif_orientation(header) or 0
    facts["colours"] = CMYK if header.mode == "CMYK" else GREY if header.mode[0] in "1LI" else COLOUR
    if header.format not in ("JPEG", "MPO"):
        _picture(facts, decode(data, header, path))
        return
    header.draft("L", (3 * THUMB, 3 * THUMB))
    try:
        header.load()
    except Exception as error:  # as in `decode`
        raise ImageTruncatedError(f"{path}: cut off or damaged ({error}). Copy it again, or remove it.") from error
    facts["bits"] = 8
    facts["thumb"] = _small(header)


def _picture(facts: np.ndarray, pixels: np.ndarray) -> None:
    """bits and thumb of (H, W, C) uint8 or uint16 pixels; of more than three bands the first three are seen."""
    facts["bits"] = 8 * pixels.itemsize
    if pixels.itemsize == 2:  # few cameras use all 16 bits: the upper eight of those in use
        pixels = (pixels >> max(0, int(pixels.max()).bit_length() - 8)).astype(np.uint8)
    pixels = np.ascontiguousarray(pixels[..., :3]) if pixels.shape[2] >= 3 else pixels[..., 0]
    facts["thumb"] = _small(Image.fromarray(pixels))


def _small(image: Image.Image) -> np.ndarray:
    """The whole image on a grid of `THUMB`², whatever its shape is.

    Smoothed by a triangle: means over cells would jump where cells do not hold whole pixels.
    """
    grey = image if image.mode == "L" else image.convert("L")
    return np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BILINEAR))


_Part = tuple[np.ndarray, dict[int, str]]


def _looked(files: Sequence[File], pixel_limit: int) -> _Part:
    table = np.zeros(len(files), FACTS)
    errors: dict[int, str] = {}
    for i, file in enumerate(files):
        table[i], text = look(file, pixel_limit)
        if text:
            errors[i] = text
    return table, errors


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too, which ends the others


def _spread(chunks: Sequence[Sequence[File]], workers: int, pixel_limit: int) -> Generator[_Part, None, None]:
    """The chunks' results in order, each as soon as those before it are there."""
    # Forking starts at once and needs no guard in the user's script; nothing here touches what threads may hold.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(min(workers, len(chunks)), context, _ignore_interrupts)
    under_way: deque[Future[_Part]] = deque()
    done = 0
    try:
        for chunk in chunks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forking beside any thread
                under_way.append(pool.submit(_looked, chunk, pixel_limit))
            if len(under_way) >= 4 * workers:
                yield under_way.popleft().result()
                done += 1
        while under_way:
            yield under_way.popleft().result()
            done += 1
    except BrokenProcessPool as error:
        raise VisionTasksError(
            f"a process that looked at images ended, perhaps for lack of memory, at {chunks[done][0]} or one of the "
            f"{_CHUNK * 4 * workers} after it. Try fewer workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
