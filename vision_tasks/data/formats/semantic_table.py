"""From the values in mask files to labels: which value, or colour, is which category, and which are ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.formats.label_images import color_value
from vision_tasks.data.image_errors import MaskValueError
from vision_tasks.data.semantic_source import IGNORED, UNKNOWN
from vision_tasks.errors import VisionTasksError

Value = int | Sequence[int]
"""A pixel's number, or its red, green and blue."""
MANY = 65536
"""Numbers up to here are looked up in a table of that length; ids of panoptic segments and colours are beyond."""
_NAMED = 8


@dataclass(frozen=True, eq=False)
class ValueTable:
    """What the values of a data set's masks mean.

    Attributes:
        categories: K categories. values: number -> label, -1 to ignore. colors: the same by `color_value`, empty where
            masks are read by number. foreground: a single category is wherever the value is neither 0 nor ignored.
        unknown: what a value outside the table is: an error, ignored, or (of a single category) not it.
    """

    categories: Categories
    values: Mapping[int, int]
    colors: Mapping[int, int]
    foreground: bool = False
    unknown: Literal["error", "ignore"] = "error"

    @cached_property
    def _numbers(self) -> np.ndarray:
        """(65536,) int16 labels of numbers."""
        table = np.full(MANY, self._otherwise, np.int16)
        for value, label in self.values.items():
            if 0 <= value < MANY:
                table[value] = label
        if self.foreground:
            table[0] = UNKNOWN
        return table

    @property
    def _otherwise(self) -> int:
        """Label of what the table lacks."""
        if self.foreground:
            return 0
        return IGNORED if self.unknown == "ignore" and len(self.categories) > 1 else UNKNOWN

    def labels(self, values: np.ndarray, are_colors: bool, place: Path | str) -> np.ndarray:
        """Labels (H, W) int16 of values (H, W); of a single category 0 where it is, -1 ignored, `UNKNOWN` elsewhere.

        Raises:
            MaskValueError: values outside the table; names the place, the values and what to do.
        """
        table = self.colors if are_colors else self.values
        if not are_colors and values.dtype in (np.uint8, np.uint16):
            labels: np.ndarray = self._numbers[values]
        else:
            labels = looked_up(values, table, self._otherwise)
            if self.foreground:
                labels[values == 0] = UNKNOWN
        if len(self.categories) > 1 and (lost := labels == UNKNOWN).any():
            raise outside(place, np.unique(values[lost]).tolist(), are_colors, self)
        return labels


def looked_up(values: np.ndarray, table: Mapping[int, int], otherwise: int) -> np.ndarray:
    """Labels (H, W) int16 of any whole numbers (H, W), `otherwise` of those that the table lacks."""
    # Masks are runs of one value: only where it changes is looked.
    flat = np.ascontiguousarray(values).reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1]) if len(flat) else np.zeros(0, int)
    known = np.array(sorted(table), np.int64)
    labels = np.array([table[v] for v in known.tolist()], np.int16)
    wanted = flat[starts].astype(np.int64)
    place = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    found = np.full(len(wanted), otherwise, np.int16)
    if len(known):
        found = np.where(known[place] == wanted, labels[place], found)
    return np.repeat(found, np.diff(np.append(starts, len(flat)))).reshape(values.shape)


def shown(value: int, is_color: bool) -> str:
    """A value for a message."""
    return f"[{value % 256}, {value // 256 % 256}, {value // 65536}]" if is_color else str(value)


def outside(place: Path | str, values: Sequence[int], are_colors: bool, table: ValueTable) -> MaskValueError:
    """The error for values that no category has."""
    named = tuple(shown(v, are_colors) for v in values)
    text = ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
    what = "colour" if are_colors else "value"
    own = sorted(table.colors if are_colors else table.values)
    known = (
        f"{len(own)} colours, such as {shown(own[0], True)}" if are_colors and own else ", ".join(map(str, own[:12]))
    ) + (", ..." if not are_colors and len(own) > 12 else "")
    hint = (
        " A lossy file (JPEG) is no mask: save masks as PNG." if str(place).lower().endswith((".jpg", ".jpeg")) else ""
    )
    return MaskValueError(
        f"{place}: {what}{'s' if len(named) > 1 else ''} {text} {'are' if len(named) > 1 else 'is'} in no category "
        f"(the table has {known or 'none'}). Add {'them' if len(named) > 1 else 'it'} to the semantic categories or to "
        f"ignore, or set unknown: ignore.{hint}",
        named,
    )


