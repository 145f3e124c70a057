"""`vision-tasks evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.cli.console import console, say, table
from vision_tasks.inference.outputs.files import make_folder

if TYPE_CHECKING:
    from vision_tasks.training.judging import Summaries


def run(checkpoint: Path, options: list[str], split: str, out: Path | None, device: str) -> None:
    """Print a table per category and the numbers of each kind the model can be judged by; write curves and a page.

    All numbers are in metrics.json: {"numbers": {name: value}, "per_category": {title: rows}}, null where there was
    nothing to judge by. Rows of boxes in COCO form are in results.json, those of masks in results-segm.json.
    """
    from vision_tasks.config import TrainConfig, load_config
    from vision_tasks.errors import VisionTasksError
    from vision_tasks.inference.batching import choose_device
    from vision_tasks.metrics.coco_results import write_results
    from vision_tasks.models.checkpoint import load
    from vision_tasks.training.evaluation import default_data, evaluate
    from vision_tasks.training.judging import numbers_of
    from vision_tasks.training.report import plot_curves, tables, write_numbers
    from vision_tasks.visualize.page import write_page

    if split not in ("val", "test", "train"):
        raise VisionTasksError(f"--split must be val, test or train, not {split!r}.")
    choose_device(device)
    model = load(checkpoint)
    config = load_config(None, options)
    data = config.data
    if data.path is None and data.train is None and data.val is None and data.test is None:
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
    found = tables(done.summaries)
    write_numbers(out / "metrics.json", done.summaries)
    page = write_page(
        out / "index.html",
        f"{checkpoint.parent.name}/{checkpoint.name} on {split}",
        metrics=numbers_of(done.summaries),
        tables=found,
        curves=curves,
        commands=[f"vision-tasks predict {checkpoint} YOUR_IMAGES"],
    )
    for rows in found.values():
        say(table(rows, list(rows[0])))
        say()
    _say_numbers(done.summaries)
    if done.unreadable:
        say(f"{len(done.unreadable)} images could not be read and were left out.")
    say(f"\nResults, curves and a page: {page}")
    say(f"Numbers for programs: {out / 'metrics.json'}")
    say(f"Next:\n  vision-tasks predict {checkpoint} YOUR_IMAGES")


def _say_numbers(summaries: Summaries) -> None:
    """A line for each number; boxes and masks, whose numbers have the same names, side by side."""
    if "segm" in summaries:
        say("       boxes   masks")
    for kind, summary in summaries.items():
        if kind == "segm":
            continue
        both = [summary, summaries["segm"]] if kind == "bbox" and "segm" in summaries else [summary]
        width = max(6, *(len(name) for name in summary.numbers))
        for name in summary.numbers:
            values = (s.numbers[name] for s in both)
            say(f"{name:{width}} " + "  ".join("–     " if v == -1 else f"{v:.4f}" for v in values).rstrip())
