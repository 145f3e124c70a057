"""How a batch travels: whole, in one block, and never overwritten while somebody looks at it."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from small_coco import same, write_data
from torch.utils.data import DataLoader

from vision_tasks.data import datamodule, packing
from vision_tasks.data.allocator import ALLOCATOR
from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import DetectionDataset, RawBatch, Sample, collate
from vision_tasks.data.sampler import Request
from vision_tasks.structures import Masks, Target


@pytest.fixture
def as_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process packs as a worker does, from no block on."""
    monkeypatch.setattr(packing, "get_worker_info", lambda: "a worker")
    monkeypatch.setattr(packing, "_blocks", [])


def came(packed: packing.Packed) -> list[torch.Tensor]:
    """What the other process would have of it."""
    there = object.__new__(packing.Packed)
    vars(there).update(packed.__getstate__())
    return there.tensors()


def pictures(value: int, *sizes: tuple[int, int], channels: int = 3, dtype: type = np.uint8) -> list[np.ndarray]:
    return [np.full((*size, channels), value + i, dtype) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_images_become_channels_first(channels: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 200, (h, w, channels)).astype(dtype) for h, w in ((5, 7), (1, 1), (4, 3))]
    for image, tensor in zip(images, packing.channels_first(images), strict=True):
        assert tensor.is_contiguous()
        assert np.array_equal(tensor.numpy(), image.transpose(2, 0, 1))


