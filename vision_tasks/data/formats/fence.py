"""Which folders files of a data set may name: what came in an archive must not make a machine read elsewhere."""

from __future__ import annotations

from pathlib import Path

from vision_tasks.errors import VisionTasksError

BESIDE = ("images", "labels", "train", "val", "valid", "validation", "test")
"""Folders that descriptions name beside their own folder, as in `train: ../train/images`."""


def is_inside(path: Path, top: Path) -> bool:
    """Whether a path, all links followed, lies in `top`, or in a folder beside it that has one of the usual names."""
    try:
        real = path.resolve()
        homes = {top.resolve(), top.parent.resolve() / top.name}
    except (OSError, RuntimeError):  # links that go in circles
        return False
    if any(real.is_relative_to(home) for home in homes):
        return True
    # Of "/data/set" not the whole machine.
    beside = {home.parent for home in homes if home.parent != home.parent.parent}
    return any(real.is_relative_to(folder / name) for folder in beside for name in BESIDE)


def check_side_file(path: Path, top: Path) -> None:
    """Refuses a list of names that is a link out of its data set: any file of the machine would become names.

    Raises:
        VisionTasksError: `path` is such a link.
    """
    if not is_inside(path, top):
        raise VisionTasksError(
            f"{path}: a link that leads out of {top}, which is not followed. Put the file itself there, or remove it."
        )
