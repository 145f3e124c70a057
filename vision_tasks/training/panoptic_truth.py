"""Panoptic truth put together from what an image's annotations say of objects and of its map."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vision_tasks.data.relabel import labels_by_name
from vision_tasks.ops.masks import render
from vision_tasks.ops.panoptic import panoptic_categories
from vision_tasks.structures import Categories, Panoptic, Prediction, Target


def panoptic_pairs(
    predictions: Sequence[Prediction],
    targets: Sequence[Target],
    void: tuple[str, ...] = (),
    known: Categories | None = None,
) -> tuple[list[Panoptic], list[Panoptic]]:
    """Predicted and true panoptic maps of the images on which somebody annotated masks and a semantic map.

    Args:
        void: as in the `PanopticRule` by which the predictions were merged.
        known: what the labels of the targets' objects mean, if not the same as those of the predictions.
    """
    pairs = []
    for prediction, target in zip(predictions, targets, strict=True):
        if prediction.panoptic is not None and target.masks is not None and target.semantic is not None:
            assert prediction.semantic_categories is not None
            truth = panoptic_truth(target, prediction.categories, prediction.semantic_categories, void, known)
            pairs.append((prediction.panoptic, truth))
    return [p for p, _ in pairs], [t for _, t in pairs]


def panoptic_truth(
    target: Target,
    objects: Categories,
    surfaces: Categories,
    void: tuple[str, ...] = (),
    known: Categories | None = None,
) -> Panoptic:
    """Things from the masks, stuff from the map.

    A pixel that the map gives to a thing, but that is in no object's mask, is void: nobody says whose it is. Where
    masks overlap the smaller object lies on top.

    Args:
        target: on the image's own grid, with masks, labels in `known`, and a map of labels in `surfaces`.
        known: what the target's labels mean, `objects` if left out. Objects of names that `objects` lacks are void:
            the model has no word for what is there.
    """
    assert target.masks is not None
    assert target.labels is not None
    assert target.semantic is not None
    categories, of_surface = panoptic_categories(objects, surfaces, void)
    height, width = target.semantic.shape
    ids = torch.zeros(height, width, dtype=torch.int32)
    labels: list[int] = []
    crowds: list[bool] = []
    for label in target.semantic.unique().tolist():
        if label >= 0 and of_surface[label] >= 0:
            labels.append(of_surface[label])
            crowds.append(False)
            ids[target.semantic == label] = len(labels)
    own = target.labels.tolist()
    if known is not None and known.names != objects.names:
        own = labels_by_name(known, objects)[own].tolist()
    order = range(len(own)) if target.area is None else target.area.argsort(descending=True).tolist()
    for i in order:
        mask = render(target.masks[[i]], (0, 0, width, height))[0].cpu()
        if own[i] < 0:
            ids[mask] = 0
            continue
        labels.append(own[i])
        crowds.append(target.is_crowd is not None and bool(target.is_crowd[i]))
        ids[mask] = len(labels)
    # What lies wholly under something else is no segment.
    seen = torch.bincount(ids.flatten(), minlength=len(labels) + 1)[1:] > 0
    number = torch.cat([seen.new_zeros(1, dtype=torch.int32), (seen.cumsum(0) * seen).int()])
    return Panoptic(
        number[ids.long()].int(),
        torch.tensor(labels, dtype=torch.int64)[seen],
        categories,
        is_crowd=torch.tensor(crowds, dtype=torch.bool)[seen],
    )
