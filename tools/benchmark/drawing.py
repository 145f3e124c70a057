"""How long does drawing take? Boxes, masks and tags of 50 objects on a frame of 1280×720, beside two peers.

supervision: MaskAnnotator, BoxAnnotator and LabelAnnotator, and TraceAnnotator for trails of 40 frames; torchvision:
draw_segmentation_masks and draw_bounding_boxes. Both want whole bitmaps, (N, H, W) bool, which are made before the
clock starts, while ours starts from what a mask head gives (28×28 grids) or from run lengths. Each is timed in turn,
`--rounds` times, in seconds of this process, which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Categories, Masks, Prediction
from vision_tasks.visualize.drawing import draw
from vision_tasks.visualize.tracks import Trails

LENGTH = 40
NAMES = ["person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light", "dog"]


def scene(count: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, Prediction]:
    """A noisy picture, and objects on it with round masks in the form of a mask head's grids."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    sides = np.exp(rng.uniform(np.log(40), np.log(280), (count, 2)))
    corner = rng.uniform(0, 1, (count, 2)) * (np.asarray([width, height]) - sides)
    boxes = torch.from_numpy(np.concatenate([corner, corner + sides], axis=1)).float()
    y, x = np.mgrid[:28, :28] - 13.5
    wave = 1 + 0.25 * np.sin(np.arctan2(y, x) * rng.integers(2, 6, count)[:, None, None])
    grid = torch.from_numpy(1 / (1 + np.exp(np.hypot(x, y) - 11.5 * wave))).float()
    order = torch.from_numpy(np.sort(rng.uniform(0.5, 1, count))[::-1].copy()).float()
    labels = torch.from_numpy(rng.integers(0, len(NAMES), count))
    masks = Masks((height, width), grid=grid, boxes=boxes)
    return image, Prediction((height, width), Categories.of(NAMES), boxes, labels, order, masks)


def rivals(image: np.ndarray, found: Prediction, bitmaps: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The peers that are installed, by name."""
    assert found.boxes is not None
    assert found.labels is not None
    assert found.scores is not None
    boxes, labels = found.boxes, found.labels
    words = [f"{NAMES[k]} {s:.2f}" for k, s in zip(labels.tolist(), found.scores.tolist(), strict=True)]
    out: dict[str, Callable[[], object]] = {}
    try:
        import supervision as sv
    except ImportError:
        pass
    else:
        detections = sv.Detections(boxes.numpy(), bitmaps.numpy(), found.scores.numpy(), labels.numpy())
        mask, box, label = sv.MaskAnnotator(), sv.BoxAnnotator(), sv.LabelAnnotator()

        def by_supervision() -> np.ndarray:
            scene = mask.annotate(image.copy(), detections)
            return np.asarray(label.annotate(box.annotate(scene, detections), detections, words))

        detections.tracker_id = np.arange(len(boxes))
        trace = sv.TraceAnnotator(trace_length=LENGTH)
        for step in range(LENGTH):
            trace.annotate(
                image.copy(),
                sv.Detections((boxes + 2 * step).numpy(), tracker_id=detections.tracker_id, class_id=labels.numpy()),
            )

        def with_traces() -> np.ndarray:
            scene = mask.annotate(image.copy(), detections)
            return np.asarray(label.annotate(trace.annotate(box.annotate(scene, detections), detections), detections))

        out["supervision"] = by_supervision
        out["supervision, trails"] = with_traces
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    picture = torch.from_numpy(image).permute(2, 0, 1)
    colors = [found.categories.colors[k] for k in labels.tolist()]
    out["torchvision"] = lambda: draw_bounding_boxes(
        draw_segmentation_masks(picture, bitmaps, 0.5, colors), boxes, words, colors, width=2
    )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(720, 1280), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", help="write our picture here, as PNG")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import cv2

    cv2.setNumThreads(options.threads)
    image, found = scene(options.objects, *options.size)
    assert found.masks is not None
    bitmaps = mask_ops.render(found.masks)
    coded = Masks(found.size, shapes=list(mask_ops.to_rles(found.masks)))
    as_codes = Prediction(found.size, found.categories, found.boxes, found.labels, found.scores, coded)
    trails, with_ids = Trails(LENGTH), replace(found, track_ids=torch.arange(options.objects))
    assert found.boxes is not None
    for step in range(LENGTH):
        trails.update(replace(with_ids, boxes=found.boxes + 2 * step))

    def tracked() -> np.ndarray:
        trails.update(with_ids)
        return draw(image, with_ids, trails=trails)

    ways: dict[str, Callable[[], object]] = {
        "ours, from grids": lambda: draw(image, found),
        "ours, from run lengths": lambda: draw(image, as_codes),
        "ours, trails": tracked,
        "ours, boxes and tags only": lambda: draw(image, found, masks=False),
        **rivals(image, found, bitmaps),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(options.rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(time.process_time() - start)
    height, width = options.size
    print(f"{options.objects} objects on {width}×{height}, {options.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    print(f"median of {options.rounds} rounds in turn:")
    ours = np.median(times["ours, from grids"])
    for name, seconds in times.items():
        middle = float(np.median(seconds))
        print(f"{name:26} {1000 * middle:8.1f} ms   {middle / ours:6.1f} × ours from grids")
    if options.save:
        cv2.imwrite(options.save, draw(image, found)[..., ::-1])


if __name__ == "__main__":
    main()
