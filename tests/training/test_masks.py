"""A model with masks through a whole run: judged as pycocotools judges the files it writes."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import vision_tasks as vt
from tests.training.conftest import TINY
from vision_tasks.cli import main
from vision_tasks.config import Config, Split
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_masks import rle_boxes
from vision_tasks.metrics.coco_results import results_of, write_results
from vision_tasks.metrics.coco_truth import CocoTruth
from vision_tasks.structures import Categories, Masks, Prediction
from vision_tasks.training import run
from vision_tasks.training.report import report
from vision_tasks.training.splits import read_split
from vision_tasks.training.truth import metrics_for, truth_of

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def pycocotools_numbers(truth: Path, results: Path, kind: str) -> list[float]:
    reference = COCO(str(truth))
    evaluation = COCOeval(reference, reference.loadRes(str(results)), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return list(evaluation.stats)


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["vision-tasks", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code in (0, None)


@pytest.mark.slow
def test_a_run_with_masks(recipe: Callable[..., Config], scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [option for option in TINY if option.startswith("model.")]  # which another model's name wipes out
    config = recipe("model=mask_rcnn", *small, "model.mask_channels=16", "train.epochs=1", "run.name=masks")
    done = run.fit(config)
    assert set(done.summaries) == {"bbox", "segm"}
    assert done.best_score == done.summaries["segm"].numbers["AP"]
    page = report(done, config)
    assert page is not None
    text = page.read_text()
    assert "segm/AP50" in text
    assert "masks: at IoU 0.50" in text
    with (done.folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["segm/AP"]) == done.best_score
    assert all(float(row["loss/objects/mask"]) > 0 for row in rows if row["loss"])

    command(monkeypatch, "evaluate", done.best, "--device", "cpu", "data.workers=0")
    out = done.folder / "evaluation-val"
    truth = scenes / "annotations" / "instances_val.json"
    assert {"precision-recall.png", "precision-recall-segm.png", "index.html"} <= {p.name for p in out.iterdir()}
    for kind, name in (("bbox", "results.json"), ("segm", "results-segm.json")):
        assert len(json.loads((out / name).read_text())) > 50
        expected = pycocotools_numbers(truth, out / name, kind)
        assert list(done.summaries[kind].numbers.values()) == pytest.approx(expected, rel=0, abs=1e-9)

    command(monkeypatch, "predict", done.best, scenes / "images" / "val", "--threshold", "0.01", "--device", "cpu",
            "--format", "coco", "--out", done.folder / "found")  # fmt: skip
    found = COCO(str(done.folder / "found" / "predictions.json"))
    for annotation in found.dataset["annotations"]:
        assert annotation["area"] == found.annToMask(annotation).sum()


def jittered(truth: CocoTruth, categories: Categories, seed: int) -> list[Prediction]:
    """Truths in the form of a mask head: grids of an ellipse in boxes near the truth's."""
    r = np.random.default_rng(seed)
    axis = torch.linspace(-1, 1, 28)
    ellipse = torch.sigmoid(20 * (1 - (axis[:, None] ** 2 + axis[None] ** 2).sqrt()))
    predictions = []
    for row, size in enumerate(truth.image_sizes.tolist()):
        mine = np.flatnonzero(truth.image == row)
        mine = mine[r.random(len(mine)) < 0.9]
        boxes = truth.boxes[mine].copy()
        boxes[:, 2:] += boxes[:, :2]
        boxes += r.normal(0, 0.05, boxes.shape) * np.tile(truth.boxes[mine][:, 2:], 2)
        corners = torch.from_numpy(boxes.clip(0, np.tile(size[::-1], 2))).float()
        labels = torch.tensor([categories.label_of_id[int(truth.category_ids[k])] for k in truth.category[mine]])
        grid = ellipse * torch.from_numpy(r.uniform(0.6, 1, (len(mine), 1, 1))).float()
        predictions.append(
            Prediction(
                (size[0], size[1]), categories, corners, labels.to(torch.int64),
                torch.from_numpy(r.random(len(mine))).float(), Masks((size[0], size[1]), grid=grid, boxes=corners),
            )
        )  # fmt: skip
    return predictions


@pytest.mark.parametrize(
    ("folder", "annotations"),
    [("coco_mini", "instances_val2017.json"), ("balloon_coco", "custom_val.json")],
)
@pytest.mark.slow
def test_mask_ap_on_real_data_is_pycocotools(real_data: Path, tmp_path: Path, folder: str, annotations: str) -> None:
    """Truth through the records, predictions as grids; pycocotools reads the file and the rows that are written."""
    content = json.loads((real_data / folder / "annotations" / annotations).read_text())
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number  # balloons have a 0, which pycocotools takes for no match
    file = tmp_path / "truth.json"
    file.write_text(json.dumps(content))
    records = read_split(Split(annotations=file, images=real_data / folder / "val2017"), "val")
    truth = truth_of(records, "segm")
    assert truth.rles == CocoTruth.from_file(file, "segm").rles
    predictions = jittered(truth, records.categories, seed=0)
    metric = CocoMetric(truth, "segm")
    metric.update(predictions, truth.image_ids)
    ids = truth.image_ids.tolist()
    rows = [row for p, i in zip(predictions, ids, strict=True) for row in results_of(p, i, "segm")]
    write_results(tmp_path / "rows.json", rows)
    expected = pycocotools_numbers(file, tmp_path / "rows.json", "segm")
    assert 0.05 < expected[0] < 0.95
    assert list(metric.compute().values()) == pytest.approx(expected, rel=0, abs=1e-9)


def test_objects_without_a_mask_are_neither_found_nor_missed(scenes: Path, tmp_path: Path) -> None:
    content = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    bare = content["annotations"][::3]
    for annotation in bare:
        annotation["segmentation"] = []
    path = tmp_path / "some.json"
    path.write_text(json.dumps(content))
    records = read_split(Split(annotations=path, images=scenes / "images" / "val"), "val")
    truth = truth_of(records, "segm")
    without = np.isin(truth.annotation_ids, [a["id"] for a in bare])
    assert truth.is_crowd[without].all()
    assert not truth_of(records).is_crowd[~truth.is_crowd].any()
    assert truth.rles is not None
    for i in np.flatnonzero(without):
        x, y, width, height = truth.boxes[i]
        assert rle_boxes([truth.rles[i]])[0] == pytest.approx([x, y, width, height], abs=1.01)


def test_masks_are_judged_only_where_there_are_some(
    scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    path = tmp_path / "none.json"
    path.write_text(json.dumps(content))
    options = {"backbone": "resnet_narrow", "channels": 16, "hidden": 32}
    boxes, masks = (vt.create_model(name, ["a"], **options) for name in ("faster_rcnn", "mask_rcnn"))
    full, none = (
        read_split(Split(annotations=file, images=scenes / "images" / "val"), "val")
        for file in (scenes / "annotations" / "instances_val.json", path)
    )
    assert [m.iou_type for m in metrics_for(masks, full, "val")] == ["bbox", "segm"]
    assert [m.iou_type for m in metrics_for(boxes, full, "val")] == ["bbox"]
    assert [m.iou_type for m in metrics_for(masks, none, "val")] == ["bbox"]
    assert "only boxes are judged" in caplog.text
