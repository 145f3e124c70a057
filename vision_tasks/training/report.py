"""What a finished run shows: curves, drawn samples, a page with everything."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vision_tasks.config import Config
from vision_tasks.data.images import ImageError, displayed, read_image
from vision_tasks.data.records import Records
from vision_tasks.inference.predictor import Predictor
from vision_tasks.metrics.coco_summary import RECALLS, CocoSummary
from vision_tasks.metrics.semantic_summary import SemanticSummary
from vision_tasks.training.judging import Summary, numbers_of
from vision_tasks.training.run import Run
from vision_tasks.visualize.comparison import draw_comparison
from vision_tasks.visualize.confusion import plot_confusion
from vision_tasks.visualize.curves import plot_precision_recall, plot_training
from vision_tasks.visualize.page import write_page
from vision_tasks.visualize.picture import write_picture

COLUMNS = ("name", "truths", "AP", "AP50", "AP75", "APs", "APm", "APl", "AR100", "threshold", "f1")


def report(run: Run, config: Config) -> Path | None:
    """Write curves.png, samples/*.jpg and index.html into the run's folder; None on all ranks but the first."""
    if int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) != 0:
        return None
    curves = []
    if (run.folder / "metrics.csv").exists():
        curves.append(plot_training(run.folder / "metrics.csv", run.folder / "curves.png"))
    images: list[tuple[Path | str, str]] = []
    if run.best is not None and run.val is not None and config.run.samples:
        predictor = Predictor(run.best, config.train.device)
        rows = _spread(run.val, config.run.samples)
        images = [(path, caption) for path, caption in draw_samples(predictor, run.val, rows, run.folder / "samples")]
    curves += plot_curves(run.summaries, run.folder)
    return write_page(
        run.folder / "index.html",
        f"{config.model['name']}: {run.folder.name}",
        metrics=numbers_of(run.summaries),
        tables=tables(run.summaries),
        images=images,
        curves=curves,
        commands=next_commands(run),
        lead="The numbers are of the last evaluation; the pictures are drawn from the best checkpoint.",
    )


def next_commands(run: Run) -> list[str]:
    """What can be done with the best checkpoint, as a shell takes it; `evaluate` needs validation data."""
    best = shlex.quote(str(run.best))
    evaluate = [f"vision-tasks evaluate {best}"] if run.val is not None else []
    return [*evaluate, f"vision-tasks predict {best} YOUR_IMAGES"]


def tables(summaries: Mapping[str, Summary]) -> dict[str, list[dict[str, object]]]:
    """Title -> rows per category, without ids: objects (AP of boxes, then of masks), maps, panoptic segments."""
    found: dict[str, list[dict[str, object]]] = {}
    if "bbox" in summaries:
        rows: list[dict[str, object]] = [{c: row[c] for c in COLUMNS} for row in summaries["bbox"].per_category]
        if "segm" in summaries:
            for row, masks in zip(rows, summaries["segm"].per_category, strict=True):
                row |= {f"segm/{c}": masks[c] for c in ("AP", "AP50", "AP75")}
        found["Per category"] = rows
    for kind, title in (("semantic", "Maps per category"), ("panoptic", "Panoptic segments per category")):
        if kind in summaries:
            found[title] = [{k: v for k, v in row.items() if k != "id"} for row in summaries[kind].per_category]
    return found


def write_numbers(path: Path, summaries: Mapping[str, Summary]) -> Path:
    """All numbers and tables of an evaluation as JSON, null where there was nothing to judge by.

    The file appears whole or not at all.
    """
    content = {"numbers": numbers_of(summaries), "per_category": tables(summaries)}
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _plain(value: Any) -> Any:
    """As JSON has it; -1 and NaN, which stand for no truth, are None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if value != value or value == -1 else float(value)
    return int(value) if isinstance(value, np.integer) else value


def plot_curves(summaries: Mapping[str, Summary], folder: Path) -> list[Path]:
    """Precision against recall at all ten overlaps, every category, all areas, 100 detections, boxes, then masks; and
    which category is taken for which in maps."""
    names = {"bbox": "precision-recall.png", "segm": "precision-recall-segm.png"}
    drawn = []
    for kind, s in summaries.items():
        if isinstance(s, CocoSummary):
            curves = s.precision[:, :, :, 0, -1]
            drawn.append(plot_precision_recall(curves, RECALLS, s.tables.category_names, folder / names[kind]))
        elif isinstance(s, SemanticSummary) and s.confusion.ndim == 2:
            drawn.append(plot_confusion(s.confusion, s.categories.names, folder / "confusion.png"))
    return drawn


def draw_samples(
    predictor: Predictor, records: Records, rows: Sequence[int], folder: Path
) -> list[tuple[Path | str, str]]:
    """Truth beside prediction for these rows of the records, as files, with captions. Unreadable images are skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Path | str, str]] = []
    channels = len(predictor.model.preprocess.mean)
    for row in rows:
        target = records.target(row)
        try:
            size = target.size if all(target.size) else None
            image = read_image(records.image_path(row), size, channels, data=records.image_data(row))
            size = (image.shape[0], image.shape[1])
            semantic = None if records.semantic is None else records.semantic.read(row, size)
        except ImageError:
            continue
        target = replace(target, size=size, semantic=None if semantic is None else torch.from_numpy(semantic))
        prediction = predictor(image)
        zoom = max(1, round(480 / max(image.shape[:2])))
        picture = draw_comparison(displayed(image), target, prediction, threshold=predictor.threshold, zoom=zoom)
        path = folder / f"{records.image_ids[row]}.jpg"
        write_picture(path, picture)
        drawn.append((path, records.file_name(row)))
    return drawn


def _spread(records: Records, count: int) -> list[int]:
    """Rows evenly over the data set, images with objects first."""
    filled = np.flatnonzero(np.diff(records.first) > 0)
    rows = filled if len(filled) >= count else np.arange(len(records))
    return [int(rows[i]) for i in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
