"""Images that nobody looked at for objects are no mistakes of who finds some there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.small_coco import write_data
from tests.tiny_model import tiny_model
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.joint import join
from vision_tasks.structures import Prediction
from vision_tasks.training.module import TrainingModule
from vision_tasks.training.truth import metrics_for


def test_only_images_with_boxes_are_judged_by_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxed = write_data(tmp_path / "a", [(40, 60)] * 6)
    others = dataclasses.replace(write_data(tmp_path / "b", [(50, 50)] * 5), has_boxes=False)
    records = join([others, boxed])
    model = tiny_model(("thing",))
    module = TrainingModule(model, metrics=metrics_for(model, records, "val"), keep_results=True)
    loader = DataModule(val=records, val_batch_size=4, workers=0).val_dataloader()
    for index, raw in enumerate(loader):

        def found(batch: Any, raw: Any = raw) -> list[Prediction]:
            boxes = [torch.tensor([[1.0, 1, 9, 9]]) if t.boxes is None else t.boxes for t in raw.targets]
            assert batch.images.shape[0] == len(boxes)
            return [
                Prediction(t.size, records.categories, b, torch.zeros(len(b), dtype=torch.int64),
                           torch.full((len(b),), 0.9))
                for t, b in zip(raw.targets, boxes, strict=True)
            ]  # fmt: skip

        monkeypatch.setattr(model, "predict", found)
        module.validation_step(raw, index)
    metric: Any = next(iter(module.metrics.values()))
    summary = metric.summary()
    assert summary.numbers["AP"] == pytest.approx(1.0)
    assert {row["image_id"] for row in module.results["bbox"]} <= set(records.image_ids[5:].tolist())
