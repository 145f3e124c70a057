"""What is written of models with objects, map and both merged agrees: colours by name, shares of the image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.small_results import SIZE, lines_of
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.outputs.registry import open_outputs
from vision_tasks.ops.panoptic import PanopticRule, merge_panoptic
from vision_tasks.structures import Categories, Masks, Panoptic, Prediction
from vision_tasks.visualize.drawing import marks
from vision_tasks.visualize.semantic import paint_panoptic

OBJECTS = Categories.of(["person", "car", "bus"])
SURFACES = Categories.of(["sky", "car", "road", "grass"])


def both() -> Prediction:
    """Sky over road; a car of 10 × 20 pixels in the road, where the map has a car of half that size."""
    semantic = torch.zeros(SIZE, dtype=torch.int16)
    semantic[20:] = 2
    semantic[30:40, 10:20] = 1
    boxes = torch.tensor([[10.0, 30, 30, 40], [40, 30, 50, 40]])
    labels, scores = torch.tensor([1, 0]), torch.tensor([0.9, 0.8])
    masks = Masks(SIZE, grid=torch.ones(2, 28, 28), boxes=boxes)
    found = Prediction(SIZE, OBJECTS, boxes, labels, scores, masks, semantic=semantic, semantic_categories=SURFACES)
    found.panoptic = merge_panoptic(masks, labels, scores, OBJECTS, semantic, SURFACES)
    return found


@pytest.mark.parametrize("merged", [True, False])
def test_one_name_has_one_colour_in_all_that_is_written(merged: bool, tmp_path: Path) -> None:
    found = both()
    if not merged:
        found.panoptic = None
    with open_outputs(["coco", "masks", "panoptic"], tmp_path) as outputs:
        outputs.add(Frame(np.zeros((*SIZE, 3), np.uint8), "a.png", "a"), found)
    palette = np.array(Image.open(tmp_path / "masks" / "a.png").getpalette()).reshape(-1, 3)
    seen = [{name: palette[i].tolist() for name, i in zip(SURFACES.names, SURFACES.ids, strict=True)}]
    for file in ("predictions.json", "panoptic.json")[: 1 + merged]:
        entries = json.loads((tmp_path / file).read_text())["categories"]
        seen.append({entry["name"]: entry["color"] for entry in entries})
    by_name: dict[str, set[tuple[int, ...]]] = {}
    for colors in seen:
        for name, color in colors.items():
            by_name.setdefault(name, set()).add(tuple(color))
    assert {name: len(colors) for name, colors in by_name.items()} == dict.fromkeys(by_name, 1)
    assert len(set.union(*by_name.values())) == len(by_name) == 6
    if isinstance(found.panoptic, Panoptic):
        assert found.panoptic.categories.colors[1] == SURFACES.colors[1]


def test_drawn_objects_have_the_colours_that_are_written(tmp_path: Path) -> None:
    from vision_tasks.visualize.drawing import _in_colors_of

    found = both()
    drawn = {mark.tag.split()[0]: mark.color for mark in marks(found, _in_colors_of(SURFACES, OBJECTS))}
    assert found.panoptic is not None
    merged = dict(zip(found.panoptic.categories.names, found.panoptic.categories.colors, strict=True))
    assert drawn == {name: merged[name] for name in ("car", "person")}


def test_shares_are_those_of_the_legend(tmp_path: Path) -> None:
    found = both()
    assert found.panoptic is not None
    found.panoptic = merge_panoptic(
        found.masks, found.labels, found.scores, OBJECTS, found.semantic, SURFACES,
        PanopticRule(stuff_area=10),
    )  # fmt: skip
    with open_outputs(["jsonl"], tmp_path) as outputs:
        outputs.add(Frame(np.zeros((*SIZE, 3), np.uint8), "a.png", "a"), found)
    (line,) = lines_of(tmp_path)
    areas: dict[str, int] = {}
    names = dict(zip(found.panoptic.categories.ids, found.panoptic.categories.names, strict=True))
    for segment in line["segments"]:
        name = names[segment["category_id"]]
        areas[name] = areas.get(name, 0) + segment["area"]
    assert line["pixels"] == pytest.approx({name: area / 2400 for name, area in areas.items()}, abs=1e-6)
    assert list(line["pixels"]) == ["sky", "road", "car", "person"]
    legend = paint_panoptic(np.zeros((*SIZE, 3), np.uint8), found.panoptic, 0.5, 1, 0)
    said = {entry.name.split(" ×")[0]: float(entry.value.split()[0]) for entry in legend}
    assert {name: 100 * share for name, share in line["pixels"].items()} == pytest.approx(said, abs=0.051)
