"""What the edits of a patch do to records: one function per operation, for edits of its kind that follow each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from vision_tasks.categories import Categories
from vision_tasks.data import outlines
from vision_tasks.data.draft import Draft, EditError, listed
from vision_tasks.data.formats import shapes

Edit = Mapping[str, Any]

_MEANT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "xyxy": lambda b: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], 1),
    "yxyx": lambda b: np.concatenate([b[:, 1::-1], b[:, :1:-1] - b[:, 1::-1]], 1),
    "normalised": lambda b: b,  # multiplied by the size before
    "percent": lambda b: b / 100,  # so is this
    "swapped": lambda b: b[:, [1, 0, 3, 2]],
    "centred": lambda b: np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], 1),
    "from_zero": lambda b: b + np.array([1, 1, 0, 0]),
}
FORMS = tuple(_MEANT)
"""What boxes may have been written as, instead of x, y, width, height in pixels."""


def boxes_from(draft: Draft, edits: Sequence[Edit]) -> None:
    """Boxes were written in another form."""
    for edit in edits:
        at = draft.annotations(edit["ids"]) if "ids" in edit else np.arange(len(draft.row))
        boxes, rows = draft.arrays["boxes"][at], draft.row[at]
        with np.errstate(invalid="ignore", over="ignore"):  # unreadable boxes may hold anything
            if edit["form"] in ("normalised", "percent"):
                size = np.stack([draft.arrays["widths"][rows], draft.arrays["heights"][rows]], 1).astype(np.float64)
                if len(unknown := np.unique(rows[(size == 0).any(1)])):
                    ids = draft.arrays["image_ids"][unknown]
                    raise EditError(f"image {listed(ids)} states no size, of which boxes could be shares")
                boxes = boxes * np.concatenate([size, size], 1)
            draft.set_boxes(at, _MEANT[edit["form"]](boxes))
        if edit["form"] == "from_zero" and "ids" not in edit:
            draft.solved.add("voc_from_zero")


def order_corners(draft: Draft, edits: Sequence[Edit]) -> None:
    """Corners in order: widths and heights become positive, the boxes stay where they are."""
    at = draft.annotations(_ids(edits))
    boxes = draft.arrays["boxes"][at]
    low = np.where(boxes[:, 2:] < 0, boxes[:, :2] + boxes[:, 2:], boxes[:, :2])
    draft.set_boxes(at, np.concatenate([low, np.abs(boxes[:, 2:])], 1))


def clip_boxes(draft: Draft, edits: Sequence[Edit]) -> None:
    """Boxes end at the border of their image."""
    at = draft.annotations(_ids(edits))
    boxes, rows = draft.arrays["boxes"][at], draft.row[at]
    limit = np.stack([draft.arrays["widths"][rows], draft.arrays["heights"][rows]], 1).astype(np.float64)
    limit[limit == 0] = np.inf
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    beyond = (low < 0) | (high > limit)  # what is inside keeps its exact numbers
    start = low.clip(0, limit)
    extent = np.where(beyond, high.clip(0, limit) - start, boxes[:, 2:])
    draft.set_boxes(at, np.concatenate([start, extent], 1))


def boxes_from_masks(draft: Draft, edits: Sequence[Edit]) -> None:
    """Boxes around masks."""
    at, starts = _with_masks(draft, edits)
    draft.set_boxes(at, outlines.extents(draft.blob(starts), starts))


def areas_from_masks(draft: Draft, edits: Sequence[Edit]) -> None:
    """Areas of masks."""
    at, starts = _with_masks(draft, edits)
    draft.writable("areas")[at] = outlines.areas(draft.blob(starts), starts)


def _with_masks(draft: Draft, edits: Sequence[Edit]) -> tuple[np.ndarray, np.ndarray]:
    at = draft.annotations(_ids(edits))
    starts = draft.arrays["shape_starts"][at]
    if len(bare := draft.arrays["annotation_ids"][at[starts < 0]]):
        raise EditError(f"annotation {listed(bare)} has no mask")
    return at, starts


def set_box(draft: Draft, edits: Sequence[Edit]) -> None:
    """One annotation's box, if it is what "was" says."""
    for edit in edits:
        at = draft.annotations([edit["id"]], unique=True)
        now = draft.arrays["boxes"][at[0]]
        was = np.array([np.nan if v is None else v for v in edit["was"]], np.float64)
        if not np.array_equal(now, was, equal_nan=True):
            raise EditError(f'the box of annotation {edit["id"]} is {now.tolist()}, not {edit["was"]} as "was" says')
        draft.set_boxes(at, np.array([edit["to"]], np.float64))


def set_size(draft: Draft, edits: Sequence[Edit]) -> None:
    """One image's size, if it is what "was" says. With "scale_boxes" all that is annotated on it is scaled."""
    for edit in edits:
        row = int(draft.images([edit["image"]])[0])
        now = [int(draft.arrays["heights"][row]), int(draft.arrays["widths"][row])]
        if now != list(edit["was"]):
            raise EditError(
                f'the size of image {edit["image"]} is {now} (height, width), not {edit["was"]} as "was" says'
            )
        height, width = edit["to"]
        draft.writable("heights")[row], draft.writable("widths")[row] = height, width
        at = np.arange(int(draft.arrays["first"][row]), int(draft.arrays["first"][row + 1]))
        if edit.get("scale_boxes"):
            if not all(now):
                raise EditError(f"image {edit['image']} stated no size, so there is nothing to scale its boxes by")
            scale = np.array([width / now[1], height / now[0]])
            own = draft.arrays["areas"][at] * scale.prod()
            draft.writable("areas")[at] = own
            draft.set_boxes(at, draft.arrays["boxes"][at] * [*scale, *scale], areas_too=False)
            _scale_masks(draft, at, scale, (height, width))
        else:
            draft.moved[at] = True
            _drop_runs(draft, at, (height, width))


