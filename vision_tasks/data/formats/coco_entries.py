"""One entry of a COCO file: a strict, fast way for clean ones and a patient way for all others."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import msgspec

from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.assemble import MISSING, TEXT
from vision_tasks.data.problems import Problems

NAN = float("nan")
Box = tuple[float, float, float, float]


class Image(msgspec.Struct, gc=False):
    """A clean entry of "images"."""

    id: int
    file_name: str
    width: int
    height: int


class UrlImage(msgspec.Struct, gc=False):
    """A clean entry of "images" in LVIS, which has a URL, or a file name, or both."""

    id: int
    width: int
    height: int
    file_name: str = ""
    coco_url: str = ""


class Dialect(NamedTuple):
    """In what a file differs from COCO's: an LVIS file has URLs instead of file names, and no crowds.

    `url_parts`: so many parts of the end of a URL make a file name: 1 or, with the folder, 2.
    """

    lvis: bool = False
    url_parts: int = 1


COCO = Dialect()


class RunLengths(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


class Annotation(msgspec.Struct, gc=False):
    """A clean entry of "annotations"."""

    id: int
    image_id: int
    category_id: int
    bbox: Box
    area: float = NAN
    iscrowd: int = -1
    segmentation: list[list[float]] | RunLengths | None = None


class TextIds:
    """Numbers for ids that are text: TEXT, TEXT + 1, ..., the same text always the same number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __getitem__(self, text: str) -> int:
        return self.numbers.setdefault(text, TEXT + len(self.numbers))


def loads(raw: bytes, problems: Problems, where: str) -> Any:
    """Any JSON value, NaN and broken letters allowed; None (and a problem) if it is none."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        problems.add("text_not_utf8", [where])
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):  # ValueError: also whole numbers of thousands of digits
        return None


def shape_of(value: list[list[float]] | RunLengths | None) -> tuple[bytes, str | None]:
    """Outline of a clean annotation as bytes, and the code of its flaw."""
    if not value:
        return b"", None
    if isinstance(value, list):
        return shapes.from_polygons(value)
    return shapes.from_value({"size": value.size, "counts": value.counts})


def name_from_url(url: str, parts: int) -> str:
    """The last parts of a URL as a file name; "" of one that has fewer."""
    found = url.split("/")[-parts:]
    return "/".join(found) if all(found) and url else ""


def patient_image(
    value: dict[str, Any], ids: TextIds, where: str, problems: Problems, dialect: Dialect = COCO
) -> Image:
    """An image entry with whatever is wrong with it."""
    number = read_id(value.get("id"), ids, where, problems)
    name = value.get("file_name")
    if not isinstance(name, str) or not name.strip():
        url = value.get("coco_url")
        name = name_from_url(url, dialect.url_parts) if isinstance(url, str) else ""
        if name and not dialect.lvis:
            problems.add("image_file_from_url", [where])
    return Image(number, name, _side(value.get("width"), where, problems), _side(value.get("height"), where, problems))


def patient_annotation(
    value: dict[str, Any], images: TextIds, categories: TextIds, where: str, problems: Problems
) -> tuple[Annotation, bytes]:
    """An annotation entry with whatever is wrong with it, and its outline."""
    number = read_id(value.get("id"), None, where, problems)
    if number != MISSING:
        where = f"annotation {number}"
    shape, flaw = shapes.from_value(value.get("segmentation"))
    if flaw:
        problems.add(flaw, [where])
    if value.get("keypoints"):
        problems.add("keypoints_ignored", [where])
    box = value.get("bbox")
    if (box is None or box == []) and shape:
        problems.add("box_missing", [where])
        corners = shapes.box_around(shape)
    else:
        corners = _box(box, where, problems)
    crowd = read_number(value.get("iscrowd"), where, problems)
    annotation = Annotation(
        id=number,
        image_id=read_id(value.get("image_id"), images, where, problems),
        category_id=read_id(value.get("category_id"), categories, where, problems),
        bbox=corners,
        area=read_number(value.get("area"), where, problems),
        iscrowd=-1 if math.isnan(crowd) else int(crowd != 0),
    )
    return annotation, shape


def read_id(value: Any, texts: TextIds | None, where: str, problems: Problems) -> int:
    """An id as a whole number; text becomes one of `texts`, or MISSING without it, as does anything else."""
    if isinstance(value, bool) or value is None:
        return MISSING
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        text = value.strip()
        if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) < 19:
            problems.add("number_as_text", [where])
            value = int(text)
    if isinstance(value, int) and abs(value) < 2**62:
        return value
    if texts is None or not isinstance(value, (str, int)):
        return MISSING
    problems.add("text_id", [where])
    # Not str(): numbers of thousands of digits refuse it.
    return texts[value if isinstance(value, str) else hex(value)]


def read_number(value: Any, where: str, problems: Problems) -> float:
    """A finite number, also from text; NaN from anything else."""
    if isinstance(value, str):
        problems.add("number_as_text", [where])
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return NAN
    return number if math.isfinite(number) else NAN


def _side(value: Any, where: str, problems: Problems) -> int:
    number = read_number(value, where, problems)
    return int(number) if 1 <= number < 2**31 and number.is_integer() else 0


def _box(value: Any, where: str, problems: Problems) -> Box:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # [[x, y, width, height]], as of arrays of one row
        problems.add("box_nested", [where])
    if not isinstance(value, list) or len(value) != 4:
        return NAN, NAN, NAN, NAN
    x, y, w, h = (read_number(v, where, problems) for v in value)
    return x, y, w, h
