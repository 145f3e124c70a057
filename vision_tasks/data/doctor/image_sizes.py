"""Image files of another size than their annotations state, and which of the two the boxes were drawn on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vision_tasks.data.doctor.findings import Finding

if TYPE_CHECKING:
    from vision_tasks.data.doctor.images import Looked

_SAME_SHAPE = 0.01  # as a share; a pixel of rounding is allowed besides
_FEW, _MOST = 8, 0.5


def check_mis_sized(one: Looked) -> list[Finding]:
    """Files that have neither the stated size nor, if EXIF turns them, that of the upright picture.

    What the boxes were drawn on is judged by boxes that reach beyond one of the sizes, and by those that end at the
    edge of one, as objects do that the image cuts. Where that says nothing it is the stated size. If it is the
    file's size, the stated one is corrected; if it is the stated one and the shape is the same, boxes are scaled.
    """
    table, records = one.table, one.records
    stated = np.stack([records.heights, records.widths], 1).astype(np.int64)
    found = np.stack([table["height"], table["width"]], 1).astype(np.int64)
    turned = (table["turn"] >= 5)[:, None] & (stated == found[:, ::-1])
    wrong = (table["state"] == 0) & (stated > 0).all(1) & ~((stated == found).all(1) | turned.all(1))
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return []
    # A viewer shows the upright picture, and so do we where no stated size fits.
    upright = found[rows]
    upright[table["turn"][rows] >= 5] = upright[table["turn"][rows] >= 5][:, ::-1]
    votes = np.array([_vote(one, int(r), tuple(f)) for r, f in zip(rows, upright, strict=True)])
    ratio = upright / stated[rows]
    same_shape = np.abs(ratio[:, 0] - ratio[:, 1]) <= _SAME_SHAPE * ratio.min(1) + (1 / stated[rows]).max(1)
    grown = ratio.prod(1) > 1
    for group in (grown, ~grown):  # one tool did it to all of a kind: those that tell speak for those that do not
        votes[group & (votes == 0)] = np.sign(votes[group].sum())
    votes[(votes == 0) & (upright == stated[rows][:, ::-1]).all(1)] = 1  # swapped: nobody draws on such an image
    mixed = _are_mixed_up(upright, stated[rows])
    edits: list[Mapping[str, Any]] = []
    for row, size, vote, same in () if mixed else zip(rows, upright, votes, same_shape, strict=True):
        if vote > 0 or same:
            edits.append(
                {
                    "op": "set_size", "image": int(records.image_ids[row]), "was": stated[row].tolist(),
                    "to": size.tolist(), "scale_boxes": bool(vote <= 0), "why": "image_mis_sized",
                }
            )  # fmt: skip

    def detail(row: int) -> str:
        swapped = ": width and height are swapped" if (stated[row] == found[row][::-1]).all() else ""
        file, text = (f"{int(s[1])} × {int(s[0])}" for s in (found[row], stated[row]))
        return f"the file has {file} pixels, {text} are stated{swapped}"

    frequent, times = Counter(f"{s[1]} × {s[0]}" for s in stated[rows].tolist()).most_common(1)[0]
    summary = (
        f"boxes seem to be drawn on the file's size for {int((votes > 0).sum()):,}, on the stated one for the rest"
    )
    if mixed:
        summary = (
            "the files have the sizes that are stated for other images, so file names seem to be mixed up, and what is "
            "annotated is on other files. Look first: the patch leaves sizes and boxes alone"
        )
    elif times > 1:
        summary += f"; the size that is most often stated wrongly is {frequent} ({times:,} times)"
    return one.finding("image_mis_sized", rows, detail, summary, edits)


def _are_mixed_up(found: np.ndarray, stated: np.ndarray) -> bool:
    """Whether files, (n, 2) heights and widths, have the stated sizes of each other, and not just sides exchanged."""
    files, entries = (Counter(map(tuple, sizes.tolist())) for sizes in (found, stated))
    exchanged = (found == stated[:, ::-1]).all(1).mean()
    return len(found) >= _FEW and (files & entries).total() >= _MOST * len(found) and exchanged < 1 - _MOST


def check_unsized(one: Looked) -> list[Finding]:
    """Images of which no size is stated, where the file tells it: that of the upright picture, as reading has it."""
    table, records = one.table, one.records
    unknown = (records.heights <= 0) | (records.widths <= 0)
    rows = np.flatnonzero(unknown & (table["state"] == 0) & (table["height"] > 0))
    sizes = np.stack([table["height"], table["width"]], 1).astype(np.int64)
    turned = table["turn"] >= 5
    sizes[turned] = sizes[turned][:, ::-1]
    edits = [
        {
            "op": "set_size", "image": int(records.image_ids[row]), "to": sizes[row].tolist(),
            "was": [int(records.heights[row]), int(records.widths[row])], "why": "image_size_unknown",
        }
        for row in rows.tolist()
    ]  # fmt: skip
    return one.finding(
        "image_size_unknown", rows, lambda r: f"the file has {sizes[r, 1]} × {sizes[r, 0]} pixels", edits=edits
    )


def _vote(one: Looked, row: int, file: tuple[int, int]) -> int:
    """1 if boxes were drawn on the file's (height, width), -1 if on the stated one, 0 if they do not tell."""
    records = one.records
    boxes = records.boxes[records.first[row] : records.first[row + 1]]
    with np.errstate(invalid="ignore", over="ignore"):
        boxes = boxes[np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)]
        ends = (boxes[:, :2] + boxes[:, 2:])[:, ::-1]
    if not len(ends):
        return 0
    stated = np.array(records.size(row))
    beyond = [bool((ends > np.array(size) + 2).any()) for size in (stated, file)]
    if beyond[0] != beyond[1]:
        return 1 if beyond[0] else -1
    at_edge = [int((np.abs(ends - size) <= 1).sum()) for size in (stated, np.array(file))]
    return int(np.sign(at_edge[1] - at_edge[0]))
