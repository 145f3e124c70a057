"""Root causes: which finding explains which, so that one flaw is said once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vision_tasks.data.doctor.findings import Finding, ordered
from vision_tasks.data.doctor.forms import CODES
from vision_tasks.data.doctor.objects import LOOK, LOSING

# Cause -> what it may explain, if the places of the consequence are (nearly all) among its own.
_AT_THE_SAME_PLACES: dict[str, tuple[str, ...]] = {
    "box_outside": ("mask_beside_box", "mask_area"),
    "box_whole_image": ("mask_beside_box", "mask_area"),
    "box_beyond": ("mask_beside_box", "mask_area"),
    "mask_crossing": ("mask_beside_box",),
    "mask_beside_box": ("mask_area",),
}
# Cause -> what it explains in the same split, wherever that is.
_ANYWHERE: dict[str, tuple[str, ...]] = {
    "training_empty": ("image_empty",),
    "split_empty": ("image_empty",),
    "label_line_unreadable": ("training_empty", "split_empty"),
    "image_ambiguous": ("image_unknown", "annotation_id_repeated"),
    "image_file_shared": ("image_copied",),
    "category_conflict": ("category_renumbered", "category_absent"),
    "image_rotated": ("image_mis_sized",),
    "image_mis_sized": ("boxes_swapped",),
}
# Cause -> what follows from a wrong size of the image, in images that the cause names.
_IN_THE_SAME_IMAGES: dict[str, tuple[str, ...]] = {
    "image_mis_sized": ("box_outside", "box_beyond", "box_far_beyond", "box_whole_image"),
    "image_rotated": ("box_outside", "box_beyond", "box_far_beyond"),
}
# Cause -> what it explains in the same split if that is no more often.
_AS_OFTEN: dict[str, tuple[str, ...]] = {
    "box_duplicated": ("annotation_id_repeated",),
    "label_missing": ("image_empty",),
    "label_not_shares": ("box_outside", "box_far_beyond", "box_beyond", "object_vanishes"),
    "voc_one_pixel": ("object_vanishes",),
    "category_unknown": ("image_empty",),
    "image_unknown": ("image_empty",),
    "image_ambiguous": ("image_empty",),
}
_MOST = 0.9

Places = Mapping[tuple[str, str], np.ndarray]
"""(split, code) -> indices of annotations at which a finding holds."""


def beneath(causes: Sequence[Finding], before: Iterable[Finding], after: Iterable[Finding]) -> list[Finding]:
    """Findings of a split whose boxes are in a wrong form: what remains once they are mended stands by itself.

    Args:
        causes: the wrong forms, at least one. before, after: findings of the boxes as written, and as meant.

    Returns:
        The first cause with what vanishes beneath it, and what remains.
    """
    after = list(after)
    remaining = {f.code for f in after}
    vanished = [f for f in before if f.code not in remaining]
    first, *others = causes
    edits = [edit for cause in causes for edit in cause.edits]  # they belong together, in this order
    return [replace(first, edits=tuple(edits), consequences=(*others, *vanished)), *after]


def without_guesses(findings: Sequence[Finding]) -> list[Finding]:
    """Findings of a split without edits that would lose what a wrong form or size, not mended, may have caused.

    Args:
        findings: of the annotations of one split.
    """
    unknown = any(
        f.code in ("box_far_beyond", "image_mis_sized")
        or (f.code in ("mask_beside_box", *CODES.values()) and not f.edits)
        or LOOK in f.detail
        for f in findings
    )
    if not unknown:
        return list(findings)
    of_places = ("box_outside", "box_beyond", "box_whole_image", "mask_beside_box", "mask_area")
    return [
        replace(f, edits=tuple(e for e in f.edits if e["op"] not in (*LOSING, "areas_from_masks")))
        if f.code in of_places
        else f
        for f in findings
    ]


def folded(findings: Iterable[Finding], places: Places, images: Places) -> list[Finding]:
    """Consequences beneath their causes, causes the gravest first.

    Args:
        places: indices of annotations by (split, code). images: image rows of the same annotations.
    """
    left = list(findings)
    for table, explains in (
        (_AT_THE_SAME_PLACES, lambda a, b: _within(places, a, b)),
        (_AS_OFTEN, lambda a, b: b.count <= a.count),
        (_ANYWHERE, lambda a, b: True),
        (_IN_THE_SAME_IMAGES, lambda a, b: _in_images(images, a, b)),
    ):
        for code, consequences in table.items():
            for cause in [f for f in left if f.code == code]:
                found = [
                    f for f in left if f.code in consequences and f.split == cause.split and explains(cause, f)
                ]  # fmt: skip
                if found and cause in left:
                    left = [f for f in left if f not in found]
                    left[left.index(cause)] = replace(cause, consequences=(*cause.consequences, *found))
    return ordered(left)


def _within(places: Places, cause: Finding, consequence: Finding) -> bool:
    one, other = (places.get((f.split, f.code)) for f in (cause, consequence))
    return one is not None and other is not None and bool(np.isin(other, one).mean() >= _MOST)


def _in_images(images: Places, cause: Finding, consequence: Finding) -> bool:
    """Whether the consequence's images are those that the cause names in its edits, or gives as examples."""
    rows = images.get((consequence.split, consequence.code))
    if rows is None:
        return False
    if cause.of and cause.count >= _MOST * cause.of:
        return True
    own = np.array([e.row for e in cause.examples if e.row is not None], np.int64)
    return bool(np.isin(rows, own).mean() >= _MOST)
