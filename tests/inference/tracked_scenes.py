"""Predictions made by hand, and trackers run over them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from vision_tasks.categories import Categories
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.tracking.base import Tracker
from vision_tasks.structures import Prediction

CATEGORIES = Categories.of(["person", "car", "bus"])


def found(
    boxes: Sequence[Sequence[float]] | np.ndarray,
    scores: float | Sequence[float] = 0.9,
    labels: int | Sequence[int] = 0,
    embeddings: np.ndarray | None = None,
) -> Prediction:
    """What a detector might have said of a 1080p picture."""
    corners = torch.as_tensor(np.asarray(boxes, dtype=np.float32).reshape(-1, 4))
    count = len(corners)
    return Prediction(
        (1080, 1920),
        CATEGORIES,
        boxes=corners,
        scores=torch.as_tensor(np.broadcast_to(np.asarray(scores, np.float32), (count,)).copy()),
        labels=torch.as_tensor(np.broadcast_to(np.asarray(labels, np.int64), (count,)).copy()),
        embeddings=None if embeddings is None else torch.as_tensor(embeddings, dtype=torch.float32),
    )


def box(x: float, y: float = 100, width: float = 40, height: float = 80) -> list[float]:
    """Corners of a box with its top left corner there."""
    return [x, y, x + width, y + height]


def at(time: float | None, index: int = 0, image: np.ndarray | None = None) -> Frame:
    """A frame of which only this matters."""
    return Frame(np.zeros((8, 8, 3), np.uint8) if image is None else image, "video.mp4", f"{index}", index, time)


def followed(tracker: Tracker, scene: Iterable[Prediction]) -> list[list[int]]:
    """The identities in each picture, in the order of the detections."""
    return [ids(tracker.update(prediction)) for prediction in scene]


def ids(prediction: Prediction) -> list[int]:
    """`track_ids` as numbers."""
    assert prediction.track_ids is not None
    return prediction.track_ids.tolist()


def crowd(seed: int = 0, people: int = 14, pictures: int = 150) -> list[np.ndarray]:
    """Detections (M, 5) float64 of a crowd, corners and score: they walk about, bounce, hide for a while, come back."""
    generator = np.random.default_rng(seed)
    place = generator.uniform(0, 500, (people, 2))
    way = generator.uniform(-6, 6, (people, 2))
    size = generator.uniform((30, 70), (60, 130), (people, 2))
    hidden = np.zeros(people, int)
    scene = []
    for _ in range(pictures):
        place = place + way + generator.normal(0, 1, place.shape)
        way = np.where((place < 0) | (place > 600), -way, way)
        hidden = np.where(hidden > 0, hidden - 1, generator.integers(1, 45, people) * (generator.random(people) < 0.03))
        scores = generator.uniform(0.05, 1, people)
        shape = size * generator.normal(1, 0.03, (people, 2))
        seen = (hidden == 0) & (generator.random(people) < 0.95)
        scene.append(np.column_stack((place - shape / 2, place + shape / 2, scores.round(4)))[seen])
    return scene
