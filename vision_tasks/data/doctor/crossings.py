"""Polygons that cross themselves, found among millions of edges by sorting them from left to right."""

from __future__ import annotations

import numpy as np

_NEIGHBOURS = 512
"""An edge is compared with so many that begin right of its left end and before its right end: real outlines need a
few dozen; a scribble of thousands of wide edges has crossed itself long before."""

_ENOUGH = 0.25
"""Once a loop of this share is found, nobody needs to know whether there is a larger one."""


def crossing_share(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How much of each polygon lies in a loop that two of its edges cut off by crossing.

    Two edges cross if each has the other's ends strictly on both sides: touching, running along itself and points
    that are repeated are no crossings.

    Args:
        x, y: (V,) float64 points of P polygons, one after another. points: (P,) int64, how many each has.

    Returns:
        (P,) float64: area of the smaller of the two loops of a crossing, over that of both; of the worst one, or of one
        that is bad enough; 0 where none cross.
    """
    share = _worst_loops(x, y, points, np.ones(len(x), bool))
    found = np.flatnonzero(share)
    if len(found):
        # Parts of an object that were joined to one outline hang together by lines there and back. These enclose
        # nothing, whatever they cross.
        part = np.repeat(share > 0, points)
        px, py, own = x[part], y[part], points[found]
        share[found] = _worst_loops(px, py, own, ~_there_and_back(px, py, own))
    return share


def _following(points: np.ndarray) -> np.ndarray:
    """(V,) int64: the point after each one, around its polygon."""
    begin = np.cumsum(points) - points
    following = np.arange(1, int(points.sum()) + 1)
    following[begin + points - 1] = begin
    return following


def _there_and_back(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(V,) bool: edges whose two ends are those of another edge of their polygon."""
    following = _following(points)
    ends = np.stack([x, y, x[following], y[following]], 1)
    turned = (ends[:, 2] < ends[:, 0]) | ((ends[:, 2] == ends[:, 0]) & (ends[:, 3] < ends[:, 1]))
    ends[turned] = ends[turned][:, [2, 3, 0, 1]]
    polygon = np.repeat(np.arange(len(points)), points)
    _, inverse, counts = np.unique(
        np.concatenate([polygon[:, None], ends], 1), axis=0, return_inverse=True, return_counts=True
    )
    return np.asarray(counts[inverse.ravel()] > 1)


def _worst_loops(x: np.ndarray, y: np.ndarray, points: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """`crossing_share` by those edges ((V,) bool) that are lines of the outline."""
    begin = np.cumsum(points) - points
    polygon = np.repeat(np.arange(len(points)), points)
    following = _following(points)
    share = np.zeros(len(points))
    low, high = np.minimum(x, x[following]), np.maximum(x, x[following])
    # Sorted by polygon, then by left end: as one number, which is many times faster than by two.
    spread = max(1.0, float(high.max() - low.min())) if len(x) else 1.0
    order = np.argsort(polygon * (2 * spread) + (low - low.min(initial=0.0)))
    low, high = low[order], high[order]
    bottom = np.minimum(y, y[following])[order]
    top = np.maximum(y, y[following])[order]
    owner = polygon[order]
    # Sums of the shoelace formula up to each point give the area of any loop at once.
    sums = np.cumsum(x * y[following] - x[following] * y)
    lines = lines[order]
    active = np.flatnonzero(lines)
    for step in range(1, _NEIGHBOURS):
        active = active[: np.searchsorted(active, len(x) - step)]
        other = active + step
        near = (owner[other] == owner[active]) & (low[other] <= high[active]) & (share[owner[active]] < _ENOUGH)
        active = active[near]
        if not len(active):
            break
        other = active + step
        meets = (bottom[other] < top[active]) & (top[other] > bottom[active]) & lines[other]
        first, second = order[active[meets]], order[other[meets]]
        _note_crossings(x, y, following, sums, begin, polygon, first, second, share)
    return share


def _note_crossings(
    x: np.ndarray, y: np.ndarray, following: np.ndarray, sums: np.ndarray, begin: np.ndarray, polygon: np.ndarray,
    first: np.ndarray, second: np.ndarray, share: np.ndarray,
) -> None:  # fmt: skip
    """Raises `share` where edges `first` and `second` ((C,) each, of the same polygons) cross."""
    i, j = np.minimum(first, second), np.maximum(first, second)
    apart = (following[i] != j) & (following[j] != i)
    i, j = i[apart], j[apart]
    ax, ay, bx, by = x[i], y[i], x[following[i]], y[following[i]]
    cx, cy, dx, dy = x[j], y[j], x[following[j]], y[following[j]]
    c_side = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    d_side = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
    a_side = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
    b_side = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
    cross = (c_side * d_side < 0) & (a_side * b_side < 0)
    if not cross.any():
        return
    i, j = i[cross], j[cross]
    along = a_side[cross] / (a_side[cross] - b_side[cross])
    px, py = x[i] + along * (x[following[i]] - x[i]), y[i] + along * (y[following[i]] - y[i])
    # The loop from the crossing over points i + 1 .. j and back; the rest of the polygon is the other one.
    n = following[i]
    loop = sums[j - 1] - sums[i] + (px * y[n] - x[n] * py) + (x[j] * py - px * y[j])
    own = polygon[i]
    last = np.append(begin[1:], len(x)) - 1
    whole = sums[last[own]] - np.where(begin[own] > 0, sums[begin[own] - 1], 0)
    one, other = np.abs(loop), np.abs(whole - loop)
    np.maximum.at(share, own, np.minimum(one, other) / np.maximum(one + other, 1e-12))
