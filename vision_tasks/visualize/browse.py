"""A page of images of a data set with their annotations drawn."""

from __future__ import annotations

import difflib
import os
import tempfile
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from vision_tasks.data.images import displayed, read_image
from vision_tasks.data.operations.split import labels_of_map
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Rle, Size, Target
from vision_tasks.visualize.drawing import Picture, draw
from vision_tasks.visualize.page import write_page
from vision_tasks.visualize.picture import write_picture
from vision_tasks.visualize.text import paint_text, text_mask

LONGEST = 640
"""Pixels of the longer side of a picture on the page, without its legend."""
_EMBEDDED = 200
"""More pictures than this lie in a folder beside the page."""
_NAMED = 6
_TAGGED = 12
"""So many objects of the only category there is get a tag each."""
_GROUND, _INK = (58, 60, 66), (236, 236, 238)


@dataclass(frozen=True)
class Browsed:
    """What is on the page: pictures, of them broken ones, and of how many images they were drawn (None: unknown)."""

    shown: int
    broken: int
    candidates: int | None


def write_browser(
    splits: Mapping[str, Records], path: Path, count: int = 60, category: str = "", seed: int = 0, title: str = "Images"
) -> Browsed:
    """Write a page of images drawn by chance, with boxes, masks and maps; one that cannot be read shows why.

    Args:
        splits: records by name. path: the .html file. count: of images. category: only images that have it.
        seed: of the choice.

    Raises:
        VisionTasksError: an unknown category, or no image that has it.
    """
    chosen, candidates = choose(splits, count, category, seed)
    with tempfile.TemporaryDirectory() as temporary:
        beside = len(chosen) > _EMBEDDED
        folder = path.with_name(f"{path.stem}_images") if beside else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)

        def work(job: tuple[int, tuple[str, int]]) -> tuple[Path, str, bool]:
            number, (split, row) = job
            picture, caption, fine = draw_record(splits[split], row)
            file = folder / f"{number:05d}.jpg"
            write_picture(file, picture)
            return file, f"{split}: {caption}", fine

        pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        try:
            drawn = list(counted(pool.map(work, enumerate(chosen)), "drawing images", len(chosen)))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        broken = sum(not fine for _, _, fine in drawn)
        of = "" if candidates is None else f" of {candidates:,}"
        lead = f"{len(chosen):,}{of} images{f' with {category}' if category else ''}, drawn by chance"
        write_page(
            path, title, {"images shown": len(chosen), "that cannot be drawn": broken} if broken else None,
            images=[(file, caption) for file, caption, _ in drawn], lead=f"{lead} (seed {seed}).", embed=not beside,
        )  # fmt: skip
    return Browsed(len(chosen), broken, candidates)


def choose(
    splits: Mapping[str, Records], count: int, category: str = "", seed: int = 0
) -> tuple[list[tuple[str, int]], int | None]:
    """So many (split, row), drawn by chance, in the order of the data; and of how many.

    A category that is on maps alone is looked for until there are enough images; then nobody knows of how many.
    """
    rows = [(split, row) for split, records in splits.items() for row in _rows_with(records, category)]
    if category and not any(category in _names(records) for records in splits.values()):
        known = sorted({name for records in splits.values() for name in _names(records)})
        near = difflib.get_close_matches(category, known, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known[:20])}."
        raise VisionTasksError(f"there is no category {category!r}. {hint}")
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    chosen: list[int] = []
    for i in counted(order, "looking for images") if category else order:
        split, row = rows[i]
        if len(chosen) < count and _has(splits[split], row, category):
            chosen.append(i)
        if len(chosen) >= count:
            break
    if not chosen:
        raise VisionTasksError(f"no image has an object of {category!r}" if category else "there are no images")
    on_maps = bool(category) and not all(r.has_boxes and category in r.categories.names for r in splits.values())
    return [rows[i] for i in sorted(chosen)], None if on_maps else len(rows)


