"""Where the images and labels of a YOLO data set lie: data.yaml, obj.data, lists, or folders alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vision_tasks.data.formats.fence import check_side_file, is_inside
from vision_tasks.data.formats.patterns import matching
from vision_tasks.data.regular_files import read_regular
from vision_tasks.data.yaml_files import read_yaml
from vision_tasks.errors import VisionTasksError

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "names.txt")
"""Files with one class name a line, beside the labels or above them; the first that is there counts."""
NO_LABELS = ("classes.txt", "names.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt", "notes.txt")
_LARGEST = 64 << 20
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


@dataclass(frozen=True)
class Description:
    """What a file such as data.yaml says.

    Attributes:
        file: it. base: its `path`, "" if it has none. parts: split -> folders, lists or images. names: class number ->
            name, None if it does not tell. key_points: numbers of key points after each box. labelled_only: images
            without a label file are no part of the data set.
    """

    file: Path
    base: str = ""
    parts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[int, str] | None = None
    key_points: int = 0
    labelled_only: bool = False


def read_text(path: Path) -> str:
    """A text file of a data set.

    Raises:
        VisionTasksError: it cannot be read, or is far too large to be such a file.
    """
    try:
        return read_regular(path, _LARGEST).decode("utf-8-sig", "replace")
    except OSError as error:
        raise VisionTasksError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error


def describe(path: Path) -> Description | None:
    """What a YAML file or a Darknet .data file says; None if it is not about a YOLO data set.

    Raises:
        VisionTasksError: it cannot be read, or what it says makes no sense.
    """
    if path.suffix.lower() == ".data":
        pairs = (line.partition("=") for line in read_text(path).splitlines() if "=" in line)
        content: Any = {key.strip(): value.strip() for key, _, value in pairs}
        if isinstance(listed := content.pop("names", None), str):
            below = within(path.parent, [listed, PurePosixPath(listed).name])
            if not below and (beside := path.parent / PurePosixPath(listed).name).is_file():
                check_side_file(beside, path.parent)
            content["names"] = _named_lines(read_text(next(p for p in below if p.is_file()))) if below else None
        content["nc"] = content.pop("classes", None)
    else:
        try:
            # Everything as text: else a class called "no" is False, and one called "1e3" a number.
            content = read_yaml(path, typed=False)
        except OSError as error:
            raise VisionTasksError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    if not isinstance(content, dict) or not any(_entries(content, s) for s in SPLITS):
        return None
    if content.get("names") is None and content.get("nc") is None:
        return None
    return Description(
        file=path,
        base=_text(path, content.get("path")),
        parts={split: own for split in SPLITS if (own := _entries(content, split))},
        names=_names(path, content.get("names"), content.get("nc")),
        key_points=_key_points(path, content.get("kpt_shape")),
        labelled_only=str(content.get("skip_if_label_file_missing")).lower() == "true",
    )


def _text(path: Path, value: Any) -> str:
    """The value of `path`; other things would be written out, which may take any time."""
    if isinstance(value, str | None):
        return value or ""
    raise VisionTasksError(f"{path}: path is the folder of the data, a text, not a {type(value).__name__}. Correct it.")


def _entries(content: Mapping[str, Any], split: str) -> list[str]:
    """What stands under the name of a split, as texts."""
    value = next((content[key] for key in SPLITS[split] if content.get(key)), None)
    several = value if isinstance(value, list) else [value]
    return [entry for entry in several if isinstance(entry, str) and entry]


def _names(path: Path, value: Any, count: Any) -> dict[int, str] | None:
    try:
        if isinstance(value, dict):
            named = {int(key): str(name) for key, name in value.items() if isinstance(name, str)}
        else:
            named = {n: str(name) for n, name in enumerate(value or []) if isinstance(name, str)}
        number = min(int(count), 1 << 16) if count else 0
    except (TypeError, ValueError) as error:
        raise VisionTasksError(
            f"{path}: names is a list of names, or class numbers with names (0: person), and nc a number "
            f"({str(error)[:200]})."
        ) from error
    if not named and not number:
        return None
    # Sparse numbers are fine where all have names; nc counts them then.
    missing = [n for n in range(number) if n not in named] if len(named) < number else []
    return dict(sorted((named | {n: str(n) for n in missing}).items()))


def _key_points(path: Path, shape: Any) -> int:
    if not shape:
        return 0
    try:
        count, dimensions = (int(n) for n in shape)
        return min(max(count * dimensions, 0), 1 << 20)
    except (TypeError, ValueError) as error:
        raise VisionTasksError(f"{path}: kpt_shape is [points, 2 or 3], two numbers. Correct it.") from error


def names_beside(folders: Sequence[Path]) -> dict[int, str] | None:
    """Class names from a file with one a line (`NAME_FILES`), in the first of these folders that has one.

    Raises:
        VisionTasksError: it is a link that leads out of the last of the folders, which is the data set's.
    """
    for folder in folders:
        for name in NAME_FILES:
            if (folder / name).is_file():
                check_side_file(folder / name, folders[-1])
                return _named_lines(read_text(folder / name))
    return None


def _named_lines(text: str) -> dict[int, str]:
    return {n: line.strip() for n, line in enumerate(text.rstrip().splitlines())}


def within(top: Path, paths: Sequence[str]) -> list[Path]:
    """Those of the paths, from `top` on, that lie in it or in a usual folder beside it, and are there."""
    found = (Path(os.path.normpath(top / p)) for p in paths)
    return [p for p in found if p.exists() and is_inside(p, top)]


def located(description: Description, entry: str) -> Path:
    """The folder or file that an entry of a description means.

    Tried are `path`, the description's own folder and the one above it, as tools differ about where `path` starts; of
    "../" also what follows; of an absolute path of another machine its ends. All must be `fence.is_inside`.

    Raises:
        VisionTasksError: it is not there, or lies outside.
    """
    top = Path(os.path.abspath(description.file.parent))
    wanted = _candidates(description.base.replace("\\", "/"), entry.replace("\\", "/").removeprefix("./"))
    if description.file.suffix.lower() == ".data":  # its paths start from where Darknet is called
        wanted += ends(entry)
    if found := within(top, wanted):
        return found[0]
    first = Path(os.path.normpath(top / wanted[0]))
    if not is_inside(first, top):
        raise VisionTasksError(
            f"{description.file}: {entry!r} would be {first}, which leads outside of {top}; files there are not "
            f"read because a data file says so. Name the image folder, or copy {description.file.name} into the folder "
            "of the data, take out its path, and write train, val and test from there on."
        )
    raise VisionTasksError(
        f"{description.file}: {entry!r} is neither {first} nor elsewhere in {top} or {top.parent}. Correct path, "
        "train, val and test, or name the image folder."
    )


def _candidates(base: str, rest: str) -> list[str]:
    """What an entry may mean, from the description's folder on, likeliest first."""
    if _is_absolute(rest):
        return [rest, *ends(rest)]
    based = f"{base}/{rest}" if base not in ("", ".") else rest
    out = [based, rest, f"../{rest}"] if _is_absolute(base) else [based, rest, f"../{based}", f"../{rest}"]
    while rest.startswith("../"):
        rest = rest[3:]
        out.append(rest)
    return out


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).drive)


