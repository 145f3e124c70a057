"""Objects of a large image from tiles: seconds, and what is found, beside SAHI around the same model.

    VISION_TASKS_DATA=... python tools/benchmark/tiles.py [--size 6000 8000] [--tile 416] [--overlap 0.2]
        [--batch 4] [--threshold 0.25] [--rounds 3] [--threads 1] [--speed exact]

The image is a mosaic of the 79 photos of COCO's validation set in `coco_mini`, each about 400 pixels wide, so that its
thousands of objects are known; the model is the published YOLOX-nano. Both sides cut the same tiles and look at the
whole image, too, in turn, `--rounds` times; SAHI merges by its default, greedy non-maximum merging. "rest" is what is
not the network: cutting, resizing, collecting, merging. AP50 is of the objects that score at least the threshold.
"Predictor" is ours with the model made ready as `vt.Predictor` does it, at `--speed`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import vision_tasks as vt
from vision_tasks.inference.looks.looks import Looks
from vision_tasks.inference.looks.objects import predict_objects
from vision_tasks.inference.looks.sliding import Tiling
from vision_tasks.inference.speed.prepare import prepare
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Batch, Prediction

try:
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction
except ImportError:
    DetectionModel = None

WIDTH = 400  # pixels of a photo in the mosaic

Row = tuple[list[float], float, int]
"""Box, score, label."""


def mosaic(data: Path, size: tuple[int, int]) -> tuple[np.ndarray, dict[str, Any]]:
    """(H, W, 3) RGB of (height, width), and its truth in COCO's format."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(data / "coco_mini" / "annotations" / "instances_val2017.json"))
    image = np.full((*size, 3), 114, np.uint8)
    truth: list[dict[str, Any]] = []
    files = sorted(coco.dataset["images"], key=lambda i: i["id"])
    x = y = lowest = number = 0
    while y < size[0] - 50:
        entry = files[number % len(files)]
        number += 1
        photo = cv2.imread(str(data / "coco_mini" / "val2017" / entry["file_name"]))[:, :, ::-1]
        scale = WIDTH / photo.shape[1]
        photo = cv2.resize(photo, (WIDTH, round(photo.shape[0] * scale)), interpolation=cv2.INTER_AREA)
        if x + WIDTH > size[1]:
            x, y, lowest = 0, lowest, 0
        h = min(photo.shape[0], size[0] - y)
        if h < photo.shape[0]:
            break
        image[y : y + h, x : x + WIDTH] = photo
        for a in coco.loadAnns(coco.getAnnIds(entry["id"])):
            bx, by, w, h_ = (v * scale for v in a["bbox"])
            truth.append(
                a | {"id": len(truth) + 1, "image_id": 1, "bbox": [bx + x, by + y, w, h_], "area": a["area"] * scale**2}
            )
        x, lowest = x + WIDTH, max(lowest, y + photo.shape[0])
    return image, {
        "images": [{"id": 1, "height": size[0], "width": size[1]}],
        "annotations": truth,
        "categories": coco.dataset["categories"],
    }


def judged(truth: dict[str, Any], rows: list[Row], ids: tuple[int, ...]) -> tuple[float, int]:
    """AP at IoU 0.5, and how many truths are found."""
    results = [
        {"image_id": 1, "category_id": ids[label], "score": s, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
        for b, s, label in rows
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "bbox")
        judge.params.maxDets = [100000]
        judge.params.iouThrs = np.array([0.5])
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]
    found = sum(int((e["gtMatches"][0][e["gtIgnore"] == 0] > 0).sum()) for e in judge.evalImgs if e is not None)
    return float(precision[precision > -1].mean()), found


class Timed:
    """The model, and how many seconds it ran."""

    def __init__(self, model: VisionModel) -> None:
        self.seconds = 0.0
        self._predict = model.predict
        model.predict = self  # type: ignore[method-assign,assignment]

    def __call__(self, batch: Batch, *args: Any, **options: Any) -> list[Prediction]:
        start = time.perf_counter()
        out = self._predict(batch, *args, **options)
        self.seconds += time.perf_counter() - start
        return out


