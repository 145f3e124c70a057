"""How often images are taken, and what categories weigh: against plain loops, hand-made cases and formulas."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_tasks.categories import Categories
from vision_tasks.config import load_config
from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.joint import join
from vision_tasks.data.records import Records
from vision_tasks.data.sampler import BatchSampler
from vision_tasks.data.weighting import Rates, class_balanced_rates, class_weights, file_rates, repeat_factor_rates
from vision_tasks.errors import VisionTasksError
from vision_tasks.training.loaders import passes_of


def records_of(images: list[list[int]], names: tuple[str, ...] = ("a", "b", "c"), crowd: bool = False) -> Records:
    """One image per list of labels."""
    builder = RecordsBuilder(Path("made.json"), Path("."), Categories.of(names))
    for number, labels in enumerate(images):
        builder.add_image(f"part/{number}.jpg", 100, 100)
        for label in labels:
            builder.add_object(label, (10, 10, 20, 20), is_crowd=crowd)
    return builder.finish()


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=30),
    threshold=st.sampled_from([0.001, 0.1, 0.5, 1.0]),
)
def test_repeat_factors_are_those_of_the_paper(images, threshold):
    """LVIS, section 5, as a plain loop."""
    f = defaultdict(float)
    for labels in images:
        for c in set(labels):
            f[c] += 1 / len(images)
    expected = [max([max(1.0, math.sqrt(threshold / f[c])) for c in labels] or [1.0]) for labels in images]
    np.testing.assert_allclose(repeat_factor_rates(records_of(images), threshold), expected)


def test_crowds_are_not_what_an_image_is_repeated_for():
    assert (repeat_factor_rates(records_of([[0], [], [], []], crowd=True), 1.0) == 1).all()


def test_class_balanced_rates_are_the_odds_of_drawing_a_category_first():
    """Categories a (images 0, 1, 2) and b (image 2): image 2 is drawn for b always, for a every third time."""
    rates = class_balanced_rates(records_of([[0, 0], [0], [0, 1], []]))
    np.testing.assert_allclose(rates, [3 * (1 / 3) / 2, 3 * (1 / 3) / 2, 3 * (1 / 3 + 1) / 2, 1])
    with pytest.raises(VisionTasksError, match="needs objects"):
        class_balanced_rates(records_of([[], []]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=40).filter(lambda r: sum(r) >= 1), st.integers(0, 5))
def test_each_pass_takes_an_image_as_often_as_its_rate_says_to_within_one(given_rates, seed):
    rates = Rates(np.array(given_rates))
    seen = set()
    for number in range(4):
        rows, rounds = rates.of_pass(seed, number)
        assert len(rows) == len(rates) == round(sum(given_rates))
        counts = np.bincount(rows, minlength=len(given_rates))
        assert (np.abs(counts - rates.rates) < 1 + 1e-9).all()
        seen |= set(zip(rows.tolist(), rounds.tolist(), strict=True))
    assert len(seen) == 4 * len(rates)  # no image with the same augmentation twice


def test_over_many_passes_rates_are_exact():
    wanted = np.array([1.0, 0.25, 2.6, 1.0, 0.15])
    counts = sum(np.bincount(Rates(wanted).of_pass(3, n)[0], minlength=5) for n in range(2000))
    np.testing.assert_allclose(counts / 2000, wanted, atol=0.04)
    assert counts[0] == counts[3] == 2000  # a rate of 1 is once, never by chance


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batches_of_one_process(world_size):
    """No image twice, none lost, equal steps: together the ranks take what one process takes, batch by batch."""
    rates = Rates(repeat_factor_rates(records_of([[i % 3] if i % 7 else [2, 0] for i in range(41)]), 0.9))

    def batches(rank: int, ranks: int, epochs: int) -> list[list[list[tuple]]]:
        sampler = BatchSampler(41, 4, train=True, seed=1, passes=rates, rank=rank, world_size=ranks)
        out = []
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            out.append(list(sampler))
        return out

    shares = [batches(rank, world_size, 3) for rank in range(world_size)]
    assert len({len(epoch) for share in shares for epoch in share}) == 1
    dealt = [share[epoch][step] for epoch in range(3) for step in range(len(shares[0][0])) for share in shares]
    alone = [batch for epoch in batches(0, 1, 3) for batch in epoch]
    assert dealt == alone[: len(dealt)]
    counts = Counter(request.index for batch in batches(0, 1, 1)[0] for request in batch)
    assert set(counts) == set(range(41))


def test_weights_of_a_file(tmp_path):
    path = tmp_path / "weights.json"
    records = records_of([[0], [0], [1], []])
    path.write_text(json.dumps({"part/0.jpg": 5, "2.jpg": 0}))
    np.testing.assert_allclose(file_rates(records, path), np.array([5, 1, 0, 1]) * 4 / 7)
    for content, words in (
        ('{"9.jpg": 1}', "names no image"),
        ('{"0.jpg": -1}', "number from 0"),
        ('{"0.jpg": true}', "number from 0"),
        ("[1]", "not a list"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"0.jpg": 1' + "0" * 400 + "}", "'0.jpg' is 1000.* number from 0"),
        ('{"0.jpg": NaN}', "number from 0"),
        ('{"0.jpg": 0, "1.jpg": 0, "2.jpg": 0, "3.jpg": 0}', "all weights are 0"),
    ):
        path.write_text(content)
        with pytest.raises(VisionTasksError, match=words):
            file_rates(records, path)
    path.write_text('{"0.jpg": 1e308, "1.jpg": 1e308, "2.jpg": 1e308}')
    np.testing.assert_allclose(file_rates(records, path), [4 / 3, 4 / 3, 4 / 3, 0], atol=1e-300)


def test_a_name_of_images_in_two_data_sets_is_refused(tmp_path):
    records = join([records_of([[0]]), records_of([[0]])])
    (tmp_path / "w.json").write_text('{"part/0.jpg": 2}')
    with pytest.raises(VisionTasksError, match="names 2 images"):
        file_rates(records, tmp_path / "w.json")


def test_the_recipe_chooses(tmp_path):
    records = records_of([[0]] * 9 + [[1]])
    assert passes_of(load_config().data, records) is None
    rates = passes_of(load_config(None, ["data.sampling=repeat_factor", "data.repeat_threshold=0.4"]).data, records)
    np.testing.assert_allclose(rates.rates, [1.0] * 9 + [2.0])
    joint = join([records, records_of([[0]] * 4)], [1.0, 0.5])
    balanced = passes_of(load_config(None, ["data.sampling=class_balanced"]).data, joint)
    assert len(balanced) == round(14 / 2 / 13 * 9 + 14 / 2 + 0.5 * 14 / 2 / 13 * 4) == 13
    with pytest.raises(VisionTasksError, match="sampling_weights=FILE"):
        passes_of(load_config(None, ["data.sampling=weights"]).data, records)
    with pytest.raises(VisionTasksError, match="not used"):
        passes_of(load_config(None, [f"data.sampling_weights={tmp_path}/w.json"]).data, records)


def test_class_weights_are_those_of_the_formulas():
    counts = np.array([900, 90, 10, 0])
    # The balanced weights of scikit-learn: samples / (classes × count).
    np.testing.assert_allclose(class_weights(counts, "inverse"), [1000 / 2700, 1000 / 270, 1000 / 30, 1])
    root = class_weights(counts, "sqrt")
    np.testing.assert_allclose(root[0] / root[2], math.sqrt(10 / 900))
    effective = class_weights(counts, "effective")
    # Cui et al., equation 4
    np.testing.assert_allclose(effective[1] / effective[0], (1 - 0.999**900) / (1 - 0.999**90))
    for weights in (root, effective):
        np.testing.assert_allclose((weights * counts).sum(), counts.sum())
        assert weights[3] == 1
    assert class_weights(np.zeros(3), "sqrt").tolist() == [1, 1, 1]
