"""Frames and predictions that tests of outputs share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from vision_tasks.inference.frames import Frame
from vision_tasks.inference.outputs.registry import Outputs
from vision_tasks.structures import Categories, Masks, Prediction

CATEGORIES = Categories.of([{"id": 3, "name": "cat"}, {"id": 17, "name": "größe"}])
SIZE = (40, 60)


def frame(number: int, time: bool = True, source: str = "film.mp4") -> Frame:
    image = np.full((*SIZE, 3), number % 256, np.uint8)
    if time:
        return Frame(image, source, f"{Path(source).stem}_{number:06d}", number, number / 25)
    return Frame(image, f"photos/{number}.png", str(number))


def found(number: int, count: int = 2, masks: bool = False, tracks: bool = False) -> Prediction:
    draw = np.random.default_rng(number)
    corners = draw.uniform(0, 25, (count, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + draw.uniform(4, 14, (count, 2))], 1)).float()
    scores = torch.from_numpy(np.sort(draw.uniform(0.1, 1, count))[::-1].copy()).float()
    grid = Masks(SIZE, grid=torch.ones(count, 28, 28), boxes=boxes) if masks else None
    labels = torch.from_numpy(draw.integers(0, 2, count))
    return Prediction(
        SIZE, CATEGORIES, boxes, labels, scores, grid, track_ids=torch.arange(count) + 5 if tracks else None
    )


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def stop_early(outputs: Outputs, number: int = 0) -> None:
    with outputs:
        outputs.add(frame(number), found(number), order=(0, number))
        raise KeyboardInterrupt
