"""`vision-tasks evaluate`."""

from __future__ import annotations

from pathlib import Path

from vision_tasks.cli.console import console, make_folder, say, table


def run(checkpoint: Path, options: list[str], split: str, out: Path | None, device: str) -> None:
    """Print the twelve numbers and the table per category; write results.json, curves and a page.

    Of a model with masks all of these are of boxes and of masks, whose rows are in results-segm.json.
    """
    from vision_tasks.config import TrainConfig, load_config
    from vision_tasks.errors import VisionTasksError
    from vision_tasks.inference.predictor import choose_device
    from vision_tasks.metrics.coco_results import write_results
    from vision_tasks.models.checkpoint import load
    from vision_tasks.training.evaluation import default_data, evaluate
    from vision_tasks.training.module import numbers_of
    from vision_tasks.training.report import COLUMNS, per_category, plot_curves
    from vision_tasks.visualize.page import write_page

    if split not in ("val", "train"):
        raise VisionTasksError(f"--split must be val or train, not {split!r}.")
    choose_device(device)
    model = load(checkpoint)
    config = load_config(None, options)
    data = config.data
    if data.path is None and data.train is None and data.val is None:
        known = default_data(checkpoint)
        if known is None:
            raise VisionTasksError(f"There is no config.yaml beside {checkpoint} that names data. Give data=FOLDER.")
        given = {key: getattr(data, key) for key in data.model_fields_set}
        data = known.model_copy(update=given)
    done = evaluate(model, data, split, TrainConfig(device=device, devices=config.train.devices), console())
    if not done.is_first_rank:
        return
    out = out or checkpoint.parent / f"evaluation-{split}"
    make_folder(out)
    for kind, results in done.results.items():
        write_results(out / ("results.json" if kind == "bbox" else f"results-{kind}.json"), results)
    curves = plot_curves(done.summaries, out)
    rows = per_category(done.summaries)
    page = write_page(
        out / "index.html",
        f"{checkpoint.parent.name}/{checkpoint.name} on {split}",
        metrics=numbers_of(done.summaries),
        per_category=rows,
        curves=curves,
        commands=[f"vision-tasks predict {checkpoint} YOUR_IMAGES"],
    )
    say(table(rows, list(rows[0]) if rows else list(COLUMNS)))
    say()
    if len(done.summaries) > 1:
        say("       boxes   masks")
    for name in done.summary.numbers:
        values = (s.numbers[name] for s in done.summaries.values())
        say(f"{name:6} " + "  ".join("–     " if value == -1 else f"{value:.4f}" for value in values).rstrip())
    if done.unreadable:
        say(f"{len(done.unreadable)} images could not be read and were left out.")
    say(f"\nResults, curves and a page: {page}")
    say(f"Next:\n  vision-tasks predict {checkpoint} YOUR_IMAGES")
