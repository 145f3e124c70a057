"""What there is to choose from: every model as published and as measured, one row each, for people and programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from vision_tasks.models.registry import builder, list_models, model_options
from vision_tasks.weights import published
from vision_tasks.weights.published import Published

FIGURES = "figures.json"
"""Measured by `tools/models_table.py`, which writes this file: options, task, parameters, GFLOPs, input size."""

GFLOPS = (
    "10⁹ multiply-adds (one each) for one 640×480 photo, as the model resizes and pads it; "
    "R-CNNs with all the proposals they may keep"
)


@dataclass(frozen=True)
class Row:
    """One choice of a model.

    Attributes:
        model: name in `MODELS`. options: what to ask `create_model` for, beside the name.
        task: what it predicts, of "boxes", "masks" and "semantic" maps.
        parameters: number of them, with COCO's categories (a published semantic model's: VOC's), all of them learning.
        gflops: see `GFLOPS`. size: (height, width) of the input that this is said for.
        weights: the file that `weights="coco"` means, if there is one.
    """

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    parameters: int | None = None
    gflops: float | None = None
    size: tuple[int, int] | None = None
    weights: Published | None = None

    def as_dict(self) -> dict[str, Any]:
        """Primitives, for JSON."""
        return asdict(self)


def key_of(model: str, options: dict[str, Any]) -> published.Key:
    """Key in `published.MODELS` of a model with these options, the builder's defaults filled in."""
    defaults = {name: p.default for name, p in model_options(model).items()}
    chosen = {**defaults, **options}
    return model, chosen.get("variant"), chosen.get("backbone")


def catalogue() -> list[Row]:
    """All models: as published, other measured forms, and those that somebody else registered."""
    measured = json.loads(files("vision_tasks.models").joinpath(FIGURES).read_text(encoding="utf-8"))
    rows = []
    for figures in measured:
        model, options = figures["model"], figures["options"]
        weights = published.MODELS.get(key_of(model, options)) if figures["published"] else None
        rows.append(
            Row(
                model,
                options,
                figures["task"],
                figures["parameters"],
                figures["gflops"],
                tuple(figures["size"]),
                weights,
            )
        )
    there = {key_of(row.model, row.options) for row in rows if row.weights is not None}
    for (model, variant, backbone), file in published.MODELS.items():
        if (model, variant, backbone) not in there:
            options = {k: v for k, v in (("variant", variant), ("backbone", backbone)) if v is not None}
            rows.append(Row(model, options, weights=file))
    rows += [Row("darknet", {"cfg": f"{name}.cfg"}, "boxes", weights=file) for name, file in published.DARKNET.items()]
    listed = {row.model for row in rows}
    rows += [Row(model) for model in list_models() if model not in listed]
    return sorted(rows, key=lambda row: (row.model, row.weights is None))


def summary(model: str) -> str:
    """What a model is, in a sentence."""
    return (builder(model).__doc__ or "").strip().partition("\n")[0]
