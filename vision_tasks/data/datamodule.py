"""The loaders of one run, for Lightning: batches dealt to ranks, an interrupted epoch taken up where it stopped."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Sequence
from multiprocessing import resource_tracker
from typing import Any

import cv2
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from vision_tasks.data.allocator import keep_memory
from vision_tasks.data.dataset import Combination, DetectionDataset, RawBatch, Transform, collate
from vision_tasks.data.decoding import one_thread
from vision_tasks.data.images import dropped_bands
from vision_tasks.data.joint import JointRecords
from vision_tasks.data.records import Records
from vision_tasks.data.sampler import BatchSampler, Passes, aspect_ratio_groups
from vision_tasks.data.shard_passes import ShardPasses
from vision_tasks.data.shards import ShardImages
from vision_tasks.errors import VisionTasksError

log = logging.getLogger(__name__)

# Starting a worker takes seconds (it imports torch); fewer images than this are decoded sooner without.
_WORTH_A_WORKER = 64

# Bytes of freed memory that a worker keeps, and the largest piece of it.
_KEPT = (1 << 28, 1 << 25)


class DataModule(LightningDataModule):
    """Training and validation batches of a run.

    The trainer must be made with `use_distributed_sampler=False`, as the batches are dealt to the ranks here.
    A checkpoint taken at any step resumes with exactly the batches that would have come next.

    Args:
        train, val: records of either split, or None if it is not needed; of several data sets by `joint.join`.
        batch_size, val_batch_size: images per batch and rank; validation takes as many as training if not given.
        transforms: augmentation of training samples, or None.
        combinations: mosaic and mixup of training samples, applied before the transforms.
        plain_epochs: this many epochs at the end of the training are without combinations; 0 for none.
        min_sizes: shortest sides to choose from per training batch; empty leaves the size to the model.
        group_by_aspect_ratio: put upright images in batches of their own, and the others (less padding).
        workers: processes per loader; None chooses by cores and data, 0 decodes in the main process.
        seed: of order, sizes and augmentation.
        multiprocessing_context: "spawn", "fork" or "forkserver"; None is Python's default.
        channels: how many the model's images have.
        passes: which images a pass of training takes, if not each once, or of several data sets by their ratios.

    Attributes:
        unreadable: image id -> reason, of all images that could not be read by this process's workers so far.
    """

    def __init__(
        self,
        train: Records | None = None,
        val: Records | None = None,
        *,
        batch_size: int = 2,
        val_batch_size: int | None = None,
        transforms: Transform | None = None,
        combinations: Sequence[Combination] = (),
        plain_epochs: int = 0,
        min_sizes: Sequence[int] = (),
        group_by_aspect_ratio: bool = True,
        workers: int | None = None,
        seed: int = 0,
        multiprocessing_context: str | None = None,
        channels: int = 3,
        passes: Passes | None = None,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.val_batch_size = batch_size, val_batch_size or batch_size
        self.transforms, self.min_sizes, self.seed = transforms, tuple(min_sizes), seed
        self.combinations, self.plain_epochs = tuple(combinations), plain_epochs
        self.group_by_aspect_ratio, self.workers, self.channels = group_by_aspect_ratio, workers, channels
        self.multiprocessing_context, self.passes = multiprocessing_context, passes
        first = train if train is not None else val
        if first is not None and (words := dropped_bands(first, channels)):
            log.warning("%s", words)
        self.unreadable: dict[int, str] = {}
        self._batches_per_pass = self._offset = 0
        self._loaded: dict[str, Any] | None = None

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled batches of this rank, from where the checkpoint stood if the run was resumed.

        Raises:
            VisionTasksError: without training records, or with fewer batches than ranks.
        """
        records = _given(self.train, "train")
        groups = aspect_ratio_groups(records.widths, records.heights) if self.group_by_aspect_ratio else None
        rank, world_size = self._ranks()
        passes = self.passes
        if passes is None and isinstance(records, JointRecords):
            passes = records.mixture
        elif passes is None and isinstance(records.archive, ShardImages):
            passes, groups = ShardPasses(records.archive.shard, self.batch_size, world_size), None
        sampler = BatchSampler(
            len(records),
            self.batch_size,
            train=True,
            seed=self.seed,
            groups=groups,
            min_sizes=self.min_sizes,
            passes=passes,
            rank=rank,
            world_size=world_size,
            position=None if self.trainer is None else self._batches_done,
        )
        self._batches_per_pass = sampler.batches_per_pass
        sampler.plain_from = self._plain_from(len(sampler), world_size)
        dataset = DetectionDataset(
            records, self.transforms, self.seed, combinations=self.combinations, channels=self.channels
        )
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> ResumableLoader:
        """Batches in the order of the records, each image once over all ranks, without augmentation.

        Raises:
            VisionTasksError: without validation records.
        """
        records = _given(self.val, "val")
        rank, world_size = self._ranks()
        sampler = BatchSampler(len(records), self.val_batch_size, train=False, rank=rank, world_size=world_size)
        return self._loader(DetectionDataset(records, train=False, channels=self.channels), sampler)

    def on_before_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> RawBatch:
        """Note images that could not be read, and report each once; the workers cannot know what others have seen."""
        for entry in batch.unreadable:
            if entry.image_id not in self.unreadable:
                self.unreadable[entry.image_id] = entry.reason
                log.warning("image id %d cannot be read and is left out: %s", entry.image_id, entry.reason)
        return batch

    def _loader(self, dataset: DetectionDataset, sampler: BatchSampler) -> ResumableLoader:
        workers = self.workers
        if workers is None:
            workers = default_workers(len(dataset), 1 if self.trainer is None else self.trainer.num_devices)
        return ResumableLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=prepare_worker,
            persistent_workers=workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            multiprocessing_context=self.multiprocessing_context if workers > 0 else None,
        )

    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _plain_from(self, batches_per_epoch: int, world_size: int) -> float:
        """Where in the stream the last `plain_epochs` begin; the trainer's limits tell where the training ends."""
        trainer = self.trainer
        if trainer is None or not self.plain_epochs:
            return math.inf
        epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else math.inf
        batches = epochs * batches_per_epoch
        if trainer.max_steps > 0:
            # Lightning ends an epoch with a shorter sum of gradients where its batches do not divide.
            sums = math.ceil(batches_per_epoch / trainer.accumulate_grad_batches)
            whole, rest = divmod(trainer.max_steps, sums)
            batches = min(batches, whole * batches_per_epoch + rest * trainer.accumulate_grad_batches)
        if self.combinations and self.plain_epochs * batches_per_epoch >= batches:
            log.warning("plain_epochs (%d) covers the whole training: no mosaic, no mixup is made", self.plain_epochs)
        return max(0, batches - self.plain_epochs * batches_per_epoch) * world_size

    def _batches_done(self) -> int:
        """Batches that training has taken from the sampler's stream so far, over all ranks.

        A batch counts once processed: a checkpoint may be written in `on_train_batch_end`, after the optimiser's step
        and before Lightning calls the batch completed; one that failed half-way is taken again. The total is used, not
        the count within the epoch, because Lightning closes an epoch early at `max_steps`, and because it starts the
        iterator of a resumed epoch before it puts its counts and the sampler's epoch right.
        """
        assert self.trainer is not None
        if getattr(self.trainer, "overfit_batches", 0) > 0:
            return 0  # the same batches in every epoch
        # Not before the first batch is asked for: a loader may be made before Lightning restores its counts.
        self._go_on_from_checkpoint()
        return self._offset + _steps_done(self.trainer) * self.trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        """How far training has got, in batches over all ranks, for the checkpoint."""
        done = 0 if self.trainer is None else self._batches_done()
        return {"batches_done": done, "batches_per_pass": self._batches_per_pass}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the run that wrote this stopped, also with another number of ranks."""
        self._loaded = dict(state)

    def _go_on_from_checkpoint(self) -> None:
        if self._loaded is None or self.trainer is None:
            return
        done, of = self._loaded["batches_done"], self._loaded["batches_per_pass"]
        if of not in (0, self._batches_per_pass):
            log.warning(
                "the data or the batch size changed since the checkpoint (%d batches per pass, now %d): going on at "
                "the same share of the pass; during this pass some images may come twice or not at all",
                of, self._batches_per_pass,
            )  # fmt: skip
            done = round(done * self._batches_per_pass / of)
        self._offset = done - _steps_done(self.trainer) * self.trainer.world_size
        self._loaded = None


class ResumableLoader(DataLoader):
    """A DataLoader of which Lightning knows that it can resume inside an epoch; `DataModule` keeps the place."""

    def __iter__(self) -> Any:
        """As DataLoader's; workers are born deaf to Ctrl-C, as spawned ones import for seconds before they can be."""
        if self.num_workers == 0 or not hasattr(signal, "pthread_sigmask"):
            return super().__iter__()
        resource_tracker.ensure_running()  # its own start would lift the block
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit it; here it only waits
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def state_dict(self) -> dict[str, Any]:
        """Nothing of its own."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing of its own."""


def _steps_done(trainer: Trainer) -> int:
    """Training batches this rank has processed in all, checkpoints included."""
    total: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    return int(total.processed)


def prepare_worker(worker: int) -> None:
    """Set up a loader's worker: Ctrl-C is the parent's to handle, and each worker keeps to one core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    one_thread()
    keep_memory(*_KEPT)


def default_workers(num_images: int, processes: int = 1) -> int:
    """Workers per loader: this process's share of the cores it may use, at most 8; none for tiny data."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if num_images < _WORTH_A_WORKER else min(8, cores // processes)


def _given(records: Records | None, split: str) -> Records:
    if records is None:
        raise VisionTasksError(f"there is no {split} data: give DataModule({split}=...) records to read")
    return records
