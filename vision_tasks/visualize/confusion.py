"""Which category is taken for which, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vision_tasks.visualize.curves import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 40
"""Categories that are legible in one picture."""
_WITH_NUMBERS = 25
"""Up to so many categories every cell has room for its number; above, the diagonal and the worst confusions have."""
_NAME = 22


def plot_confusion(confusion: NDArray, names: Sequence[str], path: Path | str) -> Path:
    """Draw a confusion matrix: where the pixels, or objects, of each category went, in percent of its truth.

    Args:
        confusion: (K, K) counts, rows truth, columns prediction; or (K, K + 1) with a last column for what was not
            predicted as anything, which is drawn if it is not empty.
        names: K categories. Of more than 40 those 40 with the most truth are drawn. Rows without truth are hatched.
        path: the picture to write; its ending says the kind (.png, .svg, .pdf).

    Raises:
        ValueError: the table has another shape.
    """
    counts = np.asarray(confusion, np.float64)
    k = len(names)
    if counts.ndim != 2 or counts.shape not in ((k, k), (k, k + 1)) or not k:
        raise ValueError(f"plot_confusion: a table of {np.shape(confusion)} must be (K, K) or (K, K + 1) for {k} names")
    rows = np.sort(np.argsort(-counts.sum(1), kind="stable")[:_MOST])
    totals = counts.sum(1)[rows]
    parts, columns = [counts[rows][:, rows]], [_short(names[i]) for i in rows]
    if len(rows) < k:
        parts.append(np.delete(counts[rows, :k], rows, axis=1).sum(1, keepdims=True))
        columns.append("others")
    if counts.shape[1] > k and counts[:, k].any():
        parts.append(counts[rows, k:])
        columns.append("nothing")
    shares = np.full((len(rows), len(columns)), np.nan)
    np.divide(np.concatenate(parts, axis=1), totals[:, None], out=shares, where=totals[:, None] > 0)
    cell = 0.5 if len(rows) <= 12 else 0.42 if len(rows) <= _WITH_NUMBERS else 0.3
    across, down = cell * len(columns), cell * len(rows)
    figure = new_figure(max(3.4, across + 2.4), max(2.6, down + 1.9))
    axes = figure.add_subplot()
    _draw(axes, shares, columns[: len(rows)], columns)
    left_out = f" ({len(rows)} of {k} categories, those with the most truth)" if len(rows) < k else ""
    axes.set_title("where each category's truth went, %" + left_out, fontsize=10, loc="left")
    return save_figure(figure, Path(path))


def _draw(axes: Axes, shares: NDArray[np.float64], rows: list[str], columns: list[str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    blues = LinearSegmentedColormap.from_list("confusion", ["#ffffff", "#bcdcf0", "#0072b2", "#003a5c"])
    reds = LinearSegmentedColormap.from_list("mistakes", ["#ffffff", "#f6cfae", "#d55e00", "#7a3600"])
    diagonal = np.zeros(shares.shape, bool)
    np.fill_diagonal(diagonal, True)
    filled = np.nan_to_num(shares)
    # The square root makes mistakes of a few per cent visible.
    tones = np.where(diagonal[..., None], blues(filled), reds(np.sqrt(filled)))
    axes.imshow(tones, interpolation="nearest", aspect="equal")
    for y in np.flatnonzero(np.isnan(shares).all(1)):
        axes.axhspan(y - 0.5, y + 0.5, facecolor="0.95", edgecolor="0.8", hatch="////", linewidth=0)
    many = len(rows) > _WITH_NUMBERS
    size = 8.5 if len(rows) <= 12 else 7 if not many else 5.5
    for y, x in np.argwhere(filled >= (0.05 if many else 0.005)):
        dark = filled[y, x] > (0.45 if diagonal[y, x] else 0.3)
        axes.text(
            x, y, f"{100 * filled[y, x]:.0f}", ha="center", va="center", fontsize=size, color="white" if dark else "0.1"
        )  # fmt: skip
    axes.set_xticks(range(len(columns)), columns, rotation=55, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="both", length=0, labelsize=max(size, 7))
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a category may be called "$5"
    for side in axes.spines.values():
        side.set_visible(False)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"
