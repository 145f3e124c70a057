"""Where the images and labels of a YOLO data set lie: data.yaml, obj.data, lists, or folders alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vision_tasks.data.formats.patterns import matching
from vision_tasks.data.regular_files import open_regular, read_regular
from vision_tasks.data.yaml_files import read_yaml
from vision_tasks.errors import VisionTasksError

NAME_FILES = ("classes.txt", "obj.names", "classes.names", "names.txt")
"""Files with one class name a line, beside the labels or above them; the first that is there counts."""
NO_LABELS = ("classes.txt", "names.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt", "notes.txt")
_LARGEST = 64 << 20
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


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
            content["names"] = _named_lines(read_text(next(p for p in below if p.is_file()))) if below else None
        content["nc"] = content.pop("classes", None)
    else:
        try:
            # Everything as text: else a class called "no" is False, and one called "1e3" a number.
            content = read_yaml(path, typed=False)
        except OSError as error:
            raise VisionTasksError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    if not isinstance(content, dict) or not any(_entries(content, s) for s in _SPLITS):
        return None
    if content.get("names") is None and content.get("nc") is None:
        return None
    return Description(
        file=path,
        base=_text(path, content.get("path")),
        parts={split: own for split in _SPLITS if (own := _entries(content, split))},
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
    value = next((content[key] for key in _SPLITS[split] if content.get(key)), None)
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
    """Class names from a file with one a line (`NAME_FILES`), in the first of these folders that has one."""
    for folder in folders:
        for name in NAME_FILES:
            if (folder / name).is_file():
                return _named_lines(read_text(folder / name))
    return None


def _named_lines(text: str) -> dict[int, str]:
    return {n: line.strip() for n, line in enumerate(text.rstrip().splitlines())}


def within(top: Path, paths: Sequence[str]) -> list[Path]:
    """Those of the paths, from `top` on, that lie in it or beside it, and are there."""
    found = (Path(os.path.normpath(top / p)) for p in paths)
    return [p for p in found if p.is_relative_to(_fence(top)) and p.exists()]


def _fence(top: Path) -> Path:
    """What paths in data files must not lead out of: the folder above, but not the whole machine."""
    return top.parent if top.parent != top.parent.parent else top


def located(description: Description, entry: str) -> Path:
    """The folder or file that an entry of a description means.

    Tried are `path`, the description's own folder and the one above it, as tools differ about where `path` starts; of
    "../" also what follows; of an absolute path of another machine its ends. Nothing outside of the folder above is
    touched.

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
    if not first.is_relative_to(_fence(top)):
        raise VisionTasksError(
            f"{description.file}: {entry!r} would be {first}, which is outside of {_fence(top)}; files there are not "
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


def image_files(folder: Path) -> list[Path]:
    """All images in a folder and below it, in the order of names."""
    return [folder / path for path, _ in matching(folder, "{stem}.*", {})]


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
                inside = own is not None and own.is_relative_to(_fence(top)) and (own / name).is_file()
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


def label_folder(folder: Path, top: Path) -> Path:
    """Where the labels of a folder's images lie.

    An "images" in the path, the last one first as the field has it, stands for "labels"; above the description's own
    folder, and in it. Where there is no such folder, labels lie beside the images.
    """
    above = _fence(top)
    if folder.is_relative_to(above):
        parts = folder.relative_to(above).parts
        for place in reversed([n for n, part in enumerate(parts) if part.lower() == "images"]):
            tail = ("labels", *parts[place + 1 :])
            beside = [] if folder.is_relative_to(top) else [top.joinpath(*tail)]  # images of several kinds of labels
            for found in (above.joinpath(*parts[:place], *tail), *beside):
                if found.is_dir():
                    return found
    return folder


def folder_splits(top: Path) -> dict[str, str]:
    """Split -> image folder below `top`, of data sets without a description, whose labels look like YOLO's."""
    found: dict[str, str] = {}
    for split, place in _places(top):
        folder = Path(os.path.normpath(top / place))
        if split not in found and folder.is_dir() and looks_like_labels(label_folder(folder, top)):
            found[split] = place
    return found


def _places(top: Path) -> Iterator[tuple[str, str]]:
    for split, words in _SPLITS.items():
        inner = sorted(p.name for p in top.iterdir() if p.is_dir())
        images = sorted(p.name for p in (top / "images").iterdir() if p.is_dir()) if "images" in inner else []
        yield from ((split, f"images/{n}") for n in images if _told(n, words))
        yield from ((split, f"{n}/images") for n in inner if _told(n, words))
        yield from ((split, n) for n in inner if _told(n, words))
    yield "train", "images"
    yield "train", "."


def _told(name: str, words: Sequence[str]) -> bool:
    return name.lower().rstrip("0123456789_-") in words


def looks_like_labels(folder: Path) -> bool:
    """Whether the first label files in a folder hold nothing but lines of numbers, at least one."""
    seen = 0
    for path in _some_texts(folder):
        with open_regular(path) as stream:
            text = stream.read(1 << 16).decode("utf-8-sig", "replace")
        lines = [line.split() for line in text.splitlines()[:5]]
        lines = [fields for fields in lines if fields]
        if any(len(fields) < 5 or not _numbers(fields[:5]) for fields in lines):
            return False
        seen += bool(lines)
        if seen > 3:
            break
    return seen > 0


def _some_texts(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for number, entry in enumerate(entries):
                name = entry.name.lower()
                if name.endswith(".txt") and name not in NO_LABELS and entry.is_file() and number < 5000:
                    yield Path(entry.path)
    except OSError:
        return


def _numbers(fields: Sequence[str]) -> bool:
    try:
        first, *_ = map(float, fields)
    except (ValueError, OverflowError):
        return False
    return first.is_integer()
