"""A run's last epochs are without mosaic and mixup: at whatever end, with workers, on all ranks, after a resume."""

from __future__ import annotations

import pytest
import test_datamodule
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_coco import write_data
from test_datamodule import Witness, trainer

from vision_tasks.config import load_config
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import RawBatch
from vision_tasks.data.mixup import MixUp
from vision_tasks.data.mosaic import Mosaic
from vision_tasks.data.records import Records
from vision_tasks.data.sampler import BatchSampler
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.training.loaders import combinations_of

pytestmark = test_datamodule.pytestmark


class PlainWitness(Witness):
    """Notes of every batch whether it is plain, and whether it looks so."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__(stop_at)
        self.plain: list[bool] = []

    def training_step(self, batch: RawBatch, batch_idx: int) -> torch.Tensor:
        assert batch.plain == all(image.shape[-1] != 64 for image in batch.images)
        self.plain.append(batch.plain)
        return super().training_step(batch, batch_idx)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """10 images: with batches of 2 an epoch has 5."""
    return write_data(tmp_path_factory.mktemp("data") / "coco", [(20 + i, 40 - i) for i in range(10)])


def data(records: Records, workers: int = 0, plain_epochs: int = 2) -> DataModule:
    made = [Mosaic(1.0, (64, 64)), MixUp(0.5)]
    return DataModule(
        records, records, batch_size=2, workers=workers, combinations=made, plain_epochs=plain_epochs, seed=3
    )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_last_epochs_are_plain_with_workers_and_after_a_resume(records, tmp_path, workers):
    whole = PlainWitness()
    trainer(tmp_path, max_epochs=4).fit(whole, datamodule=data(records))
    assert whole.plain == [False] * 10 + [True] * 10
    keep = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=8)
    run = trainer(tmp_path, [keep], max_epochs=4)
    first = PlainWitness()
    run.fit(first, datamodule=data(records, workers))
    assert first.seen == whole.seen
    for done in (8, 16):  # in the second epoch, and in the last
        resumed = PlainWitness()
        trainer(tmp_path, max_epochs=4).fit(
            resumed, datamodule=data(records, workers), ckpt_path=tmp_path / f"step={done}.ckpt"
        )
        assert resumed.seen == whole.seen[done:]
        assert resumed.plain == whole.plain[done:]


@pytest.mark.parametrize(
    ("options", "mixed", "plain"),
    [
        ({"max_epochs": -1, "max_steps": 13}, 8, 5),
        ({"max_epochs": 2, "max_steps": 100}, 5, 5),
        ({"max_epochs": -1, "max_steps": 4, "accumulate_grad_batches": 2}, 2, 5),  # sums of 2, 2, 1 and 2 batches
        ({"max_epochs": -1, "max_steps": 3}, 0, 3),
    ],
)
def test_the_end_is_found_whatever_sets_it(records, tmp_path, caplog, options, mixed, plain):
    witness = PlainWitness()
    trainer(tmp_path, **options).fit(witness, datamodule=data(records, plain_epochs=1))
    assert witness.plain == [False] * mixed + [True] * plain
    assert ("covers the whole training" in caplog.text) == (mixed == 0)


def test_all_ranks_turn_plain_at_the_same_step():
    for rank in range(2):
        sampler = BatchSampler(10, 2, train=True, rank=rank, world_size=2)  # 5 batches a pass, 2 steps an epoch
        sampler.plain_from = 4.0
        marks = []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            marks += [{request.plain for request in batch} for batch in sampler]
        assert marks == [{False}] * 2 + [{True}] * 4


def test_without_an_end_or_plain_epochs_nothing_is_plain(records, tmp_path):
    assert not any(batch.plain for batch in data(records).train_dataloader())
    assert not any(batch.plain for batch in data(records).val_dataloader())
    witness = PlainWitness()
    trainer(tmp_path, max_epochs=1).fit(witness, datamodule=data(records, plain_epochs=0))
    assert witness.plain == [False] * 5


def test_recipes(tmp_path):
    data = load_config(None, ["data.mosaic=1", "data.mixup=0.5", "data.plain_epochs=15"]).data
    assert data.plain_epochs == 15
    letterbox = Preprocess(resize="letterbox", size=(416, 640))
    assert combinations_of(data, letterbox) == [Mosaic(1.0, (416, 640)), MixUp(0.5)]
    assert combinations_of(data, Preprocess(min_size=480)) == [Mosaic(1.0, (480, 480)), MixUp(0.5)]
    data = load_config(None, ["data.mosaic=0.5", "data.mosaic_size=416", "data.mosaic_scale=[0.5, 1.5]"]).data
    assert combinations_of(data, letterbox) == [Mosaic(0.5, (416, 416), (0.5, 1.5))]
    assert combinations_of(load_config(None).data, letterbox) == []
    with pytest.raises(VisionTasksError, match=r"data\.mosaic_size must be given"):
        combinations_of(load_config(None, ["data.mosaic=1"]).data, Preprocess(resize="none"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.mosaic=2", "data.mosaic: input should be less than or equal to 1"),
        ("data.mixup=-1", "data.mixup: input should be greater than or equal to 0"),
        ("data.mosiac=1", "did you mean 'mosaic'?"),
        ("data.mosaic_size=3", "data.mosaic_size: input should be greater than or equal to 32"),
        ("data.mosaic_size=[320, 3]", "data.mosaic_size"),
        ("data.mosaic_scale=[2, 1]", "data.mosaic_scale: value error, the smaller factor comes first"),
        ("data.mosaic_scale=[0, 1]", "data.mosaic_scale.0: input should be greater than or equal to 0.01"),
        ("data.plain_epochs=-1", "data.plain_epochs: input should be greater than or equal to 0"),
    ],
)
def test_bad_recipes_name_the_key(override, message):
    with pytest.raises(VisionTasksError) as caught:
        load_config(None, [override])
    assert message in str(caught.value)
