"""PanopticMetric against panopticapi's numbers and a slow computation from the paper's definitions."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics import PanopticMetric
from vision_tasks.structures import Categories, Panoptic


def panoptic(ids: np.ndarray, labels: list[int], known: Categories, crowd: list[bool] | None = None) -> Panoptic:
    return Panoptic(
        torch.from_numpy(ids.astype(np.int32)),
        torch.tensor(labels, dtype=torch.int64),
        known,
        is_crowd=None if crowd is None else torch.tensor(crowd, dtype=torch.bool),
    )


def slow(pairs: list[tuple[Panoptic, Panoptic]], known: Categories) -> list[list[float]]:
    """(IoU sum, right, wrong, missed) per category, segment by segment with bitmaps of the whole image.

    Kirillov et al. 2019, section 4, and its section on void and groups ("crowds"): truth and prediction of a category
    match above an IoU of 0.5, without pixels that the truth leaves void; then predictions of which more than half lies
    in void or in a group of their category are taken away, and groups are never missed.
    """
    table: list[list[float]] = [[0.0, 0, 0, 0] for _ in known.names]
    for prediction, truth in pairs:
        crowd = truth.is_crowd.tolist() if truth.is_crowd is not None else [False] * len(truth)
        true = [truth.ids.numpy() == i + 1 for i in range(len(truth))]
        found = [prediction.ids.numpy() == i + 1 for i in range(len(prediction))]
        void = truth.ids.numpy() == 0
        matched_true, matched_found = set(), set()
        for i, t in enumerate(true):
            for j, f in enumerate(found):
                if crowd[i] or truth.labels[i] != prediction.labels[j]:
                    continue
                iou = (t & f).sum() / (t | (f & ~void)).sum() if t.any() else 0.0
                if iou > 0.5:
                    table[int(truth.labels[i])][0] += float(iou)
                    table[int(truth.labels[i])][1] += 1
                    matched_true.add(i)
                    matched_found.add(j)
        for i in range(len(true)):
            if i not in matched_true and not crowd[i]:
                table[int(truth.labels[i])][3] += 1
        for j, f in enumerate(found):
            forgiven = void.copy()
            for i, t in enumerate(true):
                if crowd[i] and truth.labels[i] == prediction.labels[j]:
                    forgiven |= t
            if j not in matched_found and f.any() and not (f & forgiven).sum() / f.sum() > 0.5:
                table[int(prediction.labels[j])][2] += 1
    return table


def averaged(table: list[list[float]], known: Categories) -> dict[str, float]:
    numbers = {}
    for group, wanted in (("", (True, False)), ("_things", (True,)), ("_stuff", (False,))):
        rows = [r for r, thing in zip(table, known.is_thing, strict=True) if thing in wanted and sum(r[1:])]
        for name in ("PQ", "SQ", "RQ"):
            values = []
            for overlap, right, wrong, missed in rows:
                segments = right + wrong / 2 + missed / 2
                values.append(
                    {"PQ": overlap / segments, "SQ": overlap / right if right else 0.0, "RQ": right / segments}[name]
                )
            numbers[name + group] = sum(values) / len(values) if values else -1.0
    return numbers


def judged(pairs: list[tuple[Panoptic, Panoptic]], known: Categories) -> PanopticMetric:
    metric = PanopticMetric(known)
    metric.update([prediction for prediction, _ in pairs], [truth for _, truth in pairs])
    return metric


def check(pairs: list[tuple[Panoptic, Panoptic]], known: Categories) -> dict[str, float]:
    summary = judged(pairs, known).summary()
    table = slow(pairs, known)
    assert summary.counts[:, 1:].tolist() == [row[1:] for row in table]
    assert summary.numbers == pytest.approx(averaged(table, known), abs=1e-11)
    return summary.numbers


def png_ids(path: Path) -> np.ndarray:
    """(H, W) int64 ids of a panoptic PNG: red + 256 green + 65536 blue."""
    blue, green, red = cv2.split(cv2.imread(str(path), cv2.IMREAD_COLOR).astype(np.int64))
    return red + 256 * green + 65536 * blue


def rows_of(ids: np.ndarray, segments: list[dict[str, Any]]) -> np.ndarray:
    rows = np.zeros(ids.shape, dtype=np.int32)
    for row, segment in enumerate(segments):
        rows[ids == segment["id"]] = row + 1
    return rows


def read(folder: Path, annotation: dict[str, Any], known: Categories) -> Panoptic:
    segments = annotation["segments_info"]
    return panoptic(
        rows_of(png_ids(folder / annotation["file_name"]), segments),
        [known.label_of_id[s["category_id"]] for s in segments],
        known,
        [bool(s["iscrowd"]) for s in segments],
    )


def spoilt(truth: Panoptic) -> Panoptic:
    """Two pixels down and three to the left; every fifth segment gone, every seventh of the next category."""
    ids = np.roll(truth.ids.numpy(), (2, -3), axis=(0, 1))
    kept = [i for i in range(len(truth)) if i % 5 != 4 and (ids == i + 1).any()]
    table = np.zeros(len(truth) + 1, dtype=np.int32)
    table[[i + 1 for i in kept]] = np.arange(len(kept)) + 1
    labels = [(int(truth.labels[i]) + (i % 7 == 6)) % len(truth.categories) for i in kept]
    return panoptic(table[ids], labels, truth.categories)


# What panopticapi's evaluation.py (commit fb309bb) computes for its sample data, with `spoilt` of them as predictions,
# and the ids as read here. It publishes no numbers of its own for them.
PANOPTICAPI = {
    "PQ": 0.4757514811744679, "SQ": 0.569536623078932, "RQ": 0.585024154589372,
    "PQ_things": 0.2720834336307895, "SQ_things": 0.37554311654030137, "RQ_things": 0.3639291465378422,
    "PQ_stuff": 0.7812535524899855, "SQ_stuff": 0.860526882886878, "RQ_stuff": 0.9166666666666666,
}  # fmt: skip
PANOPTICAPI_CATEGORIES = {  # sum of IoU, right, wrong, missed
    "person": (11.725800495825592, 17, 3, 9), "bicycle": (0.0, 0, 4, 0), "truck": (0.8403914019890921, 1, 0, 1),
    "horse": (5.061800288370238, 7, 0, 4), "sheep": (0.0, 0, 2, 0), "sports ball": (0.0, 0, 0, 1),
    "gravel": (0.7790479301053319, 1, 0, 0), "tree-merged": (0.9512799647627082, 1, 0, 1),
    "sky-other-merged": (1.65534350727407, 2, 0, 0), "grass-merged": (1.768215766084873, 2, 0, 0),
}  # fmt: skip


def test_equals_panopticapi_on_its_sample_data(real_data):
    folder = real_data / "panoptic_sample"
    content = json.loads((folder / "panoptic_examples.json").read_text())
    known = Categories.of(content["categories"])
    truths = [read(folder / "panoptic_examples", a, known) for a in content["annotations"]]
    perfect = check([(t, t) for t in truths], known)
    assert set(perfect.values()) == {1.0}
    pairs = [(spoilt(t), t) for t in truths]
    numbers = check(pairs, known)
    assert numbers == pytest.approx(PANOPTICAPI, abs=1e-11)
    for row in judged(pairs, known).summary().per_category:
        overlap, *counts = PANOPTICAPI_CATEGORIES.get(row["name"], (0.0, 0, 0, 0))
        assert [row["right"], row["wrong"], row["missed"]] == counts
        expected = overlap / (counts[0] + counts[1] / 2 + counts[2] / 2) if sum(counts) else -1
        assert row["PQ"] == pytest.approx(expected, abs=1e-11)


def test_the_form_of_two_channels_says_the_same(real_data):
    """The sample's other form, category in red and number in green, taken for a prediction, is perfect."""
    folder = real_data / "panoptic_sample"
    content = json.loads((folder / "panoptic_examples.json").read_text())
    known = Categories.of(content["categories"])
    pairs = []
    for annotation in content["annotations"]:
        path = folder / "panoptic_examples_2ch_format" / annotation["file_name"]
        both = cv2.imread(str(path), cv2.IMREAD_COLOR).astype(np.int64)
        values, rows = np.unique(256 * both[..., 2] + both[..., 1], return_inverse=True)
        labels = [known.label_of_id[int(v) // 256] for v in values[1:]]
        truth = read(folder / "panoptic_examples", annotation, known)
        pairs.append((panoptic(rows.reshape(both.shape[:2]), labels, known), truth))
    assert set(check(pairs, known).values()) == {1.0}


def test_photos_of_coco(real_data):
    folder = real_data / "coco128" / "panoptic_segmentation" / "annotations"
    content = json.loads((folder / "panoptic_val2017.json").read_text())
    known = Categories.of(content["categories"])
    truths = [read(folder / "panoptic_val2017", a, known) for a in content["annotations"][:16]]
    assert any(bool(t.is_crowd.any()) for t in truths if t.is_crowd is not None)
    numbers = check([(spoilt(t), t) for t in truths], known)
    assert 0.2 < numbers["PQ"] < 0.8
    assert set(check([(t, t) for t in truths], known).values()) == {1.0}


KNOWN = Categories.of([{"id": 5 * i + 1, "name": f"c{i}", "isthing": int(i < 3)} for i in range(6)])


def random_pair(seed: int) -> tuple[Panoptic, Panoptic]:
    """Truth with void and, of each category, at most one crowd; the prediction is moved, recoloured and holed."""
    r = np.random.default_rng(seed)
    height, width, n = int(r.integers(6, 40)), int(r.integers(6, 40)), int(r.integers(0, 12))
    centers = r.random((max(1, n), 2)) * (height, width)
    y, x = np.mgrid[:height, :width]
    nearest = ((y[..., None] - centers[:, 0]) ** 2 + (x[..., None] - centers[:, 1]) ** 2).argmin(axis=-1) + 1
    ids = np.where(r.random((height, width)) < 0.1, 0, nearest) if n else np.zeros((height, width), int)
    ids[: int(r.integers(0, 4))] = 0
    labels = r.integers(0, 6, n).tolist()
    crowd = [bool(r.random() < 0.4) and label not in labels[:i] for i, label in enumerate(labels)]
    truth = panoptic(ids, labels, KNOWN, crowd)
    moved = np.roll(ids, r.integers(-2, 3, 2), axis=(0, 1))
    moved[r.random(moved.shape) < 0.05] = 0
    if n > 2:
        moved[moved == 1] = 2
    changed = [label if r.random() < 0.75 else int(r.integers(0, 6)) for label in labels]
    return panoptic(moved, changed, KNOWN), truth


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
