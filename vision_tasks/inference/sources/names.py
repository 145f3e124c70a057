"""What frames are called: names for the files written of them, no two of a run the same, whatever the file system."""

from __future__ import annotations

import re
from collections.abc import Callable

_NUMBERED = re.compile(r"(.*)_\d{6,}", re.DOTALL)
# What Windows refuses in a file's name, and what a terminal would act upon.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
RESERVED = frozenset(("sheet", "predictions", "panoptic"))
"""Files of results that lie beside drawn pictures; no frame and no video has such a name."""
_LONGEST = 180  # bytes; file systems allow 255, and a number, an ending and a suffix of temporary files come after it


class Names:
    """Names given so far. Those that differ in upper and lower case only count as the same.

    A series is a video: its frames are "NAME_000000", "NAME_000001", ..., so no picture may be called that, either.
    A group is a source of pictures: it may be called as one of its pictures is, but not as another source.
    """

    def __init__(self) -> None:
        self._taken = set(RESERVED)
        self._groups: set[str] = set()
        self._series: set[str] = set()
        self._numbered: set[str] = set()

    def single(self, wanted: str) -> str:
        """A free name like `wanted`: itself, or with -2, -3, ... behind it."""
        name = self._free(wanted, lambda key: key in self._taken or self._is_frame(key))
        self._take(name.casefold())
        return name

    def series(self, wanted: str) -> str:
        """A free name like `wanted`, of which no numbered name is taken, either."""
        name = self._free(
            wanted,
            lambda key: key in self._taken or key in self._numbered or key in self._groups or self._is_frame(key),
        )
        self._take(name.casefold())
        self._series.add(name.casefold())
        return name

    def group(self, wanted: str) -> str:
        """A free name of a source like `wanted`."""
        name = self._free(wanted, lambda key: key in self._groups or key in self._series)
        self._groups.add(name.casefold())
        return name

    def _take(self, key: str) -> None:
        self._taken.add(key)
        if match := _NUMBERED.fullmatch(key):
            self._numbered.add(match[1])

    def _is_frame(self, key: str) -> bool:
        match = _NUMBERED.fullmatch(key)
        return match is not None and match[1] in self._series

    @staticmethod
    def _free(wanted: str, taken: Callable[[str], bool]) -> str:
        stem = _cut(_FORBIDDEN.sub("_", wanted)) or "image"
        name, number = stem, 2
        while taken(name.casefold()):
            name, number = f"{stem}-{number}", number + 1
        return name


def numbered(name: str, index: int) -> str:
    """The name of frame `index` of the series `name`."""
    return f"{name}_{index:06d}"


def _cut(name: str) -> str:
    encoded = name.encode("utf-8", "surrogateescape")
    return name if len(encoded) <= _LONGEST else encoded[:_LONGEST].decode("utf-8", "ignore")
