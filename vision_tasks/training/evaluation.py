"""Evaluate a model on a data set: the twelve numbers, the tables behind them, and results in COCO form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from vision_tasks.config import DataConfig, TrainConfig
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.records import Records
from vision_tasks.data.relabel import chosen, labels_by_name, with_maps_of, with_objects_of
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.multi_head import chosen_categories
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories
from vision_tasks.training.judging import Summaries
from vision_tasks.training.module import Results, TrainingModule
from vision_tasks.training.progress import TrainingProgress
from vision_tasks.training.run import make_trainer, quiet_lightning
from vision_tasks.training.splits import read_parts, splits_of
from vision_tasks.training.truth import check_maps, metrics_for


@dataclass
class Evaluation:
    """Attributes: summaries, by kind ("bbox", "segm", "semantic", "panoptic"), each with `numbers` and
    `per_category`; results, rows in COCO form of boxes and masks; records, as read; unreadable, image id -> reason, of
    images that were left out."""

    summaries: Summaries
    results: Results
    records: Records
    unreadable: dict[int, str]
    is_first_rank: bool


def evaluate(model: VisionModel, data: DataConfig, split: str = "val", settings: TrainConfig | None = None,
             console: Console | None = None) -> Evaluation:  # fmt: skip
    """COCO mAP, mIoU or panoptic quality of a model on a split, on the devices that `settings` names.

    Args:
        split: "val", "test" or "train".

    Raises:
        VisionTasksError: no such split, or none of the model's categories is in the data.
    """
    kinds = tuple(head.kind for head in model.named_heads().values())
    found = splits_of(data, split, kinds)
    if not found:
        where = f" in {data.path}" if data.path is not None else ""
        raise VisionTasksError(
            f"There is no {split} split{where}. Give data.{split}.annotations=FILE, or data.{split}.semantic."
        )
    records = read_parts(found, split, kinds, each=partial(_of_model, model))
    check_maps(model, records, split)
    judges = metrics_for(model, records, split)
    known = records.categories if records.has_boxes else None
    module = TrainingModule(model, metrics=judges, keep_results=True, known=known)
    loaders = DataModule(
        val=records, batch_size=data.val_batch_size or data.batch_size, workers=data.workers,
        multiprocessing_context=data.start_method, channels=len(model.preprocess.mean),
    )  # fmt: skip
    trainer = make_trainer(settings or TrainConfig(), [TrainingProgress(console or Console(stderr=True))], None)
    own = {head: head.categories for head in model.named_heads().values() if head.kind == "objects"}
    try:
        for head, categories in own.items() if records.has_boxes else ():
            head.categories = aligned_categories(categories, records.categories)
        with quiet_lightning():
            trainer.validate(module, loaders, verbose=False)
    finally:
        for head, categories in own.items():
            head.categories = categories
    return Evaluation(module.summaries, module.results, records, dict(loaders.unreadable), trainer.is_global_zero)


def _of_model(model: VisionModel, records: Records) -> Records:
    """The records as the model was taught: of a head that chose some of the data's categories only these objects, and
    maps in the labels of the model's; what it does not know is ignored.

    Raises:
        VisionTasksError: no name is common to both.
    """
    objects, blueprint = model.head_of("objects"), model.blueprint
    if objects is not None and records.has_boxes and blueprint is not None:
        known = labels_by_name(records.categories, objects.categories) >= 0
        if "objects" in chosen_categories(blueprint.arguments) and known.any():
            names = [name for name, is_known in zip(records.categories.names, known, strict=True) if is_known]
            records = with_objects_of(records, chosen(records.categories, names))
    surfaces, source = model.head_of("semantic"), records.semantic
    if surfaces is None or source is None:
        return records
    if (labels_by_name(source.categories, surfaces.categories) < 0).all():
        raise VisionTasksError(
            f"The model's maps are of {', '.join(surfaces.categories.names[:5])}; the data's of "
            f"{', '.join(source.categories.names[:5])}. They have no category in common: is it the right checkpoint?"
        )
    return with_maps_of(records, surfaces.categories)


def aligned_categories(own: Categories, wanted: Categories) -> Categories:
    """The model's categories under the data's ids: by name and id, else by name, else by name in any case.

    Categories that the data lack get negative ids, which the metric leaves out; no id is given twice.

    Raises:
        VisionTasksError: no name is common to both.
    """
    ids: dict[int, int] = {}  # label of the model -> id of the data
    exact = list(zip(own.names, own.ids, strict=True)), list(zip(wanted.names, wanted.ids, strict=True))
    keys = (lambda name, i: (name, i), lambda name, i: name, lambda name, i: name.strip().casefold())
    for key in keys:
        free = {key(n, i): i for n, i in reversed(exact[1]) if i not in ids.values()}
        for label, (name, i) in enumerate(exact[0]):
            if label not in ids and key(name, i) in free:
                ids[label] = free.pop(key(name, i))
    if not ids:
        raise VisionTasksError(
            f"The model knows {', '.join(own.names[:5])}; the data are about {', '.join(wanted.names[:5])}. "
            "They have no category in common: is it the right checkpoint for these data?"
        )
    return replace(own, ids=tuple(ids.get(label, -1 - label) for label in range(len(own))))


def default_data(checkpoint: Path) -> DataConfig | None:
    """The data a checkpoint was trained with, from the run's config.yaml beside it."""
    recipe = checkpoint.parent / "config.yaml"
    if not recipe.is_file():
        return None
    from vision_tasks.config import load_config

    return load_config(recipe).data
