"""Measure every row of `vision-tasks models` and write `vision_tasks/models/figures.json`.

    python tools/models_table.py            # all of them: some minutes on one core
    python tools/models_table.py yolox      # only rows of this model; the others stay as they are

Parameters are counted with COCO's categories and `norm="batch"`, multiply-adds by torch's flop counter (which
counts two for each) on the tensor-only path, whose work does not depend on what is in the picture.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vision_tasks.models import catalogue
from vision_tasks.models.registry import MODELS, builder, model_options
from vision_tasks.weights import published
from vision_tasks.weights.layouts import Known, known_classes

PHOTO = (480, 640)
# Options of a published file that are neither variant nor backbone, and forms that nobody publishes.
MORE: dict[str, dict[str, Any]] = {"ssdlite": {"reduced_tail": True}}
UNPUBLISHED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ssd", {"size": 512}),
    ("cascade_rcnn", {}),
    ("cascade_rcnn", {"masks": True}),
)


def rows() -> list[tuple[str, dict[str, Any], bool]]:
    """(model, options, whether weights are published) of everything to measure."""
    found: list[tuple[str, dict[str, Any], bool]] = []
    for model, variant, backbone in published.MODELS:
        options = {k: v for k, v in (("variant", variant), ("backbone", backbone)) if v is not None}
        found.append((model, options | MORE.get(model, {}), True))
    return found + [(model, options, False) for model, options in UNPUBLISHED if model in MODELS]


def classes_of(model: str, options: dict[str, Any], is_published: bool) -> Known:
    """COCO's categories with as many outputs as the published file has."""
    file = published.MODELS[catalogue.key_of(model, options)] if is_published else None
    known = known_classes(91 if file is not None and file.publisher == "torchvision" else 80)
    assert known is not None
    return known


def build(model: str, options: dict[str, Any], is_published: bool, **more: Any) -> torch.nn.Module:
    """The model with random weights and COCO's categories."""
    known = classes_of(model, options, is_published)
    given = {**options, **more}
    if is_published:
        given |= {"columns": known.columns, "outputs": known.outputs}
    return builder(model)(categories=known.categories, **{k: v for k, v in given.items() if k in model_options(model)})


def measure(model: str, options: dict[str, Any], is_published: bool) -> dict[str, Any]:
    """One row of the file."""
    torch.manual_seed(0)
    network: Any = build(model, options, is_published).eval()
    batch = network.preprocess([torch.zeros(3, *PHOTO, dtype=torch.uint8)])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        outputs = network.tensors(batch.images, torch.tensor(batch.image_sizes))
    return {
        "model": model,
        "options": options,
        "published": is_published,
        "task": "boxes, masks" if "masks" in outputs else "boxes",
        "parameters": sum(p.numel() for p in network.parameters()),
        "gflops": round(counter.get_total_flops() / 2e9, 2),
        "size": list(batch.images.shape[-2:]),
    }


def main() -> None:
    path = Path(catalogue.__file__).with_name(catalogue.FIGURES)
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    table = []
    for model, options, is_published in rows():
        before = [r for r in old if (r["model"], r["options"]) == (model, options)]
        if sys.argv[1:] and model not in sys.argv[1:] and before:
            table += before
            continue
        table.append(measure(model, options, is_published))
        print(json.dumps(table[-1]), flush=True)
    text = ",\n".join(json.dumps(row) for row in table)
    path.write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
