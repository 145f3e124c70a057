"""Histograms as pictures, in the manner of `curves`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vision_tasks.structures import category_color
from vision_tasks.visualize.curves import new_figure, save_figure

_COLUMNS = 3
_NAMED = 60
"""More bars than this have no room for names."""


def plot_histograms(panels: Mapping[str, Mapping[str, Mapping[str, int]]], path: Path | str) -> Path:
    """Panels of bars side by side, one colour per split.

    Args:
        panels: title -> split -> text under the bar -> count; the splits of a panel have the same texts.
        path: the picture to write; its ending says the kind (.png, .svg).
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(5.0 * columns, 3.3 * rows)
    for number, (title, splits) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, number)
        texts = list(next(iter(splits.values())))
        width = 0.84 / len(splits)
        for i, (split, counts) in enumerate(splits.items()):
            places = np.arange(len(texts)) + (i - (len(splits) - 1) / 2) * width
            axes.bar(places, list(counts.values()), width, color=_tone(i), label=f" {split}")
        axes.set_title(title)
        axes.set_xticks(range(len(texts)), texts, fontsize=8)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        if len(splits) > 1:
            axes.legend(fontsize=8)
    return save_figure(figure, Path(path))


def plot_categories(names: Sequence[str], splits: Mapping[str, Sequence[float]], what: str, path: Path | str) -> Path:
    """Bars per category, the most frequent first, on a logarithmic scale where they differ much.

    Args:
        names: K categories. splits: split -> K numbers. what: the numbers are, such as "objects".
    """
    totals = np.sum([np.asarray(own, np.float64) for own in splits.values()], axis=0)
    order = np.argsort(-totals, kind="stable")
    figure = new_figure(15.0 if len(names) > 12 else 8.0, 4.2)
    axes = figure.add_subplot(1, 1, 1)
    width = 0.84 / len(splits)
    for i, (split, own) in enumerate(splits.items()):
        places = np.arange(len(names)) + (i - (len(splits) - 1) / 2) * width
        axes.bar(places, np.asarray(own, np.float64)[order], width, color=_tone(i), label=f" {split}")
    positive = totals[totals > 0]
    if len(positive) and positive.max() > 30 * positive.min():
        axes.set_yscale("log")
    if len(names) <= _NAMED:
        shown = [_short(names[i]) for i in order.tolist()]
        axes.set_xticks(range(len(names)), shown, rotation=90 if len(names) > 12 else 0, fontsize=8, parse_math=False)
    axes.set(title=f"{what} per category", ylabel=what)
    axes.margins(x=0.01)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    if len(splits) > 1:
        axes.legend(fontsize=8)
    return save_figure(figure, Path(path))


def _tone(index: int) -> tuple[float, float, float]:
    # Okabe and Ito's blue, orange and green: far apart for all eyes.
    r, g, b = category_color((4, 0, 2)[index % 3])
    return (r / 255, g / 255, b / 255)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= 24 else name[:23] + "…"