def _scale_masks(draft: Draft, at: np.ndarray, scale: np.ndarray, size: tuple[int, int]) -> None:
    at = at[draft.arrays["shape_starts"][at] >= 0]
    starts, entries = draft.arrays["shape_starts"][at], []
    blob = draft.blob(starts)
    for start in starts.tolist():
        shape = shapes.decode(blob, start)
        if isinstance(shape, dict):
            bitmap = cv2.resize(coco_mask.decode(shape), size[::-1], interpolation=cv2.INTER_NEAREST)
            runs = coco_mask.encode(np.asfortranarray(bitmap))
            entries.append(shapes.encode_rle({"size": [*size], "counts": runs["counts"]}))
        else:
            scaled = [(p * scale).astype(np.float32) for p in shape]
            entries.append(shapes.from_polygons([p.ravel().tolist() for p in scaled])[0])
    draft.append_shapes(at, entries)


def _drop_runs(draft: Draft, at: np.ndarray, size: tuple[int, int]) -> None:
    """Run lengths of another size than the image's cannot be drawn on it."""
    at = at[draft.arrays["shape_starts"][at] >= 0]
    starts = draft.arrays["shape_starts"][at]
    words, place = draft.blob(starts).view("<i4"), starts // 4
    other = (words[place] < 0) & ((words[place + 1] != size[0]) | (words[place + 2] != size[1]))
    draft.writable("shape_starts")[at[other]] = -1


def drop_masks(draft: Draft, edits: Sequence[Edit]) -> None:
    """No mask; boxes stay."""
    draft.writable("shape_starts")[draft.annotations(_ids(edits))] = -1


def drop_annotations(draft: Draft, edits: Sequence[Edit]) -> None:
    """Annotations go. With "keep_first", of those that share an id the first stays."""
    kept = np.ones(len(draft.row), bool)
    for edit in edits:
        at = draft.annotations(edit["ids"], unique=not edit.get("keep_first"))
        if edit.get("keep_first"):
            ids = draft.arrays["annotation_ids"][at]  # in a row where they are the same
            again = ids[1:] == ids[:-1]
            at = at[np.append(False, again) | ~np.append(again, False)]
        kept[at] = False
    draft.keep_annotations(np.flatnonzero(kept))


def drop_images(draft: Draft, edits: Sequence[Edit]) -> None:
    """Images go, with their annotations and maps."""
    kept = np.ones(len(draft.arrays["image_ids"]), bool)
    kept[draft.images(_ids(edits))] = False
    if not kept.any():
        raise EditError("no image would be left")
    draft.keep_images(np.flatnonzero(kept))


def join_images(draft: Draft, edits: Sequence[Edit]) -> None:
    """The first image gets the annotations of the others, which go: one file was listed under several ids."""
    into = np.arange(len(draft.arrays["image_ids"]))
    for edit in edits:
        keep, *others = (int(draft.images([i])[0]) for i in edit["ids"])
        if len(gone := [i for i in (keep, *others) if into[i] != i]) or keep in others:
            raise EditError(f"image {listed(draft.arrays['image_ids'][gone or [keep]])} has been joined already")
        into[others] = keep
        for name in ("heights", "widths"):  # the size that is known
            if not draft.arrays[name][keep]:
                draft.writable(name)[keep] = draft.arrays[name][others].max()
    while (into != into[into]).any():  # what was joined to an image that was joined later
        into = into[into]
    draft.moved |= into[draft.row] != draft.row
    draft.regroup(into[draft.row])
    draft.keep_images(np.flatnonzero(into == np.arange(len(into))))


def merge_categories(draft: Draft, edits: Sequence[Edit]) -> None:
    """All categories of these names, and of the name "into", become one."""
    for edit in edits:
        entries = draft.categories.to_list()
        merged = {*_labels(draft.categories, edit["names"]), *_labels(draft.categories, [edit["into"]], absent=True)}
        named = [k for k in merged if entries[k]["name"] == edit["into"]]
        place = min(named or merged)  # its id and colour stay
        entries[place] = entries[place] | {"name": edit["into"]}
        kept = [k for k in range(len(entries)) if k == place or k not in merged]
        labels = np.array([kept.index(place if k in merged else k) for k in range(len(entries))])
        draft.relabel(labels, kept, Categories.of([entries[k] for k in kept]))


def drop_categories(draft: Draft, edits: Sequence[Edit]) -> None:
    """Categories go, with their annotations."""
    dropped = set(_labels(draft.categories, [name for edit in edits for name in edit["names"]]))
    entries = draft.categories.to_list()
    kept = [k for k in range(len(entries)) if k not in dropped]
    if not kept:
        raise EditError("no category would be left")
    labels = np.full(len(entries), -1)
    labels[kept] = np.arange(len(kept))
    draft.relabel(labels, kept, Categories.of([entries[k] for k in kept]))


def _labels(categories: Categories, names: Sequence[str], absent: bool = False) -> list[int]:
    """Labels of all categories of these names; several may have one name."""
    lacking = [name for name in names if name not in categories.names]
    if lacking and not absent:
        raise EditError(f"there is no category {listed(map(repr, lacking))}")
    return [k for k, name in enumerate(categories.names) if name in names]


def _ids(edits: Sequence[Edit]) -> list[int]:
    return [i for edit in edits for i in edit["ids"]]
