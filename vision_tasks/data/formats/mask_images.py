"""Mask images as a format of annotations: maps of categories, files of one object each, and objects made of maps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask

from vision_tasks.data.decoding import PIXEL_LIMIT
from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.interface import Found, Losses
from vision_tasks.data.formats.label_images import read_values
from vision_tasks.data.formats.semantic import has_split, read_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.formats.semantic_masks import MaskFiles
from vision_tasks.data.formats.shapes import encode_rle
from vision_tasks.data.image_errors import ImageError, ImageTooLargeError
from vision_tasks.data.image_headers import in_threads, upright_size
from vision_tasks.data.layout import find_semantic
from vision_tasks.data.progress import counted
from vision_tasks.data.records import PER_ANNOTATION, Records
from vision_tasks.data.semantic_source import IGNORED
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import run_lengths
from vision_tasks.ops.masks import area, encode
from vision_tasks.structures import Categories, Rle, Size

OBJECT_LAYOUTS = ("nuclei",)
"""Layouts with a file for each object."""
_OWN_FORMATS = ("coco_panoptic", "coco_stuff")
"""Layouts that are formats of their own."""
Object = tuple[int, Rle]
"""Label and mask."""


def find_masks(path: Path) -> dict[str, Found]:
    """The splits of a folder that has one of the layouts of semantic data (docs/semantic_data.md)."""
    layout = find_semantic(path)
    if layout is None or layout in _OWN_FORMATS:
        return {}
    files = semantic_files(layout)
    return {s: Found("masks", path, part=s) for s in ("train", "val", "test") if has_split(files, s, path)}


def read_mask_images(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split: with maps and without objects; of a layout with a file for each object, objects.

    Args:
        found: as `find_masks` gives it. extras: there are none.

    Raises:
        VisionTasksError: the folder has none of the layouts, or nothing in it can be used.
    """
    layout = find_semantic(found.annotations)
    if layout is None:
        raise VisionTasksError(f"{found.annotations}: no layout of masks is found there; see docs/semantic_data.md.")
    files = semantic_files(layout)
    split = found.part or "train"
    if layout not in OBJECT_LAYOUTS:
        return _from_common_folder(read_semantic(files, split, found.annotations, categories))
    return objects_of_files(_from_common_folder(read_semantic(files, split, found.annotations)), categories)


def _from_common_folder(records: Records) -> Records:
    """The same records with file names that start from the folder that all images share."""
    names = [records.file_name(row) for row in range(len(records))]
    shared = os.path.commonpath([PurePosixPath(name).parent.as_posix() for name in names])
    if shared in ("", "."):
        return records
    short = [PurePosixPath(name).relative_to(shared).as_posix().encode("utf-8", "surrogateescape") for name in names]
    return replace(
        records,
        root=records.root / shared,
        names=np.frombuffer(b"".join(short), np.uint8),
        name_ends=np.cumsum([len(n) for n in short], dtype=np.int64),
    )


def objects_of_maps(records: Records, losses: Losses | None = None, *, components: bool = False) -> Records:
    """Records whose objects are made of their semantic maps: one run-length mask for each category in each image.

    Nothing of a map is lost but where it is ignored: no object says so. The box is that around the mask.

    Args:
        losses: grows by the images whose maps have ignored pixels. components: one object for each connected part
            (8 neighbours) instead.

    Raises:
        VisionTasksError: the records have no maps, or none of them can be read.
    """
    source = records.semantic
    if source is None:
        raise VisionTasksError(f"{records.source}: there are no semantic maps to make objects of.")
    voids: list[str] = []

    def look(row: int) -> list[Object] | ImageError | None:
        try:
            found = source.read(row, size_of(records, row))
        except ImageError as error:
            return error
        if found is None:
            return None
        if (found == IGNORED).any():
            voids.append(records.file_name(row))
        return list(_of_planes(found, components) if found.ndim == 3 else _of_map(found, components))

    made = _rebuilt(records, source.categories, in_threads(look, range(len(records))), "making objects of maps")
    if losses is not None:
        losses.add("images with ignored pixels in their maps: no object says so", sorted(voids))
    return made


def objects_of_files(records: Records, categories: Categories | None = None) -> Records:
    """Records whose objects are the mask files of their images, each file one object; they may overlap.

    Args:
        records: with `MaskFiles` of binary files. categories: those trained on, matched by name.
    """
    source = records.semantic
    assert isinstance(source, MaskFiles)
    assert source.file_labels is not None
    own = source.file_labels
    wanted = categories or replace(source.categories, is_thing=(True,) * len(source.categories))
    label_of = {name: label for label, name in enumerate(wanted.names)}
    if not any(name in label_of for name in source.categories.names):
        raise VisionTasksError(
            f"{records.source}: none of its categories ({', '.join(source.categories.names[:10])}) is one of those "
            f"wanted ({', '.join(wanted.names[:10])}). Names must be spelt alike."
        )
    table = [label_of.get(name, -1) for name in source.categories.names]

    def look(row: int) -> list[Object] | ImageError | None:
        size = size_of(records, row)
        labels = own[source.first[row] : source.first[row + 1]].tolist()
        try:
            bitmaps = [read_values(path, size, "index")[0] != 0 for path in source.paths(row)]
        except ImageError as error:
            return error
        there = [(table[label], _encoded(b)) for label, b in zip(labels, bitmaps, strict=True)]
        return [(label, rle) for label, rle in there if label >= 0]

    return _rebuilt(records, wanted, in_threads(look, range(len(records))), "reading masks")


