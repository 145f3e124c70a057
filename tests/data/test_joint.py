"""Several data sets as one: who annotated what, how often each image comes, and that nothing depends on workers."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_coco import write_data

from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.dataset import DetectionDataset
from vision_tasks.data.joint import JointRecords, join
from vision_tasks.data.mixture import Mixture
from vision_tasks.data.mixup import MixUp
from vision_tasks.data.mosaic import Mosaic
from vision_tasks.data.records import Records
from vision_tasks.data.sampler import BatchSampler, Request
from vision_tasks.data.semantic_source import SemanticSource
from vision_tasks.data.transforms import Transforms
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Size
from vision_tasks.training.truth import truth_of


class Painted(SemanticSource):
    """Row r is labelled r % 3 everywhere; rows that are not in `known` were not annotated."""

    def __init__(self, rows: list[int], known: set[int], names: tuple[str, ...] = ("sky", "road", "tree")) -> None:
        self.rows, self.known = rows, known
        self.categories, self.multi_label = Categories.of(list(names)), False

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int, size: Size) -> np.ndarray | None:
        return np.full(size, self.rows[row] % 3, np.int16) if self.has(row) else None

    def subset(self, rows: object) -> Painted:
        return Painted([self.rows[r] for r in np.asarray(rows).tolist()], self.known, tuple(self.categories.names))

    def place(self, row: int) -> str:
        return f"map {self.rows[row]}"

    def has(self, row: int) -> bool:
        return self.rows[row] in self.known


def parts_of(folder: Path, maps: int = 7) -> list[Records]:
    """Five images with boxes and masks, seven with maps alone (but one), three with boxes alone."""
    masked = write_data(folder / "a", [(40, 60)] * 5)
    mapped = write_data(folder / "b", [(50, 50)] * maps)
    boxed = write_data(folder / "c", [(60, 40)] * 3)
    mapped = dataclasses.replace(mapped, has_boxes=False, semantic=Painted(list(range(maps)), set(range(1, maps))))
    bare = dataclasses.replace(boxed, has_shapes=False, shape_starts=np.full(len(boxed.labels), -1))
    return [masked, mapped, bare]


def test_targets_say_who_annotated_what(tmp_path):
    records = join(parts_of(tmp_path))
    assert isinstance(records, Records)
    assert len(records) == 15
    assert len(set(records.image_ids.tolist())) == 15, "all three data sets count from 100"
    dataset = DetectionDataset(records)
    for row in range(15):
        sample = dataset[row]
        target, part = sample.target, 0 if row < 5 else 1 if row < 12 else 2
        own = row - (0, 5, 12)[part]
        assert target.image_id == records.image_ids[row]
        assert (sample.image == own + 1).all()
        assert sample.image.shape[:2] == target.size == [(40, 60), (50, 50), (60, 40)][part]
        assert (target.boxes is None) == (part == 1)
        assert (target.labels is None) == (target.area is None) == (target.is_crowd is None) == (part == 1)
        assert (target.masks is None) == (part != 0)
        if part != 1:
            assert len(target.boxes) == own % 3
        assert (target.semantic is None) == (part != 1 or own == 0)
        if target.semantic is not None:
            assert (target.semantic == own % 3).all()
        assert dataset.has_annotations(row) == (own > 0 if part == 1 else own % 3 > 0)
        assert records.file_name(row) == f"{own}.png"
    assert records.has_boxes
    assert records.has_shapes
    assert records.semantic.place(6) == "map 1"
    assert records.semantic.place(0) == "no map"
    assert records.categories.names == ("thing",) or records.categories.names == ["thing"]


def test_ids_that_differ_stay(tmp_path):
    first, second, _ = parts_of(tmp_path)
    second = dataclasses.replace(second, image_ids=second.image_ids + 1000)
    joint = join([first, second])
    assert joint.image_ids.tolist() == [*range(100, 105), *range(1100, 1107)]
    assert join([second]).image_ids.tolist() == list(range(1100, 1107))
    only = join([second])
    assert not only.has_boxes
    assert DetectionDataset(only)[3].target.boxes is None


def test_ids_of_annotation_files_stay_where_maps_have_the_same(tmp_path):
    boxed, mapped, other = parts_of(tmp_path)  # all count from 100
    joint = join([mapped, boxed])
    assert joint.image_ids.tolist() == [*range(105, 112), *range(100, 105)]
    assert DetectionDataset(joint)[7].target.image_id == 100
    assert join([mapped, mapped]).image_ids.tolist() == list(range(1, 15))
    other = dataclasses.replace(other, image_ids=other.image_ids + 1000)
    ids = join([boxed, mapped, other]).image_ids.tolist()
    assert ids[:5] + ids[12:] == [*range(100, 105), *range(1100, 1103)]
    assert len(set(ids)) == 15


def test_flat_arrays_are_those_of_the_parts_with_boxes(tmp_path):
    parts = parts_of(tmp_path)
    joint = join(parts)
    truth, first, last = truth_of(joint, "segm"), truth_of(parts[0], "segm"), truth_of(parts[2], "segm")
    assert joint.labels.shape == (5 + 3 - 1,) == (len(parts[0].labels) + len(parts[2].labels),)
    np.testing.assert_array_equal(joint.boxes, np.concatenate([parts[0].boxes, parts[2].boxes]))
    assert len(np.unique(joint.annotation_ids)) == 7
    for index in range(4):
        np.testing.assert_array_equal(joint.segmentation(index)[0], parts[0].segmentation(index)[0])
    assert joint.segmentation(5) is None
    assert int(joint.first[5]) == int(joint.first[12]) == len(parts[0].labels)
    # What is judged: the same objects of the same images, those without an outline as crowds.
    assert [truth.image_ids[i] - 1 for i in truth.image] == [*first.image, *last.image + 12]
    assert truth.rles == first.rles + last.rles
    assert truth.is_crowd.tolist() == [False] * 4 + [True] * 3


def test_pickles_are_parts_and_subsets_keep_them(tmp_path):
    joint = join(parts_of(tmp_path), [1, 2, 0.5])
    again = pickle.loads(pickle.dumps(joint))
    assert isinstance(again, JointRecords)
    assert again.ratios == (1, 2, 0.5)
    np.testing.assert_array_equal(again.image_ids, joint.image_ids)
    np.testing.assert_array_equal(again.boxes, joint.boxes)
    some = joint.subset([1, 4, 6, 11, 14])
    assert len(some) == 5
    assert [some.part_of(row)[0] for row in range(5)] == [0, 0, 1, 1, 2]
    for new, old in enumerate([1, 4, 6, 11, 14]):
        a, b = DetectionDataset(some)[new], DetectionDataset(joint)[old]
        assert np.array_equal(a.image, b.image)
        assert (a.target.semantic is None) == (b.target.semantic is None)
        assert a.target.semantic is None or torch.equal(a.target.semantic, b.target.semantic)
    with pytest.raises(ValueError, match="before those of the next"):
        joint.subset([7, 2])


def test_what_does_not_go_together(tmp_path):
    first, second, third = parts_of(tmp_path)
    other = dataclasses.replace(third, categories=Categories.of(["cat"]))
    with pytest.raises(VisionTasksError, match=r"categories of boxes.*thing.*cat"):
        join([first, other])
    source = Painted(list(range(7)), set(), ("sky", "tree", "road"))
    with pytest.raises(VisionTasksError, match="semantic maps"):
        join([second, dataclasses.replace(second, semantic=source)])
    layers = Painted(list(range(7)), set())
    layers.multi_label = True
    with pytest.raises(VisionTasksError, match="one form"):
        join([second, dataclasses.replace(second, semantic=layers)])
    for ratio in (0, -1, float("nan"), float("inf")):
        with pytest.raises(VisionTasksError, match=r"train\[1\]\.ratio"):
            join([first, third], [1, ratio])


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0.1, 0.3, 0.5, 1.0, 1.7, 2.0, 5.0])), min_size=1,
                   max_size=4),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_every_image_comes_equally_often(parts, seed):
    mixture = Mixture(*zip(*parts, strict=True))
    starts = np.cumsum([0, *mixture.sizes])
    seen: Counter[int] = Counter()
    pairs: set[tuple[int, int]] = set()
    for number in range(7):
        rows, rounds = mixture.of_pass(seed, number)
        assert len(rows) == len(mixture)
        inside = np.histogram(rows, starts)[0]
        assert inside.tolist() == list(mixture.counts) == [max(1, round(n * r)) for n, r in parts]
        for row, turn in zip(rows.tolist(), rounds.tolist(), strict=True):
            assert turn == seen[row], "the round says how often the image came before"
            seen[row] += 1
            assert (row, turn) not in pairs
            pairs.add((row, turn))
        for i in range(len(parts)):
            counts = [seen[row] for row in range(starts[i], starts[i + 1])]
            assert max(counts) - min(counts) <= 1
    again = Mixture(*zip(*parts, strict=True)).of_pass(seed, 3)
    assert all(np.array_equal(a, b) for a, b in zip(again, mixture.of_pass(seed, 3), strict=True))


def test_parts_are_spread_evenly_and_orders_differ():
    mixture = Mixture([1000, 100, 10], [0.3, 2, 1])
    assert mixture.counts == (300, 200, 10)
    rows, _ = mixture.of_pass(0, 0)
    part = np.searchsorted([1000, 1100], rows, side="right")
    for start in range(0, 460, 20):
        window = np.bincount(part[start : start + 51], minlength=3) / 51 * 510
        assert np.abs(window - [300, 200, 10]).max() < 35
    assert not np.array_equal(rows, mixture.of_pass(0, 1)[0])
    assert not np.array_equal(rows, mixture.of_pass(1, 0)[0])
    patterns = {tuple(np.searchsorted([1000, 1100], mixture.of_pass(0, n)[0], side="right").tolist()) for n in range(4)}
    assert len(patterns) == 4, "batches are mixed anew in every pass"
    alone = Mixture([50], [1]).of_pass(0, 0)[0]
    assert sorted(alone.tolist()) == list(range(50)) != alone.tolist()


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_take_the_batches_that_one_takes(ranks):
    mixture = Mixture([40, 13], [0.5, 2])
    options = {"train": True, "seed": 3, "passes": mixture, "groups": np.arange(53) % 2, "min_sizes": (100, 120)}

    def stream(rank: int, world_size: int, epochs: int) -> list[list[Request]]:
        sampler = BatchSampler(53, 4, rank=rank, world_size=world_size, **options)
        batches = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            batches += list(sampler)
        return batches

    one = stream(0, 1, 6)
    assert len(one) == 6 * 12  # 20 + 26 images make 12 batches
    several = [batch for step in zip(*(stream(r, ranks, 6) for r in range(ranks)), strict=True) for batch in step]
    assert several == one[: len(several)]
    sampler = BatchSampler(53, 4, rank=0, world_size=1, position=lambda: 17, **options)
    assert list(sampler) == one[17:29]
    counts = Counter(r.index for batch in one for r in batch)
    assert {counts[i] for i in range(40)} == {3}
    assert {counts[i] for i in range(40, 53)} == {12}


def test_evaluation_takes_every_image_once(tmp_path):
    joint = join(parts_of(tmp_path), [3, 0.2, 1])
    loaders = DataModule(joint, joint, batch_size=4, workers=0)
    assert [i for batch in loaders.val_dataloader() for i in batch.image_ids] == joint.image_ids.tolist()
    assert len(loaders.train_dataloader()) == -(-(15 + 1 + 3) // 4)


def test_batches_are_the_same_with_any_number_of_workers(tmp_path):
    parts = parts_of(tmp_path)
    made = []
    for workers in (0, 2):
        loaders = DataModule(
            join(parts, [2, 1, 1]), batch_size=3, workers=workers, seed=5, transforms=Transforms("strong"),
            combinations=[Mosaic(0.5, (48, 48)), MixUp(0.5)],
        )  # fmt: skip
        made.append(list(loaders.train_dataloader()))
    kinds = set()
    for a, b in zip(*made, strict=True):
        assert a.image_ids == b.image_ids
        for x, y in zip(a.images, b.images, strict=True):
            assert torch.equal(x, y)
        for s, t in zip(a.targets, b.targets, strict=True):
            for name in ("boxes", "semantic"):
                one, other = getattr(s, name), getattr(t, name)
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one, other)
        kinds.add((any(t.boxes is None for t in a.targets), any(t.semantic is None for t in a.targets)))
    assert (True, True) in kinds, "batches are mixed"


def test_images_are_combined_with_their_like(tmp_path):
    """A mosaic of parts with other labels would know nothing of either."""
    joint = join(parts_of(tmp_path))
    for combination in (Mosaic(1.0, (48, 48)), MixUp(1.0)):
        dataset = DetectionDataset(joint, combinations=[combination])
        for row in range(15):
            for epoch in range(3):
                target = dataset[Request(row, epoch)].target
                assert (target.boxes is None) == (5 <= row < 12)
                assert (target.masks is None) == (row >= 5)
                assert row < 12 or target.semantic is None


def test_an_unreadable_image_is_replaced_by_one_of_its_own_part(tmp_path):
    parts = parts_of(tmp_path)
    (tmp_path / "a" / "4.png").write_bytes(b"no image")
    dataset = DetectionDataset(join(parts))
    sample = dataset[4]
    assert (sample.image == 1).all()
    assert sample.image.shape == (40, 60, 3)
    assert sample.target.image_id == dataset.records.image_ids[0]
    assert [u.image_id for u in sample.unreadable] == [int(dataset.records.image_ids[4])]
