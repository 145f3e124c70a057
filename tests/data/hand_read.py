"""Boxes out of the files of each format, by the format's definition alone: nothing of ours is used.

Each function gives (category, (x1, y1, x2, y2)) in continuous pixels, sorted, by the stem of the image.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
from PIL import Image

Boxes = dict[str, list[tuple[str, tuple[float, ...]]]]


def _around(name: str, points: np.ndarray) -> tuple[str, tuple[float, ...]]:
    return name, tuple(np.round([*points.min(0), *points.max(0)], 5).tolist())


def _covered(name: str, there: np.ndarray) -> list[tuple[str, tuple[float, ...]]]:
    y, x = np.nonzero(there)
    return [_around(name, np.stack([np.append(x, x + 1), np.append(y, y + 1)], 1))] if len(x) else []


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image).astype(int)


def coco(folder: Path) -> Boxes:
    out: Boxes = {}
    for path in folder.glob("annotations/*.json"):
        top = json.loads(path.read_text("utf-8"))
        names = {c["id"]: c["name"] for c in top["categories"]}
        stems = {i["id"]: Path(i["file_name"]).stem for i in top["images"]}
        out |= {stem: [] for stem in stems.values()}
        for a in top["annotations"]:
            x, y, w, h = a["bbox"]
            out[stems[a["image_id"]]].append(_around(names[a["category_id"]], np.array([[x, y], [x + w, y + h]])))
    return {stem: sorted(boxes) for stem, boxes in out.items()}


def voc(folder: Path) -> Boxes:
    """It counts from 1 and includes the last pixel."""
    out: Boxes = {}
    for path in folder.rglob("*.xml"):
        out[path.stem] = []
        for item in xml.etree.ElementTree.parse(path).getroot().iter("object"):
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{k}") or "nan") for k in ("xmin", "ymin", "xmax", "ymax"))
            out[path.stem].append(_around(item.findtext("name") or "", np.array([[x1 - 1, y1 - 1], [x2, y2]])))
        out[path.stem].sort()
    return out


def yolo(folder: Path) -> Boxes:
    names = re.findall(r"^ +\d+: '?\"?(.*?)'?\"?$", (folder / "data.yaml").read_text("utf-8"), re.M)
    out: Boxes = {}
    for path in folder.glob("images/**/*.*"):
        with Image.open(path) as image:
            size = image.size
        label = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
        out[path.stem] = []
        for line in label.read_text().splitlines() if label.exists() else []:
            kind, *numbers = line.split()
            points = np.array(numbers, float).reshape(-1, 2)
            if len(points) == 2:  # centre and sides, not an outline
                points = np.stack([points[0] - points[1] / 2, points[0] + points[1] / 2])
            out[path.stem].append(_around(names[int(kind)], points * size))
        out[path.stem].sort()
    return out


def labelme(folder: Path) -> Boxes:
    out: Boxes = {}
    for path in folder.rglob("*.json"):
        shapes = json.loads(path.read_text("utf-8"))["shapes"]
        out[path.stem] = sorted(_around(s["label"], np.array(s["points"])) for s in shapes)
    return out


def masks(folder: Path) -> Boxes:
    listed = json.loads((folder / "masks/categories.json").read_text("utf-8"))["categories"]
    out: Boxes = {}
    for path in folder.glob("masks/*/**/*.png"):
        values = _pixels(path)
        named = [c for c in listed if c["name"] != "background"]
        out[path.stem] = sorted(box for c in named for box in _covered(c["name"], values == c["id"]))
    return out


def coco_panoptic(folder: Path) -> Boxes:
    out: Boxes = {}
    for path in folder.glob("annotations/*.json"):
        top = json.loads(path.read_text("utf-8"))
        names = {c["id"]: c["name"] for c in top["categories"]}
        for entry in top["annotations"]:
            ids = _pixels(path.with_suffix("") / entry["file_name"]) @ (1, 256, 65536)
            segments = [(names[s["category_id"]], s["id"]) for s in entry["segments_info"]]
            out[Path(entry["file_name"]).stem] = sorted(b for name, i in segments for b in _covered(name, ids == i))
    return out


BY_HAND = {
    "coco": coco, "lvis": coco, "voc": voc, "yolo": yolo, "labelme": labelme, "masks": masks,
    "coco_panoptic": coco_panoptic,
}  # fmt: skip
