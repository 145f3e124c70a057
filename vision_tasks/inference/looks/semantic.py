"""Semantic maps from several looks at an image: flipped, scaled, in tiles, by several models, or all of it together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.inference.looks.ensemble import Ensemble
from vision_tasks.inference.looks.looks import Looks
from vision_tasks.inference.looks.network_image import NetworkImage
from vision_tasks.inference.looks.sliding import TiledScores
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.semantic import (
    Taps,
    bands,
    decide_rows,
    default_band_bytes,
    logit,
    sample,
    taps,
    undecided,
)
from vision_tasks.structures import Size

_TILE_STEP = 32  # of networks whose preprocessing pads nothing, and so does not tell their stride


@dataclass
class _Look:
    """One network's view of the image, and where the original pixels lie in its scores.

    Attributes:
        ordered: brings scores into the order of the categories that are asked for.
    """

    scores: TiledScores
    rows: Taps
    columns: Taps
    ordered: Callable[[Tensor], Tensor]


def predict_map(model: VisionModel | Ensemble, image: Tensor, looks: Looks, threshold: float = 0.5) -> Tensor:
    """The semantic map of one image, from the mean of the probabilities of all looks; from the logits of a single one.

    Memory: the image, the map, and for each look the scores of one row of tiles (of the whole image, without tiles)
    at the network's own stride. Call under `torch.inference_mode()`, in evaluation mode.

    Args:
        model: one that draws maps, or several. image: (C, H, W) on the model's device, as `Preprocess` takes it.
        looks: tiles are in network pixels here.
        threshold: probability above which a category is there, if the head decides each on its own.

    Returns:
        (H, W) int16; or (L, H, W) bool of a head that decides every category on its own.

    Raises:
        VisionTasksError: tiles that do not fit the model.
    """
    ensemble = model if isinstance(model, Ensemble) else Ensemble([model])
    size: Size = (image.shape[-2], image.shape[-1])
    both = (False, True) if looks.flip else (False,)
    ways = [
        [_look(ensemble, number, image, looks, factor, mirrored) for mirrored in both]
        for number in range(len(ensemble))
        for factor in looks.factors
    ]
    weights = [weight for weight in ensemble.weights for _ in looks.factors]
    head = _head_of(ensemble.models[0])
    first = ways[0][0]
    alone = len(ways) == len(ways[0]) == 1
    decided = undecided(first.scores.categories, size, head.multi_label, image.device)
    limit = logit(threshold) if alone else threshold
    # Bands are planned for one look; the mean and a look's scores and probabilities live beside each other.
    room = default_band_bytes(image.device) // (1 if alone else 2)
    for start, stop in _bands(ways, size, room):
        if alone:
            found = _rows(first, start, stop)
        else:
            made = ([_probabilities(_rows(look, start, stop), head) for look in way] for way in ways)
            found = _mean(made, weights)
        decide_rows(decided, start, found, head.multi_label, limit)
        del found  # may be a view of a row of tiles, which would then live until the next is made
    return decided


def _head_of(model: VisionModel) -> SemanticHead:
    head = model.head_of("semantic")
    assert isinstance(head, SemanticHead)
    return head


def tile_stride(preprocess: Preprocess) -> int:
    """What tiles' sides must be multiples of, in network pixels."""
    return preprocess.stride if preprocess.stride > 1 else _TILE_STEP


def _look(ensemble: Ensemble, number: int, image: Tensor, looks: Looks, factor: float, mirrored: bool) -> _Look:
    model = ensemble.models[number]
    head, preprocess = _head_of(model), model.preprocess
    height, width = image.shape[-2:]
    whole = preprocess.network_size((height, width))
    size = (max(1, round(whole[0] * factor)), max(1, round(whole[1] * factor)))
    tiling = looks.tiling
    if tiling is not None and size[0] <= tiling.tile[0] and size[1] <= tiling.tile[1]:
        tiling = None
    stride = tile_stride(preprocess)
    seen = NetworkImage(image, preprocess, size, mirrored, stride if tiling else 1, whole=tiling is None)

    def scores(images: Tensor) -> Tensor:
        return head.logits(model.features(images), (images.shape[-2], images.shape[-1]))

    made = TiledScores(seen, scores, tiling, stride, looks.batch_size)
    rows = taps(height, seen.scale[1], seen.offset[1], made.cells[0], seen.canvas[0])
    columns = taps(width, seen.scale[0], seen.offset[0], made.cells[1], seen.canvas[1])
    columns = (columns.mirrored() if mirrored else columns).to(image.device)
    return _Look(made, rows, columns, lambda scores: ensemble.reordered(scores, number))


def _bands(ways: list[list[_Look]], size: Size, room: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of bands for which the look with the most rows of scores has enough memory."""
    first = ways[0][0]
    row_bytes = 4 * first.scores.categories * size[1]
    tallest = max((look for way in ways for look in way), key=lambda look: look.scores.cells[0])
    for band in bands(tallest.rows, tallest.scores.cells[0], row_bytes, room):
        yield band.start, band.stop


def _rows(look: _Look, start: int, stop: int) -> Tensor:
    """(K, stop - start, W) logits of original rows."""
    rows, first, last = look.rows.part(start, stop)
    low = look.scores.read(first, last)
    return look.ordered(sample(low, rows.to(low.device), look.columns))


def _probabilities(logits: Tensor, head: SemanticHead) -> Tensor:
    return logits.sigmoid() if head.multi_label else torch.softmax(logits, dim=0)


def _mean(ways: Iterable[list[Tensor]], weights: Sequence[float]) -> Tensor:
    """The weighted mean of all. Of each scale first: then a mirrored image gives exactly the mirrored map."""
    total, count = torch.zeros(()), 0.0
    for way, weight in zip(ways, weights, strict=True):
        both = way[0] if len(way) == 1 else way[0] + way[1]
        both = both if weight == 1 else both * weight
        total, count = both if count == 0 else total + both, count + weight * len(way)
    return total / count
