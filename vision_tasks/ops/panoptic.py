"""Instances and a semantic map merged so that every pixel belongs to at most one segment.

The rule is that of Kirillov et al., "Panoptic Segmentation" (CVPR 2019), section 7, with the limit on the area of stuff
that "Panoptic Feature Pyramid Networks" (2019) and panopticapi add.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vision_tasks.categories import Categories, beside_map
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks, Panoptic

_ROWS_AT_ONCE = 256  # of the map, while labels are eight bytes each


@dataclass(frozen=True)
class PanopticRule:
    """How much of a thing or a stuff must be there for it to become a segment.

    Attributes:
        score: things below it are left out.
        overlap: a thing stays if at least this share of its mask is not yet taken by better things.
        stuff_area: pixels that a stuff must have left at least; fewer stay undecided.
        void: names of semantic categories that say nothing about a pixel ("other", "unlabeled"): it stays undecided.
    """

    score: float = 0.5
    overlap: float = 0.5
    stuff_area: int = 64 * 64
    void: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.score <= 1 and 0 <= self.overlap <= 1 and self.stuff_area >= 0):
            raise ValueError(f"score and overlap lie in 0..1 and stuff_area is not negative, unlike {self}")


@lru_cache(maxsize=32)
def panoptic_categories(
    objects: Categories, semantic: Categories, void: tuple[str, ...] = ()
) -> tuple[Categories, tuple[int, ...]]:
    """One list of categories for things and stuff.

    Things come first, as they are in `objects`. Every semantic category follows that `objects` has no name for and
    `void` does not list: whatever the map says of its `is_thing`, there is no one to count it, so it is stuff. A
    semantic category of a thing's name is that thing; but only instances make segments of it.
    Ids are kept. A stuff's id that a thing has too is replaced by the next above all ids in use, in order. Colours are
    the map's, and for things those of `beside_map`.

    Args:
        objects: of the head that finds things. semantic: of the map. void: as in `PanopticRule`.

    Returns:
        The categories, and for each semantic label its label among them: that of a stuff, or -1.

    Raises:
        ValueError: `void` has a name that is no semantic category.
    """
    unknown = set(void) - set(semantic.names)
    if unknown:
        raise ValueError(
            f"void names {', '.join(sorted(unknown))}; the map's categories are {', '.join(semantic.names)}"
        )
    left_out = {*objects.names, *void}
    stuff = [label for label, name in enumerate(semantic.names) if name not in left_out]
    taken, colors = set(objects.ids), list(beside_map(objects, semantic).colors)
    ids, next_id = list(objects.ids), max((*objects.ids, *semantic.ids), default=0) + 1
    labels = [-1] * len(semantic)
    for row, label in enumerate(stuff, start=len(objects)):
        labels[label] = row
        own = semantic.ids[label]
        if own in taken:
            own, next_id = next_id, next_id + 1
        ids.append(own)
        colors.append(semantic.colors[label])
    return Categories(
        names=(*objects.names, *(semantic.names[label] for label in stuff)),
        ids=tuple(ids),
        is_thing=(True,) * len(objects) + (False,) * len(stuff),
        colors=tuple(colors),
    ), tuple(labels)


def merge_panoptic(
    masks: Masks,
    labels: Tensor,
    scores: Tensor,
    object_categories: Categories,
    semantic: Tensor,
    semantic_categories: Categories,
    rule: PanopticRule | None = None,
) -> Panoptic:
    """Things by score, each where nothing better is; then stuff where no thing is.

    A thing's own pixels are made within its box, one thing at a time, so memory is that of the largest.

    Args:
        masks: of N things. labels: (N,) int64 into `object_categories`. scores: (N,). They need not be in order; of
            equal scores the first goes first.
        semantic: (H, W) integer labels into `semantic_categories`, -1 where undecided; or (1, H, W) bool of a map of
            one category.
        rule: default that of panopticapi.

    Returns:
        Segments with at least one pixel each: things, best score first, then stuff in order of label, with score 1. On
        the device of the map. Categories are those of `panoptic_categories`.

    Raises:
        ValueError: the map is not of the masks' size, or says several things of a pixel.
    """
    rule = rule or PanopticRule()
    categories, stuff_of = panoptic_categories(object_categories, semantic_categories, rule.void)
    semantic = _one_label(semantic, len(semantic_categories))
    if tuple(semantic.shape) != tuple(masks.size):
        raise ValueError(f"the map has {tuple(semantic.shape)} pixels (height, width), the masks' image {masks.size}")
    device = semantic.device
    ids = torch.zeros(masks.size, dtype=torch.int32, device=device)

    order = torch.argsort(scores.to(torch.float64), descending=True, stable=True)
    order = order[scores[order] >= rule.score]
    kept: list[int] = []
    for row, (x1, y1, x2, y2), bitmap in _bitmaps(masks, order.tolist()):
        window = ids[y1:y2, x1:x2]
        free = bitmap.to(device, non_blocking=True) & (window == 0)
        n_free, area = torch.stack([free.sum(), bitmap.to(device).sum()]).tolist()
        if n_free == 0 or n_free / area < rule.overlap:
            continue
        kept.append(row)
        window.masked_fill_(free, len(kept))

    # In both tables the last entry is what -1 finds.
    stuff = torch.tensor((*stuff_of, -1), dtype=torch.int32, device=device)
    numbers = torch.zeros(len(categories) + 1, dtype=torch.int32, device=device)
    areas = torch.zeros(len(categories) + 1, dtype=torch.int64, device=device)
    bands = [slice(y, y + _ROWS_AT_ONCE) for y in range(0, len(ids), _ROWS_AT_ONCE)]
    for band in bands:
        free_labels = torch.where(ids[band] == 0, stuff[semantic[band].to(torch.int64)], -1)
        areas += torch.bincount(free_labels.flatten() + 1, minlength=len(areas))
    found = (areas[1:] >= max(1, rule.stuff_area)).nonzero().flatten()
    numbers[found] = torch.arange(len(found), dtype=torch.int32, device=device) + len(kept) + 1
    for band in bands:
        free_numbers = numbers[stuff[semantic[band].to(torch.int64)]]
        ids[band] += free_numbers.masked_fill_(ids[band] != 0, 0)

    chosen = torch.tensor(kept, dtype=torch.int64, device=labels.device)
    return Panoptic(
        ids=ids,
        labels=torch.cat([labels[chosen].to(device=device, dtype=torch.int64), found]),
        categories=categories,
        scores=torch.cat([scores[chosen].to(device, torch.float32), torch.ones(len(found), device=device)]),
    )


def _one_label(semantic: Tensor, n_categories: int) -> Tensor:
    if semantic.ndim == 3 and len(semantic) == n_categories == 1:
        return semantic[0].to(torch.int16) - 1
    if semantic.ndim != 2:
        raise ValueError(
            f"a map of shape {tuple(semantic.shape)} may say several things of a pixel; merging needs a single label"
        )
    return semantic


def _bitmaps(masks: Masks, rows: list[int]) -> Iterator[tuple[int, mask_ops.Window, Tensor]]:
    """Of each mask with a pixel, in this order: its row, a window that holds all of it, (h, w) bool."""
    for row, window in zip(rows, _windows(masks, rows), strict=True):
        x1, y1, x2, y2 = window
        if x1 < x2 and y1 < y2:
            yield row, window, mask_ops.render(masks[[row]], window)[0]


def _windows(masks: Masks, rows: list[int]) -> list[mask_ops.Window]:
    """Whole pixels around each mask, inside the image."""
    height, width = masks.size
    chosen = masks[rows]
    if chosen.grid is not None:
        assert chosen.boxes is not None
        # A grid is pasted with one cell of nothing around it, into a box rounded to whole pixels.
        boxes = chosen.boxes.to("cpu", torch.float64)
        margin = (boxes[:, 2:] - boxes[:, :2]) / max(1, chosen.grid.shape[-1]) + 2
        corners = torch.cat([(boxes[:, :2] - margin).floor(), (boxes[:, 2:] + margin).ceil()], dim=1)
    else:
        corners = mask_ops.boxes(mask_ops.to_rles(chosen)).to(torch.float64)
    corners[:, 0::2].clamp_(0, width)
    corners[:, 1::2].clamp_(0, height)
    return [(int(x1), int(y1), int(x2), int(y2)) for x1, y1, x2, y2 in corners.tolist()]
