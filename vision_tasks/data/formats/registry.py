"""The formats of annotations there are, and finding out which one a folder or file is of."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.interface import Format, Found
from vision_tasks.data.formats.voc import find_voc, read_voc
from vision_tasks.data.layout import find_coco, held
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories


def _read_coco(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    return read_coco(found.annotations, found.images, categories)


def _find_coco(path: Path) -> dict[str, Found]:
    return {name: Found("coco", s.annotations, s.images) for name, s in find_coco(path).items()}


FORMATS: dict[str, Format] = {
    "coco": Format("COCO instances", _read_coco, _find_coco, None, "boxes, polygons, run lengths, crowds"),
    "voc": Format("Pascal VOC", read_voc, find_voc, None, "boxes; difficult, truncated, occluded, pose, parts"),
}
"""Name -> format, in the order in which they are tried on a folder."""


def find_data(path: Path | str, form: str | None = None) -> dict[str, Found]:
    """The splits "train", "val" and "test" of a data set, as far as there are any, in this order.

    Args:
        path: a folder, or an annotation file. form: its format, if it is known.

    Raises:
        VisionTasksError: nothing of this format, or of any, is there; says what each reader looked for.
    """
    path = Path(path)
    if not path.exists():
        raise VisionTasksError(f"{path}: there is no such file or folder. Check the path of the data set.")
    if form is not None and form not in FORMATS:
        near = difflib.get_close_matches(form, FORMATS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(FORMATS)}."
        raise VisionTasksError(f"there is no format {form!r}; {hint}")
    refusals = []
    for entry in FORMATS.values() if form is None else [FORMATS[form]]:
        try:
            found = entry.find(path) if entry.find is not None else {}
        except VisionTasksError as error:
            refusals.append(str(error))
            continue
        if found:
            return {split: found[split] for split in ("train", "val", "test") if split in found}
    raise VisionTasksError(refusals[0] if refusals else f"{path}: no annotations found; {held(path)}")


def read_found(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split (see `interface.Reader`)."""
    return FORMATS[found.format].read(found, categories, extras=extras)


def read_data(
    path: Path | str, form: str | None = None, images: Path | None = None, *, extras: bool = False
) -> dict[str, Records]:
    """All splits of a data set, with the categories of the first.

    Args:
        path, form: as in `find_data`. images: the image folder, if it is not to be found. extras: keep what training
            does not need, for writing it again.
    """
    out: dict[str, Records] = {}
    for name, found in find_data(path, form).items():
        if images is not None:
            found = replace(found, images=images)
        known = next(iter(out.values())).categories if out else None
        out[name] = read_found(found, known, extras=extras)
    return out
