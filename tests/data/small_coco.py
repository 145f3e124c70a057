"""Small COCO data sets on disk, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch

from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records


def write_data(
    folder: Path, sizes: list[tuple[int, int]], broken: tuple[int, ...] = (), dtype: type = np.uint8
) -> Records:
    """A COCO data set whose image of row i has id 100 + i, grey value i + 1, and i % 3 objects."""
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for i, (h, w) in enumerate(sizes):
        name = f"{i}.png"
        if i in broken:
            (folder / name).write_bytes(b"no image")
        else:
            cv2.imwrite(str(folder / name), np.full((h, w, 3), i + 1, dtype=dtype))
        images.append({"id": 100 + i, "file_name": name, "width": w, "height": h})
        for k in range(i % 3):
            x, y, bw, bh = 2.0 + k, 3.0, 8.0, 9.0
            annotations.append({
                "id": len(annotations) + 1, "image_id": 100 + i, "category_id": 5, "bbox": [x, y, bw, bh],
                "area": bw * bh, "iscrowd": 0, "segmentation": [[x, y, x + bw, y, x + bw, y + bh, x, y + bh]],
            })  # fmt: skip
    content = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "thing"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return read_coco(folder / "instances.json", folder)


def same(a: RawBatch, b: RawBatch) -> bool:
    return (
        a.image_ids == b.image_ids
        and a.min_size == b.min_size
        and all(torch.equal(x, y) for x, y in zip(a.images, b.images, strict=True))
        and all(torch.equal(x.boxes, y.boxes) for x, y in zip(a.targets, b.targets, strict=True))
    )
