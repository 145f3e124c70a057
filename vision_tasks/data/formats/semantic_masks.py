"""Semantic truth from mask files: one of all categories per image, one per category, or one per object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.formats.label_images import Reading, read_values
from vision_tasks.data.formats.semantic_table import ValueTable
from vision_tasks.data.semantic_source import IGNORED, SemanticSource, covered, one_hot, packed_names, unpacked
from vision_tasks.structures import Size


@dataclass(frozen=True, eq=False)
class MaskFiles(SemanticSource):
    """Maps in files below `root`; those of image row r are `files[first[r]:first[r + 1]]`.

    Attributes:
        root: folder. files: (F,) names below it. first: (M + 1,) int64. annotated: (M,) bool, False where nobody made a
            map (no file and annotated: nothing is there).
        table: what values mean. reading: how pixels become values.
        file_labels: (F,) int16, of binary files each the label that is wherever the pixel is not 0; None if each file
            holds all categories.
        background: the label of pixels that no binary file covers, -1 to ignore them.
    """

    root: Path
    files: np.ndarray
    first: np.ndarray
    annotated: np.ndarray
    table: ValueTable
    reading: Reading = "auto"
    file_labels: np.ndarray | None = None
    background: int = IGNORED
    multi_label: bool = False

    @property
    def categories(self) -> Categories:  # type: ignore[override]
        return self.table.categories

    def __len__(self) -> int:
        return len(self.annotated)

    def has(self, row: int) -> bool:
        return bool(self.annotated[row])

    def paths(self, row: int) -> list[Path]:
        """The files of an image."""
        return [self.root / unpacked(name) for name in self.files[self.first[row] : self.first[row + 1]]]

    def place(self, row: int) -> str:
        paths = self.paths(row)
        return f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}" if paths else "(no mask)"

    def read(self, row: int, size: Size) -> np.ndarray | None:
        if not self.annotated[row]:
            return None
        paths = self.paths(row)
        if self.file_labels is not None:
            labels = self.file_labels[self.first[row] : self.first[row + 1]].tolist()
            return self._joined(paths, labels, size)
        values, are_colors = read_values(paths[0], size, self.reading)
        labels_map = self.table.labels(values, are_colors, paths[0])
        if not self.multi_label:
            return labels_map
        return one_hot(labels_map, len(self.categories))

    def _joined(self, paths: Sequence[Path], labels: Sequence[int], size: Size) -> np.ndarray:
        """Binary files laid over each other, later categories over earlier ones where only one may be."""
        ignored = np.zeros(size, bool)
        planes = np.zeros((len(self.categories), *size), np.int8)
        whole = np.full(size, self.background, np.int16)
        left_out = [value for value, to in self.table.values.items() if to == IGNORED and value]
        for label, path in sorted(zip(labels, paths, strict=True)):
            values, _ = read_values(path, size, "index")
            there = values != 0
            if left_out:
                ignored |= (lost := np.isin(values, left_out))
                there &= ~lost
            if self.multi_label:
                planes[label][there] = 1
            else:
                whole[there] = label
        if self.multi_label:
            return covered(planes, ignored)
        whole[ignored & (whole == self.background)] = IGNORED
        return whole

    def subset(self, rows: np.ndarray | Sequence[int]) -> MaskFiles:
        rows = np.asarray(rows, np.int64)
        counts = self.first[rows + 1] - self.first[rows]
        first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        chosen = np.repeat(self.first[rows] - first[:-1], counts) + np.arange(first[-1])
        return MaskFiles(
            self.root, self.files[chosen], first, self.annotated[rows], self.table, self.reading,
            None if self.file_labels is None else self.file_labels[chosen], self.background, self.multi_label,
        )  # fmt: skip


def mask_files(
    root: Path,
    files: Sequence[Sequence[str] | None],
    table: ValueTable,
    reading: Reading = "auto",
    labels: Sequence[Sequence[int] | None] | None = None,
    background: int = IGNORED,
    multi_label: bool = False,
) -> MaskFiles:
    """`MaskFiles` of M images: names of each one's files, None where nobody annotated; of binary files their labels."""
    counts = [len(own or ()) for own in files]
    return MaskFiles(
        root=root,
        files=packed_names([name for own in files for name in own or ()]),
        first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        annotated=np.array([own is not None for own in files], bool),
        table=table,
        reading="index" if reading == "auto" and not table.colors else reading,
        file_labels=None if labels is None else np.array([one for own in labels for one in own or ()], np.int16),
        background=background,
        multi_label=multi_label or len(table.categories) == 1,
    )
