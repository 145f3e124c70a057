"""Whether images' width and height are stated the wrong way round, told by the heads of a few image files."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.findings import EXAMPLES, Example, Finding
from vision_tasks.data.doctor.forms import beyond, fitting, leaving, many
from vision_tasks.data.doctor.objects import Objects
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.image_headers import upright_size
from vision_tasks.data.records import Records, escapes

_FILES = 20
"""So many heads are read: they tell of a whole file, which one tool wrote."""


def exchanged(records: Records) -> float | None:
    """Share of some images whose file has the stated height for its width; None if none is there or all are square."""
    if records.archive is not None:
        return None
    sides = np.stack([records.heights, records.widths], 1)
    rows = np.flatnonzero((sides > 0).all(1) & (sides[:, 0] != sides[:, 1]))
    rows = rows[np.unique(np.linspace(0, max(len(rows) - 1, 0), _FILES).astype(int))] if len(rows) else rows
    votes = []
    for row in rows.tolist():
        name = records.file_name(row)
        if escapes(name):
            continue
        try:
            found = upright_size(records.image_root(row) / name)
        except ImageError:
            continue
        votes.append(found == (records.widths[row], records.heights[row]))
    return float(np.mean(votes)) if votes else None


def check_exchanged(objects: Objects) -> list[Finding]:
    """That all images state width for height: boxes leave them as if x and y were exchanged, and files or masks tell.

    A few files are opened at the most; looking at all of them says it of each.
    """
    known = objects.readable & np.isfinite(objects.sizes).all(1)
    boxes, sizes = objects.boxes[known], objects.sizes[known]
    if len(boxes) < 8 or (now := leaving(boxes, sizes)) < many(len(boxes)):
        return []
    turned = leaving(boxes, sizes[:, ::-1])
    if turned > 0.1 * now:
        return []
    share, agree = exchanged(objects.records), _masks_agree(objects)
    if (share is None and not agree) or (share is not None and share < 0.5):
        return []
    records = objects.records
    rows = np.flatnonzero(records.widths != records.heights)
    worst = np.unique(objects.rows[known][beyond(boxes, sizes)])
    examples = tuple(
        Example(
            records.file_name(r), int(records.image_ids[r]), None,
            f"{records.widths[r]} × {records.heights[r]} are stated", objects.split, r,
        )
        for r in worst[:EXAMPLES].tolist()
    )  # fmt: skip
    seen = "boxes and masks agree" if share is None else f"{share:.0%} of some files have the stated height for width"
    words = (
        f"{seen}; {now:.0%} of the boxes leave the images of the stated size, {turned:.0%} those of the exchanged one. "
        "Opening all files (without --quick) mends each"
    )
    return [Finding("image_mis_sized", len(rows), len(records), objects.split, examples, words)]


def _masks_agree(objects: Objects) -> bool:
    """Whether boxes are what their masks span, so that it is not the boxes that are exchanged."""
    outlines = objects.outlines
    chosen = outlines.has & objects.positive
    return chosen.sum() >= 8 and bool(fitting(objects.boxes[chosen], outlines.extent[chosen]).mean() >= 0.5)
