"""The same batches whatever the workers, the start method, or an interruption; checked through Lightning itself."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_coco import same, write_data
from torch.utils.data import DataLoader

from vision_tasks.data.datamodule import DataModule, default_workers, prepare_worker
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.records import Records
from vision_tasks.data.transforms import Transforms
from vision_tasks.errors import VisionTasksError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),  # Lightning 2.6 with torch 2.15
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*fork\\(\\) may lead to deadlocks:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """22 images: with batches of 4 an epoch has 6, the last of them smaller."""
    sizes = [(20 + i % 7, 20 + (3 * i) % 11) for i in range(22)]
    return write_data(tmp_path_factory.mktemp("data") / "coco", sizes)


def data(records: Records, workers: int = 0, **options: object) -> DataModule:
    transforms = Transforms([{"Affine": {"translate_px": [-4, 4], "p": 1}}, "HorizontalFlip"])
    defaults = {"batch_size": 4, "transforms": transforms, "min_sizes": [32, 48, 64], "seed": 3}
    return DataModule(records, records, workers=workers, **(defaults | options))


class Witness(lightning.LightningModule):
    """Learns nothing worth knowing, but writes down what it was shown, and can stop in the middle of it."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.stop_at = stop_at
        self.seen: list[tuple[int, list[int], int | None, int]] = []
        self.validated: list[int] = []

    def training_step(self, batch: RawBatch, batch_idx: int) -> torch.Tensor:
        if self.global_step == self.stop_at:
            raise KeyboardInterrupt
        pixels = int(sum(image.sum() for image in batch.images))
        self.seen.append((self.current_epoch, batch.image_ids, batch.min_size, pixels))
        return self.weight**2

    def validation_step(self, batch: RawBatch, batch_idx: int) -> None:
        self.validated += batch.image_ids

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, callbacks: list[lightning.Callback] | None = None, **options: object) -> lightning.Trainer:
    defaults = {"max_epochs": 3, "accelerator": "cpu", "devices": 1, "logger": False, "num_sanity_val_steps": 0}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False}
    return lightning.Trainer(
        default_root_dir=folder,
        callbacks=callbacks,
        enable_checkpointing=bool(callbacks),
        **(defaults | quiet | options),
    )


@pytest.fixture(scope="module")
def uninterrupted(records: Records, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    witness = Witness()
    trainer(tmp_path_factory.mktemp("run")).fit(witness, datamodule=data(records))
    return witness


def test_an_epoch_shows_each_image_once(uninterrupted, records):
    for epoch in range(3):
        ids = [i for e, batch, *_ in uninterrupted.seen if e == epoch for i in batch]
        assert sorted(ids) == records.image_ids.tolist()
    assert uninterrupted.validated == records.image_ids.tolist() * 3
    assert len({tuple(batch) for _, batch, *_ in uninterrupted.seen}) == 18


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "every",
    [
        {"every_n_train_steps": 8},  # inside the second epoch
        {"every_n_train_steps": 6},  # after the last step of the first epoch, before its validation
        {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},  # in the validation of the epoch
    ],
    ids=lambda every: ",".join(map(str, every.values())),
)
@pytest.mark.slow
def test_resumed_training_sees_exactly_what_was_left(records, uninterrupted, tmp_path, workers, every):
    keep = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **every)
    trainer(tmp_path, [keep], max_epochs=2).fit(Witness(), datamodule=data(records, workers))
    path = min(tmp_path.glob("*.ckpt"), key=lambda p: int(p.stem.split("=")[1]))
    done = int(path.stem.split("=")[1])
    assert done == every.get("every_n_train_steps", 6)
    resumed = Witness()
    trainer(tmp_path).fit(resumed, datamodule=data(records, workers), ckpt_path=path)
    assert resumed.seen == uninterrupted.seen[done:]


@pytest.mark.parametrize(
    "step", [0, pytest.param(3, marks=pytest.mark.slow), 6, pytest.param(11, marks=pytest.mark.slow)]
)
def test_an_interrupted_step_is_taken_again(records, uninterrupted, tmp_path, step):
    class SaveWhenStopped(lightning.Callback):
        def on_exception(self, trainer, module, exception):
            trainer.save_checkpoint(tmp_path / "stopped.ckpt")

    first, second = Witness(stop_at=step), Witness()
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        trainer(tmp_path, [SaveWhenStopped()]).fit(first, datamodule=data(records))
    trainer(tmp_path).fit(second, datamodule=data(records), ckpt_path=tmp_path / "stopped.ckpt")
    assert first.seen + second.seen == uninterrupted.seen


