"""Writing maps of categories: `images/{split}/`, `masks/{split}/{stem}.png`, `masks/categories.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_tasks.data.formats.image_files import note_renamed, place_images, unique_names, unique_stems
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.formats.mask_images import size_of
from vision_tasks.data.formats.semantic_rendered import rendered
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.image_headers import in_threads
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import IGNORED, SemanticSource
from vision_tasks.structures import Categories


@dataclass(frozen=True)
class _Values:
    """What labels are in files: (K,) uint8 or uint16 `of_label`, and `ignored`; `absent` where a single one is not."""

    of_label: np.ndarray
    ignored: int
    absent: int

    def written(self, labels: np.ndarray) -> np.ndarray:
        """Pixels of a map (H, W), or of planes (L, H, W), of which later ones lie on earlier ones."""
        if labels.ndim == 2:
            table = np.append(self.of_label, self.ignored).astype(self.of_label.dtype)
            out: np.ndarray = table[labels]  # label -1 is the appended one
            return out
        out = np.full(labels.shape[1:], self.absent if len(labels) == 1 else self.ignored, self.of_label.dtype)
        for label, plane in enumerate(labels):
            out[plane == 1] = self.of_label[label]
        if len(labels) == 1:
            out[labels[0] == IGNORED] = self.ignored
        return out


def write_masks(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """Write the semantic maps of all splits; without any, maps drawn of the objects' outlines.

    Of objects, smaller ones lie on larger ones. Pixels that no object covers are a category "background", or ignored
    if some category is stuff: then the objects tell about every pixel. Values are the categories' ids; the files have
    16 bits if those go beyond 254.

    Raises:
        VisionTasksError: there are neither maps nor outlines. OSError: the disk is full.
    """
    maps = {split: _maps(records, losses) for split, records in splits.items()}
    categories = next(iter(maps.values())).categories
    values = _values(categories, losses)
    for split, source in maps.items():
        _write_split(splits[split], source, values, folder, split, images, losses)
    entries = _entries(categories, values)
    text = json.dumps({"categories": entries, "ignore": [values.ignored]}, ensure_ascii=False, indent=1)
    (folder / "masks").mkdir(exist_ok=True)
    (folder / "masks" / "categories.json").write_text(text, encoding="utf-8")


def _maps(records: Records, losses: Losses) -> SemanticSource:
    objects = len(records.labels)
    if records.semantic is not None:
        losses.add("objects: the data set has semantic maps, which are written", count=objects)
        return records.semantic
    has_stuff = not all(records.categories.is_thing)
    losses.add("objects: maps tell their categories, not where one ends and the next begins", count=objects)
    losses.add("crowds: ignored where no object lies on them", count=int(records.is_crowd.sum()))
    bare = int((records.shape_starts < 0).sum())
    losses.add("objects without an outline: their boxes are ignored where no other object lies on them", count=bare)
    return rendered(records, None if has_stuff else "background")


def _write_split(
    records: Records, source: SemanticSource, values: _Values, folder: Path, split: str, images: ImageWriting,
    losses: Losses,
) -> None:  # fmt: skip
    stems = unique_stems(records)
    names = unique_names(records, stems)
    note_renamed(records, names, losses)
    place_images(records, folder / "images" / split, images, losses, names)
    top = folder / "masks" / split
    for parent in {(top / stem).parent for stem in stems}:
        parent.mkdir(parents=True, exist_ok=True)

    def write(row: int) -> str | None:
        """What could not be written, None if all is well."""
        try:
            labels = source.read(row, size_of(records, row))
        except ImageError as error:
            return f"maps that cannot be read: left out\n{error}"
        if labels is None:
            return f"images without a map: without a mask file\n{records.file_name(row)}"
        Image.fromarray(values.written(labels)).save(top / f"{stems[row]}.png")
        if labels.ndim == 3 and len(labels) > 1 and ((labels == 1).sum(0) > 1).any():
            return f"maps in which categories overlap: the last one is written\n{records.file_name(row)}"
        return None

    for problem in counted(in_threads(write, range(len(records))), "writing masks", len(records)):
        if problem is not None:
            what, _, example = problem.partition("\n")
            losses.add(what, [example])


def _values(categories: Categories, losses: Losses) -> _Values:
    ids = np.array(categories.ids, np.int64)
    if ids.min(initial=0) < 0 or ids.max(initial=0) > 65534:
        losses.add("category ids that are no values of a pixel: counted from 0", count=len(ids))
        ids = np.arange(len(ids))
    wide = bool(ids.max(initial=0) > 254)
    ignored = 65535 if wide else 255
    return _Values(ids.astype(np.uint16 if wide else np.uint8), ignored, 0 if 0 not in ids else 1)


def _entries(categories: Categories, values: _Values) -> list[dict[str, Any]]:
    entries = categories.to_list()
    for entry, value in zip(entries, values.of_label.tolist(), strict=True):
        entry["id"] = value
    if len(set(categories.colors)) < len(entries):  # one colour would mean two categories
        for entry in entries:
            del entry["color"]
    return entries
