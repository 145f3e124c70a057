"""The edits of a patch: which there are, what they must hold, and making them."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_tasks.data import patch_operations as operations
from vision_tasks.data.draft import Draft, EditError
from vision_tasks.data.patch_operations import FORMS, Edit
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

_Check = tuple[Callable[[Any], bool], str]
"""Whether a value fits, and what it must be, in words."""


@dataclass(frozen=True)
class Operation:
    """One thing that an edit can do.

    Attributes:
        apply: makes edits of this kind that follow each other. needed, optional: its keys, with their checks.
        does: what it does, for people.
    """

    apply: Callable[[Draft, Sequence[Edit]], None]
    does: str
    needed: Mapping[str, _Check]
    optional: Mapping[str, _Check] = field(default_factory=dict)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def _is_number(value: Any, least: float = -1e9) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= 1e9


def _is_list(value: Any, each: Callable[[Any], bool], length: int | None = None) -> bool:
    return isinstance(value, list) and (len(value) == length if length else bool(value)) and all(map(each, value))


def _is_size(value: Any, least: int) -> bool:
    return _is_list(value, lambda v: _is_whole(v) and least <= v < 2**31, 2)


_IDS: _Check = (lambda v: _is_list(v, _is_whole), "a list of whole numbers, at least one")
_NAMES: _Check = (lambda v: _is_list(v, lambda n: isinstance(n, str)), "a list of names, at least one")
_NAME: _Check = (lambda v: isinstance(v, str) and bool(v.strip()), "a name")
_ID: _Check = (_is_whole, "a whole number")
_FLAG: _Check = (lambda v: isinstance(v, bool), "true or false")
_FORM: _Check = (lambda v: v in FORMS, f"one of {', '.join(FORMS)}")
_WAS: _Check = (
    lambda v: _is_list(v, lambda n: n is None or isinstance(n, float) or _is_whole(n), 4),
    "four numbers: x, y, width, height, null where one is unreadable",
)
_BOX: _Check = (lambda v: _is_list(v, _is_number, 4), "four numbers: x, y, width, height")
_SIZE_WAS: _Check = (lambda v: _is_size(v, 0), "two whole numbers: height, width")
_SIZE: _Check = (lambda v: _is_size(v, 1), "two whole numbers above 0: height, width")
_TWO_IDS: _Check = (lambda v: _is_list(v, _is_whole) and len(set(v)) == len(v) > 1, "two or more different image ids")

# In the order in which the doctor writes them: first what moves boxes, then what leaves out.
OPERATIONS: dict[str, Operation] = {
    "boxes_from": Operation(
        operations.boxes_from, "reads boxes as of another form", {"form": _FORM}, {"ids": _IDS}
    ),
    "set_size": Operation(
        operations.set_size, "gives an image another size", {"image": _ID, "was": _SIZE_WAS, "to": _SIZE},
        {"scale_boxes": _FLAG},
    ),
    "order_corners": Operation(operations.order_corners, "turns boxes of negative width or height over", {"ids": _IDS}),
    "set_box": Operation(operations.set_box, "gives an annotation another box", {"id": _ID, "was": _WAS, "to": _BOX}),
    "boxes_from_masks": Operation(operations.boxes_from_masks, "puts boxes around their masks", {"ids": _IDS}),
    "clip_boxes": Operation(operations.clip_boxes, "cuts boxes off at the border of their image", {"ids": _IDS}),
    "areas_from_masks": Operation(operations.areas_from_masks, "computes areas anew from masks", {"ids": _IDS}),
    "merge_categories": Operation(
        operations.merge_categories, "makes several categories one", {"names": _NAMES, "into": _NAME}
    ),
    "join_images": Operation(
        operations.join_images, "gives the first image the annotations of the others, which go", {"ids": _TWO_IDS}
    ),
    "drop_masks": Operation(operations.drop_masks, "leaves out masks; boxes stay", {"ids": _IDS}),
    "drop_annotations": Operation(
        operations.drop_annotations, "leaves out annotations", {"ids": _IDS}, {"keep_first": _FLAG}
    ),
    "drop_images": Operation(operations.drop_images, "leaves out images with their annotations", {"ids": _IDS}),
    "drop_categories": Operation(
        operations.drop_categories, "leaves out categories with their annotations", {"names": _NAMES}
    ),
}  # fmt: skip


def apply_edits(records: Records, edits: Sequence[Edit], where: str = "") -> Records:
    """The records with all edits made, in order; boxes that moved are judged anew, problems say what is left.

    Args:
        edits: as `data.patch` describes them. where: what error messages begin with.

    Raises:
        VisionTasksError: an edit of no known form, or that does not fit these records; names its number and the ids.
    """
    if not edits:
        return records
    draft = Draft(records)
    numbered = list(enumerate(edits, 1))
    for number, edit in numbered:
        check_edit(edit, f"{where}edit {number}")
    for op, group in itertools.groupby(numbered, key=lambda pair: str(pair[1]["op"])):
        run = list(group)
        try:
            OPERATIONS[op].apply(draft, [edit for _, edit in run])
        except EditError as error:
            last = f" to {run[-1][0]}" if len(run) > 1 else ""
            raise VisionTasksError(
                f"{where}edit {run[0][0]}{last} ({op}): {error}. Correct or delete the edit, or run the doctor again."
            ) from error
    return draft.finish()


def check_edit(edit: Any, where: str) -> None:
    """Refuses what is no edit.

    Raises:
        VisionTasksError: says what is wrong with it; names the nearest operation or key.
    """
    if not isinstance(edit, Mapping) or not isinstance(edit.get("op"), str):
        raise VisionTasksError(f'{where} is no edit: it must be an object with "op", not {str(edit)[:80]}.')
    operation = OPERATIONS.get(edit["op"])
    if operation is None:
        raise VisionTasksError(f"{where}: there is no operation {edit['op']!r}; {_nearest(edit['op'], OPERATIONS)}")
    keys = {**operation.needed, **operation.optional}
    for key in edit:
        if key not in keys and key not in ("op", "why", "note"):
            raise VisionTasksError(f"{where} ({edit['op']}): there is no key {key!r}; {_nearest(key, keys)}")
    for key, (fits, wanted) in keys.items():
        if key in operation.needed and key not in edit:
            raise VisionTasksError(f"{where} ({edit['op']}): {key!r} is missing; it is {wanted}.")
        if key in edit and not fits(edit[key]):
            raise VisionTasksError(f"{where} ({edit['op']}): {key!r} must be {wanted}, not {str(edit[key])[:80]}.")


def _nearest(word: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}."
