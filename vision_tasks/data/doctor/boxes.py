"""Boxes that are none, lie elsewhere, are there twice, or cover everything."""

from __future__ import annotations

import numpy as np

from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.objects import Objects, shown


def check_boxes(objects: Objects) -> list[Finding]:
    """All findings about single boxes."""
    return check_degenerate(objects)


def check_degenerate(objects: Objects) -> list[Finding]:
    """Boxes that are unreadable, inverted or empty."""
    boxes = objects.boxes
    readable = objects.readable
    inverted = readable & (boxes[:, 2:] < 0).any(1)
    empty = readable & ~inverted & (boxes[:, 2:] == 0).any(1)
    with_mask = objects.outlines.has & (objects.outlines.area > 0)
    out = []
    for code, found, op in (
        ("box_unreadable", ~readable, "drop_annotations"),
        ("box_inverted", inverted, "order_corners"),
        ("box_empty", empty, "drop_annotations"),
    ):
        places = np.flatnonzero(found)
        edits = []
        masked = places[with_mask[places] & (op == "drop_annotations")]
        if len(masked):
            edits.append({"op": "boxes_from_masks", "ids": objects.ids(masked), "why": code})
        rest = np.setdiff1d(places, masked)
        if len(rest):
            edits.append({"op": op, "ids": objects.ids(rest), "why": code})
        out += objects.finding(code, places, lambda i: f"bbox is {shown(boxes[i])}", edits=edits)
    return out
