"""Curves as pictures: training from a metrics.csv, and precision against recall.

matplotlib's figures are made without pyplot, so nothing global changes and no display is needed. It is imported
inside the functions: it takes a good part of a second.
"""

from __future__ import annotations

import csv
import math
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import category_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, equally long."""

_PANELS = (
    ("loss", re.compile(r"loss", re.I)),
    ("learning rate", re.compile(r"(^|[/_])(lr|learning_rate)($|[-/_])", re.I)),
    # Of each kind's numbers the few that people compare; all are in the file.
    ("score", re.compile(r"(^|[/_])(m?AP(50|75)?|mIoU|IoU|Dice|pixel_accuracy|[PSR]Q|F1)($|[-/@])")),
)
_MANY = 12  # More curves than this in one panel cannot be told apart.


def plot_training(metrics_csv: Path | str, path: Path | str) -> Path:
    """Draw what a run logged: losses, learning rate and scores over steps, each panel only where it has columns.

    Args:
        metrics_csv: as Lightning's CSVLogger writes it: columns epoch and step, others with many empty cells.
        path: the picture to write; its ending says the kind (.png, .svg, .pdf).

    Raises:
        VisionTasksError: if the file cannot be read or has nothing to draw.
    """
    columns = read_metrics(metrics_csv)
    panels = [
        (title, {name: curve for name, curve in columns.items() if pattern.search(name)}) for title, pattern in _PANELS
    ]
    panels = [(title, curves) for title, curves in panels if curves]
    if not panels:
        raise VisionTasksError(
            f"{metrics_csv}: none of its columns with numbers ({', '.join(columns) or 'there are none'}) is a loss, "
            "a learning rate or a score; has the run logged a step yet?"
        )
    figure = new_figure(5.2 * len(panels), 3.9)
    for index, (title, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _draw_panel(axes, title, curves)
    return save_figure(figure, Path(path))


def read_metrics(metrics_csv: Path | str) -> dict[str, Curve]:
    """The columns of a CSVLogger file that hold numbers, each as its steps and values; empty cells are skipped."""
    try:
        with open(metrics_csv, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VisionTasksError(f"{metrics_csv}: cannot be read as a table of metrics ({error})") from error
    points: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows):
        step = _number(row.get("step"))
        for name, cell in row.items():
            value = _number(cell)
            if name not in (None, "epoch", "step") and value is not None:
                points.setdefault(name, []).append((number if step is None else step, value))
    return {name: (np.asarray([s for s, _ in p]), np.asarray([v for _, v in p])) for name, p in points.items()}


def plot_precision_recall(
    precision: NDArray,
    recalls: NDArray,
    names: Sequence[str],
    path: Path | str,
    thresholds: Sequence[float] | None = None,
) -> Path:
    """Draw precision against recall, per category and on average.

    Args:
        precision: (R, K), or (T, R, K) for T overlap thresholds; -1 or NaN where a category has no truth, as in
            pycocotools. With thresholds, a second panel shows the average over categories at each.
        recalls: (R,) recall of each row, 0..1. names: K categories.
        path: the picture to write. thresholds: T overlaps for the legend; default 0.50, 0.55, ...
    """
    table = np.asarray(precision, np.float64)
    table = np.where(table < 0, np.nan, table)
    stacked = table[None] if table.ndim == 2 else table
    if stacked.ndim != 3 or stacked.shape[1:] != (len(recalls), len(names)):
        raise ValueError(
            f"plot_precision_recall: precision {np.shape(precision)} must be (R, K) or (T, R, K) "
            f"with R = {len(recalls)} recalls and K = {len(names)} names"
        )
    count = stacked.shape[0]
    steps = thresholds if thresholds is not None else [0.5 + 0.05 * t for t in range(count)]
    figure = new_figure(5.6 * (1 + (count > 1)) + 1.2, 4.6)
    axes = figure.add_subplot(1, 1 + (count > 1), 1)
    title = f"per category, IoU ≥ {steps[0]:.2f}" if count > 1 else "per category"
    _draw_categories(axes, stacked[0], np.asarray(recalls), list(names), title)
    if count > 1:
        axes = figure.add_subplot(1, 2, 2)
        for t in range(count):
            curve = _mean_over_categories(stacked[t])
            shade = (0.0, 0.25 + 0.45 * t / max(1, count - 1), 0.75, 1 - 0.6 * t / count)
            axes.plot(recalls, curve, color=shade, gid=f"IoU {steps[t]:.2f}  {_mean(curve):.3f}")
        _finish(axes, "average over categories")
    return save_figure(figure, Path(path))


def _draw_categories(axes: Axes, table: NDArray, recalls: NDArray, names: list[str], title: str) -> None:
    scores = np.asarray([_mean(table[:, k]) for k in range(len(names))])
    present = np.flatnonzero(np.isfinite(scores))
    # With many categories the weakest are the ones to look at; the others stay as grey company.
    named = set(present[np.argsort(scores[present], kind="stable")][:_MANY].tolist())
    for k in present:
        if int(k) not in named:
            axes.plot(recalls, table[:, k], color="0.82", linewidth=0.8)
    for rank, k in enumerate(sorted(named, key=lambda k: -scores[k])):
        color = [c / 255 for c in category_color(k if len(names) <= _MANY else rank)]
        axes.plot(recalls, table[:, k], color=color, linewidth=1.6, gid=f"{names[k]}  {scores[k]:.3f}")
    mean = _mean_over_categories(table)
    axes.plot(recalls, mean, color="0.1", linewidth=2.6, gid=f"all {len(present)}  {_mean(mean):.3f}")
    _finish(axes, title if len(present) <= _MANY else f"{title}, the {_MANY} weakest by name")


def _finish(axes: Axes, title: str) -> None:
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid(color="0.9")
    _legend(axes)


def _draw_panel(axes: Axes, title: str, curves: dict[str, Curve]) -> None:
    for index, (name, (steps, values)) in enumerate(list(curves.items())[:_MANY]):
        color = [c / 255 * 0.92 for c in category_color(index)]
        style = "--" if re.search(r"(^|[/_])val", name) else "-"
        marker = "o" if len(values) < 25 else None
        if title == "loss" and len(values) > 60:
            axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.8)
            steps, values = _smoothed(steps, values)
        axes.plot(steps, values, style, color=color, marker=marker, markersize=3.5, linewidth=1.7, gid=name)
    if title == "score":
        axes.set_ylim(0, 1)
    elif title == "loss":
        finite = np.concatenate([values[np.isfinite(values)] for _, values in curves.values()])
        if len(finite) and finite.min() > 0 and finite.max() > 30 * finite.min():
            axes.set_yscale("log")
    axes.set(title=title, xlabel="step")
    axes.grid(color="0.9")
    _legend(axes)


def _smoothed(steps: NDArray, values: NDArray) -> Curve:
    """Mean over a sliding window of a thirtieth of the run; non-finite values are passed over."""
    width = max(5, len(values) // 30)
    good = np.isfinite(values)
    sums = np.convolve(np.where(good, values, 0), np.ones(width), "valid")
    counts = np.convolve(good, np.ones(width), "valid")
    middle = steps[width // 2 : width // 2 + len(sums)]
    return middle, np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _legend(axes: Axes) -> None:
    # Not by `label=`: matplotlib leaves out labels that begin with an underscore.
    lines = [line for line in axes.get_lines() if line.get_gid()]
    if lines:
        legend = axes.legend(lines, [" " + str(line.get_gid()) for line in lines], fontsize=8, framealpha=0.85)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a category may be called "$5"


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _mean(values: NDArray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _mean_over_categories(table: NDArray) -> NDArray[np.float64]:
    good = np.isfinite(table)
    count = good.sum(1)
    total = np.where(good, table, 0).sum(1)
    return np.asarray(np.divide(total, count, out=np.full(len(table), np.nan), where=count > 0))


def new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # shown as boxes; no reason to stop
            figure.savefig(name, dpi=130)
        os.chmod(name, 0o644)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
    return path