@pytest.mark.slow
def test_max_steps_resumes_inside_and_at_the_end_of_an_epoch(records, uninterrupted, tmp_path):
    for done in (6, 9):
        first, second = Witness(), Witness()
        run = trainer(tmp_path, max_epochs=-1, max_steps=done)
        run.fit(first, datamodule=data(records))
        run.save_checkpoint(tmp_path / "stopped.ckpt")
        trainer(tmp_path, max_epochs=-1, max_steps=15).fit(
            second, datamodule=data(records, workers=2), ckpt_path=tmp_path / "stopped.ckpt"
        )
        assert [seen[1:] for seen in first.seen + second.seen] == [seen[1:] for seen in uninterrupted.seen[:15]]


def test_another_batch_size_goes_on_at_the_same_share_of_the_pass(records, tmp_path, caplog):
    run = trainer(tmp_path, max_epochs=-1, max_steps=9)
    run.fit(Witness(), datamodule=data(records))
    run.save_checkpoint(tmp_path / "stopped.ckpt")
    witness, reference = Witness(), data(records, batch_size=2).train_dataloader()
    trainer(tmp_path, max_epochs=-1, max_steps=11).fit(
        witness, datamodule=data(records, batch_size=2), ckpt_path=tmp_path / "stopped.ckpt"
    )
    assert "batch size changed" in caplog.text
    # 9 of 6 batches per pass are one and a half passes, or 16.5 of 11 batches.
    assert [seen[1] for seen in witness.seen] == [b.image_ids for b in batches_of(reference, 1)[5:7]]


def test_overfitting_repeats_its_batches(records, tmp_path):
    witness = Witness()
    trainer(tmp_path, overfit_batches=2).fit(witness, datamodule=data(records))
    assert len(witness.seen) == 6
    assert [seen[1:] for seen in witness.seen] == [seen[1:] for seen in witness.seen[:2]] * 3


def test_short_epochs_lose_nothing(records, uninterrupted, tmp_path):
    witness = Witness()
    trainer(tmp_path, limit_train_batches=4).fit(witness, datamodule=data(records, workers=2))
    assert [seen[1:] for seen in witness.seen] == [seen[1:] for seen in uninterrupted.seen[:12]]


def batches_of(loader: DataLoader, epoch: int) -> list[RawBatch]:
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize(
    ("workers", "start"),
    [(1, "fork"), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)],
)
def test_workers_change_nothing(records, workers, start):
    alone = data(records).train_dataloader()
    many = data(records, workers, multiprocessing_context=start).train_dataloader()
    for epoch in (0, 1):
        expected, got = batches_of(alone, epoch), batches_of(many, epoch)
        assert len(expected) == len(got) == 6
        assert all(same(a, b) for a, b in zip(expected, got, strict=True))


def test_sixteen_bit_images_come_through_workers(tmp_path):
    records = write_data(tmp_path, [(20, 30)] * 4, dtype=np.uint16)
    loaders = [data(records, workers).train_dataloader() for workers in (0, 1)]
    (expected,), (got,) = (batches_of(loader, 0) for loader in loaders)
    assert got.images[0].dtype == torch.uint16
    assert same(expected, got)


def test_unreadable_images_are_reported_once_with_their_id(tmp_path, caplog):
    records = write_data(tmp_path, [(20, 30)] * 6, broken=(2,))
    module = data(records, batch_size=2)
    witness = Witness()
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        trainer(tmp_path, max_epochs=2).fit(witness, datamodule=module)
    assert list(module.unreadable) == [102]
    assert sum("image id 102" in message for message in caplog.messages) == 1
    assert [len(batch) for _, batch, *_ in witness.seen] == [2] * 6
    assert witness.validated == [100, 101, 103, 104, 105] * 2


def test_workers_leave_ctrl_c_to_the_parent():
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    try:
        prepare_worker(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        torch.set_num_threads(threads)


def test_default_workers():
    assert default_workers(10) == 0
    assert 0 <= default_workers(10_000, processes=2) <= default_workers(10_000) <= 8


def test_missing_data_is_said_by_name():
    with pytest.raises(VisionTasksError, match="no train data"):
        DataModule().train_dataloader()
