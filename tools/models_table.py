"""Measure every row of `vision-tasks models` and write `vision_tasks/models/figures.json`.

    python tools/models_table.py            # all of them: some minutes on one core
    python tools/models_table.py yolox      # only rows of this model; the others stay as they are

Parameters are counted with COCO's categories (of semantic models, with the 21 of Pascal VOC) and `norm="batch"`,
multiply-adds by torch's flop counter (which counts two for each) on the tensor-only path, whose work does not depend on
what is in the picture.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vision_tasks.models import catalogue
from vision_tasks.models.registry import MODELS, builder, model_kinds, model_options, takes_mapping
from vision_tasks.structures import Categories
from vision_tasks.weights import published
from vision_tasks.weights.layouts import Known, known_classes
from vision_tasks.weights.torchvision_semantic import voc_categories

PHOTO = (480, 640)
# Options of a published file that are neither variant nor backbone, and forms that nobody publishes.
MORE: dict[published.Key, dict[str, Any]] = {
    ("ssdlite", None, "mobilenet_v3_large"): {"reduced_tail": True},
    ("deeplabv3", None, "mobilenet_v3_large"): {"output_stride": 16, "rates": [12, 24, 36]},
}
SEMANTIC_SIDE = 520  # pixels of the shorter side that torchvision's semantic files bring along
UNPUBLISHED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ssd", {"size": 512}),
    ("cascade_rcnn", {}),
    ("cascade_rcnn", {"masks": True}),
    ("deeplabv3plus", {}),
    ("pspnet", {}),
    ("semantic_fpn", {}),
    ("unet", {}),
    ("unet", {"backbone": "unet"}),
    ("panoptic_fpn", {}),
)


def rows() -> list[tuple[str, dict[str, Any], bool]]:
    """(model, options, whether weights are published) of everything to measure."""
    found: list[tuple[str, dict[str, Any], bool]] = []
    for model, variant, backbone in published.MODELS:
        options: dict[str, Any] = {k: v for k, v in (("variant", variant), ("backbone", backbone)) if v is not None}
        options |= MORE.get((model, variant, backbone), {})
        if model_kinds(model) == ("semantic",):
            options["min_size"] = SEMANTIC_SIDE
        found.append((model, options, True))
    return found + [(model, options, False) for model, options in UNPUBLISHED if model in MODELS]


def classes_of(model: str, options: dict[str, Any], is_published: bool) -> Known:
    """COCO's categories with as many outputs as the published file has; VOC's for semantic maps."""
    if model_kinds(model) == ("semantic",):
        outputs = len(voc_categories())
    else:
        file = published.MODELS[catalogue.key_of(model, options)] if is_published else None
        outputs = 91 if file is not None and file.publisher == "torchvision" else 80
    known = known_classes(outputs)
    assert known is not None
    return known


def build(model: str, options: dict[str, Any], is_published: bool, **more: Any) -> torch.nn.Module:
    """The model with random weights and COCO's categories: of one with both kinds of heads, its 80 things and 133."""
    known = classes_of(model, options, is_published)
    categories: Any = known.categories
    if takes_mapping(model):
        categories = {"objects": categories, "semantic": Categories.of([str(i) for i in range(133)])}
    given = {**options, **more}
    if is_published:
        given |= {"columns": known.columns, "outputs": known.outputs}
    return builder(model)(categories=categories, **{k: v for k, v in given.items() if k in model_options(model)})


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
        "task": ", ".join(kind for kind in ("boxes", "masks", "semantic") if kind in outputs),
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
