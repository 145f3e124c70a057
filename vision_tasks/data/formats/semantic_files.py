"""What a semantic data set consists of, and reading it: from patterns of names to `Records` with a `SemanticSource`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vision_tasks.data.formats.fence import check_side_file
from vision_tasks.data.formats.label_images import Reading
from vision_tasks.data.formats.patterns import checked, compiled, file_names, folders
from vision_tasks.data.formats.semantic_layouts import LAYOUTS
from vision_tasks.data.formats.semantic_table import Value, ValueTable, is_value, table_of
from vision_tasks.data.regular_files import read_regular_text
from vision_tasks.errors import VisionTasksError

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "testdev"),
}
"""Words in file and folder names that tell a split."""


@dataclass(frozen=True)
class SemanticFiles:
    """How a semantic data set lies on the disk; all paths are below one folder, with forward slashes.

    Attributes:
        images: pattern of image files. masks: pattern of mask files: one per image, or several (`*`), or one per
            category (`{category}`). panoptic: pattern of COCO panoptic JSON files; their PNG lie in a folder of the
            same name. annotations: pattern of COCO JSON files whose objects are rendered.
        splits: name -> folder name(s) for `{split}`, a list file (.txt), or a share of the images (0 to 1).
        categories: names, entries, or the name of a file with them. ignore, first_value, unknown: as `table_of` has it.
        reading: how pixels become values. background: name of the category of what no object or binary mask covers,
            None to ignore that. things: of panoptic maps: each its category, or "merge" in one category called things.
        multi_label: whether each category is decided on its own.
    """

    images: str | None = None
    masks: str | None = None
    panoptic: str | None = None
    annotations: str | None = None
    splits: Mapping[str, str | float | Sequence[str]] = field(default_factory=dict)
    categories: str | Sequence[str | Mapping[str, Any]] | None = None
    ignore: Sequence[Value] | None = None
    first_value: int = 0
    unknown: Literal["error", "ignore"] = "error"
    reading: Reading = "auto"
    background: str | None = "background"
    things: Literal["keep", "merge"] = "keep"
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.images is not None:
            checked(self.images, "images", ("split", "stem"))
        if self.masks is not None:
            checked(self.masks, "masks")
        for key in ("panoptic", "annotations"):
            if (pattern := getattr(self, key)) is not None:
                checked(pattern, key, ("split",))
        kinds = [k for k in ("masks", "panoptic", "annotations") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise VisionTasksError(
                f"data.semantic: {'nothing tells' if not kinds else ' and '.join(kinds) + ' both tell'} where the maps "
                "are. Give layout, or one of masks (patterns of PNG files, with images), panoptic and annotations "
                f"(COCO JSON files). Layouts are {', '.join(LAYOUTS)}."
            )
        shares = [float(v) for v in self.splits.values() if isinstance(v, int | float)]
        if sum(shares) > 1 + 1e-6:
            raise VisionTasksError(
                f"data.semantic.splits: the shares sum to {sum(shares):g}. They are parts of the images, together 1 at "
                "most, such as {train: 0.8, val: 0.2}."
            )
        patterns = [p for p in (self.images, self.masks) if p is not None]
        if self.masks is not None and not all("{stem}" in p for p in patterns):
            raise VisionTasksError(
                "data.semantic: images and masks need a pattern each with {stem}, the part of the names that they "
                "share, such as images: images/{split}/{stem}.jpg, masks: masks/{split}/{stem}.png."
            )


def semantic_files(layout: str | None = None, **given: Any) -> SemanticFiles:
    """A named layout's settings (`LAYOUTS`), with those that are given in their place."""
    if layout is not None and layout not in LAYOUTS:
        raise VisionTasksError(f"There is no semantic layout {layout!r}. Known are {', '.join(LAYOUTS)}.")
    base = dict(LAYOUTS[layout]) if layout is not None else {}
    for one, others in (("annotations", ("masks", "panoptic")), ("panoptic", ("masks", "annotations"))):
        if given.get(one) is not None:  # another kind of source than the layout's
            base = {k: v for k, v in base.items() if k not in others}
    return SemanticFiles(**(base | given))


def table_for(files: SemanticFiles, root: Path) -> ValueTable:
    """The table of values, its categories read from their file if need be.

    Raises:
        VisionTasksError: none are given, or the file cannot be read.
    """
    categories, ignore = files.categories, files.ignore
    if categories is None:
        raise VisionTasksError(
            "data.semantic.categories is missing: what do the values in the masks mean? Give names in their order, "
            "entries such as {id: 7, name: road}, or a JSON file of such entries."
        )
    binary = files.masks is not None and "{category}" in files.masks
    if isinstance(categories, str):
        categories, own = read_category_file(root, categories)
        ignore = own if ignore is None else ignore
    place = "data.semantic.categories"
    if isinstance(files.categories, str):
        place = str(root / files.categories)
    return table_of(categories, () if binary and ignore is None else ignore, files.first_value, files.unknown, place)