def draw_record(records: Records, row: int) -> tuple[Picture, str, bool]:
    """An image with its annotations, no larger than a page needs; what is said below it; whether it could be drawn.

    Annotations that training cannot use are counted, not drawn.
    """
    name = f"{records.file_name(row)}, image {records.image_ids[row]}"
    try:
        image = displayed(read_image(records.image_path(row), records.size(row), data=records.image_data(row)))
        size: Size = (image.shape[0], image.shape[1])
        target = records.target(row, size)
        source = records.semantic
        if source is not None and not source.is_drawn and (values := source.read(row, size)) is not None:
            target = replace(target, semantic=torch.from_numpy(values))
    except (VisionTasksError, OSError) as error:
        return broken(str(error)), f"{name}: cannot be drawn: {error}", False
    scale = min(1.0, LONGEST / max(size))
    small: Size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    if small != size:
        image = cv2.resize(image, (small[1], small[0]), interpolation=cv2.INTER_AREA).reshape(*small, -1)
        target = shrunk(target, small)
    palette = None if records.semantic is None else records.semantic.categories
    # Tags that all say the same would hide what there is to see; on small images they need a larger picture.
    tags = len(records.categories) > 1 or target.boxes is None or len(target.boxes) <= _TAGGED
    zoom = max(1, LONGEST // max(small))
    picture = draw(image, target, records.categories, labels=tags, zoom=min(zoom, 4), semantic_categories=palette)
    return picture, f"{name}, {size[1]}×{size[0]}{_counts(records, row)}", True


def shrunk(target: Target, size: Size) -> Target:
    """The truth on a smaller grid; however small an object becomes, it stays.

    Args:
        size: (height, width) of the smaller image.
    """
    x, y = size[1] / target.size[1], size[0] / target.size[0]
    semantic = target.semantic
    if semantic is not None:
        layers = semantic.numpy() if semantic.ndim == 3 else semantic.numpy()[None]
        near = [cv2.resize(layer, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT) for layer in layers]
        semantic = torch.from_numpy(np.stack(near) if semantic.ndim == 3 else near[0])
    if target.boxes is None:
        return replace(target, size=size, semantic=semantic)
    factors = np.array([x, y], np.float32)
    masks = None
    if target.masks is not None and target.masks.shapes is not None:
        shapes = [
            _shrunk_rle(shape, size) if isinstance(shape, dict) else [p * factors for p in shape] if shape else None
            for shape in target.masks.shapes
        ]
        masks = Masks(size, shapes=shapes)
    boxes = target.boxes * torch.tensor([x, y, x, y])
    return replace(target, size=size, boxes=boxes, masks=masks, semantic=semantic)


def broken(reason: str) -> Picture:
    """A picture that says why there is none."""
    canvas = np.full((300, 480, 3), _GROUND, np.uint8)
    cv2.line(canvas, (20, 20), (70, 70), (213, 94, 0), 6, cv2.LINE_AA)
    cv2.line(canvas, (70, 20), (20, 70), (213, 94, 0), 6, cv2.LINE_AA)
    lines = textwrap.wrap(" ".join(reason.split()), 58)[:9]
    for number, line in enumerate(lines):
        paint_text(canvas, 20, 90 + 22 * number, text_mask(line, 13)[:, :440], _GROUND, _INK)
    return canvas


def _shrunk_rle(rle: Rle, size: Size) -> Rle:
    whole: Size = (rle["size"][0], rle["size"][1])
    out = np.zeros(size, np.uint8)
    left, top, right, bottom = mask_ops.boxes([rle])[0].int().tolist()
    if right > left and bottom > top:
        bitmap = mask_ops.render(Masks(whole, shapes=[rle]), (left, top, right, bottom))[0].numpy().view(np.uint8)
        x, y = size[1] / whole[1], size[0] / whole[0]
        x1, y1 = min(int(left * x), size[1] - 1), min(int(top * y), size[0] - 1)
        x2, y2 = max(x1 + 1, min(round(right * x), size[1])), max(y1 + 1, min(round(bottom * y), size[0]))
        out[y1:y2, x1:x2] = cv2.resize(bitmap * 255, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA) > 127
    return mask_ops.encode(torch.from_numpy(out)[None] > 0)[0]


def _counts(records: Records, row: int) -> str:
    """What is in an image, for its caption."""
    if not records.has_boxes:
        return ""
    part = slice(int(records.first[row]), int(records.first[row + 1]))
    labels = Counter(records.labels[part].tolist())
    if not labels:
        return ", no objects"
    said = [f"{n} {records.categories.names[label]}" for label, n in labels.most_common(_NAMED)]
    more = f" and {len(labels) - _NAMED} more categories" if len(labels) > _NAMED else ""
    notes = []
    if crowds := int(records.is_crowd[part].sum()):
        notes.append(f"{crowds} of them crowds")
    if lost := int((~records.usable[part]).sum()):
        notes.append(f"{lost} unusable, not drawn")
    return f": {', '.join(said)}{more}" + (f" ({', '.join(notes)})" if notes else "")


def _names(records: Records) -> Sequence[str]:
    maps = () if records.semantic is None else records.semantic.categories.names
    return (*(records.categories.names if records.has_boxes else ()), *maps)


def _rows_with(records: Records, category: str) -> Sequence[int]:
    """Rows that may have a category; those with it among their objects, where there are objects."""
    if not category:
        return range(len(records))
    if records.has_boxes and category in records.categories.names:
        label = records.categories.names.index(category)
        there = np.flatnonzero(records.labels == label)
        rows: list[int] = np.unique(np.searchsorted(records.first, there, side="right") - 1).tolist()
        return rows
    if records.semantic is not None and category in records.semantic.categories.names:
        return range(len(records))
    return ()


def _has(records: Records, row: int, category: str) -> bool:
    """Whether a row of `_rows_with` has the category indeed."""
    if not category or (records.has_boxes and category in records.categories.names):
        return True
    assert records.semantic is not None
    return records.semantic.categories.names.index(category) in labels_of_map(records, row)
