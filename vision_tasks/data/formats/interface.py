"""What every format of annotations offers: finding it in a folder, reading it to `Records`, writing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vision_tasks.data.records import Records
from vision_tasks.structures import Categories

EXAMPLES = 5

ImageWriting = Literal["copy", "link", "none"]
"""What becomes of image files: copied, hard-linked (copied where that cannot be), or left where they are."""


@dataclass(frozen=True)
class Found:
    """One split of a data set, as found on the disk.

    Attributes:
        format: key of `registry.FORMATS`. annotations: a file, or the folder of the annotation files.
        images: folder that file names start from; None where the format finds it by itself.
        part: what else tells the split: a list file, or the name of the split inside `annotations`.
    """

    format: str
    annotations: Path
    images: Path | None = None
    part: str | None = None


class Losses:
    """What a format could not hold, by kind: counted, with a few examples."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, examples: Iterable[object] = (), count: int | None = None) -> None:
        """Count `count` more of `what` (default: as many as `examples` has; zero adds nothing).

        Args:
            what: such as "masks of several parts: only the largest part is kept".
        """
        if count is None:
            examples = list(examples)
            count = len(examples)
        if not count:
            return
        old, kept = self._found.get(what, (0, []))
        for example in examples:
            if len(kept) >= EXAMPLES:
                break
            kept.append(str(example))
        self._found[what] = (old + count, kept)

    def __len__(self) -> int:
        return len(self._found)

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "Everything was kept."

    def lines(self) -> list[str]:
        """One line per kind, the most frequent first."""
        ordered = sorted(self._found.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            f"{count:,} × {what}" + (f" ({', '.join(kept)}{', ...' if count > len(kept) else ''})" if kept else "")
            for what, (count, kept) in ordered
        ]


class Reader(Protocol):
    """`read(found, categories, extras=...)`: records of one split.

    Args:
        categories: those trained on, matched by name; None takes the file's own. extras: keep `Records.extras`.

    Raises:
        VisionTasksError: the files cannot be used at all; names file, entry, and what to do. Flaws that can be lived
            with go to `Records.problems`.
    """

    def __call__(self, found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records: ...


Finder = Callable[[Path], dict[str, Found]]
"""The splits "train", "val", "test" at a path (a folder or a file) in this format; empty if it holds none of it."""


class Writer(Protocol):
    """`write(splits, folder, images=..., losses=...)`: the whole data set, in a folder that exists and is empty.

    The caller renames the folder once all is written. Splits share their categories.
    """

    def __call__(
        self, splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses
    ) -> None: ...


@dataclass(frozen=True)
class Format:
    """One format of annotations.

    Attributes:
        title: its name for people. find: None if it is never found by itself. write: None if it is only read.
        holds: what it can hold, in one line, for the table of formats.
    """

    title: str
    read: Reader
    find: Finder | None = None
    write: Writer | None = None
    holds: str = ""