def test_a_batch_of_everything_survives_the_way() -> None:
    map_, layers = torch.arange(12, dtype=torch.int16).view(3, 4), torch.ones(2, 5, 6, dtype=torch.int8)
    polygons = [[np.array([[0, 0], [2, 0], [2, 2]], np.float32)], None]
    targets = [
        Target(1, (3, 4), torch.rand(2, 4), torch.tensor([0, 1]), Masks((3, 4), shapes=polygons), torch.rand(2),
               torch.tensor([True, False]), map_),
        Target(2, (5, 6), semantic=layers),
        Target(3, (1, 1), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]  # fmt: skip
    images = packing.channels_first(pictures(9, (3, 4), (5, 6), (1, 1)))
    sent = RawBatch(images, targets, min_size=7, plain=True, size=(8, 9))
    came = pickle.loads(pickle.dumps(sent))
    assert same(RawBatch(images[:1], targets[:1], 7), RawBatch(came.images[:1], came.targets[:1], came.min_size))
    assert (came.plain, came.size, came.image_ids) == (True, (8, 9), [1, 2, 3])
    assert [i.shape for i in came.images] == [i.shape for i in images]
    assert torch.equal(came.targets[0].semantic, map_)
    assert torch.equal(came.targets[1].semantic, layers)
    assert came.targets[1].boxes is None
    assert came.targets[2].semantic is None
    assert came.targets[2].boxes.shape == (0, 4)
    assert torch.equal(came.targets[0].is_crowd, targets[0].is_crowd)
    assert np.array_equal(came.targets[0].masks.shapes[0][0], polygons[0][0])


def test_a_batch_without_images_survives_the_way() -> None:
    assert len(pickle.loads(pickle.dumps(RawBatch([], [])))) == 0


def test_a_block_is_used_again_only_when_nothing_of_it_is_left(as_worker: None) -> None:
    images = packing.channels_first(pictures(1, (20, 30), (20, 30)))
    block = images[0].untyped_storage().data_ptr()
    held = came(packing.pack(images))
    del images
    part = held[1][0, :2]  # a view of one of them is enough to hold it
    del held
    other = packing.channels_first(pictures(50, (20, 30), (20, 30)))
    assert other[0].untyped_storage().data_ptr() != block
    assert (part == 2).all()
    del part
    again = packing.channels_first(pictures(70, (10, 30), (20, 30)))
    assert again[0].untyped_storage().data_ptr() == block
    assert (again[1] == 71).all()


def test_a_forked_child_that_ends_frees_nothing(as_worker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    images = packing.channels_first(pictures(1, (20, 30)))
    held = came(packing.pack(images))
    monkeypatch.setattr(packing.os, "getpid", lambda: 1)  # the child's copy of the lease goes
    del held
    assert packing._blocks[0][packing._THERE] == 1


def test_a_free_block_that_is_too_small_is_replaced(as_worker: None) -> None:
    came(packing.pack(packing.channels_first(pictures(1, (20, 30)))))
    came(packing.pack(packing.channels_first(pictures(1, (200, 300)))))
    assert [len(block) >= 200 * 300 * 3 for block in packing._blocks] == [True]


def test_a_small_batch_gives_a_large_block_back(as_worker: None) -> None:
    came(packing.pack(packing.channels_first(pictures(1, (2000, 3000)))))
    came(packing.pack(packing.channels_first(pictures(1, (200, 300)))))
    assert [200 * 300 * 3 <= len(block) < 2000 * 3000 for block in packing._blocks] == [True]


def test_a_worker_keeps_a_few_blocks_alone(as_worker: None) -> None:
    held = [came(packing.pack(packing.channels_first(pictures(i, (20, 30))))) for i in range(20)]
    assert len(packing._blocks) == packing._KEPT
    assert [int(tensors[0].max()) for tensors in held] == list(range(20))
    held.clear()
    assert [block[:2].tolist() for block in packing._blocks] == [[0, 0]] * packing._KEPT


def test_a_worker_may_look_at_its_batch_and_send_it_again(as_worker: None) -> None:
    images = packing.channels_first(pictures(1, (20, 30)))
    copy.copy(RawBatch(images, []))  # what goes is a copy, not the batch
    first, again = came(packing.pack(images)), came(packing.pack(images))
    del first
    packing.channels_first(pictures(50, (20, 30)))
    assert (images[0] == 1).all()
    del images
    packing.channels_first(pictures(70, (20, 30)))
    assert (again[0] == 1).all()


def test_what_a_worker_does_not_send_is_free_again(as_worker: None) -> None:
    for i in range(20):
        packing.channels_first(pictures(i, (20, 30)))
    assert len(packing._blocks) == 1


def test_no_two_threads_are_given_one_block(as_worker: None) -> None:
    """A worker makes images while its queue's own thread packs maps."""

    class Slow(torch.Tensor):
        """Takes its time to say whether it is free, so that the other thread comes between."""

        def __getitem__(self, index: Any) -> Any:
            time.sleep(0.001)
            return super().__getitem__(index)

    held = [packing._shared(100) for _ in range(8)]
    packing._blocks[:] = [block.as_subclass(Slow) for block in packing._blocks]
    held.clear()
    given: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: given.append(packing._shared(100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({block.data_ptr() for block in given}) == 8


def test_nothing_takes_no_block(as_worker: None) -> None:
    assert packing.pack([]).tensors() == []
    assert packing._blocks == []


def test_memory_that_is_not_a_blocks_is_never_written_to() -> None:
    memory = torch.full((2, 3, 4, 5), 9, dtype=torch.uint8).share_memory_()
    packed = packing.pack(list(memory))
    assert packed._block.data_ptr() == memory.data_ptr()  # as they lie together, they are not copied
    del packed.tensors()[:]
    assert (memory == 9).all()


def test_a_slice_of_something_large_is_sent_alone() -> None:
    large = torch.arange(1_000_000, dtype=torch.int32)
    packed = packing.pack([large[:10], large[500:520]])
    assert packed._block.nbytes < 1000
    assert [t.tolist() for t in packed.tensors()] == [list(range(10)), list(range(500, 520))]


def test_batches_that_are_held_do_not_change(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    records = write_data(tmp_path, [(int(h), int(w)) for h, w in rng.integers(20, 90, (120, 2))])
    loader = DataModule(train=records, batch_size=2, workers=2).train_dataloader()
    held: list[tuple[RawBatch, list[torch.Tensor]]] = []
    for number, batch in enumerate(loader):
        # An image of row i is of value i + 1 throughout, so one that was overwritten shows.
        assert [int(image.float().mean()) for image in batch.images] == [id - 99 for id in batch.image_ids]
        if number % 3 == 0:
            held.append((batch, [image.clone() for image in batch.images]))
        if number % 8 == 7:
            del held[::2]
    for batch, images in held:
        assert all(torch.equal(a, b) for a, b in zip(batch.images, images, strict=True))


def test_workers_that_are_born_in_inference_mode(tmp_path: Path) -> None:
    """As Lightning makes them for an evaluation; the thread that sends what they made is not in that mode."""
    records = write_data(tmp_path, [(30, 40)] * 9)
    dataset = MapsToo(records, train=False)
    with torch.inference_mode():
        loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=collate, timeout=30)
        batches = list(loader)
    assert [id for batch in batches for id in batch.image_ids] == list(range(100, 109))
    assert all((image == id - 99).all() for b in batches for image, id in zip(b.images, b.image_ids, strict=True))
    assert all((t.semantic == 3).all() for b in batches for t in b.targets)


class MapsToo(DetectionDataset):
    def __getitem__(self, request: Request | int) -> Sample:
        sample = super().__getitem__(request)
        sample.target.semantic = torch.full(sample.target.size, 3, dtype=torch.int16)
        return sample


def test_memory_that_is_freed_is_kept() -> None:
    program = """
import platform, resource
import numpy as np
from vision_tasks.data.allocator import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        pieces = [np.ones(1_000_000, np.uint8) for _ in range(4)]
        del pieces
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = keep_memory(1 << 28, 1 << 25)
assert kept == (platform.libc_ver()[0] == "glibc")
faults()
print(faults() if kept else 0)
"""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", ALLOCATOR))}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=own, check=True)
    assert int(out.stdout) < 500  # 50 times 1,000 pages if each was handed back


def test_workers_keep_the_memory_they_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(datamodule, "keep_memory", lambda total, piece: calls.append((total, piece)))
    monkeypatch.setattr(datamodule.signal, "signal", lambda *_: None)
    monkeypatch.setattr(datamodule, "one_thread", lambda: None)
    loader = DataModule(train=write_data(tmp_path, [(9, 9)]), workers=0).train_dataloader()
    threads = cv2.getNumThreads(), torch.get_num_threads()
    try:
        loader.worker_init_fn(0)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    assert calls == [(1 << 28, 1 << 25)]
