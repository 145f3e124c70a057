"""What a finished run shows: curves, drawn samples, a page with everything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision_tasks.config import Config
from vision_tasks.data.images import ImageError, read_image
from vision_tasks.data.records import Records
from vision_tasks.inference.predictor import Predictor
from vision_tasks.metrics.coco_summary import RECALLS, CocoSummary
from vision_tasks.training.run import Run
from vision_tasks.visualize.comparison import draw_comparison
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
    summary = run.summary
    if summary is not None:
        curves.append(plot_curves(summary, run.folder / "precision-recall.png"))
    return write_page(
        run.folder / "index.html",
        f"{config.model['name']}: {run.folder.name}",
        metrics=summary.numbers if summary else None,
        per_category=per_category(summary) if summary else (),
        images=images,
        curves=curves,
        commands=[f"vision-tasks evaluate {run.best}", f"vision-tasks predict {run.best} YOUR_IMAGES"],
        lead="The numbers are of the last evaluation; the pictures are drawn from the best checkpoint.",
    )


def per_category(summary: CocoSummary) -> list[dict[str, object]]:
    """Rows of the table per category, without ids."""
    return [{c: row[c] for c in COLUMNS} for row in summary.per_category]


def plot_curves(summary: CocoSummary, path: Path) -> Path:
    """Precision against recall at all ten overlaps, every category, all areas, 100 detections."""
    return plot_precision_recall(summary.precision[:, :, :, 0, -1], RECALLS, summary.tables.category_names, path)


def draw_samples(
    predictor: Predictor, records: Records, rows: Sequence[int], folder: Path
) -> list[tuple[Path | str, str]]:
    """Truth beside prediction for these rows of the records, as files, with captions. Unreadable images are skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[Path | str, str]] = []
    for row in rows:
        target = records.target(row)
        try:
            image = read_image(records.image_path(row), target.size if all(target.size) else None)
        except ImageError:
            continue
        prediction = predictor(image)
        zoom = max(1, round(480 / max(image.shape[:2])))
        picture = draw_comparison(image, target, prediction, threshold=predictor.threshold, zoom=zoom)
        path = folder / f"{records.image_ids[row]}.jpg"
        write_picture(path, picture)
        drawn.append((path, records.file_name(row)))
    return drawn


def _spread(records: Records, count: int) -> list[int]:
    """Rows evenly over the data set, images with objects first."""
    filled = np.flatnonzero(np.diff(records.first) > 0)
    rows = filled if len(filled) >= count else np.arange(len(records))
    return [int(rows[i]) for i in np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))]
