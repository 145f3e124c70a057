"""Samples and batches from small COCO files with real image files, good and broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_coco import same, write_data

from vision_tasks.data.dataset import DetectionDataset, collate
from vision_tasks.data.sampler import Request
from vision_tasks.data.transforms import Transforms
from vision_tasks.errors import VisionTasksError

SIZES = [(20, 30), (30, 20), (24, 24), (20, 40), (33, 21), (20, 20)]


def test_a_sample_is_the_image_and_its_truth(tmp_path):
    dataset = DetectionDataset(write_data(tmp_path, SIZES))
    assert len(dataset) == 6
    sample = dataset[Request(4, epoch=2, min_size=77)]
    assert sample.image.shape == (33, 21, 3)
    assert (sample.image == 5).all()
    assert sample.target.image_id == 104
    assert sample.target.boxes.tolist() == [[2, 3, 10, 12]]
    assert len(sample.target.masks) == 1
    assert sample.request == Request(4, epoch=2, min_size=77)
    assert len(dataset[3].target.boxes) == 0
    with pytest.raises(IndexError):
        dataset[6]


def test_augmentation_depends_on_seed_epoch_and_index_only(tmp_path):
    records = write_data(tmp_path, SIZES)
    transforms = Transforms([{"Affine": {"translate_px": [-5, 5], "scale": [0.8, 1.2], "p": 1}}])

    def pixels(seed: int, index: int, epoch: int) -> bytes:
        return DetectionDataset(records, transforms, seed)[Request(index, epoch)].image.tobytes()

    assert pixels(0, 1, 2) == pixels(0, 1, 2)
    assert len({pixels(0, 1, 2), pixels(0, 1, 3), pixels(1, 1, 2), pixels(0, 4, 2)}) == 4


def test_training_replaces_what_cannot_be_read_by_the_next(tmp_path):
    dataset = DetectionDataset(write_data(tmp_path, SIZES, broken=(2, 3, 5)))
    sample = dataset[2]
    assert sample.target.image_id == 104
    assert [u.image_id for u in sample.unreadable] == [102, 103]
    assert "2.png" in sample.unreadable[0].reason
    assert dataset[5].target.image_id == 100
    assert dataset[1].unreadable == []


def test_evaluation_leaves_out_what_cannot_be_read(tmp_path):
    dataset = DetectionDataset(write_data(tmp_path, SIZES, broken=(2,)), train=False)
    batch = collate([dataset[1], dataset[2], dataset[3]])
    assert batch.image_ids == [101, 103]
    assert len(batch) == len(batch.targets) == 2
    assert [u.image_id for u in batch.unreadable] == [102]
    nothing = collate([dataset[2]])
    assert len(nothing) == 0
    assert len(nothing.to("cpu").unreadable) == 1


def test_nothing_readable_at_all_is_an_error_in_training(tmp_path):
    dataset = DetectionDataset(write_data(tmp_path, SIZES[:2], broken=(0, 1)))
    with pytest.raises(VisionTasksError, match=r"2 images in a row cannot be read.*image id 101"):
        dataset[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_batch_keeps_sizes_types_and_channels_first(tmp_path, dtype):
    dataset = DetectionDataset(write_data(tmp_path, SIZES, dtype=dtype), Transforms([{"VerticalFlip": {"p": 1}}]))
    batch = collate([dataset[Request(i, 0, 64)] for i in (0, 1, 3)])
    assert [tuple(image.shape) for image in batch.images] == [(3, 20, 30), (3, 30, 20), (3, 20, 40)]
    assert {image.dtype for image in batch.images} == {torch.from_numpy(np.zeros(1, dtype)).dtype}
    assert batch.min_size == 64
    assert batch.targets[0].boxes.shape == (0, 4)
    assert same(batch.to("cpu", non_blocking=True), batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a CUDA device")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pinned_batches_arrive_on_the_device(tmp_path, dtype):
    dataset = DetectionDataset(write_data(tmp_path, SIZES, dtype=dtype))
    batch = collate([dataset[i] for i in range(6)])
    pinned = batch.pin_memory()
    assert all(image.is_pinned() for image in pinned.images)
    assert same(pinned.to("cuda", non_blocking=True).to("cpu"), batch)
