"""What labels mean: names, original ids, colours."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

Color = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

# Okabe & Ito's palette, made to be told apart by people with any form of colour blindness
# ("Color Universal Design", 2008), without its black, which vanishes on dark photos. Then seven more, chosen to lie
# far from these and from each other in CIELAB, by normal eyes and by red-green blind ones: maps have many categories,
# and as a tint on a photo two shades of one hue look the same.
_PALETTE: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (90, 70, 10),
    (100, 90, 230),
    (225, 55, 85),
    (110, 200, 40),
    (150, 10, 130),
    (170, 225, 195),
    (110, 50, 50),
)


def category_color(index: int) -> Color:
    """Colour of the category with this index: the same in every run, on every machine.

    The first seven are Okabe and Ito's; from the fifteenth on hues repeat at other lightness and saturation.
    """
    base = _PALETTE[index % len(_PALETTE)]
    turn = index // len(_PALETTE)
    if turn == 0:
        return base
    hue, light, saturation = colorsys.rgb_to_hls(*(c / 255 for c in base))
    light = min(0.85, max(0.2, light + (0.18, -0.18, 0.09, -0.09)[(turn - 1) % 4]))
    hue = (hue + 0.031 * (turn // 4)) % 1.0
    r, g, b = colorsys.hls_to_rgb(hue, light, max(0.35, saturation * 0.85))
    return (round(r * 255), round(g * 255), round(b * 255))


def valid_text(text: str) -> str:
    """A text that can be written: halves of letters, as JSON and YAML can say them, are U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True)
class Categories:
    """The K categories of a data set or of a head, in label order.

    Attributes:
        names: K names.
        ids: K original ids (COCO's run 1..90 with gaps). They come back on output.
        is_thing: K flags; False for stuff (sky, road) in semantic and panoptic data.
        colors: K RGB colours for drawing.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    is_thing: tuple[bool, ...]
    colors: tuple[Color, ...]

    def __deepcopy__(self, memo: dict[int, object]) -> Categories:
        """Itself: nothing in it can change, and copies of a model go on comparing by identity."""
        return self

    def __post_init__(self) -> None:
        k = len(self.names)
        if not (len(self.ids) == len(self.is_thing) == len(self.colors) == k):
            raise ValueError("Categories: names, ids, is_thing and colors must be equally long")
        object.__setattr__(self, "names", tuple(map(valid_text, self.names)))
        if len(set(self.ids)) != k:
            twice = sorted({i for i in self.ids if self.ids.count(i) > 1})
            raise ValueError(f"Categories: ids must be unique; these occur twice: {twice}")

    @classmethod
    def of(cls, categories: Categories | Iterable[str] | Iterable[Mapping[str, Any]]) -> Categories:
        """From names (ids 1..K), or from COCO category dictionaries (`id`, `name`, optional `isthing`, `color`)."""
        if isinstance(categories, Categories):
            return categories
        if isinstance(categories, str):
            raise TypeError(f"categories must be a list of names, not the single string {categories!r}")
        entries: list[Mapping[str, Any]] = [
            c if isinstance(c, Mapping) else {"id": i, "name": c} for i, c in enumerate(categories, start=1)
        ]
        return cls(
            names=tuple(str(c["name"]) for c in entries),
            ids=tuple(int(c["id"]) for c in entries),
            is_thing=tuple(bool(c.get("isthing", True)) for c in entries),
            colors=tuple(_color(c.get("color"), i) for i, c in enumerate(entries)),
        )

    def to_list(self) -> list[dict[str, Any]]:
        """COCO category dictionaries; `Categories.of` reads them back."""
        return [
            {"id": i, "name": n, "isthing": int(t), "color": list(c)}
            for i, n, t, c in zip(self.ids, self.names, self.is_thing, self.colors, strict=True)
        ]

    @cached_property
    def label_of_id(self) -> dict[int, int]:
        """Original id -> label."""
        return {i: label for label, i in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.names)


@lru_cache(maxsize=32)
def beside_map(objects: Categories, semantic: Categories) -> Categories:
    """Categories of objects in colours that go with a map's: whatever is written of both shows them alike.

    Args:
        objects: of the head that finds objects. semantic: of the map, whose colours stay.

    Returns:
        `objects`, in the map's colour where the map has a category of the same name; others in their own, or, where
        that is taken by a category of the map or an object before them, in one that is not.
    """
    if objects is semantic:
        return objects
    known = dict(zip(semantic.names, semantic.colors, strict=True))
    taken = set(semantic.colors)
    colors: list[Color] = []
    for name, own in zip(objects.names, objects.colors, strict=True):
        color = known.get(name, own)
        candidate = len(semantic)
        while name not in known and color in taken and candidate < len(semantic) + 1000:
            color, candidate = category_color(candidate), candidate + 1
        taken.add(color)
        colors.append(color)
    return replace(objects, colors=tuple(colors))


def _color(value: Any, index: int) -> Color:
    if value is None:
        return category_color(index)
    r, g, b = (int(v) for v in value)
    return (r, g, b)
