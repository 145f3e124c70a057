"""What Lightning runs: losses of a batch, the optimiser, and evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader

from vision_tasks.config import TrainConfig
from vision_tasks.data.dataset import RawBatch
from vision_tasks.errors import VisionTasksError
from vision_tasks.heads.semantic import SemanticHead
from vision_tasks.metrics.coco import CocoMetric
from vision_tasks.metrics.coco_results import results_of
from vision_tasks.models.checkpoint import KEY, describe
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import to_rles
from vision_tasks.structures import Categories, Masks, Polygons, Prediction, Rle
from vision_tasks.training.averaging import AveragedModel
from vision_tasks.training.judging import Judge, Summaries, score
from vision_tasks.training.optimizer import make_optimizer, make_schedule
from vision_tasks.training.panoptic_truth import panoptic_pairs

Results = dict[str, list[dict[str, Any]]]
"""Rows in COCO form, by "bbox" and "segm"."""


class TrainingModule(LightningModule):
    """A model with its training settings and its metric.

    Attributes:
        model: what learns. averaged: its moving average, if asked for; then this is what is evaluated and kept.
        metrics: what the validation data allow to judge the model by, by kind (see `splits.metrics_for`); or empty.
        summaries: of the last evaluation, by kind. evaluated_at: the step it was made after.
        known: what the labels of the evaluated objects mean, if not the same as the model's.
        results: rows in COCO form of the last evaluation by kind, if `keep_results` (all ranks' on rank 0).
    """

    def __init__(
        self,
        model: VisionModel,
        config: TrainConfig | None = None,
        metrics: Iterable[Judge] = (),
        batch_size: int = 1,
        keep_results: bool = False,
        known: Categories | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config or TrainConfig()
        self.metrics = nn.ModuleDict({metric.kind: metric for metric in metrics})  # type: ignore[misc]  # a Judge is a Metric
        self.batch_size = batch_size
        self.keep_results = keep_results
        self.known = known
        self.results: Results = {}
        self.summaries: Summaries = {}
        self.evaluated_at = 0
        self.averaged: AveragedModel | None = None
        if self.config.average is not None:
            self.averaged = AveragedModel(model, self.config.average)
        _check_weights(model, self.config.loss_weights)

    @property
    def score(self) -> tuple[str, float] | None:
        """Name and value of what the best model is judged by; None if nothing was evaluated."""
        return score(self.summaries)

    @property
    def best_model(self) -> VisionModel:
        """What is evaluated and kept: the average if there is one."""
        if self.averaged is None:
            return self.model
        return self.averaged.module

    def on_fit_start(self) -> None:
        """Models are made and loaded ready to predict, and Lightning leaves every module in the mode it is given in."""
        self.model.train()

    def on_train_batch_start(self, raw: RawBatch, index: int) -> None:
        """Heads with a loss of their own for the last, plain epochs (YOLOX's L1) are told by the batch itself."""
        for head in self.model.heads.values():
            if hasattr(head, "use_l1"):
                setattr(head, "use_l1", raw.plain)  # noqa: B010  # not every head has it

    def training_step(self, raw: RawBatch, index: int) -> dict[str, Any]:
        """`loss` for Lightning, and every loss by name for the log.

        Chance (which anchors are drawn, dropout) is a function of the seed, the step and the rank, so that a resumed
        run goes on as if it had never stopped.
        """
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        torch.manual_seed(hash((self.config.seed, progress.processed, self.trainer.global_rank)))
        batch = self.model.preprocess(raw.images, raw.targets, raw.min_size, raw.size)
        losses = self.model.losses(batch)
        asked = self.config.loss_weights
        if asked.keys() - losses.keys():
            unknown, known = ", ".join(sorted(asked.keys() - losses.keys())), ", ".join(losses)
            raise VisionTasksError(f"train.loss_weights names {unknown}; the model's losses are {known}.")
        weights = self.model.loss_weights | asked
        total = torch.stack([loss * weights.get(name, 1.0) for name, loss in losses.items()]).sum()
        return {"loss": total, "losses": {name: loss.detach() for name, loss in losses.items()}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning's; then the average follows."""
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            self.averaged.update(self.model, self.trainer.global_step)

    def configure_optimizers(self) -> Any:
        """Optimiser and per-step schedule."""
        settings = self.config.optimizer
        per_step = self.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        optimizer = make_optimizer(self.model, settings, per_step)
        # Not `trainer.estimated_stepping_batches`: it starts the loader, before a resumed run knows where it stood.
        loader: DataLoader = self.trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        per_epoch = math.ceil(len(loader) / self.trainer.accumulate_grad_batches)
        total = self.trainer.max_steps if self.trainer.max_steps > 0 else per_epoch * (self.trainer.max_epochs or 1)
        schedule = make_schedule(optimizer, settings, total, per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_start(self) -> None:
        """All ranks evaluate the same model: running statistics, which each gathers on its own, are averaged."""
        if self.trainer.world_size > 1:
            for buffer in self.best_model.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.trainer.strategy.reduce(buffer.clone(), reduce_op="mean"))
        self.results = {}

    def validation_step(self, raw: RawBatch, index: int) -> None:
        """Predict and match; what was predicted is then forgotten, unless `keep_results`."""
        if len(raw) == 0:  # no image of this batch could be read
            return
        model = self.best_model
        predictions = [p.to("cpu") for p in model.predict(model.preprocess(raw.images))]
        targets = [target.to("cpu") for target in raw.targets]
        void = model.panoptic.void if model.panoptic else ()
        found: list[Prediction] = []  # what the truth of objects knows, with masks as run lengths
        for kind, metric in self._typed_metrics():
            if kind == "panoptic":
                metric.update(*panoptic_pairs(predictions, targets, void, self.known))
            elif not isinstance(metric, CocoMetric):
                metric.update(predictions, targets)
            else:
                # Where nobody looked for objects, what is found is neither right nor wrong.
                judged = [i for i, target in enumerate(targets) if target.boxes is not None]
                ids = [raw.image_ids[i] for i in judged]
                found = found or [_encoded(p) for p in _known([predictions[i] for i in judged], metric)]
                metric.update(found, ids)
                if self.keep_results:
                    for prediction, image_id in zip(found, ids, strict=True):
                        self.results.setdefault(kind, []).extend(results_of(prediction, image_id, metric.iou_type))

    def on_validation_epoch_end(self) -> None:
        """The numbers of each metric, equal on all ranks."""
        for kind, metric in self._typed_metrics():
            self.summaries[kind] = metric.summary()
            metric.reset()
            self.evaluated_at = self.trainer.global_step
        if self.keep_results and self.trainer.world_size > 1:
            gathered: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, self.results)
            for kind in {kind for results in gathered for kind in results}:
                rows = (row for results in gathered for row in results.get(kind, []))
                self.results[kind] = sorted(rows, key=lambda row: int(row["image_id"]))

    def _typed_metrics(self) -> list[tuple[str, Judge]]:
        return [(kind, cast(Judge, metric)) for kind, metric in self.metrics.items()]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the checkpoint whole: `vision_tasks.load` needs nothing else."""
        checkpoint[KEY] = describe(self.model)


def _check_weights(model: VisionModel, asked: Iterable[str]) -> None:
    """Whether the losses that a recipe weights can be the model's, as far as it is known before the first batch.

    Raises:
        VisionTasksError: no head has that name, or a head of maps has no such loss.
    """
    heads = model.named_heads()
    for name in asked:
        head_name, _, loss = name.partition("/")
        head = heads.get(head_name)
        known = [f"{head_name}/..." for head_name in heads]
        if isinstance(head, SemanticHead):
            known = [*head.spec, *(["auxiliary"] if head.auxiliary is not None else [])]
            if loss in known:
                continue
            known = [f"{head_name}/{loss}" for loss in known]
        elif head is not None and loss:
            continue
        raise VisionTasksError(f"train.loss_weights names {name}; the losses are {', '.join(known)}.")


def _encoded(prediction: Prediction) -> Prediction:
    """With its masks as run lengths, which both the metric and the results file want."""
    if prediction.masks is None:
        return prediction
    rles: list[Polygons | Rle | None] = list(to_rles(prediction.masks))
    return replace(prediction, masks=Masks(prediction.size, shapes=rles))


def _known(predictions: Sequence[Prediction], metric: CocoMetric) -> list[Prediction]:
    """Without detections of categories that the truth does not know."""
    if not predictions:
        return []
    known = torch.isin(torch.tensor(predictions[0].categories.ids), torch.tensor(metric.truth.category_ids))
    if bool(known.all()):
        return list(predictions)
    return [p if p.labels is None else p[known[p.labels]] for p in predictions]
