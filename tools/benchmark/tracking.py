"""How many pictures a second do trackers follow 20, 100 and 1,000 objects?

    python tools/benchmark/tracking.py
    python tools/benchmark/tracking.py --objects 100 --pictures 300

Objects walk about a 4K picture, hide, come back; a tenth of the detections have low scores. Detections are in memory
as each program wants them, all in one thread. The peer is Roboflow's `trackers`, where it is installed; it takes part
with its own defaults and once more with the state that SORT and OC-SORT were published with (`XCYCSR`). Programs run in
turn, and the best of the rounds counts. Run it on a quiet machine.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vision_tasks.categories import Categories
from vision_tasks.inference.tracking.registry import create_tracker
from vision_tasks.structures import Prediction

SIZE = (2160, 3840)
NAMES = ("sort", "bytetrack", "ocsort")


def scene(objects: int, pictures: int) -> list[np.ndarray]:
    """Detections (M, 5) float32, corners and score."""
    generator = np.random.default_rng(0)
    place = generator.uniform((0, 0), (SIZE[1], SIZE[0]), (objects, 2))
    way = generator.uniform(-5, 5, (objects, 2))
    size = generator.uniform((30, 60), (60, 140), (objects, 2))
    hidden = np.zeros(objects, int)
    found = []
    for _ in range(pictures):
        place += way + generator.normal(0, 1, place.shape)
        way = np.where((place < 0) | (place > (SIZE[1], SIZE[0])), -way, way)
        hidden = np.where(
            hidden > 0, hidden - 1, generator.integers(1, 20, objects) * (generator.random(objects) < 0.01)
        )
        scores = np.where(generator.random(objects) < 0.1, 0.3, generator.uniform(0.75, 1, objects))
        boxes = np.column_stack((place - size / 2, place + size / 2)) + generator.normal(0, 1, (objects, 4))
        found.append(np.column_stack((boxes, scores))[hidden == 0].astype(np.float32))
    return found


def ours(name: str, pictures: list[np.ndarray]) -> Callable[[], int]:
    """A run that returns the number of rows with identities."""
    categories = Categories.of(["thing"])
    predictions = [
        Prediction(
            SIZE, categories,
            boxes=torch.from_numpy(p[:, :4].copy()), scores=torch.from_numpy(p[:, 4].copy()),
            labels=torch.zeros(len(p), dtype=torch.int64),
        )
        for p in pictures
    ]  # fmt: skip

    def run() -> int:
        tracker = create_tracker(name)
        return sum(len(tracker.update(prediction)) for prediction in predictions)

    return run


def theirs(name: str, pictures: list[np.ndarray], published_state: bool) -> Callable[[], int]:
    """The same with Roboflow's."""
    import supervision as sv
    import trackers
    from trackers.utils.state_representations import XCYCSRStateEstimator

    build = {"sort": "SORTTracker", "bytetrack": "ByteTrackTracker", "ocsort": "OCSORTTracker"}[name]
    options: dict[str, Any] = {"state_estimator_class": XCYCSRStateEstimator} if published_state else {}
    detections = [
        sv.Detections(xyxy=p[:, :4].copy(), confidence=p[:, 4].copy(), class_id=np.zeros(len(p), int)) for p in pictures
    ]

    def run() -> int:
        tracker = getattr(trackers, build)(**options)
        return sum(int((tracker.update(found).tracker_id >= 0).sum()) for found in detections)

    return run


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[20, 100, 1000])
    parser.add_argument("--pictures", type=int, default=0, help="per run; as many as take a while if not given")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    peer = importlib.util.find_spec("trackers") is not None
    print(f"load average {os.getloadavg()[0]:.1f}; peer: {'trackers' if peer else 'not installed'}\n")
    print("| objects | tracker | ours, pictures/s | peer | peer, XCYCSR | ours to the faster peer |")
    print("| --- | --- | --- | --- | --- | --- |")
    for objects in arguments.objects:
        pictures = scene(objects, arguments.pictures or max(20, 6000 // objects))
        for name in NAMES:
            runs = [ours(name, pictures)]
            if peer:
                runs += [theirs(name, pictures, False), theirs(name, pictures, True)]
            best = [float("inf")] * len(runs)
            for _ in range(arguments.rounds):
                for which, run in enumerate(runs):
                    start = time.perf_counter()
                    run()
                    best[which] = min(best[which], time.perf_counter() - start)
            rates = [len(pictures) / seconds for seconds in best]
            cells = [f"{rate:.0f}" for rate in rates] + ["–"] * (3 - len(rates))
            ratio = f"{rates[0] / max(rates[1:]):.1f}×" if peer else "–"
            print(f"| {objects:,} | {name} | {' | '.join(cells)} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