def _rebuilt(
    records: Records, categories: Categories, found: Iterator[list[Object] | ImageError | None], what: str
) -> Records:
    """The images of records with other objects; those whose masks cannot be read, or that have none, are left out."""
    builder = RecordsBuilder(records.source, records.root, categories, records.extras is not None)
    builder.problems = records.problems.copy()
    kept: list[int] = []
    for row, objects in enumerate(counted(found, what, len(records))):
        if objects is None:
            builder.problems.add("mask_missing", [records.file_name(row)])
            continue
        if isinstance(objects, ImageError):
            builder.problems.add("mask_unreadable", [str(objects)])
            continue
        kept.append(row)
        of_image = records.extras.of_image(row) if records.extras is not None else None
        size = size_of(records, row)
        builder.add_image(records.file_name(row), *size, int(records.image_ids[row]), of_image)
        rles = [rle for _, rle in objects]
        boxes = coco_mask.toBbox(rles).tolist() if rles else []
        for (label, rle), (x, y, w, h), pixels in zip(objects, boxes, area(rles).tolist(), strict=True):
            if not pixels:
                builder.problems.add("mask_empty", [f"{records.file_name(row)} {categories.names[label]}"])
                continue
            builder.add_object(label, (x, y, w, h), shape=encode_rle(rle), area=float(pixels))
    if not kept:
        raise VisionTasksError(f"{records.source}: not one map can be read.\n{builder.problems.summary()}".rstrip())
    made = builder.finish()
    assert len(made) == len(kept)
    own = ("first", "widths", "heights", *PER_ANNOTATION, "shape_bytes", "has_shapes", "categories", "problems")
    # The images stay what they are: they may lie in several folders, or in an archive.
    images = replace(records.subset(np.array(kept)), semantic=None, has_boxes=True, folder=None)
    made = replace(images, **{name: getattr(made, name) for name in own}, extras=made.extras)
    if made.extras is not None and records.extras is not None:
        extras = Extras(records.extras.data_set, made.extras.images, {}, records.extras.categories)
        return replace(made, extras=extras)
    return made


def size_of(records: Records, row: int) -> Size:
    """(height, width) of an image as stated, else as its file has it.

    Raises:
        ImageError: nothing states it, and the file cannot be opened; or more pixels than images may have.
    """
    height, width = records.size(row) or upright_size(records.image_path(row))
    if height * width > PIXEL_LIMIT:
        raise ImageTooLargeError(
            f"{records.source}: {records.file_name(row)}: {width} × {height} pixels are more than the limit of "
            f"{PIXEL_LIMIT:,}. Correct its size, or tile it."
        )
    return height, width


def _of_map(labels: np.ndarray, components: bool) -> Iterator[Object]:
    """Objects of a map (H, W) int16."""
    if components:
        for label in (v for v in np.unique(labels).tolist() if v >= 0):
            yield from _parts(labels == label, label)
        return
    for label, rle in enumerate(segment_rles(labels, int(labels.max(initial=-1)) + 1)):
        if rle is not None:
            yield label, rle


def _of_planes(planes: np.ndarray, components: bool) -> Iterator[Object]:
    """Objects of planes (L, H, W) int8, which may overlap."""
    for label, plane in enumerate(planes):
        there = plane == 1
        if there.any():
            yield from _parts(there, label) if components else ((label, _encoded(there)),)


def _parts(there: np.ndarray, label: int) -> Iterator[Object]:
    count, numbers = cv2.connectedComponents(there.astype(np.uint8), connectivity=8)
    for rle in segment_rles(numbers - 1, count - 1):
        if rle is not None:
            yield label, rle


def _encoded(bitmap: np.ndarray) -> Rle:
    return encode(torch.from_numpy(np.ascontiguousarray(bitmap))[None])[0]


def segment_rles(segments: np.ndarray, count: int) -> list[Rle | None]:
    """Run-length masks of all segments of an image at once; None of those that are nowhere.

    Args:
        segments: (H, W) whole numbers, 0 to `count` - 1, negative for none.
    """
    size = segments.shape
    flat = np.ascontiguousarray(segments.T).reshape(-1)  # runs go down the columns
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    owner = flat[starts].astype(np.int64)
    order = np.argsort(owner, kind="stable")
    order = order[owner[order] >= 0]
    starts, ends, owner = starts[order], ends[order], owner[order]
    is_first = np.append(True, owner[1:] != owner[:-1])[: len(owner)]
    before = np.where(is_first, 0, np.concatenate([[0], ends[:-1]])[: len(ends)])
    runs = np.stack([starts - before, ends - starts], 1).reshape(-1)
    firsts = np.flatnonzero(is_first)
    out: list[Rle | None] = [None] * count
    lasts = np.append(firsts[1:], len(owner)) - 1
    tails = flat.size - ends[lasts] if len(firsts) else np.zeros(0, np.int64)
    pieces: Sequence[np.ndarray] = [
        np.append(own, tail) if tail else own
        for own, tail in zip(np.split(runs, 2 * firsts[1:]), tails.tolist(), strict=False)
    ]
    for number, counts in zip(owner[firsts].tolist(), run_lengths.compress(pieces), strict=True):
        out[number] = {"size": [int(size[0]), int(size[1])], "counts": counts}
    return out
