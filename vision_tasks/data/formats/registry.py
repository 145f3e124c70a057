"""The formats of annotations there are, and finding out which one a folder or file is of."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vision_tasks.data.formats import datumaro
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.coco_writer import write_coco
from vision_tasks.data.formats.interface import Format, Found
from vision_tasks.data.formats.labelme import find_labelme, read_labelme
from vision_tasks.data.formats.labelme_writer import write_labelme
from vision_tasks.data.formats.lvis import find_lvis, read_lvis, write_lvis
from vision_tasks.data.formats.mask_images import find_masks, read_mask_images
from vision_tasks.data.formats.masks_writer import write_masks
from vision_tasks.data.formats.panoptic_objects import find_panoptic, read_panoptic_objects
from vision_tasks.data.formats.panoptic_writer import write_panoptic
from vision_tasks.data.formats.voc import find_voc, read_voc
from vision_tasks.data.formats.voc_writer import write_voc
from vision_tasks.data.formats.webdataset import find_webdataset, read_webdataset, write_webdataset
from vision_tasks.data.formats.yolo import find_yolo, read_yolo
from vision_tasks.data.formats.yolo_writer import write_yolo
from vision_tasks.data.layout import (
    NothingFoundError,
    find_coco,
    held,
    images_below,
    images_may_be_missing,
    looks_like_instances,
    looks_like_lvis,
)
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories


def _read_coco(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    return read_coco(found.annotations, found.images, categories, extras=extras)


def _find_coco(path: Path) -> dict[str, Found]:
    if path.is_file() and not (path.suffix.lower() == ".json" and looks_like_instances(path)):
        return {}
    if path.is_file() and looks_like_lvis(path):
        return {}
    splits = find_coco(path, wanted=lambda file: not looks_like_lvis(file))
    return {name: Found("coco", s.annotations, s.images) for name, s in splits.items()}


FORMATS: dict[str, Format] = {
    "webdataset": Format(
        "WebDataset shards",
        read_webdataset,
        find_webdataset,
        write_webdataset,
        "all that COCO instances hold, and the images in tar files",
    ),
    # Before COCO, which would look into every JSON file, each of which may hold an image.
    "labelme": Format(
        "LabelMe", read_labelme, find_labelme, write_labelme, "boxes, polygons, circles, masks; any other keys"
    ),
    "coco": Format(
        "COCO instances", _read_coco, _find_coco, write_coco, "boxes, polygons, run lengths, crowds; any other keys"
    ),
    "lvis": Format("LVIS", read_lvis, find_lvis, write_lvis, "boxes, polygons, run lengths; any other keys"),
    "coco_panoptic": Format(
        "COCO panoptic",
        read_panoptic_objects,
        find_panoptic,
        write_panoptic,
        "masks of things and stuff that do not overlap, crowds; other keys but of annotations",
    ),
    "voc": Format("Pascal VOC", read_voc, find_voc, write_voc, "boxes; difficult, truncated, occluded, pose, parts"),
    "yolo": Format("YOLO txt", read_yolo, find_yolo, write_yolo, "boxes, or one outline for each object; nothing else"),
    "masks": Format("mask images", read_mask_images, find_masks, write_masks, "a category for each pixel"),
    **dict(datumaro.formats()),
}
"""Name -> format, in the order in which they are tried on a folder."""


_OTHERS = (
    ("seqinfo.ini", "sequences of MOTChallenge, for `vision-tasks evaluate-tracks`"),
    ("masks", "masks: the images must lie beside them, in a layout of docs/semantic_data.md"),
    ("*.mp4", "videos, for `vision-tasks predict`"),
    ("*.jp*g", "images without annotations"),
    ("*.png", "images without annotations"),
)
"""Files that tell what a folder without annotations is, and what to say."""


def find_data(path: Path | str, form: str | None = None) -> dict[str, Found]:
    """The splits "train", "val" and "test" of a data set, as far as there are any, in this order.

    Args:
        path: a folder, or an annotation file. form: its format, if it is known.

    Raises:
        VisionTasksError: nothing of this format, or of any, is there; says what each reader looked for.
    """
    path = Path(path)
    if not path.exists():
        if re.match(r"https?:/", str(path)):  # as a path, two slashes are one
            raise VisionTasksError(
                f"{path} is an address, not a folder. Shards are trained on from there, each split by its own key: "
                "data.train.shards=URL/train data.val.shards=URL/val. For all else, fetch the data first."
            )
        raise VisionTasksError(f"{path}: there is no such file or folder. Check the path of the data set.")
    if not path.is_file() and not path.is_dir():
        raise VisionTasksError(f"{path}: a pipe or a device, not a file or folder. Check the path of the data set.")
    if form is not None and form not in FORMATS:
        near = difflib.get_close_matches(form, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(FORMATS)}."
        raise VisionTasksError(f"there is no format {form!r}; {hint}")
    if form is not None:
        find = FORMATS[form].find
        if found := find(path) if find is not None else {}:
            return _ordered(found)
        raise NothingFoundError(f"{path}: nothing of the format {form} ({FORMATS[form].title}) found; {_held(path)}")
    refusals: list[VisionTasksError] = []
    for entry in FORMATS.values():
        try:
            if found := entry.find(path) if entry.find is not None else {}:
                return _ordered(_better(found, path))
        except NothingFoundError:
            continue
        except VisionTasksError as error:
            refusals.append(error)
    if refusals:  # there is something, but it cannot be used
        raise refusals[0]
    if path.is_file() and path.suffix.lower() == ".json":
        return {"train": Found("coco", path)}  # its reader says what it is instead
    titles = ", ".join(entry.title for entry in FORMATS.values() if entry.find is not None)
    raise NothingFoundError(f"{path}: no annotations found{_other(path)}. Looked for {titles}; {_held(path)}")


def _better(found: dict[str, Found], path: Path) -> dict[str, Found]:
    """What was found, or the panoptic files that it was made of: their masks do not overlap, and they have stuff."""
    if all(f.format == "coco" and "panoptic" in f.annotations.name.lower() for f in found.values()):
        with contextlib.suppress(VisionTasksError):
            return find_panoptic(path) or found
    return found


def _ordered(found: dict[str, Found]) -> dict[str, Found]:
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def _held(path: Path) -> str:
    return held(path) if path.is_dir() else "it is a file of another kind."


def _other(path: Path) -> str:
    """What a folder holds of what is known, but no data to train on."""
    if not path.is_dir():
        return ""
    for name, what in _OTHERS:
        if any(any(path.glob("*/" * depth + name)) for depth in range(3)):
            return f", but {what}"
    return ""


def read_found(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split (see `interface.Reader`)."""
    return FORMATS[found.format].read(found, categories, extras=extras)


