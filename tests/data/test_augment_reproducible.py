"""With everything on, the same seed gives the same bytes: whatever the workers, how they start, and after a resume."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_coco import write_data

from vision_tasks.config import load_config
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.records import Records
from vision_tasks.ops import masks as mask_ops
from vision_tasks.training.loaders import data_module

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),  # Lightning 2.6 with torch 2.15
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*fork\\(\\) may lead to deadlocks:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

EVERYTHING = [
    "data.mosaic=0.5", "data.mosaic_tiles=9", "data.mosaic_size=64", "data.copy_paste=0.7", "data.mixup=0.4",
    "data.batch_size=3", "data.min_sizes=[32,64]", "train.seed=5",
    "data.augment=[HorizontalFlip,{Affine: {rotate: [-20,20], p: 0.5}},{ColorJitter: {p: 0.5}},"
    "{ElasticTransform: {p: 0.3}},{GaussNoise: {p: 0.5}},{CoarseDropout: {p: 0.5}},{ObjectCrop: {p: 0.3}},"
    "{LargeScaleJitter: {scale: [0.5, 1.5], p: 0.5}},{RandomRain: {p: 0.3}}]",
]  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """14 images of noise, of which each third has no object: five batches of three a pass."""
    folder = tmp_path_factory.mktemp("data") / "coco"
    sizes = [(40 + i % 7, 40 + (3 * i) % 11) for i in range(14)]
    found = write_data(folder, sizes)
    random = np.random.default_rng(0)
    for i, size in enumerate(sizes):
        cv2.imwrite(str(folder / f"{i}.png"), random.integers(0, 256, (*size, 3), dtype=np.uint8))
    return found


def loaders(records: Records, workers: int, start: str | None = None) -> DataModule:
    options = [*EVERYTHING, f"data.workers={workers}", *([f"data.start_method={start}"] if start else [])]
    return data_module(load_config(None, options), records, records)


def content(batch: RawBatch) -> str:
    """A digest of every byte of a batch: pixels, boxes, labels, masks, areas, crowds, ids, size."""
    digest = hashlib.sha256(repr((batch.image_ids, batch.min_size, batch.plain)).encode())
    for image, target in zip(batch.images, batch.targets, strict=True):
        digest.update(repr(tuple(image.shape)).encode() + image.numpy().tobytes())
        for name in ("boxes", "labels", "area", "is_crowd"):
            digest.update(getattr(target, name).numpy().tobytes())
        digest.update(b"".join(rle["counts"] for rle in mask_ops.to_rles(target.masks)))
    return digest.hexdigest()


def epochs(module: DataModule, count: int = 2) -> list[str]:
    loader = module.train_dataloader()
    seen = []
    for epoch in range(count):
        loader.batch_sampler.set_epoch(epoch)
        seen += [content(batch) for batch in loader]
    return seen


@pytest.fixture(scope="module")
def expected(records: Records) -> list[str]:
    return epochs(loaders(records, 0))


def test_every_batch_is_another_and_the_global_state_is_of_no_matter(records, expected):
    assert len(set(expected)) == len(expected) == 10
    torch.manual_seed(99)
    np.random.seed(98)  # noqa: NPY002
    assert epochs(loaders(records, 0)) == expected


@pytest.mark.parametrize("workers", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3))])
def test_forked_workers_give_the_same_bytes(records, expected, workers):
    assert epochs(loaders(records, workers, "fork")) == expected


@pytest.mark.slow
def test_spawned_workers_give_the_same_bytes(records, expected):
    assert epochs(loaders(records, 2, "spawn"), 1) == expected[:5]


class Witness(lightning.LightningModule):
    """Notes what it was shown, and can stop in the middle of it."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.stop_at, self.seen = stop_at, []

    def training_step(self, batch: RawBatch, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append(content(batch))
        return self.weight**2

    def validation_step(self, batch: RawBatch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, *callbacks: lightning.Callback) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder, max_epochs=2, accelerator="cpu", devices=1, logger=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        enable_checkpointing=bool(callbacks), callbacks=list(callbacks) or None,
    )  # fmt: skip


@pytest.mark.parametrize("stop_at", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_a_resumed_run_sees_the_bytes_that_would_have_come(records, expected, tmp_path, stop_at):
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    before = Witness(stop_at)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, saving).fit(before, loaders(records, 0))
    after = Witness()
    trainer(tmp_path).fit(
        after, loaders(records, 2, "fork"), ckpt_path=tmp_path / f"step={stop_at}.ckpt", weights_only=True
    )
    assert before.seen == expected[:stop_at]
    assert after.seen == expected[stop_at:]
