"""Entries of images, and what only the readers of files see: ids that fit nothing, flaws of outlines."""

from __future__ import annotations

import re

import numpy as np

from vision_tasks.data.doctor.findings import Example, Finding
from vision_tasks.data.doctor.kinds import KINDS
from vision_tasks.data.doctor.objects import Objects
from vision_tasks.data.problems import Problem

# Flaws that readers count (`data.problems`) -> kind of finding; others keep their name.
_OF_READERS = {
    "unknown_image": "image_unknown",
    "unknown_category": "category_unknown",
    "image_repeated": "image_listed_twice",
    "polygon_flaw": "mask_unreadable",
    "rle_flaw": "mask_unreadable",
    "segmentation_flaw": "mask_unreadable",
    "rle_size": "mask_size",
    "image_file_missing": "image_missing",
    "voc_from_zero": "box_from_zero",
    "mask_size": "semantic_mask_size",
    "mask_unreadable": "semantic_mask_unreadable",
}
# Seen in the records themselves, with all their places; or no flaw of the data.
_LEFT_OUT = {
    "box_inverted", "box_empty", "box_outside", "box_clipped", "box_unreadable", "image_file_shared",
    "keypoints_ignored", "category_renumbered", "cache_unwritable",
}  # fmt: skip
_OF_FILES = {
    "label_missing", "label_without_image", "file_unreadable", "annotation_file_missing", "list_entry_missing",
    "stem_repeated",
}  # fmt: skip
"""Flaws of one file per image."""
_KEPT = {"label_not_shares", "box_from_zero"}
"""Flaws of objects that are there all the same."""
_ID = re.compile(r"\b(annotation|image) (-?\d+)")


def finding_of(problem: str) -> str:
    """Code of the finding that tells of a kind of problem."""
    return _OF_READERS.get(problem, problem)


def check_entries(objects: Objects) -> list[Finding]:
    """All findings about entries of images, and those of the reader."""
    return [*check_problems(objects), *check_shared_files(objects), *check_empty_images(objects)]


def place_of(text: str) -> Example:
    """The place that a reader's words name, such as "annotation 5 (image 7)"."""
    ids = {kind: int(number) for kind, number in _ID.findall(text)}
    return Example(image_id=ids.get("image"), annotation_id=ids.get("annotation"), detail=text)


def check_problems(objects: Objects) -> list[Finding]:
    """What the reader counted."""
    joined: dict[str, list[Problem]] = {}
    for problem in objects.records.problems:
        code = finding_of(problem.code)
        if problem.code not in _LEFT_OUT and code in KINDS:
            joined.setdefault(code, []).append(problem)
    return [_finding(objects, code, problems) for code, problems in joined.items()]


def _finding(objects: Objects, code: str, problems: list[Problem]) -> Finding:
    records = objects.records
    examples = []
    for text in (text for problem in problems for text in problem.examples):
        place = place_of(text)
        row = None if place.image_id is None else records.row_of_id.get(place.image_id)
        name = "" if row is None else records.file_name(row)
        examples.append(Example(name, place.image_id, place.annotation_id, text, objects.split, row))
    count = sum(p.count for p in problems)
    of_images = (code.startswith("image_") and code != "image_unknown") or code in _OF_FILES
    whole = len(records) if of_images else len(objects)
    if code == "label_without_image":  # of the label files there are
        whole -= records.problems["label_missing"].count
    left_out = count if code not in _KEPT and problems[0].severity == "warning" and not code.startswith("mask_") else 0
    edits = ({"op": "boxes_from", "form": "from_zero", "why": code},) if code == "box_from_zero" else ()
    detail = "; ".join(p.what for p in problems) if len(problems) > 1 else ""
    return Finding(code, count, whole + left_out, objects.split, tuple(examples), detail, edits)


def check_shared_files(objects: Objects) -> list[Finding]:
    """Files that are listed under several image ids."""
    records = objects.records
    names: dict[str, list[int]] = {}
    for row in range(len(records)):
        names.setdefault(records.file_name(row), []).append(row)
    shared = [rows for rows in names.values() if len(rows) > 1]
    again = np.array([row for rows in shared for row in rows[1:]], np.int64)
    first = {row: rows[0] for rows in shared for row in rows[1:]}
    ids = records.image_ids
    return objects.image_finding(
        "image_file_shared",
        again,
        lambda row: f"is listed as image {ids[first[row]]}, too",
        edits=[{"op": "join_images", "ids": ids[rows].tolist(), "why": "image_file_shared"} for rows in shared],
    )


def check_empty_images(objects: Objects) -> list[Finding]:
    """Images without annotations."""
    if not objects.records.has_boxes:
        return []
    return objects.image_finding(
        "image_empty", np.flatnonzero(np.diff(objects.records.first) == 0), lambda row: "has no annotation"
    )
