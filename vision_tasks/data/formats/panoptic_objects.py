"""COCO panoptic annotations as objects: each segment, of a thing or a stuff, with its run-length mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.building import Box, RecordsBuilder
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.label_images import read_values
from vision_tasks.data.formats.mask_images import segment_rles
from vision_tasks.data.formats.panoptic import IDS, panoptic_categories, panoptic_content
from vision_tasks.data.formats.semantic_table import looked_up
from vision_tasks.data.formats.shapes import encode_rle
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.image_headers import in_threads
from vision_tasks.data.layout import first_image_folder, image_folder, json_files, looks_like_panoptic, split_of
from vision_tasks.data.problems import Problems
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records, escapes
from vision_tasks.data.semantic_source import IGNORED, UNKNOWN
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.masks import area
from vision_tasks.structures import Categories, Rle, Size

THINGS = "things"
"""As `Found.part`: things alone, for models that find objects."""


class _Segment(msgspec.Struct, gc=False):
    id: int
    category_id: int
    iscrowd: int = 0
    area: float | None = None
    bbox: list[float] | None = None


class _Entry(msgspec.Struct):
    image_id: int
    file_name: str
    segments_info: list[_Segment]


class _File(msgspec.Struct):
    images: list[dict[str, Any]]
    annotations: list[_Entry]
    categories: list[dict[str, Any]]
    info: Any = None
    licenses: Any = None


@dataclass
class _Decoded:
    """Of each segment its mask, None where it has no pixel; its box and pixels. `strange`: ids no segment has."""

    size: Size
    rles: Sequence[Rle | None]
    boxes: Sequence[Box] = ()
    pixels: Sequence[int] = ()
    strange: list[int] = field(default_factory=list)


def find_panoptic(path: Path) -> dict[str, Found]:
    """The splits of a COCO panoptic data set, by JSON files that have segments."""
    if path.is_file():
        if path.suffix.lower() != ".json" or not looks_like_panoptic(path):
            return {}
        images = image_folder(path, path.parent.parent)
        return {split_of(path, path.parent) or "train": Found("coco_panoptic", path, images)}
    files = [file for file in sorted(json_files(path)) if looks_like_panoptic(file)]
    found: dict[str, Found] = {}
    for file in files:
        split = split_of(file, path) or ("train" if len(files) == 1 else None)
        if split in found:
            raise VisionTasksError(
                f"{path}: {found[split].annotations.name} and {file.name} are both of {split}. Name the one to use."
            )
        if split is not None:
            # Below the folder that was named, else beside it, as sets of several kinds of labels lie.
            images = first_image_folder(file, [(path, 0), (path.parent, 0)])
            found[split] = Found("coco_panoptic", file, images)
    return found


def read_panoptic_objects(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split; each PNG is decoded once, and no bitmap is kept.

    Boxes, areas and crowds are as written; annotation ids are counted, as ids of segments repeat from image to image
    (`extras` has them as `segment_id`).

    Args:
        found: as `find_panoptic` gives it; its part `THINGS` leaves out stuff. categories: those trained on, matched by
            name; stuff that is not among them is left out without a word.

    Raises:
        VisionTasksError: no panoptic file, its PNG are not there, or nothing in it can be used.
    """
    path = found.annotations
    content = panoptic_content(path, _File)
    own = panoptic_categories(path, content.categories)
    kept, label_of = _wanted(own, categories, found.part == THINGS, path)
    masks = path.with_suffix("")
    if not masks.is_dir():
        raise VisionTasksError(
            f"{path}: its PNG should be in the folder {masks}, which is not there. Unpack it beside the JSON."
        )
    builder = RecordsBuilder(path, found.images or path.parent, kept, extras)
    if builder.extras is not None:
        data_set = {key: value for key in ("info", "licenses") if (value := getattr(content, key)) is not None}
        builder.extras = Extras(data_set, {}, {}, _category_extras(content, kept))
    images = _images(content, builder.problems)
    entries = _annotated(content, images, builder.problems)

    def look(entry: _Entry) -> _Decoded | ImageError:
        try:
            return _decoded(masks / entry.file_name, entry.segments_info, _size(images[entry.image_id]))
        except ImageError as error:
            return error

    for entry, decoded in zip(
        entries, counted(in_threads(look, entries), "reading panoptic maps", len(entries)), strict=True
    ):
        if isinstance(decoded, ImageError):
            builder.problems.add("mask_unreadable", [str(decoded)])
            continue
        image = images[entry.image_id]
        others = {k: v for k, v in image.items() if k not in ("id", "file_name", "width", "height")}
        builder.add_image(image["file_name"], *decoded.size, entry.image_id, others)
        _add_segments(builder, entry, decoded, own, label_of)
    if not builder.num_images:
        raise VisionTasksError(f"{path}: not one of its maps can be read.\n{builder.problems.summary()}".rstrip())
    return builder.finish()


