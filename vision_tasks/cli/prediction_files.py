"""What `vision-tasks predict` writes: lines or a COCO file of objects, masks of maps, panoptic files."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vision_tasks.cli.console import make_folder
from vision_tasks.cli.mask_files import mask_type, palette_of, write_mask

if TYPE_CHECKING:
    from vision_tasks.structures import Categories, Prediction

FORMS = ("jsonl", "coco", "none")


class PredictionFiles:
    """predictions.jsonl, one line an image; or predictions.json in COCO form (images, annotations with scores,
    categories). Of semantic maps, masks/NAME.png beside it, whose values are original category ids (of 8 bits as places
    in a palette of the categories' colours, else grey of 16 bits); or
    masks/CATEGORY/NAME.png, 255 where it is, if every category is decided on its own. Of panoptic models, what COCO
    has: panoptic/NAME.png and panoptic.json.

    JSON files are written under a temporary name and renamed at the end, whatever ends it. With the form "none"
    nothing is written.

    Attributes:
        objects: how many were written so far.
    """

    def __init__(self, out: Path, form: str) -> None:
        self.out, self.form = out, form
        self.objects = 0
        self._name = {"jsonl": "predictions.jsonl", "coco": "predictions.json", "none": ""}[form]
        self._coco: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        self._panoptic: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        self._written: dict[str, None] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> PredictionFiles:
        if self.form != "none":
            # A file name that is no UTF-8 is written as JSON's own escape.
            self._file = self._temporary(self._name).open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def _temporary(self, name: str) -> Path:
        return self.out / f".{name}.part"

    @property
    def written(self) -> list[str]:
        """What was written so far, in words."""
        return [self._name, *self._written] if self._file is not None else []

    def add(self, number: int, path: Path, name: str, prediction: Prediction) -> None:
        """Write one image's prediction.

        Args:
            number: of the image, from 1. path: its file. name: what its masks are to be called, without an ending.
        """
        rows = _object_rows(prediction, number)
        self.objects += len(rows)
        if self.form == "none":
            return
        if prediction.semantic is not None:
            self._write_map(name, prediction)
        segments = self._write_panoptic(number, path, name, prediction)
        image = {"id": number, "file_name": str(path), "width": prediction.size[1], "height": prediction.size[0]}
        if self.form == "jsonl":
            assert self._file is not None
            self._file.write(json.dumps(_line(path, prediction, rows, segments), ensure_ascii=False) + "\n")
        else:
            # A model that only draws maps gives one region a category, as COCO's stuff files do.
            rows = rows if prediction.boxes is not None else _region_rows(prediction, number)
            self._coco["images"].append(image)
            start = len(self._coco["annotations"]) + 1
            self._coco["annotations"] += [
                {**row, "id": start + i, "area": _area(row), "iscrowd": 0} for i, row in enumerate(rows)
            ]
            self._coco["categories"] = prediction.categories.to_list()

    def _write_map(self, name: str, prediction: Prediction) -> None:
        import numpy as np

        categories = prediction.semantic_categories or prediction.categories
        assert prediction.semantic is not None
        labels = prediction.semantic.numpy()
        make_folder(self.out / "masks")
        if labels.ndim == 2:
            dtype = mask_type(categories)
            # The last entry is that of label -1.
            values = np.array([*categories.ids, np.iinfo(dtype).max]).astype(dtype)
            write_mask(self.out / "masks" / f"{name}.png", values[labels], palette_of(categories))
            self._written["masks/*.png (values are category ids)"] = None
            return
        for layer, folder in zip(labels, folder_names(categories), strict=True):
            make_folder(self.out / "masks" / folder)
            write_mask(self.out / "masks" / folder / f"{name}.png", layer.astype(np.uint8) * np.uint8(255))
        self._written["masks/CATEGORY/*.png (255 where it is)"] = None

    def _write_panoptic(self, number: int, path: Path, name: str, prediction: Prediction) -> list[dict[str, Any]]:
        """The segments as COCO's `segments_info`; none of a model that does not merge."""
        import numpy as np

        from vision_tasks.visualize.picture import write_picture

        panoptic = prediction.panoptic
        if panoptic is None:
            return []
        make_folder(self.out / "panoptic")
        ids = panoptic.ids.numpy()
        colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
        write_picture(self.out / "panoptic" / f"{name}.png", colors)
        segments = _segments(prediction)
        image = {"id": number, "file_name": str(path), "width": prediction.size[1], "height": prediction.size[0]}
        self._panoptic["images"].append(image)
        self._panoptic["annotations"].append(
            {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        )
        self._panoptic["categories"] = panoptic.categories.to_list()
        self._written |= {"panoptic/*.png": None, "panoptic.json": None}
        return segments

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._file is None:
            return
        if self.form == "coco":
            json.dump(self._coco, self._file)
        self._file.close()
        os.replace(self._temporary(self._name), self.out / self._name)
        if self._panoptic["images"]:
            part = self._temporary("panoptic.json")
            with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(self._panoptic, file)
            os.replace(part, self.out / "panoptic.json")
        if kind is KeyboardInterrupt:
            sys.stderr.write(f"stopped; {self.out / self._name} holds what was done\n")


def folder_names(categories: Categories) -> list[str]:
    """Names of folders, one a category: its own where that can be a folder's, never two the same."""
    names: list[str] = []
    for name, own_id in zip(categories.names, categories.ids, strict=True):
        plain = re.sub(r"[^\w .-]", "_", name).strip(" .") or str(own_id)
        taken = {other.casefold() for other in names}
        names.append(plain if plain.casefold() not in taken else f"{plain}-{own_id}")
    return names


def _object_rows(prediction: Prediction, number: int) -> list[dict[str, Any]]:
    from vision_tasks.metrics.coco_results import results_of

    if prediction.boxes is None:
        return []
    rows = results_of(prediction, number)
    if prediction.masks is not None:
        masks = results_of(prediction, number, "segm")
        rows = [row | {"segmentation": mask["segmentation"]} for row, mask in zip(rows, masks, strict=True)]
    return rows


def _line(
    path: Path, prediction: Prediction, rows: list[dict[str, Any]], segments: list[dict[str, Any]]
) -> dict[str, Any]:
    """What predictions.jsonl says of an image; `pixels` are shares of it, by category, largest first."""
    height, width = prediction.size
    line: dict[str, Any] = {"file": str(path), "width": width, "height": height}
    if prediction.boxes is not None:
        name_of = dict(zip(prediction.categories.ids, prediction.categories.names, strict=True))
        fields = ("category_id", "score", "bbox", "segmentation")
        line["objects"] = [
            {"category": name_of[row["category_id"]]} | {key: row[key] for key in fields if key in row} for row in rows
        ]
    if prediction.semantic is not None:
        line["pixels"] = pixel_shares(prediction)
    if prediction.panoptic is not None:
        line["segments"] = segments
    return line


def pixel_shares(prediction: Prediction) -> dict[str, float]:
    """Share of the image's pixels by category name, of those that are there, largest first."""
    categories = prediction.semantic_categories or prediction.categories
    shares = dict(zip(categories.names, (_pixels(prediction) / _size(prediction)).tolist(), strict=True))
    there = {name: round(share, 6) for name, share in shares.items() if share > 0}
    return dict(sorted(there.items(), key=lambda item: -item[1]))


def _size(prediction: Prediction) -> int:
    return prediction.size[0] * prediction.size[1]


def _pixels(prediction: Prediction) -> Any:
    """(K,) int64: pixels of each category of the map."""
    import torch

    assert prediction.semantic is not None
    if prediction.semantic.ndim == 3:
        return prediction.semantic.flatten(1).sum(dim=1)
    categories = prediction.semantic_categories or prediction.categories
    # One row at a time becomes eight bytes a pixel, not all of a large map.
    counts = torch.zeros(len(categories) + 1, dtype=torch.int64)
    for rows in prediction.semantic.split(1024):
        counts += torch.bincount(rows.flatten().long() + 1, minlength=len(counts))
    return counts[1:]


def _region_rows(prediction: Prediction, number: int) -> list[dict[str, Any]]:
    """One row of each category that the map shows, its mask as RLE."""
    from vision_tasks.ops import masks as mask_ops

    assert prediction.semantic is not None
    categories = prediction.semantic_categories or prediction.categories
    rows = []
    for label in _pixels(prediction).nonzero().flatten().tolist():
        several = prediction.semantic.ndim == 3
        bitmap = prediction.semantic[label] if several else prediction.semantic == label
        (rle,) = mask_ops.encode(bitmap[None])
        x1, y1, x2, y2 = mask_ops.boxes([rle])[0].tolist()
        segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        row = {"image_id": number, "category_id": categories.ids[label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
        rows.append(row | {"segmentation": segmentation})
    return rows


def _segments(prediction: Prediction) -> list[dict[str, Any]]:
    """`segments_info` of the segments that have pixels: id, category, area, box x, y, width, height, and score."""
    import numpy as np

    panoptic = prediction.panoptic
    assert panoptic is not None
    ids = panoptic.ids.numpy()
    areas = np.bincount(ids.ravel(), minlength=len(panoptic) + 1)
    segments = []
    for row, label in enumerate(panoptic.labels.tolist()):
        if not areas[row + 1]:
            continue
        inside = ids == row + 1
        (x1, x2), (y1, y2) = _extent(inside.any(axis=0)), _extent(inside.any(axis=1))
        segment: dict[str, Any] = {
            "id": row + 1,
            "category_id": panoptic.categories.ids[label],
            "area": int(areas[row + 1]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
        }
        if panoptic.scores is not None and panoptic.categories.is_thing[label]:
            segment["score"] = round(float(panoptic.scores[row]), 6)
        segments.append(segment)
    return segments


def _extent(there: Any) -> tuple[int, int]:
    return int(there.argmax()), len(there) - int(there[::-1].argmax())


def _area(row: dict[str, Any]) -> float:
    """Pixels of the object: of its mask if it has one, else of its box."""
    from vision_tasks.metrics.coco_masks import rle_area

    if "segmentation" in row:
        return float(rle_area([row["segmentation"]])[0])
    return float(row["bbox"][2] * row["bbox"][3])
