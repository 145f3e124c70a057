"""Writing Pascal VOC: JPEGImages, Annotations, ImageSets/Main, and labels.txt for the order of categories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from vision_tasks.data.formats.coco_writer import having_objects
from vision_tasks.data.formats.image_annotations import exact, plain, write_labels
from vision_tasks.data.formats.image_files import note_renamed, place_images, unique_names, unique_stems
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.data.formats.unheld import note_unheld
from vision_tasks.data.formats.voc import ANNOTATIONS, IMAGES, LISTS
from vision_tasks.data.formats.voc_entries import CORNERS, DEEPEST, FLAGS
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records

_TAG = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
# What the writer itself says, or the reader takes for something else.
_OWN_OF_OBJECT = {"name", "pose", *FLAGS, "bndbox", "polygon", "segm", "segmentation", "mask"}
_OWN_OF_IMAGE = {"folder", "filename", "path", "size", "segmented", "object", "depth", "verified"}


def write_voc(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """The whole data set (see `interface.Writer`); splits whose images share names get a folder each.

    Coordinates that are no whole numbers are written as they are, as VOC itself does in places.
    """
    splits = {split: having_objects(records, losses) for split, records in splits.items()}
    stems = {split: unique_stems(records) for split, records in splits.items()}
    shared = len(set().union(*stems.values())) < sum(map(len, stems.values()))
    (folder / LISTS).mkdir(parents=True)
    (folder / ANNOTATIONS).mkdir()
    (folder / IMAGES).mkdir()
    for split, records in splits.items():
        inner = f"{split}/" if shared else ""
        names = unique_names(records, stems[split])
        note_renamed(records, names, losses)
        place_images(records, folder / IMAGES / inner, images, losses, names)
        listed = [inner + stem for stem in stems[split]]
        (folder / LISTS / f"{split}.txt").write_text("".join(f"{s}\n" for s in listed), "utf-8")
        for row, (stem, name) in enumerate(counted(list(zip(listed, names, strict=True)), "writing annotations")):
            target = folder / ANNOTATIONS / f"{stem}.xml"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_xml(records, row, inner + name))
        _note_losses(records, losses)
    write_labels(folder, next(iter(splits.values())).categories)
    note_unheld(splits, "VOC", losses, _holds_of_image, _holds_of_object)


def _xml(records: Records, row: int, name: str) -> bytes:
    """One file; `name`: of its image below JPEGImages."""
    path = PurePosixPath(name)
    extras = {} if records.extras is None else dict(records.extras.of_image(row))
    root = ElementTree.Element("annotation")
    if isinstance(verified := extras.get("verified"), str):
        root.set("verified", plain(verified))
    _say(root, "folder", (PurePosixPath(IMAGES) / path.parent).as_posix())
    _say(root, "filename", path.name)
    _say_others(root, extras, _holds_of_image, _OWN_OF_IMAGE)
    height, width = int(records.heights[row]), int(records.widths[row])
    size = ElementTree.SubElement(root, "size")
    depth = extras.get("depth", 3)
    for key, value in (("width", width), ("height", height), ("depth", depth)):
        _say(size, key, str(value))
    _say(root, "segmented", str(extras.get("segmented", 0)))
    for index in range(int(records.first[row]), int(records.first[row + 1])):
        if np.isfinite(records.boxes[index]).all():
            _object(root, records, index)
    ElementTree.indent(root, "\t")
    return bytes(ElementTree.tostring(root, "utf-8")) + b"\n"


def _object(root: ElementTree.Element, records: Records, index: int) -> None:
    extras = {} if records.extras is None else dict(records.extras.of_annotation(index))
    item = ElementTree.SubElement(root, "object")
    _say(item, "name", plain(records.categories.names[records.labels[index]]))
    _say(item, "pose", plain(str(extras.get("pose", "Unspecified"))))
    for flag in FLAGS:
        # Evaluations of VOC leave difficult objects out, as those of COCO do with crowds.
        on = _is_on(extras.get(flag)) or (flag == "difficult" and bool(records.is_crowd[index]))
        if on or flag != "occluded":  # which came with VOC2008
            _say(item, flag, str(int(on)))
    x, y, w, h = records.boxes[index].tolist()
    box = ElementTree.SubElement(item, "bndbox")
    for corner, value in zip(CORNERS, (exact(x + 1), exact(y + 1), exact(x + w), exact(y + h)), strict=True):
        _say(box, corner, str(int(value)) if value.is_integer() else repr(value))
    _say_others(item, extras, _holds_of_object, _OWN_OF_OBJECT)


def _say(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _say_others(parent: ElementTree.Element, extras: Mapping[str, Any], holds: Any, own: set[str]) -> None:
    for key, value in extras.items():
        if key not in own and holds(key, value):
            _say_value(parent, key, value)


def _say_value(parent: ElementTree.Element, tag: str, value: Any) -> None:
    if isinstance(value, list):
        for one in value:
            _say_value(parent, tag, one)
    elif isinstance(value, dict):
        item = ElementTree.SubElement(parent, tag)
        for key, inner in value.items():
            _say_value(item, key, inner)
    else:
        _say(parent, tag, value)


def _is_on(value: Any) -> bool:
    return value in (1, True, "1")


def _holds_of_image(key: str, value: Any) -> bool:
    if key == "depth":
        return isinstance(value, int)
    if key == "segmented":
        return value in (0, 1)
    return (key == "verified" and isinstance(value, str)) or (key not in _OWN_OF_IMAGE and _is_xml(key, value, 0))


def _holds_of_object(key: str, value: Any) -> bool:
    if key in FLAGS:
        return value in (0, 1)
    if key == "pose":
        return isinstance(value, str) and bool(value) and value == plain(value)
    return key not in _OWN_OF_OBJECT and _is_xml(key, value, 0)


def _is_xml(tag: str, value: Any, depth: int, in_list: bool = False) -> bool:
    """Whether the reader gives this very value back: text, elements in elements, or several of one name."""
    if not _TAG.fullmatch(tag) or depth > DEEPEST:
        return False
    if isinstance(value, str):
        return bool(value) and value == plain(value)
    if isinstance(value, dict):
        return bool(value) and all(_is_xml(str(k), v, depth + 1) for k, v in value.items())
    return (
        isinstance(value, list) and len(value) > 1 and not in_list and all(_is_xml(tag, v, depth, True) for v in value)
    )


def _note_losses(records: Records, losses: Losses) -> None:
    shown = records.annotation_ids
    for what, lost in (
        ("masks: VOC has boxes alone", records.shape_starts >= 0),
        ("crowds: VOC has none, they become difficult objects", records.is_crowd),
        ("boxes that are no numbers: left out", ~np.isfinite(records.boxes).all(1)),
        ("areas: VOC has none, that of the box will count", _own_area(records)),
    ):
        losses.add(what, (f"annotation {i}" for i in shown[lost][:5]), int(lost.sum()))


def _own_area(records: Records) -> np.ndarray:
    """(N,) whether the area is another than that of the box."""
    with np.errstate(all="ignore"):
        of_box = records.boxes[:, 2:].clip(0).prod(1)
        other: np.ndarray = (np.abs(records.areas - of_box) > 1e-6 * np.maximum(of_box, 1)) & np.isfinite(of_box)
    return other
