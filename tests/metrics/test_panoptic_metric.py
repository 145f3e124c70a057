"""PanopticMetric on random maps and cases made by hand; batches, ranks, names, errors."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from panoptic_reference import KNOWN, check, judged, panoptic, random_pair

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics import PanopticMetric
from vision_tasks.structures import Categories, Panoptic


@pytest.mark.parametrize("seed", range(40))
def test_random_maps(seed):
    check([random_pair(3 * seed + i) for i in range(3)], KNOWN)


def test_by_hand():
    """Ten rows of ten pixels: void, a crowd of c0, a c0, a c3; half in void is too little to be forgiven."""
    truth = np.zeros((10, 10), dtype=int)
    truth[2:4], truth[4:6], truth[6:10] = 1, 2, 3
    true = panoptic(truth, [0, 0, 3], KNOWN, [True, False, False])
    found = np.zeros((10, 10), dtype=int)
    found[0, :6], found[2, :6] = 1, 1  # c0 in void and crowd: forgiven
    found[1, :4], found[4, :4] = 2, 2  # c1, half in void: wrong
    found[5], found[4, 4:] = 3, 3  # c0, IoU 16 / 20 with the truth
    found[6:8] = 4  # c3, IoU of exactly a half: wrong, and the truth is missed
    summary = judged([(panoptic(found, [0, 1, 0, 3], KNOWN), true)], KNOWN).summary()
    assert summary.main == "PQ"
    rows = [(r["PQ"], r["SQ"], r["RQ"], r["right"], r["wrong"], r["missed"]) for r in summary.per_category]
    assert rows[0] == pytest.approx((0.8, 0.8, 1, 1, 0, 0))
    assert rows[1] == pytest.approx((0, 0, 0, 0, 1, 0))
    assert rows[2] == (-1, -1, -1, 0, 0, 0)
    assert rows[3] == pytest.approx((0, 0, 0, 0, 1, 1))
    assert summary.numbers == pytest.approx(
        {"PQ": 0.8 / 3, "SQ": 0.8 / 3, "RQ": 1 / 3, "PQ_things": 0.4, "SQ_things": 0.4, "RQ_things": 0.5}
        | {"PQ_stuff": 0, "SQ_stuff": 0, "RQ_stuff": 0}
    )
    assert summary.per_category[0]["name"] == "c0"
    assert next(iter(summary.per_category[0])) == "name"


def test_of_several_crowds_of_a_category_the_last_forgives():
    """As in panopticapi, which keeps one crowd per category and image; COCO has no more."""
    truth = panoptic(np.array([[1, 1, 2, 2]]), [0, 0], KNOWN, [True, True])
    wrong = {1: 1, 2: 0}
    for row, expected in wrong.items():
        found = panoptic(truth.ids.numpy() == row, [0], KNOWN)
        assert judged([(found, truth)], KNOWN).counts[0].tolist() == [0, 0, expected, 0]


def only_first(p: Panoptic, few: Categories) -> Panoptic:
    """Without the segments of all but the first categories."""
    rows = [i for i, label in enumerate(p.labels.tolist()) if label < len(few)]
    table = np.zeros(len(p) + 1, dtype=np.int32)
    table[[i + 1 for i in rows]] = np.arange(len(rows)) + 1
    crowd = None if p.is_crowd is None else [bool(p.is_crowd[i]) for i in rows]
    return panoptic(table[p.ids.numpy()], [int(p.labels[i]) for i in rows], few, crowd)


def test_labels_are_understood_by_name():
    prediction, truth = random_pair(8)
    names = [" C5 ", "c4", "x", "c2", "C0", "c3", "c1"]
    other = Categories.of([{"id": 900 + i, "name": name} for i, name in enumerate(names)])
    place = [4, 6, 3, 5, 1, 0]
    renamed = panoptic(prediction.ids.numpy(), [place[int(k)] for k in prediction.labels], other)
    assert np.array_equal(judged([(renamed, truth)], KNOWN).counts, judged([(prediction, truth)], KNOWN).counts)
    # Segments of a name that nobody knows are as void: those of the prediction and those of the truth.
    few = Categories.of([{"id": i + 1, "name": f"c{i}"} for i in range(2)])
    for seed in range(20):
        prediction, truth = random_pair(seed)
        kept = [only_first(p, few) for p in (prediction, truth)]
        assert np.array_equal(judged([(prediction, truth)], few).counts, judged([(kept[0], kept[1])], few).counts)
    with pytest.raises(VisionTasksError, match="no category in common"):
        judged([(panoptic(np.zeros(truth.ids.shape), [], Categories.of(["cat"])), truth)], KNOWN)


def test_maps_that_do_not_fit_are_refused():
    truth = panoptic(np.zeros((4, 5)), [], KNOWN)
    with pytest.raises(VisionTasksError, match="1 predictions but 0 truths"):
        PanopticMetric(KNOWN).update([truth], [])
    with pytest.raises(VisionTasksError, match="prediction's panoptic map does not fit: 2 lies outside"):
        judged([(panoptic(np.full((4, 5), 2), [0], KNOWN), truth)], KNOWN)
    with pytest.raises(VisionTasksError, match=r"maps of \(4, 5\) and \(5, 4\) pixels"):
        judged([(panoptic(np.zeros((5, 4)), [], KNOWN), truth)], KNOWN)


def test_order_and_reset_change_nothing():
    pairs = [random_pair(i) for i in range(6)]
    whole = judged(pairs, KNOWN)
    metric = judged(pairs[::-1], KNOWN)
    assert metric.compute() == whole.compute()
    metric.reset()
    for pair in pairs:
        metric.update([pair[0]], [pair[1]])
    assert metric.compute() == whole.compute()


def _rank(rank: int, folder: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    outcome = []
    for deal in (([], range(6)), ([], []), (range(2), range(2, 6))):
        metric = PanopticMetric(KNOWN)
        for i in deal[rank]:
            metric.update(*([part] for part in random_pair(i)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics: compute before update
            outcome.append(metric.summary().numbers)
    (Path(folder) / f"rank{rank}.pickle").write_bytes(pickle.dumps(outcome))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_gloo_processes_count_as_one(tmp_path):
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    whole = judged([random_pair(i) for i in range(6)], KNOWN).compute()
    for rank in range(2):
        first, second, third = pickle.loads((tmp_path / f"rank{rank}.pickle").read_bytes())
        assert first == third == whole
        assert set(second.values()) == {-1}