def read_data(
    path: Path | str, form: str | None = None, images: Path | None = None, *, extras: bool = False
) -> dict[str, Records]:
    """All splits of a data set, with the same categories (`with_joint_categories`).

    Args:
        path, form, images: as in `find_with_images`. extras: keep what training does not need, for writing it again.
    """
    found = find_with_images(path, form, images)
    return with_joint_categories({name: read_found(one, extras=extras) for name, one in found.items()})


def find_with_images(path: Path | str, form: str | None = None, images: Path | None = None) -> dict[str, Found]:
    """`find_data` where somebody may name the image folder.

    Args:
        images: the folder of the images, or that of the folders of the splits' images; None to find it.

    Raises:
        VisionTasksError: as `find_data`, or there is no such folder.
    """
    if images is None:
        return find_data(path, form)
    if not images.is_dir():
        raise VisionTasksError(f"{images}: there is no such folder of images.")
    with images_may_be_missing():
        found = find_data(path, form)
    return {name: replace(one, images=images_below(one.annotations, images)) for name, one in found.items()}


def with_joint_categories(splits: Mapping[str, Records]) -> dict[str, Records]:
    """The splits in the categories of the first and then those that only others have, matched by name."""
    first = next(iter(splits.values()))
    own = first.categories.to_list()
    if all(r.categories.to_list() == own and _map_names(r) == _map_names(first) for r in splits.values()):
        return {name: replace(records, categories=first.categories) for name, records in splits.items()}
    # Only here: it stands on this module.
    from vision_tasks.data.operations.merge import merge

    return merge([splits])[0]


def _map_names(records: Records) -> tuple[str, ...] | None:
    return None if records.semantic is None else records.semantic.categories.names
