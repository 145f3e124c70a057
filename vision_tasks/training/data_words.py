"""What is said of the data before training: how much there is, and what should be known of it."""

from __future__ import annotations

import logging

import numpy as np

from vision_tasks.data.records import Records
from vision_tasks.data.semantic_check import Checked
from vision_tasks.structures import Categories

log = logging.getLogger("vision_tasks")


def tell_shared(train: Records, val: Records) -> None:
    """Says it where images are both learned from and judged by."""
    own = {train.image_path(row) for row in range(len(train))}
    shared = [path for row in range(len(val)) if (path := val.image_path(row)) in own]
    if shared:
        log.warning(
            "%d of the %d validation images are training images, too, such as %s: the scores say little about new "
            "images. Correct data.val, or the splits of data.semantic.", len(shared), len(val), shared[0],
        )  # fmt: skip


def tell_objects(records: Records, name: str) -> None:
    log.info("%s: %d images, %d objects in %s", name, len(records), len(records.boxes), records.source)
    counts = np.bincount(records.labels[records.usable & ~records.is_crowd], minlength=len(records.categories))
    if not counts.any():
        log.warning("%s: no object is annotated; there is nothing to learn or to judge by.", name)
    elif name == "train" and not counts.all():
        log.warning("train: nobody annotated %s.", _unseen(records.categories, counts))


def tell_maps(records: Records, checked: Checked, name: str) -> None:
    assert records.semantic is not None
    categories, of_all = records.semantic.categories, checked.shares
    largest = np.argsort(-checked.pixels, kind="stable")[:6].tolist()
    shares = ", ".join(f"{categories.names[k]} {of_all[k]:.1%}" for k in largest)
    kinds = "1 category" if len(categories) == 1 else f"{len(categories)} categories"
    maps = f"{checked.total} semantic map{'s' * (checked.total != 1)}"
    log.info("%s: %s of %s (%s) in %s", name, maps, kinds, shares, records.source)
    if not checked.pixels.any():
        log.warning("%s: no pixel of any category is annotated; there is nothing to learn or to judge by.", name)
    elif name == "train" and not checked.pixels.all():
        where = "" if checked.is_whole else f" in the {checked.maps} of {checked.total} maps that were looked at"
        log.warning("train: nobody annotated %s%s.", _unseen(categories, checked.pixels), where)


def _unseen(categories: Categories, counts: np.ndarray) -> str:
    names = [n for n, c in zip(categories.names, counts, strict=True) if not c]
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
