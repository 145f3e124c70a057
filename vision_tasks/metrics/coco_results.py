"""Detections in COCO's results form: flat arrays in memory, a list of rows in a JSON file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics.coco_masks import check_rles, rle_area, rle_boxes, rle_of
from vision_tasks.metrics.coco_truth import CocoTruth, IouType, decode_file

if TYPE_CHECKING:  # structures imports torch, which evaluating two files does not need
    from vision_tasks.structures import Prediction


@dataclass(frozen=True, eq=False)
class Detections:
    """N detections of any number of images.

    Attributes:
        image_ids: (N,) int64. category_ids: (N,) int64, original ids. scores: (N,) float64.
        boxes: (N, 4) float64 x, y, width, height in pixels. areas: (N,) float64, by default width × height.
        rles: N masks (compressed RLE), for segm.

    Raises:
        VisionTasksError: columns of unequal length, or a score or box that is not finite.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray = None  # type: ignore[assignment]
    rles: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if self.areas is None:
            object.__setattr__(self, "areas", self.boxes[:, 2] * self.boxes[:, 3])
        columns = (self.image_ids, self.category_ids, self.scores, self.boxes, self.areas)
        if len({len(c) for c in columns}) != 1 or (self.rles is not None and len(self.rles) != len(self.scores)):
            raise VisionTasksError(f"Detections: columns must be equally long, not {[len(c) for c in columns]}")
        finite = np.isfinite(self.scores) & np.isfinite(self.boxes).all(axis=1)
        if not finite.all():
            raise VisionTasksError(
                f"a detection of image {self.image_ids[~finite][0]} has a score or box that is not finite; "
                "the model's weights or its input hold NaN or infinity"
            )

    def __len__(self) -> int:
        return len(self.scores)

    def of_images(self, image_ids: np.ndarray) -> Detections:
        """Only those of these images."""
        kept = np.isin(self.image_ids, image_ids)
        if kept.all():
            return self
        return Detections(
            self.image_ids[kept],
            self.category_ids[kept],
            self.scores[kept],
            self.boxes[kept],
            self.areas[kept],
            None if self.rles is None else [self.rles[i] for i in np.flatnonzero(kept)],
        )


class _Row(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, ...] | None = None
    segmentation: msgspec.Raw = msgspec.Raw()