def sahi_side(model: VisionModel, args: argparse.Namespace) -> Callable[[np.ndarray], list[Row]]:
    """SAHI's sliced prediction around our model, as its own wrappers of other models are written."""

    class Adapter(DetectionModel):  # type: ignore[misc]
        def load_model(self) -> None:
            self.set_model(model)

        def set_model(self, model: Any, **_: Any) -> None:
            self.model = model
            self.category_mapping = {str(i): n for i, n in enumerate(model.categories.names)}

        def perform_inference(self, image: np.ndarray) -> None:
            self.perform_batch_inference([image])

        @torch.inference_mode()
        def perform_batch_inference(self, images: list[np.ndarray]) -> None:
            tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
            self._original_predictions = self.model.predict(self.model.preprocess(tensors))

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            names = self.model.categories.names
            self._object_prediction_list_per_image = []
            shifts = shift_amount_list if isinstance(shift_amount_list[0], list) else [shift_amount_list]
            shapes = full_shape_list if isinstance(full_shape_list[0], list) else [full_shape_list]
            for found, shift, shape in zip(self._original_predictions, shifts, shapes, strict=True):
                kept = found.filter(self.confidence_threshold)
                self._object_prediction_list_per_image.append(
                    [
                        ObjectPrediction(
                            bbox=box, category_id=label, category_name=names[label], score=score, shift_amount=shift,
                            full_shape=shape,
                        )
                        for box, label, score in zip(
                            kept.boxes.tolist(), kept.labels.tolist(), kept.scores.tolist(), strict=True
                        )
                    ]
                )  # fmt: skip

    adapter = Adapter(model_path="model", device="cpu", confidence_threshold=args.threshold)

    def run(image: np.ndarray) -> list[Row]:
        result = get_sliced_prediction(
            image, adapter, slice_height=args.tile, slice_width=args.tile, overlap_height_ratio=args.overlap,
            overlap_width_ratio=args.overlap, batch_size=args.batch, verbose=0,
        )  # fmt: skip
        return [(p.bbox.to_xyxy(), p.score.value, p.category.id) for p in result.object_prediction_list]

    return run


def our_side(model: VisionModel, args: argparse.Namespace, looks: Looks) -> Callable[[np.ndarray], list[Row]]:
    """Our tiles, or one look if there are none."""

    @torch.inference_mode()
    def run(image: np.ndarray) -> list[Row]:
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        found = predict_objects(model, tensor, looks, args.threshold)
        assert found.boxes is not None
        assert found.scores is not None
        assert found.labels is not None
        return list(zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True))

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(6000, 8000), help="height and width")
    parser.add_argument("--tile", type=int, default=416)
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threshold", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--speed", default="exact")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    data = Path(os.environ["VISION_TASKS_DATA"])
    model = vt.create_model("yolox", weights=data / "weights" / "yolox_nano.pth").eval()
    timed = Timed(model)
    image, truth = mosaic(data, tuple(args.size))
    tiling = Tiling.of(args.tile, args.overlap)
    sides = {"one look": our_side(model, args, Looks())}
    if DetectionModel is not None:
        sides["SAHI"] = sahi_side(model, args)
    for merge in ("nmm", "join"):
        sides[f"ours, {merge}"] = our_side(model, args, Looks(tiling=tiling, batch_size=args.batch, merge=merge))
    ready = prepare(vt.create_model("yolox", weights=data / "weights" / "yolox_nano.pth"), args.speed, model.device)
    sides["Predictor"] = our_side(ready, args, Looks(tiling=tiling, batch_size=args.batch))
    clocks = dict.fromkeys(sides, timed) | {"Predictor": Timed(ready)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    rows: dict[str, list[Row]] = {}
    for _ in range(args.rounds):
        for name, run in sides.items():
            clocks[name].seconds, start = 0.0, time.perf_counter()
            rows[name] = run(image)
            times[name].append((time.perf_counter() - start, clocks[name].seconds))
    print(f"{args.size[1]}×{args.size[0]}, {len(truth['annotations'])} objects, load {os.getloadavg()[0]:.1f}")
    print(f"{'':12}{'seconds':>9}{'network':>9}{'rest':>7}{'boxes':>7}{'found':>7}{'AP50':>7}")
    for name, taken in times.items():
        total, network = (sorted(t[i] for t in taken)[len(taken) // 2] for i in (0, 1))
        rest = sorted(t[0] - t[1] for t in taken)[len(taken) // 2]
        precision, found = judged(truth, rows[name], model.categories.ids)
        print(
            f"{name:12}{total:9.2f}{network:9.2f}{rest:7.2f}{len(rows[name]):7}{found:7}{100 * precision:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
