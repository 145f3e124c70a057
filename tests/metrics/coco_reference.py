"""pycocotools as the reference, and random data sets that visit its corners."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NUMBERS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def pycocotools_eval(gt: dict, results: list, iou_type: str = "bbox", image_ids: list | None = None) -> COCOeval:
    """COCOeval of dictionaries (copied: pycocotools writes into them), evaluated and summarised in silence."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(gt)
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:  # loadRes looks at the first row, so it cannot take an empty list
            found = COCO()
            found.dataset = {"images": gt["images"], "categories": gt["categories"], "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, iou_type)
        if image_ids is not None:
            evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def numbers(evaluation: COCOeval) -> dict[str, float]:
    return dict(zip(NUMBERS, evaluation.stats.tolist(), strict=True))


def save(folder: Path, gt: Any, results: Any) -> tuple[Path, Path]:
    gt_path, results_path = folder / "gt.json", folder / "results.json"
    gt_path.write_text(json.dumps(gt))
    results_path.write_text(json.dumps(results))
    return gt_path, results_path


def random_dataset(seed: int, crowded: bool = False) -> tuple[dict, list]:
    """Ground truth and results on a coarse grid: ties in score and IoU and overlaps of exactly 1/2 or 3/4 abound."""
    r = np.random.default_rng(seed)
    n_images, n_categories = (3, 2) if crowded else (int(r.integers(1, 9)), int(r.integers(1, 6)))
    image_ids = r.choice(np.arange(0, 1000), n_images, replace=False).tolist()
    category_ids = r.choice(np.arange(0, 90), n_categories, replace=False).tolist()
    scale = float(r.choice([1.0, 4.0, 13.0, 0.1]))
    annotations, results = [], []
    next_id = 1
    for image in image_ids:
        # The last category has truth in no image, the first has detections in none (when there are several).
        for category in category_ids[: max(1, n_categories - 1)]:
            for _ in range(int(r.integers(0, 30 if crowded else 5))):
                box = (
                    (r.integers(0, 12, 2).tolist() + r.integers(1, 13, 2).tolist())
                    if r.random() > 0.02
                    else [1, 1, 0, 3]
                )
                area = box[2] * box[3] * scale**2 * float(r.choice([1.0, 0.5, 1.0, 3.0]))
                if r.random() < 0.1:
                    area = float(r.choice([1024, 9216, 1e10, 2e10]))
                annotations.append(
                    {"id": next_id, "image_id": image, "category_id": category, "bbox": [v * scale for v in box]}
                    | {"area": area, "iscrowd": int(r.random() < 0.15)}
                    | ({"ignore": 1} if r.random() < 0.1 else {})
                )
                next_id += int(r.integers(1, 4))
        for c, category in enumerate(category_ids):
            if c == 0 and n_categories > 2:
                continue
            many = crowded or r.random() < 0.05
            near = [a["bbox"] for a in annotations if a["image_id"] == image and a["category_id"] == category]
            for _ in range(int(r.integers(90, 140)) if many else int(r.integers(0, 8))):
                if near and r.random() < 0.6:
                    box = [v / scale for v in near[int(r.integers(len(near)))]]
                    for i in range(4):
                        box[i] += float(r.choice([0, 0, 1, -1, 2])) if i < 2 else float(r.choice([0, 0, 0, 1]))
                    if r.random() < 0.3:
                        box[int(r.integers(2, 4))] *= float(r.choice([0.5, 0.75, 2.0]))
                else:
                    box = r.integers(0, 12, 2).tolist() + r.integers(1, 13, 2).tolist()
                score = float(r.integers(0, 11)) / 10 if r.random() < 0.7 else float(r.random())
                results.append(
                    {"image_id": image, "category_id": category, "bbox": [v * scale for v in box], "score": score}
                )
    r.shuffle(annotations)  # type: ignore[arg-type]
    r.shuffle(results)  # type: ignore[arg-type]
    gt = {
        "images": [
            {"id": i, "height": 40, "width": 40, "file_name": f"{i}.jpg"} for i in r.permutation(image_ids).tolist()
        ],
        "categories": [{"id": c, "name": f"category {c}"} for c in r.permutation(category_ids).tolist()],
        "annotations": annotations,
    }
    return gt, results


def with_masks(gt: dict, results: list, seed: int) -> tuple[dict, list]:
    """The same data with masks: polygons (triangles, rectangles, two parts) and RLE of both kinds in place of boxes."""
    r = np.random.default_rng(seed)
    gt, results = copy.deepcopy(gt), copy.deepcopy(results)
    for row in [*gt["annotations"], *results]:
        x, y, w, h = row["bbox"]
        shrink = 11 / max(1, *(abs(v) for a in gt["annotations"] for v in a["bbox"]))
        x, y, w, h = ((v * shrink * 1.5 + 3) for v in (x, y, w, h))
        polygons = [[x, y, x + w, y, x + w, y + h]] if r.random() < 0.3 else [[x, y, x + w, y, x + w, y + h, x, y + h]]
        if r.random() < 0.1:
            polygons.append([1.0, 1, 5, 1, 5, 6])
        rle = coco_mask.merge(coco_mask.frPyObjects(polygons, 40, 40))
        kind = r.random() if "score" not in row else 1.0
        if kind < 0.5:
            row["segmentation"] = polygons
        elif kind < 0.7:
            with warnings.catch_warnings():  # pycocotools 2.0.11 is behind numpy 2's array protocol
                warnings.simplefilter("ignore", DeprecationWarning)
                bitmap = coco_mask.decode(rle)
            flat = np.concatenate([[0], bitmap.reshape(-1, order="F").astype(int), [-1]])
            bounds = np.flatnonzero(np.diff(flat)).tolist()
            row["segmentation"] = {"size": [40, 40], "counts": np.diff([0, *bounds]).tolist()}
        else:
            row["segmentation"] = {"size": [40, 40], "counts": rle["counts"].decode()}
    return gt, results