def ends(path: str) -> list[str]:
    """Without its first folder, its first two, ...; longest first."""
    parts = [p for p in PurePosixPath(path).parts if p not in ("/", "..")]
    return ["/".join(parts[n:]) for n in range(1, len(parts))]


def image_files(folder: Path, top: Path) -> list[Path]:
    """All images in a folder and below it, in the order of names.

    Raises:
        VisionTasksError: one of these folders is a link that leads out of `top`.
    """
    found = [folder / path for path, _ in matching(folder, "{stem}.*", {})]
    for place in dict.fromkeys(path.parent for path in found):
        if not is_inside(place, top):
            raise VisionTasksError(
                f"{place}: a link that leads out of {top}, which is not followed. Name the image folder "
                "(--image-folder), or put the images themselves there."
            )
    return found


def listed_images(description: Description, file: Path) -> tuple[list[Path], list[str]]:
    """Images that a list file names, one a line, and lines that name none that is there.

    Raises:
        VisionTasksError: all of them lie outside.
    """
    top = Path(os.path.abspath(description.file.parent))
    known: dict[str, Path] = {}
    found, lost = [], []
    refusal: VisionTasksError | None = None
    for line in filter(None, map(str.strip, read_text(file).splitlines())):
        folder, _, name = line.replace("\\", "/").rpartition("/")
        if folder not in known and name:
            own = Path(os.path.normpath(file.parent / folder)) if not _is_absolute(folder) else None
            try:
                inside = own is not None and is_inside(own, top) and (own / name).is_file()
                known[folder] = own if own is not None and inside else located(description, f"{folder}/{name}").parent
            except VisionTasksError as error:
                refusal = error
        path = known.get(folder)
        if path is None or not name or name == ".." or not (path / name).is_file():
            lost.append(line)
        else:
            found.append(path / name)
    if not found and refusal is not None:
        raise refusal
    return found, lost
