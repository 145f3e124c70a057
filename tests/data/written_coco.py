"""COCO files of any content on disk, and their records, for tests of what is done with whole data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import read_found
from vision_tasks.data.records import Records


def written(
    folder: Path, split: str, images: dict[str, list[tuple[str, list[float]]]], names: list[str], **more: Any
) -> Records:
    """Records with extras of a file `instances_SPLIT.json` whose images are 100 × 80 (width × height), grey noise.

    Args:
        images: file name -> (category, box x, y, w, h) of each object. names: categories, ids from 1.
        more: other keys of the file; `image_keys` of each image and `object_keys` of each object, by name and number.
    """
    image_keys, object_keys = more.pop("image_keys", {}), more.pop("object_keys", {})
    random = np.random.default_rng(len(images))
    content: dict[str, Any] = {"images": [], "annotations": [], **more}
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    for number, (name, objects) in enumerate(images.items(), 1):
        path = folder / "images" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), random.integers(0, 256, (80, 100, 3)).astype(np.uint8))
        entry = {"id": number, "file_name": name, "width": 100, "height": 80}
        content["images"].append(entry | image_keys.get(name, {}))
        for category, box in objects:
            entry = {
                "id": len(content["annotations"]) + 1,
                "image_id": number,
                "category_id": names.index(category) + 1,
            }
            entry |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            content["annotations"].append(entry | object_keys.get(entry["id"], {}))
    file = folder / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return read_found(Found("coco", file, folder / "images" / split), extras=True)


def read_again(folder: Path, split: str) -> dict[str, Any]:
    """The COCO file of a split that was written."""
    content: dict[str, Any] = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    return content
