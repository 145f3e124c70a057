"""Which images are the same, or show the same: perceptual hashes propose, their small grey pictures decide.

Hashes alone call different photos alike where most of the picture is the same for all: an empty background, a vignette,
bars that pad photos to a square. So each proposed pair is compared in what is left of its pictures once their slow
changes are taken away, as a whole and in sixteen parts: bars are alike as a whole, but not in their parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vision_tasks.data.doctor.hashes import TURNS, frequencies, hashes, laid, near_pairs
from vision_tasks.data.doctor.image_facts import THUMB

ALIKE = (0.7, 0.35)
"""Correlation of the whole, and of its worst quarter of parts, from which on two images show the same scene. On public
sets different photos reach 0.47 and 0.1; half an image that all have in common makes 0.97 and 0.3; crops by 1 %, turns
by 2° and JPEG of quality 50 leave 0.75 and 0.49 or more; frames 1/3 s apart have 0.6 to 0.9 and -0.3 to 0.65."""

SAME = (0.95, 0.8)
"""... from which on they are one image, saved another time: resized, brightened, compressed."""

_PLAIN = 1.0  # grey levels: pictures with less detail have nothing to be compared by
_PART = 8  # side of the parts, cells
_PLAIN_PART = 1.5
_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class Pairs:
    """P pairs of images that are alike.

    Attributes:
        first, second: (P,) int64 numbers. turn: (P,) int64, how the first is to be laid to be like the second
            (`hashes.TURNS`). exact: (P,) bool, whether the files are equal to the byte. likeness: (P,) correlation.
    """

    first: np.ndarray
    second: np.ndarray
    turn: np.ndarray
    exact: np.ndarray
    likeness: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def _blur() -> np.ndarray:
    """(THUMB, THUMB): Gaussian of 4 cells along one axis, the edge's cells standing for what is beyond."""
    at = np.arange(THUMB)
    far = np.arange(-3 * THUMB, 4 * THUMB)
    weights = np.exp(-((at[:, None] - far) ** 2) / 32.0)
    out = np.zeros((THUMB, THUMB))
    np.add.at(out.T, far.clip(0, THUMB - 1), weights.T)
    return np.asarray(out / out.sum(1, keepdims=True), np.float32)


_BLUR = _blur()


def details(thumbs: np.ndarray) -> np.ndarray:
    """(N, S, S) grey pictures -> float32, without what changes slowly over the picture."""
    grey = thumbs.astype(np.float32)
    return np.asarray(grey - _BLUR @ grey @ _BLUR.T)


def is_plain(thumbs: np.ndarray) -> np.ndarray:
    """(N,) bool: pictures of one colour, or of slow changes only."""
    plain = np.empty(len(thumbs), bool)
    for at in range(0, len(thumbs), _AT_ONCE):
        plain[at : at + _AT_ONCE] = details(thumbs[at : at + _AT_ONCE]).std((1, 2)) < _PLAIN
    return plain


def likeness(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How alike P pairs of pictures are, whatever their brightness and contrast.

    Args:
        one, other: (P, S, S) uint8.

    Returns:
        (P,) correlation of their details, and (P,) mean correlation of the worst quarter of their sixteen parts; parts
        that are plain in both do not count.
    """
    a, b = details(one), details(other)
    whole = _correlation(a.reshape(len(a), -1), b.reshape(len(b), -1))
    a, b = _parts(a), _parts(b)
    parts = _correlation(a, b)
    parts[np.maximum(a.std(-1), b.std(-1)) < _PLAIN_PART] = np.nan
    counted = (~np.isnan(parts)).sum(1)
    worst = (counted // 4).clip(1)
    ranked = np.nan_to_num(np.sort(parts, 1))  # NaN last, so that they count only where there is nothing else
    sums = np.cumsum(ranked, 1)
    return whole, sums[np.arange(len(sums)), worst - 1] / worst


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # Around zero, not around each part's mean: details have none as a whole.
    return np.asarray((a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)).clip(1e-6))


def _parts(pictures: np.ndarray) -> np.ndarray:
    """(P, S, S) -> (P, parts, cells of a part)."""
    n = THUMB // _PART
    cut = pictures.reshape(len(pictures), n, _PART, n, _PART).transpose(0, 1, 3, 2, 4)
    return cut.reshape(len(pictures), n * n, _PART * _PART)


def alike(table: np.ndarray, others: np.ndarray) -> Pairs:
    """Images of one split that show the same as images of another, also mirrored or turned, equal files first.

    Args:
        table, others: (N,) and (M,) of dtype `image_facts.FACTS`, of images that can be read.
    """
    copies = _equal_files(table["digest"], others["digest"])
    found = [_exact(*copies)]
    own, theirs = _comparable(table), _comparable(others)
    index = hashes(frequencies(table["thumb"][own]))
    waves = frequencies(others["thumb"][theirs])
    for turn in range(len(TURNS)):
        laid_others = laid(others["thumb"][theirs], turn)
        for query, other in near_pairs(hashes(waves, turn), index):
            found.append(_judged(table["thumb"], own[other], laid_others, query, theirs, turn, ALIKE))
    pairs = _joined(found)
    key = pairs.first * max(len(others), 1) + pairs.second  # one pair may be alike in several ways: the first counts
    _, once = np.unique(key, return_index=True)
    return _chosen(pairs, np.sort(once))


def same(table: np.ndarray) -> Pairs:
    """Images of one split that are one image; the first of each pair is the earlier one.

    Only as they are: that a split holds mirrored copies is augmentation, most often, and meant.
    """
    names, number = np.unique(table["digest"], return_inverse=True)
    first = np.full(len(names), len(table))
    np.minimum.at(first, number, np.arange(len(table)))
    copies = np.flatnonzero(first[number] != np.arange(len(table)))
    found = [_exact(first[number][copies], copies)]
    own = np.intersect1d(_comparable(table), first)  # of equal files one is enough
    index = hashes(frequencies(table["thumb"][own]))
    for query, other in near_pairs(index, index, same=True):
        found.append(_judged(table["thumb"], own[query], table["thumb"][own], other, own, 0, SAME))
    return _joined(found)


def groups(pairs: Pairs, count: int) -> np.ndarray:
    """(count,) int32: equal numbers for images that are joined by pairs."""
    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs.first, pairs.second)), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1])


def _comparable(table: np.ndarray) -> np.ndarray:
    return np.flatnonzero(~is_plain(table["thumb"]))


def _judged(
    thumbs: np.ndarray, first: np.ndarray, laid_others: np.ndarray, query: np.ndarray, others: np.ndarray, turn: int,
    limits: tuple[float, float],
) -> Pairs:  # fmt: skip
    """Of proposed pairs those that are alike; `query` counts within `laid_others` and `others`."""
    kept, measured = [], []
    for at in range(0, len(first), _AT_ONCE):
        part = slice(at, at + _AT_ONCE)
        whole, quarter = likeness(thumbs[first[part]], laid_others[query[part]])
        good = (whole >= limits[0]) & (quarter >= limits[1])
        kept.append(good)
        measured.append(whole[good])
    chosen = np.concatenate(kept) if kept else np.zeros(0, bool)
    n = int(chosen.sum())
    values = np.concatenate(measured) if measured else np.zeros(0)
    return Pairs(first[chosen], others[query[chosen]], np.full(n, turn), np.zeros(n, bool), values)


def _equal_files(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (number in one, number in other) of equal digests."""
    order = np.argsort(one, kind="stable")
    low, high = (np.searchsorted(one, other, side, sorter=order) for side in ("left", "right"))
    count = high - low
    second = np.repeat(np.arange(len(other)), count)
    first = order[np.repeat(low - (np.cumsum(count) - count), count) + np.arange(count.sum())]
    return first, second


def _exact(first: np.ndarray, second: np.ndarray) -> Pairs:
    n = len(first)
    return Pairs(first, second, np.zeros(n, np.int64), np.ones(n, bool), np.ones(n))


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate([getattr(p, f) for p in parts]) for f in Pairs.__dataclass_fields__))


def _chosen(pairs: Pairs, rows: np.ndarray) -> Pairs:
    return Pairs(*(getattr(pairs, f)[rows] for f in Pairs.__dataclass_fields__))
