"""CVAT, KITTI and Open Images, read by datumaro (MIT; `pip install 'vision_tasks[datumaro]'`).

Its readers were looked at one by one before they were let in: none of these runs what is in a file (others of its
readers do: they unpickle), and CVAT's XML is parsed without entities. It keeps coordinates to a hundredth of a pixel.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.building import Box, RecordsBuilder
from vision_tasks.data.formats.image_annotations import split_of_folders
from vision_tasks.data.formats.interface import Format, Found
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

# Our name -> (datumaro's name, title, the files that tell it).
_KINDS = {
    "cvat": ("cvat", "CVAT for images", ("annotations.xml",)),
    "kitti": ("kitti_detection", "KITTI 2D objects", ("label_2/*.txt", "*/label_2/*.txt")),
    "open_images": ("open_images", "Open Images", ("annotations/*-annotations-bbox.csv",)),
}
_DONT_CARE = "DontCare"
"""KITTI's regions in which not every object is marked."""


def find_datumaro(path: Path, kind: str) -> dict[str, Found]:
    """The splits of a folder of this kind (see `interface.Finder`).

    Raises:
        VisionTasksError: it is of this kind, but datumaro is not there or cannot read it.
    """
    if not path.is_dir() or not any(any(path.glob(mark)) for mark in _KINDS[kind][2]):
        return {}
    subsets = list(_loaded(path, kind).subsets())
    return {
        split_of_folders(f"{subset}/") or "train": Found(f"datumaro:{kind}", path, part=subset)
        for subset in sorted(subsets, key=lambda s: split_of_folders(f"{s}/") is not None)
    }


def read_datumaro(
    found: Found, categories: Categories | None = None, *, extras: bool = False, kind: str = ""
) -> Records:
    """Records of one split (see `interface.Reader`).

    Boxes, polygons and masks are read; points, lines and turned boxes are not (`extras` says so of the data set).
    Open Images' groups and KITTI's regions that count for nothing (DontCare) are crowds.

    Raises:
        VisionTasksError: datumaro is not there or cannot read the files, or an image lies outside of the folder.
    """
    data = _loaded(found.annotations, kind)
    import datumaro

    names = [label.name for label in data.categories()[datumaro.AnnotationType.label]]
    shown = _display_names(found.annotations) if kind == "open_images" else {}
    names = [shown.get(name, name) for name in names]
    known = categories or Categories.of(names)
    label_of = {name: label for label, name in reversed(list(enumerate(known.names)))}
    root = found.images or found.annotations
    builder = RecordsBuilder(found.annotations, root, known, extras)
    left_out: dict[str, int] = {}
    for item in counted(data.get_subset(found.part) if found.part else data, "reading annotations"):
        size = _size(item)
        builder.add_image(_name(item, root, found.annotations), *size)
        for annotation in item.annotations:
            name = names[annotation.label] if annotation.label is not None else None
            if name not in label_of:
                continue
            shape = _shape(annotation)
            if shape is None:
                left_out[annotation.type.name] = left_out.get(annotation.type.name, 0) + 1
                continue
            box, entry = shape
            others = {k: int(v) if isinstance(v, bool) else v for k, v in annotation.attributes.items()}
            crowd = bool(others.pop("is_group_of", 0)) or (kind == "kitti" and name == _DONT_CARE)
            builder.add_object(label_of[name], box, shape=entry, is_crowd=crowd, extras=others)
    if builder.extras is not None and left_out:
        builder.extras.data_set["datumaro_left_out"] = left_out
    return builder.finish()


def _loaded(path: Path, kind: str) -> Any:
    """datumaro's data set.

    Raises:
        VisionTasksError: datumaro is not there, or stumbles.
    """
    name, title, _ = _KINDS[kind]
    try:
        import datumaro
    except ImportError as error:
        raise VisionTasksError(
            f"{path}: is {title}, which is read by datumaro: pip install 'vision_tasks[datumaro]', or export COCO."
        ) from error
    try:
        return datumaro.Dataset.import_from(str(path), name)
    except Exception as error:  # its readers raise anything: AssertionError, KeyError, its own
        cause = error.__cause__ or error
        raise VisionTasksError(
            f"{path}: datumaro cannot read it as {title} ({type(cause).__name__}: {cause}). Export COCO instead."
        ) from error


def _name(item: Any, root: Path, source: Path) -> str:
    """Path of an image below `root`.

    Raises:
        VisionTasksError: it lies elsewhere.
    """
    place = getattr(item.media, "path", None)
    name = os.path.relpath(place, root) if place else f"{item.id}.jpg"
    if Path(name).is_absolute() or name.split(os.sep)[0] == "..":
        raise VisionTasksError(f"{source}: the image {item.id!r} lies outside of {root}, which is refused.")
    return Path(name).as_posix()


def _size(item: Any) -> tuple[int, int]:
    """(height, width), zeros where nothing says it."""
    try:
        height, width = item.media.size
    except Exception:  # no image, or one that is broken
        return 0, 0
    return int(height), int(width)


def _shape(annotation: Any) -> tuple[Box, bytes] | None:
    """Box and outline (`formats.shapes`); None of what is neither."""
    kind = annotation.type.name
    if kind == "bbox":
        x, y, w, h = (float(v) for v in annotation.get_bbox())
        return (x, y, w, h), b""
    if kind == "polygon":
        entry, _ = shapes.from_polygons([annotation.points])
        return (shapes.box_around(entry), entry) if entry else None
    if kind == "mask":
        bitmap = annotation.image
        bitmap = bitmap() if callable(bitmap) else bitmap
        entry = shapes.encode_rle(coco_mask.encode(np.asfortranarray(bitmap, np.uint8)))
        return shapes.box_around(entry), entry
    return None


def _display_names(folder: Path) -> dict[str, str]:
    """Open Images' names of its codes, such as /m/01g317: Person."""
    for path in sorted((folder / "annotations").glob("*class-descriptions*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            return {row[0]: row[1] for row in csv.reader(stream) if len(row) > 1}
    return {}


def formats() -> Iterator[tuple[str, Format]]:
    """Entries of the registry."""
    for kind, (_, title, _) in _KINDS.items():
        read, find = partial(read_datumaro, kind=kind), partial(find_datumaro, kind=kind)
        yield f"datumaro:{kind}", Format(f"{title}, by datumaro", read, find, None, "boxes, polygons, masks; read only")
