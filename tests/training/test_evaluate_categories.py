"""Evaluation on data whose categories are not the model's: other order, more of them, or some chosen."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vision_tasks as vt
from tests.tiny_models import TINY_JOINT, tiny
from vision_tasks.config import load_config
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.semantic import with_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.records import Records
from vision_tasks.data.relabel import labels_by_name
from vision_tasks.models.vision_model import VisionModel, with_panoptic
from vision_tasks.structures import Batch, Prediction
from vision_tasks.training.evaluation import Evaluation, evaluate
from vision_tasks.training.truth import check_suits


def reverse(content: dict[str, Any]) -> None:
    """The same truth; categories in another order and under other ids."""
    entries = content["categories"]
    for entry in entries:
        entry["id"] = len(entries) + 1 - entry["id"]
    entries.reverse()
    for annotation in content["annotations"]:
        annotation["category_id"] = len(entries) + 1 - annotation["category_id"]


def one_more(content: dict[str, Any]) -> None:
    content["categories"].insert(0, {"id": 77, "name": "kite"})


def variant(scenes: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(scenes, folder)
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def truth(scenes: Path) -> Records:
    records = read_coco(scenes / "annotations/instances_val.json", scenes / "images/val")
    return with_semantic(records, semantic_files("scenes"), "val", scenes)


def knows_the_truth(model: VisionModel, records: Records) -> VisionModel:
    """Predicts what the records say, in the labels of the model's heads; things of other names it does not find."""
    rows = iter(range(len(records)))

    def predict(batch: Batch) -> list[Prediction]:
        found = []
        for size in batch.original_sizes:
            row = next(rows)
            target, head, maps = records.target(row, size), model.head_of("objects"), model.head_of("semantic")
            assert head is not None
            assert target.labels is not None
            assert target.boxes is not None
            assert target.area is not None
            labels = torch.as_tensor(labels_by_name(records.categories, head.categories)).long()[target.labels]
            order = target.area.argsort()
            order = order[labels[order] >= 0]
            prediction = Prediction(
                size, head.categories, boxes=target.boxes[order], labels=labels[order],
                scores=torch.linspace(1, 0.9, len(order)), masks=None if target.masks is None else target.masks[order],
            )  # fmt: skip
            if maps is not None:
                assert records.semantic is not None
                prediction.semantic = torch.as_tensor(records.semantic.read(row, size))
                prediction.semantic_categories = maps.categories
                prediction = with_panoptic(prediction, model.panoptic)
            found.append(prediction)
        return found

    model.predict = predict  # type: ignore[assignment, method-assign]
    return model


def joint(names: dict[str, tuple[str, ...]]) -> VisionModel:
    name, small = TINY_JOINT["panoptic_fpn"]
    return vt.create_model(name, names, **(small | {"panoptic_stuff_area": 1, "panoptic_score": 0.0}))  # type: ignore[arg-type]


def judged(model: VisionModel, data: Path) -> Evaluation:
    return evaluate(model, load_config(None, [f"data={data}", "data.workers=0", "data.batch_size=1"]).data)


@pytest.mark.parametrize("change", [reverse, one_more])
def test_who_returns_the_truth_is_right(change: Callable[[dict[str, Any]], None], scenes: Path, tmp_path: Path) -> None:
    records = truth(scenes)
    assert records.semantic is not None
    names = {"objects": records.categories.names, "semantic": records.semantic.categories.names}
    model = joint(names)
    done = judged(knows_the_truth(model, records), variant(scenes, tmp_path / "data", change))
    for kind, name in (("bbox", "AP"), ("segm", "AP"), ("semantic", "mIoU"), ("panoptic", "PQ")):
        assert done.summaries[kind].numbers[name] == pytest.approx(1.0), kind


def test_things_without_a_word_are_void(scenes: Path) -> None:
    """Not finding what the model has no category for is no mistake, and neither is what it says there."""
    records = truth(scenes)
    assert records.semantic is not None
    names = {"objects": records.categories.names[1:], "semantic": records.semantic.categories.names}
    model = joint(names)
    done = judged(knows_the_truth(model, records), scenes)
    assert done.summaries["panoptic"].numbers["PQ"] == pytest.approx(1.0)


def test_a_head_that_chose_categories_is_judged_by_them(scenes: Path) -> None:
    records = truth(scenes)
    name, small = TINY_JOINT["multi_head"]
    heads = {"things": {"type": "retinanet", "categories": list(records.categories.names[:1:-1])}}
    model = vt.create_model(name, {"objects": records.categories}, **(small | {"heads": heads}))
    done = judged(knows_the_truth(model, records), scenes)
    assert done.summaries["bbox"].numbers["AP"] == pytest.approx(1.0)
    rows = done.summaries["bbox"].per_category
    assert {row["name"] for row in rows} == set(records.categories.names[2:])
    assert {row["category_id"] for row in done.results["bbox"]} <= set(records.categories.ids[2:])


def test_maps_of_another_form_are_refused_before_anything_is_predicted(scenes: Path) -> None:
    names = truth(scenes).semantic.categories.names  # type: ignore[union-attr]
    for wrong in ({"multi_label": True, "categories": names}, {"categories": names[:1]}):
        with pytest.raises(vt.VisionTasksError, match="val: the maps say one category out of all, but the model"):
            judged(tiny("fcn", **wrong), scenes)  # type: ignore[arg-type]


def test_a_run_looks_at_the_validation_maps_beforehand(scenes: Path) -> None:
    records = truth(scenes)
    model = tiny("fcn", multi_label=True)
    with pytest.raises(vt.VisionTasksError, match="val: the maps say"):
        check_suits(model, dataclasses.replace(records, semantic=None), [], records)
