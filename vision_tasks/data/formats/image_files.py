"""Bringing the image files of a data set along when its annotations are written again."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2

from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records, escapes
from vision_tasks.errors import VisionTasksError

# What a file system says that cannot make a hard link where another could: across devices, no such thing, too many.
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}


_BREAKING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OUTER_SPACE = re.compile(r"^\s+|\s+$")


def place_images(
    records: Records,
    folder: Path,
    images: ImageWriting,
    losses: Losses | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Copies or hard-links the image files of `records` to `folder`, under their file names.

    An image whose file is not there, or may not be read, stays in the annotations and is counted in `losses`. Files
    are taken as they are, not decoded. A symbolic link that leads out of the image folder is followed only to a file
    that begins as images do: what came in an archive must not carry other files of this machine along.

    Args:
        folder: made if needed. images: "none" does nothing. names: relative paths to use instead of the file names.

    Raises:
        VisionTasksError: a name is absolute or leads out of its folder, or another image has that name already.
        OSError: the files cannot be written, as on a full disk.
    """
    targets = [safe_name(records, row) for row in range(len(records))] if names is None else list(names)
    if images == "none":
        return
    insides: dict[Path, Path] = {}
    placed: set[str] = set()
    missing: list[str] = []
    foreign: list[str] = []
    work = "linking images" if images == "link" else "copying images"
    for row, name in enumerate(counted(targets, work)):
        if name in placed:  # two image ids share a file
            continue
        if (data := records.image_data(row)) is not None:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data.tobytes())
            placed.add(name)
            continue
        try:
            root = records.image_root(row)
            inside = insides[root] if root in insides else insides.setdefault(root, root.resolve())
            source = records.image_path(row).resolve(strict=True)
            regular = stat.S_ISREG(source.stat().st_mode) and os.access(source, os.R_OK)
        except (OSError, RuntimeError):  # RuntimeError: links that go in circles
            regular = False
        if not regular:
            missing.append(records.file_name(row))
        elif not source.is_relative_to(inside) and not cv2.haveImageReader(str(source)):
            foreign.append(records.file_name(row))
        else:
            _place(source, folder / name, images)
            placed.add(name)
    if losses is not None:
        losses.add("image files that are not there or cannot be read: listed, but not copied", missing)
        losses.add("links out of the image folder to what is no image: listed, but not copied", foreign)


def safe_name(records: Records, row: int) -> str:
    """File name of an image in its shortest form ("a//b.jpg", "./a/b.jpg": "a/b.jpg").

    Raises:
        VisionTasksError: it is absolute or leads out of its folder.
    """
    name = records.file_name(row)
    if reason := escapes(name):
        raise VisionTasksError(
            f"{records.source}: image {records.image_ids[row]}: file_name {name!r} {reason}, which is refused. "
            "Write it relative to the image folder."
        )
    return PurePosixPath(name).as_posix()


def unique_stems(records: Records) -> list[str]:
    """Relative path of each image without its ending, unique even if there are a.jpg and a.png (a, a_png).

    Letters that break lines, and spaces at either end, which lists of names lose, become "_".

    Raises:
        VisionTasksError: a name is absolute or leads out of its folder.
    """
    stems: list[str] = []
    seen: set[str] = set()
    for row in range(len(records)):
        path = PurePosixPath(_on_a_line(safe_name(records, row)))
        stem = _OUTER_SPACE.sub(lambda found: "_" * len(found[0]), path.with_suffix("").as_posix())
        if stem in seen:
            stem = base = f"{stem}_{path.suffix[1:]}" if path.suffix else stem
            number = 2
            while stem in seen:
                stem, number = f"{base}_{number}", number + 1
        seen.add(stem)
        stems.append(stem)
    return stems


def unique_names(records: Records, stems: Sequence[str] | None = None) -> list[str]:
    """`unique_stems` with the endings of the files: where formats find an image's labels by its stem."""
    stems = unique_stems(records) if stems is None else stems
    return [
        stem + PurePosixPath(_on_a_line(safe_name(records, row))).suffix for row, stem in enumerate(stems)
    ]  # fmt: skip


def note_renamed(records: Records, names: Sequence[str], losses: Losses) -> None:
    """Counts the images that are written under another name than their own."""
    others = [own for row, name in enumerate(names) if (own := safe_name(records, row)) != name]
    losses.add("images that share a name up to the ending, or whose name breaks lines: renamed", map(repr, others))


def _on_a_line(name: str) -> str:
    return _BREAKING.sub("_", name)


def _place(source: Path, target: Path, images: ImageWriting) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if target.samefile(source):
            return
        raise VisionTasksError(
            f"two images would be written to one file, {target.name} ({source} is one of them). "
            "Give the images names of their own."
        )
    if images == "link":
        try:
            os.link(source, target)
            return
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
    shutil.copyfile(source, target)
