"""SemanticMetric: against a slow count, torchmetrics' functions and cases made by hand; batches, ranks, errors."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torchmetrics.functional import classification as peer

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics import SemanticMetric
from vision_tasks.structures import Categories, Prediction, Target


def categories(k: int) -> Categories:
    return Categories.of([{"id": 10 * (i + 1), "name": f"c{i}", "isthing": 0} for i in range(k)])


def maps(k: int, seed: int, n: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truths with a tenth to ignore and predictions with some -1, of categories k // 2 on never in either."""
    r = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        size = tuple(r.integers(5, 40, 2))
        some = r.choice(k, max(1, k // 2), replace=False)
        truth = r.choice(some, size).astype(np.int16)
        predicted = np.where(r.random(size) < 0.6, truth, r.choice(some, size)).astype(np.int16)
        truth[r.random(size) < 0.1] = -1
        predicted[r.random(size) < 0.02] = -1
        pairs.append((truth, predicted))
    return pairs


def of(pairs, known: Categories) -> tuple[list[Prediction], list[Target]]:
    predictions = [Prediction(p.shape[-2:], known, semantic=torch.from_numpy(p)) for _, p in pairs]
    return predictions, [Target(i, t.shape[-2:], semantic=torch.from_numpy(t)) for i, (t, _) in enumerate(pairs)]


def judged(pairs, k: int, **options) -> SemanticMetric:
    metric = SemanticMetric(categories(k), **options)
    metric.update(*of(pairs, metric.categories))
    return metric


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else -1.0


def slow(pairs, k: int) -> dict[str, float]:
    """Straight from the definitions, pixel after pixel."""
    count = [[0] * (k + 1) for _ in range(k)]
    for truth, predicted in pairs:
        for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if t >= 0:
                count[t][p if p >= 0 else k] += 1
    right = [count[c][c] for c in range(k)]
    true = [sum(count[c]) for c in range(k)]
    guessed = [sum(row[c] for row in count) for c in range(k)]
    there = [c for c in range(k) if true[c] or guessed[c]]
    iou = {c: right[c] / (true[c] + guessed[c] - right[c]) for c in there}
    return {
        "mIoU": mean(list(iou.values())),
        "pixel_accuracy": sum(right) / sum(true),
        "mean_accuracy": mean([right[c] / true[c] for c in there if true[c]]),
        "fwIoU": sum(true[c] * iou[c] for c in there) / sum(true),
        "Dice": mean([2 * right[c] / (true[c] + guessed[c]) for c in there]),
        "precision": mean([right[c] / guessed[c] if guessed[c] else 0.0 for c in there]),
        "recall": mean([right[c] / true[c] if true[c] else 0.0 for c in there]),
    }


@pytest.mark.parametrize("k", [2, 3, 19, 181, 400])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_slow_count(k, seed):
    pairs = maps(k, seed)
    found = judged(pairs, k).compute()
    expected = slow(pairs, k)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_equals_torchmetrics(seed):
    k = 7
    pairs = [(t, np.maximum(p, 0)) for t, p in maps(k, seed)]
    metric = judged(pairs, k)
    found = metric.compute()
    truth = torch.cat([torch.from_numpy(t).flatten() for t, _ in pairs]).long()
    predicted = torch.cat([torch.from_numpy(p).flatten() for _, p in pairs]).long()
    options = {"num_classes": k, "average": "macro", "ignore_index": -1}
    assert found["precision"] == pytest.approx(float(peer.multiclass_precision(predicted, truth, **options)), abs=1e-6)
    assert found["recall"] == pytest.approx(float(peer.multiclass_recall(predicted, truth, **options)), abs=1e-6)
    assert found["Dice"] == pytest.approx(float(peer.multiclass_f1_score(predicted, truth, **options)), abs=1e-6)
    assert found["mIoU"] == pytest.approx(float(peer.multiclass_jaccard_index(predicted, truth, **options)), abs=1e-6)
    options["average"] = "weighted"
    assert found["fwIoU"] == pytest.approx(float(peer.multiclass_jaccard_index(predicted, truth, **options)), abs=1e-6)
    options["average"] = "micro"
    expected = float(peer.multiclass_accuracy(predicted, truth, **options))
    assert found["pixel_accuracy"] == pytest.approx(expected, abs=1e-6)
    table = peer.multiclass_confusion_matrix(predicted, truth, k, ignore_index=-1)
    assert np.array_equal(metric.summary().confusion[:, :k], table.numpy())
    assert not metric.summary().confusion[:, k].any()


@pytest.mark.parametrize("labels", [1, 5])
def test_several_labels_a_pixel_equal_torchmetrics(labels):
    r = np.random.default_rng(labels)
    pairs = []
    for _ in range(3):
        truth = (r.random((labels, 20, 17)) < 0.4).astype(np.int8)
        predicted = np.where(r.random(truth.shape) < 0.7, truth, 1 - truth).astype(bool)
        truth[r.random(truth.shape) < 0.1] = -1
        if labels > 1:
            truth[2], predicted[2] = np.minimum(truth[2], 0), False  # label 2 is nowhere
        pairs.append((truth, predicted))
    metric = judged(pairs, labels, multi_label=labels > 1)
    truth = torch.cat([torch.from_numpy(t).flatten(1) for t, _ in pairs], dim=1).T.long()
    predicted = torch.cat([torch.from_numpy(p).flatten(1) for _, p in pairs], dim=1).T.long()
    rows, found = metric.summary().per_category, metric.compute()
    for label, row in enumerate(rows):
        if label == 2:
            assert (row["IoU"], row["Dice"], row["precision"], row["recall"]) == (-1, -1, -1, -1)
            continue
        of_label = predicted[:, label], truth[:, label]
        for name, function in (
            ("IoU", peer.binary_jaccard_index), ("Dice", peer.binary_f1_score), ("recall", peer.binary_recall),
            ("precision", peer.binary_precision),
        ):  # fmt: skip
            assert row[name] == pytest.approx(float(function(*of_label, ignore_index=-1)), abs=1e-6)
        assert np.array_equal(
            metric.summary().confusion[label], peer.binary_confusion_matrix(*of_label, ignore_index=-1).numpy()
        )
    judged_rows = [row for row in rows if row["IoU"] >= 0]
    assert found["mIoU"] == pytest.approx(mean([row["IoU"] for row in judged_rows]))
    assert found["mean_accuracy"] == found["recall"] == pytest.approx(mean([row["recall"] for row in judged_rows]))
    decided = truth >= 0
    assert found["pixel_accuracy"] == pytest.approx(float((predicted == truth)[decided].float().mean()), abs=1e-6)


def test_by_hand():
    """Six pixels judged, one ignored: road 2 of 3 found, sky wholly, a tree where sky is; no bush anywhere."""
    known = Categories.of(["road", "sky", "tree", "bush"])
    truth = torch.tensor([[0, 0, 0, -1], [1, 1, 1, -1]], dtype=torch.int16)
    predicted = torch.tensor([[0, 0, -1, 3], [1, 1, 2, 0]], dtype=torch.int16)
    metric = SemanticMetric(known)
    metric.update([Prediction((2, 4), known, semantic=predicted)], [Target(1, (2, 4), semantic=truth)])
    summary = metric.summary()
    assert summary.main == "mIoU"
    assert summary.numbers == pytest.approx(
        {
            "mIoU": (2 / 3 + 2 / 3 + 0) / 3, "pixel_accuracy": 4 / 6, "mean_accuracy": 2 / 3, "fwIoU": 2 / 3,
            "Dice": (0.8 + 0.8 + 0) / 3, "precision": (1 + 1 + 0) / 3, "recall": (2 / 3 + 2 / 3 + 0) / 3,
        }
    )  # fmt: skip
    assert summary.confusion.tolist() == [[2, 0, 0, 0, 1], [0, 2, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    road, _, tree, bush = summary.per_category
    assert list(road) == ["name", "id", "truth", "predicted", "IoU", "Dice", "precision", "recall"]
    assert road == {"name": "road", "id": 1, "truth": 3, "predicted": 2, "IoU": 2 / 3, "Dice": 0.8, "precision": 1.0,
                    "recall": 2 / 3}  # fmt: skip
    assert (tree["IoU"], tree["precision"], tree["recall"]) == (0, 0, 0)
    assert (bush["IoU"], bush["Dice"], bush["precision"], bush["recall"]) == (-1, -1, -1, -1)


def test_nothing_to_judge_by():
    pairs = [(np.full((4, 5), -1, np.int16), np.zeros((4, 5), np.int16))]
    metric = judged(pairs, 3, boundary=0.02)
    assert set(metric.compute().values()) == {-1}
    assert len(metric.compute()) == 9
    unknown = Target(1, (4, 5))  # nobody annotated it
    metric.update([Prediction((4, 5), metric.categories)], [unknown])
    assert set(metric.compute().values()) == {-1}


def test_order_batches_copies_and_reset_change_nothing():
    pairs = maps(5, 3, 6)
    whole = judged(pairs, 5, boundary=0.05)
    parts = SemanticMetric(categories(5), boundary=0.05)
    for pair in reversed(pairs):
        parts.update(*of([pair], parts.categories))
        before = parts.summary()
        kept = before.confusion.copy()
    assert parts.compute() == whole.compute()
    assert pickle.loads(pickle.dumps(parts)).compute() == whole.compute()
    parts.update(*of(pairs, parts.categories))
    assert np.array_equal(before.confusion, kept), "a summary stays as it was"
    parts.reset()
    parts.update(*of(pairs, parts.categories))
    assert parts.compute() == whole.compute()
    assert parts.half().confusion.dtype == torch.int64


def test_a_large_map_is_counted_in_pieces():
    """Larger than what is counted at once; tools/benchmark/semantic_metric.py measures time and memory."""
    g = torch.Generator().manual_seed(0)
    truth, predicted = (torch.randint(0, 19, (1024, 2048), generator=g, dtype=torch.int16) for _ in range(2))
    metric = SemanticMetric(categories(19))
    metric.update(
        [Prediction((1024, 2048), metric.categories, semantic=predicted)], [Target(1, (1024, 2048), semantic=truth)]
    )
    theirs = peer.multiclass_confusion_matrix(predicted.long(), truth.long(), 19, ignore_index=-1, validate_args=False)
    assert torch.equal(metric.confusion[:, :19], theirs)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.full((4, 5), 3), np.zeros((4, 5)), r"image 0: the truth's map has the value 3; it may have labels 0\.\.2"),
        (np.full((4, 5), 255), np.zeros((4, 5)), "the truth's map has the value 255"),
        (np.zeros((4, 5)), np.full((4, 5), -2), "the prediction's map has the value -2"),
        (np.zeros((4, 5)), np.zeros((5, 4)), "the predicted map has 5×4 pixels, the truth 4×5"),
        (np.zeros((3, 4, 5)), np.zeros((4, 5)), r"the truth's map is \(3, 4, 5\), but should be \(height, width\)"),
        (np.zeros((4, 5)), np.zeros((3, 4, 5)), r"the prediction's map is \(3, 4, 5\)"),
    ],
)
def test_maps_that_do_not_fit_are_refused(truth, predicted, message):
    with pytest.raises(VisionTasksError, match=message):
        judged([(truth.astype(np.int16), predicted.astype(np.int16))], 3)


def test_other_misuse_is_refused():
    metric = SemanticMetric(categories(3), multi_label=True)
    predictions, targets = of([(np.zeros((4, 5), np.int16), np.zeros((3, 4, 5), bool))], metric.categories)
    with pytest.raises(VisionTasksError, match=r"\(3, height, width\), a map for each category"):
        metric.update(predictions, targets)
    with pytest.raises(VisionTasksError, match="1 predictions but 0 truths"):
        metric.update(predictions, [])
    with pytest.raises(VisionTasksError, match="no semantic map"):
        metric.update([Prediction((4, 5), metric.categories)], targets)
    wrong = of([(np.full((3, 4, 5), 2, np.int8), np.zeros((3, 4, 5), bool))], metric.categories)
    with pytest.raises(VisionTasksError, match=r"the value 2; it may have -1 \(ignored\), 0 \(no\), 1 \(yes\)"):
        metric.update(*wrong)
    with pytest.raises(VisionTasksError, match="at least one category"):
        SemanticMetric(categories(0))
    with pytest.raises(VisionTasksError, match="shares of an image's diagonal"):
        SemanticMetric(categories(2), boundary=5)


def _rank(rank: int, folder: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    pairs = maps(5, 11, 5)
    outcome = []
    # Rank 1 sees nothing; nobody sees anything; unequal shares.
    for deal in ((slice(0, 5), slice(0, 0)), (slice(0, 0), slice(0, 0)), (slice(0, 1), slice(1, 5))):
        metric = SemanticMetric(categories(5), boundary=0.05)
        if pairs[deal[rank]]:
            metric.update(*of(pairs[deal[rank]], metric.categories))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics: compute before update
            summary = metric.summary()
        outcome.append((summary.numbers, summary.confusion, summary.boundary))
    (Path(folder) / f"rank{rank}.pickle").write_bytes(pickle.dumps(outcome))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_gloo_processes_count_as_one(tmp_path):
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    whole = judged(maps(5, 11, 5), 5, boundary=0.05).summary()
    for rank in range(2):
        first, second, third = pickle.loads((tmp_path / f"rank{rank}.pickle").read_bytes())
        for numbers, confusion, boundary in (first, third):
            assert numbers == whole.numbers
            assert np.array_equal(confusion, whole.confusion)
            assert np.array_equal(boundary, whole.boundary)
        assert set(second[0].values()) == {-1}
