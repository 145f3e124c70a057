"""Data sets with one annotation file per image: which files there are, whose they are, and what their labels mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vision_tasks.data.formats.fence import check_side_file
from vision_tasks.data.formats.patterns import ENDINGS
from vision_tasks.data.formats.semantic_files import SPLIT_WORDS
from vision_tasks.data.regular_files import open_regular, read_regular_text
from vision_tasks.structures import Categories

LABEL_LISTS = ("labels.txt", "classes.txt", "predefined_classes.txt")
"""Files that list the categories, one name a line, in the order of labels; the first that is there counts."""
_PLACEHOLDERS = ("__ignore__", "_background_", "__background__")
_LONGEST_LIST = 1 << 20
_TRIES = 8


def files_below(folder: Path, endings: Iterable[str]) -> list[str]:
    """Paths relative to `folder`, with forward slashes and in order, of files with these endings (without dots).

    Hidden files and folders are left out; links to folders are not followed.
    """
    wanted = tuple(f".{e}" for e in endings)
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        start = Path(place).relative_to(folder).as_posix()
        prefix = "" if start == "." else f"{start}/"
        found += [prefix + f for f in files if f.lower().endswith(wanted) and not f.startswith(".")]
    return sorted(found)


def without_ending(path: str) -> str:
    """ "a/b.jpg" -> "a/b"."""
    return PurePosixPath(path).with_suffix("").as_posix()


class ImageFiles:
    """The image files below a folder, to be found by the name of their annotation file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_path: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        self._by_file: dict[str, list[str]] = {}
        for file in files_below(root, ENDINGS):
            stem = without_ending(file)
            self._by_path.setdefault(stem, []).append(file)
            self._by_name.setdefault(stem.rpartition("/")[2], []).append(file)
            self._by_file.setdefault(file.rpartition("/")[2], []).append(file)

    def __bool__(self) -> bool:
        return bool(self._by_path)

    def has(self, file: str) -> bool:
        """Whether this file, relative to `root`, is there."""
        return file in self._by_path.get(without_ending(file), ())

    def others(self, used: Set[str], split: str | None) -> list[str]:
        """Images that are not used; of those in folders that tell a split, which may be all, only this one's."""
        files = [f for own in self._by_path.values() for f in own if f not in used]
        return files if split is None else [f for f in files if split_of_folders(f) == split]

    def of(self, stem: str, named: str = "") -> str | None:
        """The image of an annotation file, relative to `root`; None if there is none.

        That of the same path counts, then that of the same name in another folder; where several have it, the one
        that is called `named`. Only then one that is called `named` without sharing the annotation's name.

        Args:
            stem: of the annotation file, with its folders, without ending. named: file name that it states.
        """
        own = self._by_path.get(stem) or self._by_name.get(stem.rpartition("/")[2]) or self._by_file.get(named) or []
        return next((f for f in own if f.rpartition("/")[2] == named), own[0] if own else None)


def split_of_folders(path: str) -> str | None:
    """The split that the folders of a relative path tell, the innermost first; None if none does."""
    for folder in reversed(path.split("/")[:-1]):
        words = re.findall(r"[a-z]+", folder.lower())
        for split, own in SPLIT_WORDS.items():
            if any(word in own for word in words):
                return split
    return None


def in_split(files: Iterable[str], split: str | None) -> list[str]:
    """Files whose folders tell this split; those that tell none are for training. All of them if `split` is None."""
    return [f for f in files if split is None or (split_of_folders(f) or "train") == split]


def splits_of(files: Iterable[str]) -> list[str | None]:
    """The splits that folders tell, [None] if none does."""
    told = {split_of_folders(f) for f in files}
    return [None] if told <= {None} else [s for s in SPLIT_WORDS if s in {t or "train" for t in told}]


@dataclass(frozen=True)
class Labels:
    """Category names as files have them, and their labels, -1 for those that are not wanted."""

    categories: Categories
    label_of: dict[str, int]


def labels_of(names: Iterable[str], folders: Iterable[Path], wanted: Categories | None) -> Labels:
    """What names mean.

    Args:
        names: as found in the whole data set. folders: where a list of labels may lie.
        wanted: categories trained on, matched by name. Without them: the list's order, then the alphabet.
    """
    found = sorted(set(names))
    if wanted is None:
        lists = (_listed(folder) for folder in folders)
        # A list of which no name is used belongs to something else.
        listed = next((own for own in lists if own and (not found or not set(own).isdisjoint(found))), [])
        wanted = Categories.of([*listed, *(n for n in found if n not in listed)])
    known = {name: label for label, name in reversed(list(enumerate(wanted.names)))}
    return Labels(wanted, {name: known.get(name, -1) for name in found})


def _listed(folder: Path) -> list[str]:
    """Names in the folder's list of labels, each once."""
    for file in (folder / name for name in LABEL_LISTS):
        try:
            if file.is_file():
                check_side_file(file, folder)
                text = read_regular_text(file, _LONGEST_LIST, "replace")
                lines = (" ".join(line.split()) for line in text.split("\n"))
                return [n for n in dict.fromkeys(lines) if n and n not in _PLACEHOLDERS]
        except OSError:
            continue
    return []


def write_labels(folder: Path, categories: Categories) -> None:
    """The list of labels that `labels_of` reads."""
    (folder / LABEL_LISTS[0]).write_text("".join(f"{plain(n)}\n" for n in categories.names), "utf-8")


def plain(name: str) -> str:
    """A name on one line, without letters that XML and lists cannot hold."""
    return " ".join(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", name).split())


def exact(value: float) -> float:
    """A pixel coordinate without the last digits that adding and subtracting leave behind (a billionth of a pixel)."""
    return value if value.is_integer() else round(value, 9)


def heads_match(
    folder: Path, files: Sequence[str], pattern: re.Pattern[bytes], other: re.Pattern[bytes] | None = None
) -> bool:
    """Whether one of a few files, from all over the list, has this in its first 64 kB, and not more have `other`."""
    few = [files[i * len(files) // _TRIES] for i in range(_TRIES)] if len(files) > _TRIES else files
    heads = list(_heads(folder, few))
    own = sum(pattern.search(head) is not None for head in heads)
    return own > 0 and (other is None or own >= sum(other.search(head) is not None for head in heads))


def _heads(folder: Path, files: Iterable[str]) -> Iterator[bytes]:
    for file in files:
        try:
            with open_regular(folder / file) as stream:
                yield stream.read(1 << 16).replace(b"\0", b"")  # UTF-16 is letters and zeros
        except OSError:
            continue
