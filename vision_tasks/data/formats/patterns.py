"""Finding files by a pattern such as `leftImg8bit/{split}/{stem}_leftImg8bit.png`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vision_tasks.data.records import escapes
from vision_tasks.errors import VisionTasksError

ENDINGS = ("jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "ppm", "pgm", "npy")
"""What `.*` at the end of a pattern stands for."""
FIELDS = ("split", "stem", "category")
_DEPTH = 8


def checked(pattern: str, key: str, allowed: tuple[str, ...] = FIELDS) -> str:
    """The pattern, if it can be followed.

    Raises:
        VisionTasksError: it is absolute, leads out of its folder, or has an unknown field.
    """
    reason = escapes(pattern)
    if reason:
        raise VisionTasksError(
            f"data.semantic.{key}: {pattern!r} {reason}. Give data.semantic.path, and {key} below it."
        )
    unknown = [f for f in re.findall(r"\{([^}]*)\}", pattern) if f not in allowed]
    if unknown:
        known = ", ".join("{" + f + "}" for f in allowed)
        raise VisionTasksError(f"data.semantic.{key}: {pattern!r} has the field {{{unknown[0]}}}; known are {known}.")
    return pattern


def fixed_part(pattern: str) -> str:
    """The folders of a pattern before its first field or star, "" for none."""
    free = re.split(r"[{*]", pattern, maxsplit=1)[0]
    return free.rpartition("/")[0]


def compiled(pattern: str, **values: str) -> re.Pattern[str]:
    """A regular expression for paths: `{stem}` is any text, folders included, and the same at each place; `{category}`
    is text without a slash, `*` too; `.*` at the end is any ending of an image."""
    endings = ""
    if pattern.endswith(".*"):
        pattern, endings = pattern[:-2], rf"\.(?i:{'|'.join(ENDINGS)})"
    out, seen = "", set()
    for part in re.split(r"(\{[a-z]+\}|\*)", pattern):
        name = part[1:-1]
        if part == "*":
            out += "[^/]*"
        elif not part.startswith("{"):
            out += re.escape(part)
        elif name in values:
            out += re.escape(values[name])
        elif name in seen:
            out += f"(?P={name})"
        else:
            out += f"(?P<{name}>{'.+' if name == 'stem' else '[^/]+'})"
            seen.add(name)
    return re.compile(out + endings)


def matching(root: Path, pattern: str, values: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Paths below `root`, with forward slashes, and what their fields are, in the order of names.

    Args:
        root: folder. pattern: below it. values: of fields that are known, such as the split.
    """
    for name, value in values.items():
        pattern = pattern.replace("{" + name + "}", value)
    start = fixed_part(pattern)
    rule = compiled(pattern)
    for path in _files(root / start, start, _DEPTH, set()):
        if found := rule.fullmatch(path):
            yield path, found.groupdict()


def _files(folder: Path, name: str, depth: int, seen: set[tuple[int, int]]) -> Iterator[str]:
    """All files below a folder, hidden ones left out, each folder once however it is linked."""
    try:
        state = folder.stat()
        if (state.st_dev, state.st_ino) in seen:
            return
        seen = seen | {
            (state.st_dev, state.st_ino)
        }  # a loop is a folder that lies in itself; twice side by side is fine
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        path = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            if depth > 1:
                yield from _files(Path(entry.path), path, depth - 1, seen)
        else:
            yield path


def file_names(root: Path) -> list[str]:
    """Names of the files in a folder, hidden ones left out; none if it cannot be read."""
    try:
        return sorted(p.name for p in root.iterdir() if p.is_file() and not p.name.startswith("."))
    except OSError:
        return []


def folders(root: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out; none if it cannot be read."""
    try:
        return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []
