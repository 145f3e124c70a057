"""Perceptual hashes of images, and finding the near ones among many without comparing all with all.

The hash is that of pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section
3.2.1): of a 32×32 grey picture the 8×8 lowest frequencies of the cosine transform, without those that vary along one
axis only; a bit says whether a coefficient is above their median. Near ones are found by their parts (Norouzi et al.
2012, "Fast Search in Hamming Space with Multi-Index Hashing").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RADIUS = 11
"""Hashes are near if at most so many of their 64 bits differ. If two do, at least one of their four parts of 16 bits
differs by no more than two (11 // 4), which is what makes the search short."""

TURNS = ("as it is", "mirrored", "upside down and mirrored", "turned by 180°", "turned by 90° and mirrored",
         "turned by 90°", "turned by 270°", "turned by 270° and mirrored")  # fmt: skip
"""The eight ways to lay a picture; number t transposes if t & 4, then mirrors if t & 1 and flips if t & 2."""

_BANDS, _BAND = 4, 16
_NEAREST = 64  # of one image so many are kept: of a film all frames may be near
_AT_ONCE = 1 << 22  # pairs that are compared at a time
_BLOCK = 2048  # images whose neighbours are looked up at a time


def laid(thumbs: np.ndarray, turn: int) -> np.ndarray:
    """(N, S, S) pictures laid in one of the ways of `TURNS`; a view."""
    if turn & 4:
        thumbs = thumbs.swapaxes(1, 2)
    if turn & 1:
        thumbs = thumbs[:, :, ::-1]
    return thumbs[:, ::-1] if turn & 2 else thumbs


def frequencies(thumbs: np.ndarray) -> np.ndarray:
    """(N, S, S) grey pictures -> (N, 8, 8) float32 coefficients 1..8 of the cosine transform, rows first."""
    side = thumbs.shape[1]
    waves = np.cos(np.pi / side * np.arange(1, 9)[:, None] * (np.arange(side) + 0.5)).astype(np.float32)
    out = np.empty((len(thumbs), 8, 8), np.float32)
    for at in range(0, len(thumbs), 1 << 14):  # a float picture takes four times as much
        out[at : at + (1 << 14)] = waves @ thumbs[at : at + (1 << 14)].astype(np.float32) @ waves.T
    return out


def hashes(coefficients: np.ndarray, turn: int = 0) -> np.ndarray:
    """(N, 8, 8) `frequencies` -> (N,) uint64, of the pictures laid in one of the ways of `TURNS`."""
    sign = (-1.0) ** np.arange(1, 9, dtype=np.float32)  # a wave of odd frequency changes sign when it is mirrored
    if turn & 4:
        coefficients = coefficients.swapaxes(1, 2)
    if turn & 1:
        coefficients = coefficients * sign
    if turn & 2:
        coefficients = coefficients * sign[:, None]
    flat = coefficients.reshape(len(coefficients), 64)
    bits = flat > np.median(flat, axis=1, keepdims=True) if len(flat) else np.zeros((0, 64), bool)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def near_pairs(
    queries: np.ndarray, index: np.ndarray, radius: int = RADIUS, same: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of hashes that differ by at most `radius` bits, block by block; of each query the nearest 64.

    Memory does not grow with the number of pairs.

    Args:
        queries: (Q,) uint64. index: (N,) uint64. radius: at most `RADIUS`.
        same: both are the same array: each pair is given once, the lower number as the query.

    Yields:
        (P,) int64 numbers of queries and (P,) of the index, each pair once, by query, then by distance.
    """
    if not 0 <= radius <= RADIUS:
        raise ValueError(f"radius must be 0 to {RADIUS}, not {radius}")
    tables = [_table(_part(index, band)) for band in range(_BANDS)]
    near = _flips(radius // _BANDS)
    for at in range(0, len(queries), _BLOCK):
        block = queries[at : at + _BLOCK]
        found = [
            pairs
            for band, (order, starts) in enumerate(tables)
            for pairs in _of_band(block, index, band, order, starts, near, radius, at if same else None)
        ]
        if not found:
            continue
        query, other, distance = (np.concatenate([f[i] for f in found]) for i in range(3))
        by = np.lexsort((other, distance, query))
        query, other = query[by], other[by]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        kept = rank < _NEAREST
        yield query[kept] + at, other[kept]


def _part(values: np.ndarray, band: int) -> np.ndarray:
    return (values >> np.uint64(_BAND * band)).astype(np.uint16)


def _table(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in order of their part, and where each of the 65,536 values begins among them."""
    order = np.argsort(parts, kind="stable")
    return order, np.concatenate([[0], np.cumsum(np.bincount(parts, minlength=1 << _BAND))])


def _flips(radius: int) -> np.ndarray:
    """(F,) uint16: all values of 16 bits of which at most `radius` are set."""
    values = np.arange(1 << _BAND, dtype=np.uint16)
    return values[bit_count(values) <= radius]


def _of_band(
    block: np.ndarray, index: np.ndarray, band: int, order: np.ndarray, starts: np.ndarray, near: np.ndarray,
    radius: int, first: int | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """(query in the block, number in the index, distance) of pairs that this band is the first to be near in."""
    keys = _part(block, band)[:, None] ^ near
    low, count = starts[keys].ravel(), (starts[keys.astype(np.int64) + 1] - starts[keys]).ravel()
    ends = np.cumsum(count)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] + _AT_ONCE, _AT_ONCE), side="left")
    for a, b in zip(cuts, [*cuts[1:], len(count)], strict=True):
        n = count[a:b]
        if not n.sum():
            continue
        slot = np.repeat(np.arange(a, b), n)
        query = slot // len(near)
        other = order[np.repeat(low[a:b] - (np.cumsum(n) - n), n) + np.arange(n.sum())]
        differing = block[query] ^ index[other]
        distance = bit_count(differing)
        kept = distance <= radius
        if first is not None:
            kept &= other > query + first
        for earlier in range(band):  # found there already
            kept &= bit_count(_part(differing, earlier)) > radius // _BANDS
        yield query[kept], other[kept], distance[kept]


_COUNTS = np.array([bin(i).count("1") for i in range(1 << _BAND)], np.uint8)


def bit_count(values: np.ndarray) -> np.ndarray:
    """Set bits of each unsigned integer, uint8."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(values))
    parts = np.ascontiguousarray(values)[..., None].view(np.uint16)
    return np.asarray(_COUNTS[parts].sum(-1, dtype=np.uint8))
