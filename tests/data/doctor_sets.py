"""COCO data sets for tests of the doctor: sound ones, and what is done to them."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

Coco = dict[str, Any]
DATA = os.environ.get("VISION_TASKS_DATA")
SIZES = ((480, 640), (640, 480), (375, 500), (600, 600))


def ellipse(x: float, y: float, w: float, h: float, points: int = 24) -> list[float]:
    """Outline of the ellipse inside a box; its extreme points touch all four sides."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    xy = np.stack([x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))], 1)
    return [float(v) for v in np.round(xy, 2).ravel()]


def shoelace(polygon: list[float]) -> float:
    x, y = np.array(polygon).reshape(-1, 2).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def coco(boxes: list[list[list[float]]], sizes: list[tuple[int, int]], masks: bool = True, kinds: int = 1) -> Coco:
    """A COCO set of these boxes (x, y, width, height) per image of these (height, width)."""
    out: Coco = {
        "images": [
            {"id": 10 + i, "file_name": f"{i:03d}.jpg", "height": h, "width": w} for i, (h, w) in enumerate(sizes)
        ],
        "categories": [{"id": k + 1, "name": ("cat", "dog", "bird", "tree")[k]} for k in range(kinds)],
        "annotations": [],
    }
    for row, own in enumerate(boxes):
        for x, y, w, h in own:
            polygon = ellipse(x, y, w, h)
            xy = np.array(polygon).reshape(-1, 2)
            box = [*xy.min(0), *(xy.max(0) - xy.min(0))] if masks else [x, y, w, h]
            number = len(out["annotations"])
            out["annotations"].append({
                "id": number + 1, "image_id": 10 + row, "category_id": 1 + number % kinds,
                "bbox": [float(v) for v in box], "area": shoelace(polygon) if masks else w * h, "iscrowd": 0,
                "segmentation": [polygon] if masks else [],
            })  # fmt: skip
    return out


def scenes(images: int = 40, objects: int = 6, masks: bool = True, kinds: int = 3, seed: int = 0) -> Coco:
    """Objects of many sizes anywhere in images of several shapes; some are cut by the image's border."""
    rng = np.random.default_rng(seed)
    sizes = [SIZES[i % len(SIZES)] for i in range(images)]
    boxes = []
    for h, w in sizes:
        size = np.exp(rng.uniform(np.log(12), np.log(min(h, w) * 0.7), (objects, 2)))
        centre = rng.uniform(0, 1, (objects, 2)) * [w, h]
        low, high = np.maximum(centre - size / 2, 0), np.minimum(centre + size / 2, [w, h])
        wide = ((high - low) > 4).all(1)
        boxes.append(np.round(np.concatenate([low, high - low], 1)[wide], 2).tolist())
    return coco(boxes, sizes, masks, kinds)


def balloons(split: str = "train") -> Coco:
    """The balloons with areas computed anew: those of the file are a tenth of what they should be."""
    assert DATA
    out: Coco = json.loads((Path(DATA) / "balloon_coco" / "annotations" / f"custom_{split}.json").read_text())
    for annotation in out["annotations"]:
        annotation["area"] = sum(shoelace(p) for p in annotation["segmentation"])
    return out


def without_masks(data: Coco) -> Coco:
    out = copy.deepcopy(data)
    for annotation in out["annotations"]:
        annotation["segmentation"] = []
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    return out


def written(data: Coco, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path
