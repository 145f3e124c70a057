"""What one Pascal VOC file says of its image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from vision_tasks.data.formats.image_annotations import exact
from vision_tasks.data.formats.safe_xml import XmlError, read_xml

FLAGS = ("truncated", "difficult", "occluded")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OUTLINES = ("polygon", "segm", "segmentation", "mask")
# folder and path name places on the disk of whoever drew the boxes; they are not kept.
_OF_IMAGE = ("folder", "path", "filename", "size", "object", "segmented")
_NAN = float("nan")
DEEPEST = 8


@dataclass(slots=True)
class VocObject:
    """One object.

    Attributes:
        name: of its category, "" if there is none. corners: xmin, ymin, xmax, ymax as written, NaN if unreadable.
        outline: whether it has a polygon or mask, which VOC's boxes do not. extras: see `Extras`.
    """

    name: str
    corners: tuple[float, float, float, float]
    outline: bool = False
    extras: dict[str, Any] = field(default_factory=dict)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height in continuous pixels: VOC counts from 1 and includes the last pixel."""
        x1, y1, x2, y2 = self.corners
        x1, y1 = exact(x1 - 1), exact(y1 - 1)
        return x1, y1, exact(x2 - x1), exact(y2 - y1)


@dataclass(slots=True)
class VocImage:
    """One file.

    Attributes:
        file_name: last part of the name of its image, "" if it states none. height, width: 0 if not stated.
        broken_letters: whether letters had to be replaced.
    """

    file_name: str
    height: int
    width: int
    objects: list[VocObject]
    extras: dict[str, Any]
    broken_letters: bool


def read_voc_file(path: Path, extras: bool = False) -> VocImage:
    """Reads one file.

    Args:
        extras: keep what training does not need.

    Raises:
        XmlError: it is no VOC file, or refused. OSError: it cannot be read.
    """
    root, broken = read_xml(path)
    if root.tag != "annotation":
        raise XmlError(f"its outermost element is <{str(root.tag)[:40]}>, not <annotation>")
    size = root.find("size")
    height, width = (_side(size, side) for side in ("height", "width"))
    name = _text(root.findtext("filename")).replace("\\", "/").rpartition("/")[2]
    objects = [_object(element, extras) for element in root.findall("object")]
    return VocImage(name, height, width, objects, _image_extras(root, size) if extras else {}, broken)


def _object(element: Element, extras: bool) -> VocObject:
    name, corners, outline = "", (_NAN, _NAN, _NAN, _NAN), False
    others: dict[str, Any] = {}
    for child in element:
        tag = child.tag
        if tag == "name":
            name = name or _text(child.text)
        elif tag == "bndbox":
            texts = {c.tag: c.text for c in child}
            xmin, ymin, xmax, ymax = map(_number, map(texts.get, CORNERS))
            corners = xmin, ymin, xmax, ymax
        elif tag in _OUTLINES:
            outline = True
        elif not extras:
            continue
        elif tag in FLAGS:
            if _number(child.text) == 1 or _text(child.text).lower() == "true":
                others[tag] = 1
        elif tag == "pose":
            if (pose := _text(child.text)) not in ("", "Unspecified"):
                others["pose"] = pose
        else:
            _add(others, child, 0)
    return VocObject(name, corners, outline, others)


def _image_extras(root: Element, size: Element | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if size is not None and 0 < (depth := _number(size.findtext("depth"))) < 1000 and depth != 3:
        out["depth"] = int(depth)
    if _number(root.findtext("segmented")) == 1:
        out["segmented"] = 1
    if "verified" in root.attrib:
        out["verified"] = root.attrib["verified"]
    for child in root:
        if child.tag not in _OF_IMAGE:
            _add(out, child, 0)
    return out


def _add(out: dict[str, Any], element: Element, depth: int) -> None:
    """The element's value under its name; a list where the name comes again. Empty elements say nothing."""
    value = _value(element, depth)
    if value in ("", {}):
        return
    old = out.get(element.tag)
    out[element.tag] = value if old is None else [*(old if isinstance(old, list) else [old]), value]


def _value(element: Element, depth: int) -> Any:
    if not len(element) or depth >= DEEPEST:
        return _text(element.text)
    inner: dict[str, Any] = {}
    for child in element:
        _add(inner, child, depth + 1)
    return inner


def _text(text: str | None) -> str:
    return " ".join(text.split()) if text else ""


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return _NAN
    return value if -1e300 < value < 1e300 else _NAN


def _side(size: Element | None, side: str) -> int:
    value = _number(size.findtext(side)) if size is not None else 0.0
    return int(value) if 0 < value < 2**31 else 0