def _wanted(own: Categories, wanted: Categories | None, things: bool, path: Path) -> tuple[Categories, dict[int, int]]:
    """The categories kept, and label of each category id."""
    if wanted is None:
        kept = Categories.of([e for e in own.to_list() if e["isthing"] or not things])
        return kept, kept.label_of_id
    place = {name: label for label, name in reversed(list(enumerate(wanted.names)))}
    chosen = {
        i: place[n]
        for i, n, thing in zip(own.ids, own.names, own.is_thing, strict=True)
        if n in place and (thing or not things)
    }
    if not chosen:
        raise VisionTasksError(
            f"{path}: none of its categories ({', '.join(own.names[:10])}) is one of those wanted "
            f"({', '.join(wanted.names[:10])}). Names must be spelt alike."
        )
    return wanted, chosen


def _category_extras(content: _File, kept: Categories) -> dict[int, dict[str, Any]]:
    others = {e["id"]: {k: v for k, v in e.items() if k not in ("id", "name")} for e in content.categories}
    return {label: others[i] for label, i in enumerate(kept.ids) if others.get(i)}


def _images(content: _File, problems: Problems) -> dict[int, dict[str, Any]]:
    """Id -> entry of images that can be used."""
    images: dict[int, dict[str, Any]] = {}
    for number, image in enumerate(content.images):
        if not isinstance(image.get("id"), int) or not isinstance(image.get("file_name"), str):
            problems.add("entry_unreadable", [f"entry {number} of images"])
        elif image["id"] in images:
            code = "image_repeated" if images[image["id"]]["file_name"] == image["file_name"] else "image_ambiguous"
            problems.add(code, [f"image {image['id']} {image['file_name']}"])
        else:
            images[image["id"]] = image
    return images


def _annotated(content: _File, images: Mapping[int, dict[str, Any]], problems: Problems) -> list[_Entry]:
    """Entries that belong to a listed image, one each, whose PNG is named inside its folder."""
    entries: dict[int, _Entry] = {}
    for entry in content.annotations:
        if entry.image_id not in images or escapes(entry.file_name) or entry.image_id in entries:
            problems.add("segment_unknown", [f"image {entry.image_id} {entry.file_name}"])
        else:
            entries[entry.image_id] = entry
    problems.add("mask_missing", [images[i]["file_name"] for i in images if i not in entries])
    return list(entries.values())


def _size(image: Mapping[str, Any]) -> Size | None:
    """(height, width) as stated."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None


def _decoded(path: Path, segments: Sequence[_Segment], size: Size | None) -> _Decoded:
    values, _ = read_values(path, size, "color")
    table = {s.id: number for number, s in enumerate(segments) if 0 < s.id < IDS} | {0: IGNORED}
    numbers = looked_up(values, table, UNKNOWN)
    rles = segment_rles(numbers, len(segments))
    there = [rle for rle in rles if rle is not None]
    boxes = iter(coco_mask.toBbox(there).tolist() if there else [])
    pixels = iter(area(there).tolist())
    lost = numbers == UNKNOWN
    return _Decoded(
        size=(values.shape[0], values.shape[1]),
        rles=rles,
        boxes=[tuple(next(boxes)) if rle is not None else (0.0, 0.0, 0.0, 0.0) for rle in rles],
        pixels=[next(pixels) if rle is not None else 0 for rle in rles],
        strange=np.unique(values[lost]).tolist() if lost.any() else [],
    )


def _add_segments(
    builder: RecordsBuilder, entry: _Entry, decoded: _Decoded, own: Categories, label_of: Mapping[int, int]
) -> None:
    where = f"image {entry.image_id} segment"
    builder.problems.add("segment_unlisted", [f"{where} {i}" for i in decoded.strange])
    for segment, rle, box, pixels in zip(entry.segments_info, decoded.rles, decoded.boxes, decoded.pixels, strict=True):
        label = label_of.get(segment.category_id)
        if label is None:
            known = own.label_of_id.get(segment.category_id)
            if known is None:
                builder.problems.add("segment_unknown", [f"{where} {segment.id}"])
            elif own.is_thing[known]:
                builder.problems.add("unknown_category", [f"{where} {segment.id}"])
            continue
        if rle is None:
            builder.problems.add("mask_empty", [f"{where} {segment.id}"])
            continue
        written = segment.bbox
        builder.add_object(
            label,
            box if written is None or len(written) != 4 else (written[0], written[1], written[2], written[3]),
            shape=encode_rle(rle),
            area=float(pixels) if segment.area is None else segment.area,
            is_crowd=bool(segment.iscrowd),
            extras={"segment_id": segment.id},
        )
