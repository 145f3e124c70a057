"""Where the semantic truth of a data set comes from: one map per image, read when it is wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.structures import Size

IGNORED = -1
"""Stands, in every map, for pixels that neither teach nor count."""
UNKNOWN = -2
"""Stands, while a file is read, for values that its table lacks; never leaves this room."""


class SemanticSource(ABC):
    """The semantic maps of M images; row r belongs to image row r of the `Records` it is part of.

    Read-only, light to pickle (names and tables, no pixels), and the same in every process.

    Attributes:
        categories: what the labels mean. multi_label: whether each category is decided on its own.
        is_drawn: whether maps are drawn of outlines, in which there is nothing to decode that might be damaged.
    """

    categories: Categories
    multi_label: bool
    is_drawn: ClassVar[bool] = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def read(self, row: int, size: Size) -> np.ndarray | None:
        """The map of an image.

        Args:
            row: image row. size: (height, width) of the decoded image.

        Returns:
            (H, W) int16, labels with -1 to ignore; or, if `multi_label`, (L, H, W) int8: 1 where a category is, 0 where
            it is not, -1 to ignore. None: nobody annotated this image.

        Raises:
            ImageError: the file cannot be used (missing, damaged, of another size, with values outside the table).
        """

    @abstractmethod
    def subset(self, rows: np.ndarray | Sequence[int]) -> Self:
        """Only these image rows, (R,) int64, in this order."""

    @abstractmethod
    def place(self, row: int) -> str:
        """Where the map of an image lies, to be named in messages."""

    @abstractmethod
    def has(self, row: int) -> bool:
        """Whether the image has a map."""


def one_hot(labels: np.ndarray, count: int) -> np.ndarray:
    """(H, W) labels to (count, H, W) int8 as `SemanticSource.read` gives them; label -1 is ignored in each of them."""
    planes: np.ndarray = (labels == np.arange(count, dtype=labels.dtype)[:, None, None]).astype(np.int8)
    planes[:, labels == IGNORED] = IGNORED
    return planes


def covered(planes: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Marks pixels (H, W) bool as ignored in planes (L, H, W) int8, but where a category is known to be there."""
    np.copyto(planes, np.int8(IGNORED), where=ignored & (planes != 1))
    return planes


def packed_names(names: Sequence[str]) -> np.ndarray:
    """Names as one fixed-width array (M,) of bytes: a list of a million strings would be copied into every worker."""
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    return np.array(encoded, dtype=f"S{max((len(n) for n in encoded), default=1) or 1}")


def unpacked(name: np.bytes_) -> str:
    """One name of `packed_names`."""
    return str(bytes(name), "utf-8", "surrogateescape")
