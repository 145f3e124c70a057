"""One frame and what was found on it, as the forms need it; what several of them need is made once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vision_tasks.inference.frames import Frame
    from vision_tasks.structures import Categories, Prediction, Rle


class Result:
    """A frame with its prediction.

    Attributes:
        frame: the frame. prediction: on its grid, on the CPU.
        order: its place in the run, ascending.
        drawn: (H, W, 3) uint8, the frame with what was found drawn on it, if somebody drew it already.
    """

    def __init__(
        self, frame: Frame, prediction: Prediction, order: tuple[int, ...] = (0,), drawn: np.ndarray | None = None
    ) -> None:
        self.frame = frame
        self.prediction = prediction.to("cpu")
        self.order = order
        self.drawn = drawn

    @property
    def map_categories(self) -> Categories:
        """What the values of the semantic map mean."""
        return self.prediction.semantic_categories or self.prediction.categories

    @property
    def categories(self) -> Categories:
        """What the objects' labels mean, in the colours of the map's categories where there is a map."""
        from vision_tasks.categories import beside_map

        own, of_map = self.prediction.categories, self.prediction.semantic_categories
        return own if of_map is None else beside_map(own, of_map)

    @cached_property
    def stem(self) -> str:
        """What files of this frame are called, without an ending."""
        from vision_tasks.inference.outputs.files import file_stem

        return file_stem(self.frame.name)

    @cached_property
    def rles(self) -> list[Rle] | None:
        """N masks of the objects, run-length encoded at full size; None of a model that makes none."""
        from vision_tasks.ops import masks as mask_ops

        return None if self.prediction.masks is None else mask_ops.to_rles(self.prediction.masks)

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """Objects in COCO's words: `category_id`, `score`, `bbox` (x, y, width, height in pixels), and where they are
        known `segmentation` (compressed RLE) and `track_id`.

        Raises:
            VisionTasksError: a score or box that is not finite.
        """
        from vision_tasks.metrics.coco_results import detections_of

        found = self.prediction
        if found.boxes is None:
            return []
        flat = detections_of([found], [0])
        columns: dict[str, list[Any]] = {
            "category_id": flat.category_ids.tolist(),
            "score": flat.scores.tolist(),
            "bbox": flat.boxes.tolist(),
        }
        if self.rles is not None:
            columns["segmentation"] = [{"size": list(r["size"]), "counts": r["counts"].decode()} for r in self.rles]
        if found.track_ids is not None:
            columns["track_id"] = found.track_ids.tolist()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @cached_property
    def areas(self) -> list[float]:
        """Pixels of each object: of its mask if it has one, else of its box."""
        from vision_tasks.ops import masks as mask_ops

        if self.rles is not None:
            return [float(a) for a in mask_ops.area(self.rles).tolist()]
        return [row["bbox"][2] * row["bbox"][3] for row in self.objects]

    @cached_property
    def regions(self) -> list[dict[str, Any]]:
        """One row a category that the map shows, as COCO's stuff files have it: as `objects`, without a score, with
        `area`."""
        from vision_tasks.ops import masks as mask_ops

        labels = self.prediction.semantic
        if labels is None:
            return []
        categories, rows = self.map_categories, []
        for label in self._pixels.nonzero().flatten().tolist():
            bitmap = labels[label] if labels.ndim == 3 else labels == label
            (rle,) = mask_ops.encode(bitmap[None])
            x1, y1, x2, y2 = mask_ops.boxes([rle])[0].tolist()
            rows.append({
                "category_id": categories.ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "area": float(self._pixels[label]),
            })  # fmt: skip
        return rows

    @cached_property
    def pixels(self) -> dict[str, float]:
        """Share of the image by category name, of those that are there, the largest first: of the panoptic segments,
        things too, where there are some, as the drawing's legend says it; else of the map."""
        height, width = self.prediction.size
        merged = self.prediction.panoptic
        if merged is None:
            shares = dict(zip(self.map_categories.names, (self._pixels / (height * width)).tolist(), strict=True))
        else:
            shares = dict.fromkeys(merged.categories.names, 0.0)
            for segment in self.segments:
                label = merged.categories.label_of_id[segment["category_id"]]
                shares[merged.categories.names[label]] += segment["area"] / (height * width)
        there = {name: round(share, 6) for name, share in shares.items() if share > 0}
        return dict(sorted(there.items(), key=lambda item: -item[1]))

    @cached_property
    def _pixels(self) -> Tensor:
        """(K,) int64: pixels of each category of the map."""
        import torch

        labels = self.prediction.semantic
        assert labels is not None
        if labels.ndim == 3:
            return labels.flatten(1).sum(dim=1)
        # One row at a time becomes eight bytes a pixel, not all of a large map.
        counts = torch.zeros(len(self.map_categories) + 1, dtype=torch.int64)
        for rows in labels.split(1024):
            counts += torch.bincount(rows.flatten().long() + 1, minlength=len(counts))
        return counts[1:]

    @cached_property
    def segments(self) -> list[dict[str, Any]]:
        """COCO's `segments_info` of the panoptic segments that have pixels: `id`, `category_id`, `area`, `bbox` (x, y,
        width, height), `iscrowd`, and `score` of things."""
        import numpy as np

        panoptic = self.prediction.panoptic
        if panoptic is None:
            return []
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


def _extent(there: np.ndarray) -> tuple[int, int]:
    return int(there.argmax()), len(there) - int(there[::-1].argmax())