class _BoxRow(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    score: float
    bbox: tuple[float, ...] | None = None


def read_results(path: str | Path, truth: CocoTruth, iou_type: IouType = "bbox") -> Detections:
    """Read a COCO results file, filling in what is missing as pycocotools' `loadRes` does.

    If the first row has a box, boxes are taken from the file, the area is that of the box (also for masks), and a row
    without `segmentation` has its box as mask. Otherwise box and area come from the mask.

    Raises:
        VisionTasksError: not JSON, not a list, keys missing or of the wrong type, an image that `truth` does not have.
    """
    rows: list[Any] = decode_file(path, list[_BoxRow] if iou_type == "bbox" else list[_Row], "a COCO results list")
    from_boxes = not rows or bool(rows[0].bbox)
    if not from_boxes and iou_type == "bbox":
        rows = decode_file(path, list[_Row], "a COCO results list")
    try:
        image_ids = np.fromiter((r.image_id for r in rows), np.int64, len(rows))
        category_ids = np.fromiter((r.category_id for r in rows), np.int64, len(rows))
    except OverflowError as error:
        raise VisionTasksError(f"{path}: an id does not fit into 64 bits: {error}") from error
    scores = np.fromiter((r.score for r in rows), np.float64, len(rows))
    try:
        sizes = truth.image_sizes[truth.image_rows(image_ids)]
    except VisionTasksError as error:
        raise VisionTasksError(f"{path}: {error}") from error
    rles = None
    if iou_type == "segm" or not from_boxes:
        rles = [_rle_of_row(r, i, sizes[i], from_boxes, path) for i, r in enumerate(rows)]
        check_rles(rles, lambda i: f"{path}: result {i} (image {rows[i].image_id})")
    if from_boxes:
        boxes, areas = _boxes(rows, path), None
    else:
        assert rles is not None
        boxes, areas = rle_boxes(rles), rle_area(rles)
        for i, r in enumerate(rows):
            if r.bbox:
                boxes[i] = r.bbox
    return Detections(image_ids, category_ids, scores, boxes, areas, rles if iou_type == "segm" else None)  # type: ignore[arg-type]


def _boxes(rows: list[Any], path: str | Path) -> np.ndarray:
    wrong = next((i for i, r in enumerate(rows) if r.bbox is None or len(r.bbox) != 4), None)
    if wrong is not None:
        raise VisionTasksError(
            f"{path}: result {wrong} (image {rows[wrong].image_id}): `bbox` must be [x, y, width, height], "
            f"not {rows[wrong].bbox}; either all results have one or none"
        )
    return np.fromiter(chain.from_iterable(r.bbox for r in rows), np.float64, 4 * len(rows)).reshape(-1, 4)


def _rle_of_row(row: _Row, index: int, size: np.ndarray, from_boxes: bool, path: str | Path) -> dict[str, Any]:
    segmentation = msgspec.json.decode(row.segmentation) if row.segmentation else None
    if segmentation is None and from_boxes and row.bbox is not None and len(row.bbox) == 4:
        x, y, width, height = row.bbox
        segmentation = [[x, y, x, y + height, x + width, y + height, x + width, y]]
    known = (int(size[0]), int(size[1])) if size[0] >= 0 else None
    return rle_of(segmentation, known, f"{path}: result {index} (image {row.image_id})")


def results_of(prediction: Prediction, image_id: int, iou_type: IouType = "bbox") -> list[dict[str, Any]]:
    """COCO results rows of one image, with original category ids, for one kind of evaluation.

    For "bbox" they have x, y, width, height. For "segm" they have the mask as RLE and no box: pycocotools would else
    take the box's area for the object's when it sorts into small, medium and large (Detectron2, MMDetection and
    torchvision's reference leave it out as well).
    """
    found = detections_of([prediction], [image_id], iou_type)
    if found.rles is None:
        key, shapes = "bbox", found.boxes.tolist()
    else:
        key, shapes = "segmentation", [{"size": r["size"], "counts": r["counts"].decode()} for r in found.rles]
    ids, categories, scores = found.image_ids.tolist(), found.category_ids.tolist(), found.scores.tolist()
    return [
        {"image_id": i, "category_id": c, key: shape, "score": s}
        for i, c, shape, s in zip(ids, categories, shapes, scores, strict=True)
    ]


def detections_of(
    predictions: Sequence[Prediction], image_ids: Sequence[int], iou_type: IouType = "bbox"
) -> Detections:
    """Flat arrays of several predictions, copied from the device in one piece per field.

    Corners become x, y, width, height in float64, so what is read back from a file by `write_results` is the same.
    The area is that of the mask for "segm", as of the rows of `results_of`.
    """
    import torch

    if len(predictions) != len(image_ids):
        raise VisionTasksError(f"{len(predictions)} predictions but {len(image_ids)} image ids")
    for prediction, image_id in zip(predictions, image_ids, strict=True):
        missing = [n for n in ("boxes", "labels", "scores") if getattr(prediction, n) is None]
        if missing:
            raise VisionTasksError(f"prediction of image {image_id} has no {', '.join(missing)}; COCO mAP needs them")
    counts = [len(p) for p in predictions]
    if not predictions:
        empty = np.zeros(0, dtype=np.int64)
        return Detections(empty, empty, np.zeros(0), np.zeros((0, 4)), rles=[] if iou_type == "segm" else None)
    corners = torch.cat([p.boxes for p in predictions]).cpu().numpy().astype(np.float64)  # type: ignore[misc]
    labels = torch.cat([p.labels for p in predictions]).cpu().numpy()  # type: ignore[misc]
    scores = torch.cat([p.scores for p in predictions]).cpu().numpy().astype(np.float64)  # type: ignore[misc]
    ids = [np.asarray(p.categories.ids, dtype=np.int64) for p in predictions]
    split = np.split(labels, np.cumsum(counts)[:-1])
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    rles = _rles(predictions, image_ids) if iou_type == "segm" else None
    return Detections(
        image_ids=np.repeat(np.asarray(image_ids, dtype=np.int64), counts),
        category_ids=np.concatenate([i[rows] for i, rows in zip(ids, split, strict=True)]),
        scores=scores,
        boxes=boxes,
        areas=None if rles is None else rle_area(rles),  # type: ignore[arg-type]
        rles=rles,
    )


def _rles(predictions: Sequence[Prediction], image_ids: Sequence[int]) -> list[dict[str, Any]]:
    from vision_tasks.ops.masks import to_rles

    rles: list[dict[str, Any]] = []
    for prediction, image_id in zip(predictions, image_ids, strict=True):
        if prediction.masks is not None:
            rles.extend(dict(rle) for rle in to_rles(prediction.masks))
        elif len(prediction):
            raise VisionTasksError(f"prediction of image {image_id} has no masks; evaluate with iou_type='bbox'")
    return rles


def write_results(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write COCO results rows as one JSON list, row by row; the file appears whole or not at all.

    Raises:
        VisionTasksError: the folder does not exist or cannot be written.
    """
    path = Path(path)
    encoder = msgspec.json.Encoder()
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise VisionTasksError(f"cannot write results {path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(b"[")
            for i, row in enumerate(rows):
                file.write(b",\n" if i else b"\n")
                file.write(encoder.encode(row))
            file.write(b"\n]\n")
        # mkstemp makes the file private; give it what an ordinary new file would have.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