def read_category_file(root: Path, name: str) -> tuple[list[Any], list[Value] | None]:
    """Categories, and what to ignore if the file says so: JSON (a list, or an object with "categories"), a table with
    the columns Idx and Name, or one name a line."""
    checked(name, "categories", ())
    path = root / name
    check_side_file(path, root)
    try:
        text = read_regular_text(path)
        if path.suffix.lower() != ".json":
            return _text_categories(text, path), None
        content = json.loads(text)
        own = content.get("ignore") if isinstance(content, dict) else None
        found = content["categories"] if isinstance(content, dict) else content
        if not isinstance(found, list):
            raise TypeError("no list")
    except OSError as error:
        raise VisionTasksError(
            f"{path}: cannot be read ({error.strerror or error}). It should list the categories."
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise VisionTasksError(
            f'{path}: no list of categories. It should hold {{"categories": [{{"id": 0, "name": "road"}}, ...]}}.'
        ) from error
    own = [own] if isinstance(own, int) else own
    if own is not None and not (isinstance(own, list) and all(map(is_value, own))):
        raise VisionTasksError(f"{path}: ignore is {own!r}. Give a list of values, or of colours [red, green, blue].")
    return found, own


def _text_categories(text: str, path: Path) -> list[Any]:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    head = [column.strip().lower() for column in lines[0].split("\t")] if lines else []
    if "idx" in head and "name" in head:
        rows = [line.split("\t") for line in lines[1:]]
        place, name = head.index("idx"), head.index("name")
        for row in rows:
            if len(row) <= max(place, name) or not row[place].strip().isdecimal():
                raise VisionTasksError(
                    f"{path}: the row {' '.join(row)!r} has no Idx and Name. Part columns by tabs as in the first line."
                )
        return [{"id": int(row[place]), "name": row[name].split(",")[0].split(";")[0].strip()} for row in rows]
    return [line.strip() for line in lines]


def split_folders(files: SemanticFiles, split: str, root: Path) -> tuple[str, ...]:
    """What stands for `{split}`: as named, else what is there whose name tells this split; () if there is none.

    ("",) where no pattern has `{split}`.
    """
    patterns = [p for p in (files.panoptic, files.annotations, files.images, files.masks) if p and "{split}" in p]
    if not patterns:
        return ("",)
    named = files.splits.get(split)
    if isinstance(named, str) and not named.endswith(".txt"):
        return (named,)
    if isinstance(named, Sequence) and not isinstance(named, str):
        return tuple(named)
    if named is None and files.splits:
        return ()
    parts = patterns[0].split("/")
    number = next(i for i, part in enumerate(parts) if "{split}" in part)
    above, own = root / "/".join(parts[:number]), parts[number]
    names = folders(above) if number + 1 < len(parts) else file_names(above)
    rule = compiled(own)
    found = [m["split"] for n in names if (m := rule.fullmatch(n))]
    return tuple(n for n in found if tells(n, split))[:1]


def tells(name: str, split: str) -> bool:
    """Whether a name such as train2017 tells this split."""
    letters = "".join(c if c.isalpha() else " " for c in name.lower()).split()
    return any(word in SPLIT_WORDS.get(split, (split,)) for word in letters)


def chosen_stems(files: SemanticFiles, split: str, root: Path, stems: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of the stems belong to a split, by its list file or its share; then the listed that are not there."""
    named = files.splits.get(split)
    if isinstance(named, str) and named.endswith(".txt"):
        return _listed(root, named, stems)
    if not isinstance(named, int | float):
        shared = any(isinstance(v, int | float) for v in files.splits.values())
        return ([] if shared and named is None else list(stems)), []
    # A share by the names alone: the same images whatever was found in which order, and none in two splits.
    order = sorted(stems, key=lambda s: (zlib.crc32(s.encode("utf-8", "surrogateescape")), s))
    shares = {k: float(v) for k, v in files.splits.items() if isinstance(v, int | float)}
    begin = sum(list(shares.values())[: list(shares).index(split)])
    end = begin + float(named)
    return sorted(order[round(begin * len(order)) : round(end * len(order))]), []


def _listed(root: Path, name: str, stems: Sequence[str]) -> tuple[list[str], list[str]]:
    path = root / checked(name, "splits", ())
    try:
        lines = read_regular_text(path).splitlines()
    except OSError as error:
        raise VisionTasksError(
            f"{path}: cannot be read ({error.strerror or error}). data.semantic.splits names it as the list of a split."
        ) from error
    known = set(stems)
    tails: dict[str, list[str]] = {}
    for stem in stems:
        for tail in _tails(stem):
            tails.setdefault(tail, []).append(stem)
    found, lost = set(), []
    for line in filter(None, map(str.strip, lines)):
        own = next((own for e in (line, line.split()[0]) if (own := _meant(e, known, tails))), [])
        if len(own) > 1:
            raise VisionTasksError(f"{path}: the entry {line!r} may be {' or '.join(own[:3])}. Write its folders, too.")
        found.update(own)
        lost += [line] * (not own)
    return sorted(found), lost


def _meant(entry: str, known: Set[str], tails: Mapping[str, Sequence[str]]) -> list[str]:
    """The stems that an entry of a list may mean: that which it is, with or without ending and with folders before it;
    else those of which it is the end."""
    for whole in (entry.strip("/"), entry.strip("/").rpartition(".")[0]):
        for part in (whole, *_tails(whole)):
            if part in known:  # what is before it are the folders of the pattern
                return [part]
        if whole in tails:
            return list(tails[whole])
    return []


def _tails(path: str) -> Iterator[str]:
    """Without its first folder, its first two, ...; not the path itself."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path
