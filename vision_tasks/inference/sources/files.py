"""Which files a source means: by ending, in the order in which people count."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from PIL import Image

from vision_tasks.data.decoding import quiet_reading
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.sources.video_open import open_video

IMAGE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".ppm", ".pgm", ".gif", ".npy")
)
VIDEO_ENDINGS = frozenset(
    (
        ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv",
        ".3gp", ".ogv", ".mjpeg", ".mjpg", ".h264", ".hevc", ".apng",
    )
)  # fmt: skip
RESULT_FOLDERS = ("crops", "cutouts", "masks", "instances", "panoptic", "labelme", "yolo", "mot")
"""Where `inference.outputs` writes files of single frames, below the folder of results."""
LIST_ENDINGS = frozenset((".txt", ".lst"))

Kind = Literal["image", "video"]

_DIGITS = re.compile(r"([0-9]+)")


def natural(path: str) -> list[list[tuple[int, str]]]:
    """A key that sorts frame_2 before frame_10, and what is in a folder together."""
    return [[_piece(piece) for piece in _DIGITS.split(part)] for part in path.replace("\\", "/").split("/")]


def _piece(piece: str) -> tuple[int, str]:
    # Pieces of text and of digits take turns, so that like is compared with like. Numbers may be of any length.
    digits = piece.lstrip("0")
    return (len(digits), digits) if piece[:1].isdigit() and piece.isascii() else (0, piece)


def kind_of(path: Path) -> Kind | None:
    """What the ending says; of .gif and .ts also what is in the file. None for other files."""
    ending = path.suffix.lower()
    if path.name.startswith("._"):  # macOS leaves these beside the real ones
        return None
    if ending == ".gif":
        return "video" if _moves(path) else "image"
    if ending == ".ts":
        return "video" if _is_transport_stream(path) else None
    return "image" if ending in IMAGE_ENDINGS else "video" if ending in VIDEO_ENDINGS else None


def _moves(path: Path) -> bool:
    """Whether a GIF has more than one picture."""
    with quiet_reading():
        try:
            with Image.open(path) as image:
                return bool(getattr(image, "is_animated", False))
        except Exception:  # reading it will say what is wrong
            return False


def _is_transport_stream(path: Path) -> bool:
    """Whether a .ts file is no TypeScript: packets of 188 bytes begin with the letter G."""
    try:
        with path.open("rb") as file:
            return file.read(1) == b"G"
    except OSError:
        return True  # reading it will say what is wrong


def sniffed(path: Path) -> Kind:
    """What a file of an unknown ending is: a video if it is no picture and can be opened as one."""
    with quiet_reading():
        try:
            Image.open(path).close()
        except Exception:  # PIL raises whatever a broken header leads to
            pass
        else:
            return "image"
    try:
        with contextlib.ExitStack() as stack:
            open_video(str(path), str(path), stack)
    except VisionTasksError:
        return "image"  # reading it will say what is wrong
    return "video"


def files_below(folder: Path, out: Path | None, on_problem: Callable[[str], None]) -> list[Path]:
    """All pictures and videos of a folder, to the bottom, in natural order; links are followed, circles are not.

    Args:
        out: folder of results. What lies below it is left out; if it is the folder itself or above it, what lies in
            `RESULT_FOLDERS` of it, unless that is what is named.
        on_problem: is told of folders that cannot be read.
    """
    left_out = set() if out is None else _results(out, folder.resolve())
    visited: set[str] = set()
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        on_problem(f"{error.filename}: the folder cannot be read ({error.strerror}). It is left out.")

    for here, folders, files in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(here)
        if real in visited or real in left_out:
            folders.clear()
            continue
        visited.add(real)
        found.extend(Path(here, file) for file in files if os.path.splitext(file)[1].lower() in _ENDINGS)
    return sorted((p for p in found if p.is_file()), key=lambda p: natural(str(p)))


_ENDINGS = IMAGE_ENDINGS | VIDEO_ENDINGS


def without(paths: Iterable[Path], out: Path | None) -> list[Path]:
    """The paths that are not below `out`; if all are, those that are not in `RESULT_FOLDERS` of it."""
    paths = list(paths)
    if out is None:
        return paths
    root = out.resolve()
    outside = [p for p in paths if root not in p.resolve().parents]
    folders = {root / name for name in RESULT_FOLDERS}
    return outside or [p for p in paths if folders.isdisjoint(p.resolve().parents)]


def _results(out: Path, folder: Path) -> set[str]:
    """Real paths of folders that are not searched for what `folder`, which is resolved, holds."""
    root = out.resolve()
    if root != folder and root not in folder.parents:
        return {str(root)}
    named = {folder, *folder.parents}
    return {str(path) for name in RESULT_FOLDERS if (path := (root / name).resolve()) not in named}


def listed_paths(file: Path) -> list[tuple[int, str]]:
    """Lines of a text file with their numbers; empty ones, and those that begin with #, are left out."""
    text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