def table_of(
    categories: Iterable[str | Mapping[str, Any]],
    ignore: Iterable[Value] | None = None,
    first_value: int = 0,
    unknown: Literal["error", "ignore"] = "error",
    place: str = "data.semantic.categories",
) -> ValueTable:
    """A table from names (values count from `first_value`) or entries (`id`, `name`; `color`, `isthing`; `values` or
    `colors`, more that mean the same). Where entries have colours, ids may be left out: they count like names.

    Args:
        place: where they are from, for messages.
        categories: K of them. ignore: values that count as nothing; None is 255, unless that is a category or there is
            but one category, whose masks are often 0 and 255.

    Raises:
        VisionTasksError: nothing given, an entry without name or id, or one value for two categories.
    """
    given = list(categories)
    entries: list[dict[str, Any]] = [
        {"isthing": 0} | (dict(c) if isinstance(c, Mapping) else {"id": i, "name": c})
        for i, c in enumerate(given, first_value)
    ]
    if not entries:
        raise VisionTasksError(
            f"{place}: the semantic data have no categories. Give a list of names in the order of the values."
        )
    for number, entry in enumerate(entries, first_value):
        if "id" not in entry and (entry.get("color") or entry.get("colors")):
            entry["id"] = number
        if wrong := _flaw(entry):
            raise VisionTasksError(f"{place}: the semantic category {entry!r} {wrong}.")
    foreground = len(given) == 1 and not isinstance(given[0], Mapping)
    if foreground:
        entries[0]["id"] = 1
    try:
        made = Categories.of(entries)
    except (ValueError, TypeError) as error:
        raise VisionTasksError(f"{place}: the semantic categories cannot be read: {error}.") from error
    values: dict[int, int] = {}
    colors: dict[int, int] = {}
    for label, entry in enumerate(entries):
        numbers: list[Any] = [entry["id"], *entry.get("values", ())]
        own: list[Any] = [*([entry["color"]] if entry.get("color") else []), *entry.get("colors", ())]
        for number in numbers:
            _put(values, int(number), label, entry)
        for color in own:
            _put(colors, color_value(color), label, entry)
    if foreground:
        values = {}
    for value in (() if len(entries) == 1 or 255 in values else (255,)) if ignore is None else ignore:
        if isinstance(value, int):
            _put(values, value, IGNORED, {"name": "ignore"})
        else:
            _put(colors, color_value(value), IGNORED, {"name": "ignore"})
    return ValueTable(made, values, colors if any(v >= 0 for v in colors.values()) else {}, foreground, unknown)


def is_value(value: object) -> bool:
    """Whether it is a pixel's number, or its red, green and blue."""
    if isinstance(value, list | tuple):
        return len(value) == 3 and all(isinstance(c, int) and 0 <= c <= 255 for c in value)
    return isinstance(value, int) and abs(value) < 1 << 31


def _flaw(entry: Mapping[str, Any]) -> str:
    """What is wrong with an entry, "" for nothing."""
    own = entry.get("id")
    if not isinstance(entry.get("name"), str | int) or not isinstance(own, int) or not is_value(own):
        return "needs a name and an id, its value in the masks (or a color)"
    for key in ("values", "colors"):
        several = entry.get(key, [])
        if not isinstance(several, list | tuple) or not all(
            is_value(v) and isinstance(v, int) == (key == "values") for v in several
        ):
            return f"has {key}: {several!r}, but they are a list of " + (
                "numbers" if key == "values" else "[red, green, blue]"
            )
    color = entry.get("color")
    if color is not None and (isinstance(color, int) or not is_value(color)):
        return f"has color: {color!r}, but it is [red, green, blue], each 0 to 255"
    return ""


def _put(table: dict[int, int], value: int, label: int, entry: Mapping[str, Any]) -> None:
    if table.setdefault(value, label) != label:
        raise VisionTasksError(
            f"The semantic value {value} of {entry['name']!r} is given to another category or to ignore, too. "
            "Give each value one meaning."
        )
