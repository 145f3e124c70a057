"""Objects from several looks at an image: in tiles, mirrored, at several scales, by several models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from vision_tasks.inference.batching import Batching
from vision_tasks.inference.looks.ensemble import Ensemble
from vision_tasks.inference.looks.looks import Looks
from vision_tasks.inference.looks.merging import fuse, merge
from vision_tasks.inference.looks.network_image import mirrored
from vision_tasks.inference.looks.object_tiles import cut_off, windows
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.structures import Batch, Masks, Prediction, Size

_DOUBT = 0.5
"""Factor of the scores of objects that were only ever seen in part, though all of the image was looked at, too."""


def predict_objects(
    model: VisionModel | Ensemble,
    image: Tensor,
    looks: Looks,
    threshold: float = 0.0,
    batching: Batching | None = None,
) -> Prediction:
    """The objects of one image, from all looks at all tiles of it.

    In each tile, opinions (scales, mirror images, models) are fused first; of them remain as many as the model gives of
    an image. Then the tiles' are merged, and of these all remain. Call under `torch.inference_mode()`, in evaluation
    mode. Memory: the image, and what the network needs for a batch of tiles.

    Args:
        model: one that finds objects, or several. image: (C, H, W) on the model's device, as `Preprocess` takes it.
        looks: tiles are in original pixels here; each is resized as an image of its own would be.
        threshold: objects that score less are left out before tiles are merged. batching: how many tiles at once;
            default `looks.batch_size`.

    Returns:
        In original pixels, best first. Masks are grids, or run lengths where those of several tiles were united.
    """
    ensemble = model if isinstance(model, Ensemble) else Ensemble([model])
    size: Size = (image.shape[-2], image.shape[-1])
    batching = batching or Batching(looks.batch_size, image.device)
    tiles = windows(size, looks.tiling)
    found = _seen(ensemble, image, tiles, looks, batching, threshold)
    if len(tiles) == 1:
        return found[0]
    if looks.whole:
        every = windows(size, None)
        found += _seen(ensemble, image, every, looks, batching, threshold)
        tiles = torch.cat((tiles, every))
    cut = [cut_off(p.boxes, window, size) for p, window in zip(found, tiles, strict=True) if p.boxes is not None]
    limit = looks.merge_threshold
    if limit is None:
        limit = 0.5 if looks.merge in ("nms", "nmm") else _own_threshold(ensemble)
    return merge(found, tiles, cut, looks.merge, limit, looks.agnostic, _DOUBT if looks.whole else 1.0)


def _seen(
    ensemble: Ensemble, image: Tensor, tiles: Tensor, looks: Looks, batching: Batching, threshold: float
) -> list[Prediction]:
    """What all looks together find in each of these tiles of one size, in the pixels of the image."""
    ways = (False, True) if looks.flip else (False,)
    items = [(window, way) for window in tiles.tolist() for way in ways]
    opinions: list[list[Prediction]] = [[] for _ in tiles]
    weights: list[float] = []
    for number, (member, weight) in enumerate(zip(ensemble.models, ensemble.weights, strict=True)):
        for factor in looks.factors:

            def work(
                part: Sequence[tuple[list[int], bool]], member: VisionModel = member, factor: float = factor
            ) -> list[Prediction]:
                crops = [_crop(image, window, way) for window, way in part]
                made = member.predict(batch_at(member.preprocess, crops, factor), kind="objects")
                return [_unmirrored(p) if way else p for p, (_, way) in zip(made, part, strict=True)]

            for i, prediction in enumerate(batching.run(items, work)):
                opinions[i // len(ways)].append(ensemble.relabelled(prediction, number))
            weights += [weight] * len(ways)
    rules = [rule for rule in map(_rule, ensemble.models) if rule is not None]
    most = min((rule.detections for rule in rules), default=None)
    limit = _own_threshold(ensemble) if looks.fuse_threshold is None else looks.fuse_threshold
    seen = []
    for window, several in zip(tiles.tolist(), opinions, strict=True):
        one = several[0]
        if len(several) > 1:
            one = fuse(several, looks.fuse, limit, weights, looks.agnostic)
        seen.append(_moved(one.filter(threshold)[:most], window, (image.shape[-2], image.shape[-1])))
    return seen


def batch_at(preprocess: Preprocess, images: Sequence[Tensor], factor: float) -> Batch:
    """Images of one size as the model takes them, at a multiple of the size that it would take them at."""
    if factor == 1:
        return preprocess(images)
    if preprocess.size is not None and preprocess.resize in ("stretch", "letterbox"):
        return preprocess(images, min_size=max(1, round(min(preprocess.size) * factor)))
    height, width = preprocess.network_size((images[0].shape[-2], images[0].shape[-1]))
    return preprocess(images, size=(max(1, round(height * factor)), max(1, round(width * factor))))


def _crop(image: Tensor, window: list[int], way: bool) -> Tensor:
    x1, y1, x2, y2 = window
    crop = image[:, y1:y2, x1:x2]
    return mirrored(crop) if way else crop


def _rule(model: VisionModel) -> DetectionRule | None:
    """Of the model's head for objects; a head of somebody's own may have none."""
    rule = getattr(model.head_of("objects"), "rule", None)
    return rule if isinstance(rule, DetectionRule) else None


def _own_threshold(ensemble: Ensemble) -> float:
    """From which IoU on boxes are about one object to the first model."""
    rule = _rule(ensemble.models[0])
    return 0.5 if rule is None else rule.iou_threshold


def _unmirrored(prediction: Prediction) -> Prediction:
    """What was found in the mirror image, where it is in the image."""

    def turned(boxes: Tensor) -> Tensor:
        x1, y1, x2, y2 = boxes.unbind(-1)
        return torch.stack((prediction.size[1] - x2, y1, prediction.size[1] - x1, y2), dim=-1)

    masks = prediction.masks
    if masks is not None and masks.grid is not None and masks.boxes is not None:
        masks = Masks(masks.size, grid=masks.grid.flip(-1), boxes=turned(masks.boxes))
    boxes = None if prediction.boxes is None else turned(prediction.boxes)
    return dataclasses.replace(prediction, boxes=boxes, masks=masks)


def _moved(prediction: Prediction, window: list[int], size: Size) -> Prediction:
    """What was found in a window of an image, in the pixels of that image."""
    if (window[3] - window[1], window[2] - window[0]) == size:
        return prediction
    boxes, masks = prediction.boxes, prediction.masks
    if boxes is not None:
        corner = boxes.new_tensor(window[:2] * 2)
        boxes = boxes + corner
        if masks is not None and masks.grid is not None and masks.boxes is not None:
            masks = Masks(size, grid=masks.grid, boxes=masks.boxes + corner)
    return dataclasses.replace(prediction, size=size, boxes=boxes, masks=masks)
