"""Dividing a data set: shares of every category, groups that stay together, every image exactly once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from tests.data.written_coco import written
from vision_tasks.data.operations.split import Presence, deal, groups_of, pooled, presence, split_records
from vision_tasks.errors import VisionTasksError


def make_presence(random: Generator, count: int = 4000, classes: int = 30) -> Presence:
    """Long-tailed: the rarest category is in a few images, some images have none."""
    table = random.random((count, classes)) < 0.4 / np.arange(1, classes + 1) ** 1.5
    rows, labels = np.nonzero(table)
    return Presence(count, classes, rows, labels)


def per_split(present: Presence, dealt: np.ndarray, splits: int) -> np.ndarray:
    """(splits, classes) images with each category."""
    table = np.zeros((present.count, present.classes), int)
    table[present.rows, present.labels] = 1
    return np.stack([table[dealt == i].sum(axis=0) for i in range(splits)])


@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.7, 0.2, 0.1)])
def test_every_category_has_its_share_to_an_image(shares: tuple[float, ...]) -> None:
    present = make_presence(np.random.default_rng(0))
    dealt = deal(present, shares, seed=3)
    counts = per_split(present, dealt, len(shares))
    wanted = counts.sum(axis=0) * np.array(shares)[:, None]
    assert np.abs(counts - wanted).max() <= 1.5
    sizes = np.bincount(dealt, minlength=len(shares))
    assert sizes.sum() == present.count
    assert np.abs(sizes - present.count * np.array(shares)).max() <= 1
    # Images without objects, too.
    bare = np.setdiff1d(np.arange(present.count), present.rows)
    assert np.abs(np.bincount(dealt[bare]) - len(bare) * np.array(shares)).max() <= 0.01 * len(bare)


def test_chance_alone_is_worse() -> None:
    present = make_presence(np.random.default_rng(1))
    dealt = deal(present, (0.8, 0.2))

    def error(dealt: np.ndarray) -> float:
        counts = per_split(present, dealt, 2)
        return float(np.abs(counts[1] / counts.sum(axis=0).clip(1) - 0.2).mean())

    random = np.random.default_rng(0).permutation(dealt)
    assert error(dealt) < 0.2 * error(random)


def test_seeds() -> None:
    present = make_presence(np.random.default_rng(2))
    assert np.array_equal(deal(present, (0.8, 0.2), seed=1), deal(present, (0.8, 0.2), seed=1))
    assert not np.array_equal(deal(present, (0.8, 0.2), seed=1), deal(present, (0.8, 0.2), seed=2))


def test_rare_categories_are_in_train_first() -> None:
    # One image of category 0, two of 1, and train is the smaller part.
    present = Presence(40, 3, np.array([0, 1, 2, *range(3, 40)]), np.array([0, 1, 1, *[2] * 37]))
    for seed in range(20):
        dealt = deal(present, (0.3, 0.7), seed=seed)
        assert dealt[0] == 0
        assert 0 in dealt[1:3]
        assert abs(int((dealt == 0).sum()) - 12) <= 1


def test_no_split_is_empty() -> None:
    for count in (3, 4):
        present = Presence(count, 1, np.arange(count), np.zeros(count, np.int64))
        assert sorted(set(deal(present, (0.9, 0.05, 0.05)).tolist())) == [0, 1, 2]
    assert sorted(deal(Presence(2, 0, np.zeros(0, int), np.zeros(0, int)), (0.8, 0.2)).tolist()) == [0, 1]


def test_groups_stay_together_and_shares_are_kept() -> None:
    random = np.random.default_rng(4)
    present = make_presence(random, 6000, 10)
    groups = random.integers(0, 600, 6000)
    dealt = deal(present, (0.8, 0.2), groups)
    for group in np.unique(groups):
        assert len(set(dealt[groups == group].tolist())) == 1
    counts = per_split(present, dealt, 2)
    shares = counts[1] / counts.sum(axis=0)
    assert np.abs(shares[counts.sum(axis=0) > 300] - 0.2).max() < 0.02


def test_group_keys(tmp_path: Path) -> None:
    images = {f"{scene}/{scene}_{i}.png": [("a", [1, 2, 3, 4])] for scene in ("x", "y", "z") for i in range(2)}
    keys = {name: {"camera": name[0] == "x"} for name in images}
    records = written(tmp_path, "train", images, ["a"], image_keys=keys)
    assert groups_of(records, "folder").tolist() == [0, 0, 1, 1, 2, 2]
    assert groups_of(records, r"_(\d)\.").tolist() == [0, 1, 0, 1, 0, 1]
    assert groups_of(records, "camera").tolist() == [0, 0, 1, 1, 1, 1]
    wrongs = {"(q)": "does not fit 6", "lens": "camera", "(": "no regular expression", "(?:_)": "no group"}
    for wrong, words in wrongs.items():
        with pytest.raises(VisionTasksError, match=words):
            groups_of(records, wrong)
    with pytest.raises(VisionTasksError, match="cannot be divided into 3"):
        split_records(records, (0.5, 0.3, 0.2), "camera")


def test_records_are_divided_without_loss(tmp_path: Path) -> None:
    names = ["a", "b"]
    images = {f"{i}.png": [(names[i % 2], [1, 2, 3 + i, 4])] * (i % 3) for i in range(20)}
    extra = {1: {"note": "first"}}
    train = written(tmp_path, "train", images, names, object_keys=extra)
    val = written(tmp_path, "val", {"0.png": [("b", [5, 5, 5, 5])], "new.png": []}, names)
    whole, notes = pooled({"train": train, "val": val})
    assert len(whole) == 22
    assert len(set(whole.image_ids.tolist())) == 22
    assert any("image ids clash" in note for note in notes)
    parts = split_records(whole, (0.5, 0.25, 0.25), seed=1)
    assert [*parts] == ["train", "val", "test"]
    ids = np.concatenate([part.image_ids for part in parts.values()])
    assert sorted(ids.tolist()) == sorted(whole.image_ids.tolist())
    seen = {
        (part.image_path(row), tuple(box))
        for part in parts.values()
        for row in range(len(part))
        for box in part.boxes[part.first[row] : part.first[row + 1]].tolist()
    }
    wanted = {
        (records.image_path(row), tuple(box))
        for records in (train, val)
        for row in range(len(records))
        for box in records.boxes[records.first[row] : records.first[row + 1]].tolist()
    }
    assert seen == wanted
    # Both have a 0.png: that of val is found where it lies, under a name of its own.
    assert sorted(n for p in parts.values() for n in map(p.file_name, range(len(p))) if "0.png" in n)[-1] == "val/0.png"
    notes_kept = [own for p in parts.values() if p.extras for own in p.extras.annotations.values()]
    assert {"note": "first"} in notes_kept


def test_counts_of_parts(tmp_path: Path) -> None:
    records = written(tmp_path, "train", {f"{i}.png": [("a", [1, 1, 5, 5])] * (i % 2) for i in range(9)}, ["a", "b"])
    present = presence(records)
    assert present.per_class().tolist() == [4, 0]
    part = records.subset([1, 2, 7])
    assert present.of(records, part).per_class().tolist() == [2, 0]


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.6), (1.0, 0.0), (0.25,) * 4, (0.5, float("nan"))])
def test_shares_that_cannot_be(shares: tuple[float, ...], tmp_path: Path) -> None:
    records = written(tmp_path, "train", {"1.png": [], "2.png": []}, ["a"])
    with pytest.raises(VisionTasksError, match="sum to 1"):
        split_records(records, shares)
