"""`vision-tasks models`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from vision_tasks.cli.console import say, table

if TYPE_CHECKING:
    from vision_tasks.models.catalogue import Row

_COLUMNS = ["model", "options", "task", "Mparams", "GFLOPs", "input", "box AP", "mask AP", "mIoU", "weights", "licence"]


def run(name: str | None, as_json: bool) -> None:
    """The table of all models, or one model's options; or the table as JSON."""
    from vision_tasks.models.catalogue import catalogue

    if name is not None:
        _options_of(name)
    elif as_json:
        say(json.dumps([row.as_dict() for row in catalogue()], indent=1))
    else:
        _show(catalogue())


def _show(rows: list[Row]) -> None:
    from vision_tasks.backbones.registry import BACKBONES
    from vision_tasks.models.catalogue import GFLOPS

    cells = [_cells(row) for row in rows]
    if sys.stdout.isatty():
        _draw(cells)
    else:
        say(table(cells, _COLUMNS))
    say(f"\nGFLOPs: {GFLOPS}.")
    say("AP: COCO val2017. mIoU: the same images, 21 classes of Pascal VOC. In percent, as the publisher states them.")
    say("Weights are downloaded with weights=coco; those of backbones with backbone_weights=imagenet.")
    say(f"\nBackbones: {', '.join(BACKBONES)}; and timm/NAME with the extra [timm].")
    say("\nNext:\n  vision-tasks models faster_rcnn    its options\n  vision-tasks train data=FOLDER model=ssdlite")


def _cells(row: Row) -> dict[str, object]:
    weights = row.weights
    return {
        "model": row.model,
        "options": " ".join(f"{option}={value}" for option, value in row.options.items() if _worth_saying(row, option)),
        "task": row.task or "–",
        "Mparams": f"{row.parameters / 1e6:.1f}" if row.parameters else "–",
        "GFLOPs": f"{row.gflops:.1f}" if row.gflops else "–",
        "input": f"{row.size[0]}×{row.size[1]}" if row.size else "–",
        "box AP": f"{weights.box_ap:.1f}" if weights and weights.box_ap else "–",
        "mask AP": f"{weights.mask_ap:.1f}" if weights and weights.mask_ap else "–",
        "mIoU": f"{weights.miou:.1f}" if weights and weights.miou else "–",
        "weights": weights.publisher if weights else "–",
        "licence": weights.licence if weights else "–",
    }


def _worth_saying(row: Row, option: str) -> bool:
    """Whether an option is not what the builder does anyway; the variant is always said."""
    from vision_tasks.models.registry import model_options

    return option == "variant" or row.options[option] != model_options(row.model)[option].default


def _draw(cells: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        number = column in ("Mparams", "GFLOPs", "box AP", "mask AP", "mIoU")
        wraps = column in ("options", "weights", "licence")
        drawn.add_column(column, justify="right" if number else "left", no_wrap=not wraps, overflow="fold")
    for row in cells:
        drawn.add_row(*(str(row[column]) for column in _COLUMNS))
    Console(highlight=False, markup=False).print(drawn)


def _options_of(name: str) -> None:
    from vision_tasks.models.catalogue import summary
    from vision_tasks.models.options import in_words
    from vision_tasks.models.registry import model_options

    say(f"{name}: {summary(name)}")
    for option, words in (
        ("weights", '"coco", or a file'),
        ("backbone_weights", '"imagenet", "imagenet_v2", or a file'),
    ):
        say(f"    {option + '=None':<46s}{words}")
    for option, parameter in model_options(name).items():
        needed = parameter.default is parameter.empty
        value = " (needed)" if needed else f"={parameter.default!r}"
        kind = "" if parameter.annotation is parameter.empty else in_words(parameter.annotation)
        say(f"    {option + value:<45s} {kind}".rstrip())
    say(f"\nNext:\n  vision-tasks train data=FOLDER model={name} model.OPTION=VALUE")
