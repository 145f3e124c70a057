"""CocoMetric: batches, ranks, repeats, order, reset; what it says about categories and thresholds."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from coco_reference import numbers, pycocotools_eval, random_dataset, save, with_masks

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics import CocoMetric, CocoTruth, Detections, coco_summarize, read_results
from vision_tasks.structures import Categories, Masks, Prediction


def loaded(tmp_path: Path, seed: int, iou_type: str = "bbox") -> tuple[CocoTruth, Detections, dict[str, float]]:
    gt, results = random_dataset(seed)
    if iou_type == "segm":
        gt, results = with_masks(gt, results, seed)
    gt_path, results_path = save(tmp_path, gt, results)
    truth = CocoTruth.from_file(gt_path, iou_type)
    return truth, read_results(results_path, truth, iou_type), numbers(pycocotools_eval(gt, results, iou_type))


def same(found: dict[str, float], expected: dict[str, float]) -> bool:
    return found == pytest.approx(expected, rel=0, abs=1e-9)


def as_ranks(truth: CocoTruth, found: Detections, deal: list[np.ndarray], iou_type: str = "bbox") -> list[CocoMetric]:
    """One metric per entry of `deal`, updated with those images, one or two at a time."""
    metrics = [CocoMetric(truth, iou_type) for _ in deal]
    for metric, ids in zip(metrics, deal, strict=True):
        for part in np.split(ids, np.arange(1, len(ids), 2)) if len(ids) else []:
            metric.update(found.of_images(part), part)
    return metrics


def gathered(metrics: list[CocoMetric]) -> CocoMetric:
    """What every rank holds after torchmetrics has gathered the states: the concatenation in order of ranks."""
    for metric in metrics:
        metric.sync(distributed_available=lambda: False)
    whole = CocoMetric(metrics[0].truth, metrics[0].iou_type)
    whole.images = torch.cat([m.images[0] for m in metrics])  # type: ignore[assignment]
    whole.detections = torch.cat([m.detections[0] for m in metrics])  # type: ignore[assignment]
    whole._update_count = 1
    return whole


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(n, marks=pytest.mark.slow) for n in range(6, 15))])
def test_any_split_into_ranks_and_any_order_of_images_gives_the_same(tmp_path, seed, iou_type):
    truth, found, expected = loaded(tmp_path, seed, iou_type)
    r = np.random.default_rng(seed)
    ids = r.permutation(truth.image_ids)
    deal = [*np.array_split(ids, 3), np.zeros(0, dtype=np.int64)]
    assert same(gathered(as_ranks(truth, found, deal, iou_type)).compute(), expected)
    # A sampler that pads gives some images to two ranks; and one rank may see an image twice.
    doubled = [np.concatenate([part, ids[:2]]) for part in deal]
    assert same(gathered(as_ranks(truth, found, doubled, iou_type)).compute(), expected)


def test_the_first_update_of_an_image_counts(tmp_path):
    truth, found, expected = loaded(tmp_path, 2)
    metric = CocoMetric(truth)
    metric.update(found, truth.image_ids)
    metric.update(Detections(found.image_ids, found.category_ids, 1 - found.scores, found.boxes * 2), truth.image_ids)
    assert same(metric.compute(), expected)


def test_images_that_were_not_updated_are_not_evaluated(tmp_path):
    gt, results = random_dataset(4)
    some = [i["id"] for i in gt["images"]][:3]
    paths = save(tmp_path, gt, results)
    truth = CocoTruth.from_file(paths[0])
    metric = CocoMetric(truth)
    metric.update(read_results(paths[1], truth).of_images(np.array(some)), some)
    assert same(metric.compute(), numbers(pycocotools_eval(gt, results, image_ids=some)))


def test_reset_pickle_merge_and_forward(tmp_path):
    truth, found, expected = loaded(tmp_path, 6)
    metric = CocoMetric(truth)
    half = truth.image_ids[::2], truth.image_ids[1::2]
    metric.update(found.of_images(half[1]), half[1])
    metric.reset()
    metric(found.of_images(half[0]), half[0])
    assert not same(pickle.loads(pickle.dumps(metric)).compute(), expected)
    other = CocoMetric(truth)
    other.update(found.of_images(half[1]), half[1])
    metric.merge_state(other)
    assert same(metric.compute(), expected)
    np.testing.assert_array_equal(metric.summary().tables.image_ids, truth.image_ids)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric CocoMetric was called before")
def test_a_metric_that_saw_nothing(tmp_path):
    truth, _, expected = loaded(tmp_path, 6)
    assert CocoMetric(truth).compute() == dict.fromkeys(expected, -1.0)


def predictions(truth: CocoTruth, found: Detections, with_rle: bool = False) -> list[Prediction]:
    """The detections as the model gives them: float32 corners and labels, in the order of the arrays."""
    categories = Categories.of([{"id": int(i), "name": str(i)} for i in truth.category_ids])
    out = []
    for image in truth.image_ids:
        rows = np.flatnonzero(found.image_ids == image)
        boxes = torch.from_numpy(found.boxes[rows]).float()
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([categories.label_of_id[int(c)] for c in found.category_ids[rows]], dtype=torch.int64)
        masks = Masks((40, 40), shapes=[found.rles[i] for i in rows]) if with_rle else None  # type: ignore[index]
        out.append(
            Prediction((40, 40), categories, boxes, labels, torch.from_numpy(found.scores[rows]).float(), masks=masks)
        )
    return out


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_predictions_give_what_their_results_file_gives(tmp_path, iou_type):
    from vision_tasks.metrics import coco_evaluate, results_of, write_results

    truth, found, _ = loaded(tmp_path, 8, iou_type)
    listed = predictions(truth, found, iou_type == "segm")
    metric = CocoMetric(truth, iou_type)
    ids = torch.from_numpy(truth.image_ids)
    metric.update(listed[:3], ids[:3])
    metric.update(listed[3:], ids[3:].tolist())
    rows = [row for p, i in zip(listed, truth.image_ids.tolist(), strict=True) for row in results_of(p, i, iou_type)]
    write_results(tmp_path / "written.json", rows)
    assert metric.compute() == coco_evaluate(tmp_path / "gt.json", tmp_path / "written.json", iou_type)


@pytest.mark.parametrize("seed", [4, 7, 9, 14])
def test_the_best_f1_threshold_is_the_best_of_all(tmp_path, seed):
    gt, results = random_dataset(seed)
    summary = coco_summarize(*save(tmp_path, gt, results))
    evaluation = pycocotools_eval(gt, results)
    n_images = len(gt["images"])
    checked = 0
    for k, row in enumerate(summary.per_category):
        images = [e for e in evaluation.evalImgs[k * 4 * n_images : (k * 4 + 1) * n_images] if e]
        scores = np.concatenate([e["dtScores"] for e in images] or [np.zeros(0)])
        judged = ~np.concatenate([e["dtIgnore"][0] for e in images] or [np.zeros(0)]).astype(bool)
        right = np.concatenate([e["dtMatches"][0] > 0 for e in images] or [np.zeros(0, bool)]) & judged
        n = sum(int((e["gtIgnore"] == 0).sum()) for e in images)
        assert row["truths"] == n
        f1 = {s: 2 * right[scores >= s].sum() / (n + judged[scores >= s].sum()) for s in scores} if n else {}
        if f1 and max(f1.values()) > 0:
            assert row["f1"] == pytest.approx(max(f1.values()))
            assert row["threshold"] == max(s for s in f1 if f1[s] == max(f1.values()))
            checked += 1
        p = evaluation.eval["precision"][:, :, k, 0, 2]
        assert row["AP"] == pytest.approx(p[p > -1].mean() if n else -1)
    assert checked


def test_tables_can_be_drawn_anew(tmp_path):
    """A bootstrap draw with repeats equals a data set that holds those images several times."""
    from vision_tasks.metrics import CocoSummary

    gt, results = random_dataset(14)
    tables = coco_summarize(*save(tmp_path, gt, results)).tables
    draw = np.random.default_rng(0).integers(0, len(tables.image_ids), 2 * len(tables.image_ids))
    new: dict = {"images": [], "annotations": [], "categories": gt["categories"]}
    new_results: list = []
    for copy_id, old in enumerate(tables.image_ids[draw].tolist()):
        new["images"].append({"id": copy_id, "height": 40, "width": 40})
        for row in gt["annotations"]:
            if row["image_id"] == old:
                new["annotations"].append(row | {"image_id": copy_id, "id": len(new["annotations"]) + 1})
        new_results += [row | {"image_id": copy_id} for row in results if row["image_id"] == old]
    assert same(CocoSummary.of(tables.take(draw)).numbers, numbers(pycocotools_eval(new, new_results)))


def test_bad_input_is_named(tmp_path):
    truth, found, _ = loaded(tmp_path, 6)
    metric = CocoMetric(truth)
    with pytest.raises(VisionTasksError, match="image 5000 is not among the ground truth"):
        metric.update(found.of_images(np.array([5000])), [5000])
    with pytest.raises(VisionTasksError, match="is not among the evaluated images"):
        metric.update(found, truth.image_ids[:1])
    with pytest.raises(VisionTasksError, match="0 predictions but 1 image ids"):
        metric.update([], truth.image_ids[:1])
    with pytest.raises(VisionTasksError, match=r"of image \d+ has a score or box that is not finite"):
        Detections(found.image_ids, found.category_ids, found.scores * np.nan, found.boxes)
    with pytest.raises(VisionTasksError, match="no masks"):
        CocoMetric(truth, "segm")


def test_importing_the_package_is_cheap():
    code = (
        "import sys, vision_tasks.metrics as m; m.coco_evaluate; "
        "print([n for n in ('torch', 'pycocotools', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _rank(rank: int, folder: str, init: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    truth = CocoTruth.from_file(Path(folder) / "gt.json")
    found = read_results(Path(folder) / "results.json", truth)
    metric = CocoMetric(truth)
    outcome = []
    # Round 0: rank 1 sees nothing. Round 1: no image has a detection. Round 2: unequal shares, one image on both.
    for turn in range(3):
        ids = (
            [truth.image_ids, truth.image_ids[:0]][rank]
            if turn < 2
            else truth.image_ids[[slice(0, 2), slice(1, None)][rank]]
        )
        if len(ids):
            metric.update(found.of_images(ids if turn != 1 else ids[:0]), ids)
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome.append(metric.compute())
        metric.reset()
    (Path(folder) / f"rank{rank}.pickle").write_bytes(pickle.dumps(outcome))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_gloo_processes_one_without_updates(tmp_path):
    gt, results = random_dataset(13)
    save(tmp_path, gt, results)
    mp.spawn(_rank, args=(str(tmp_path), f"file://{tmp_path}/rendezvous"), nprocs=2)
    whole, none = numbers(pycocotools_eval(gt, results)), numbers(pycocotools_eval(gt, []))
    for rank in range(2):
        outcome = pickle.loads((tmp_path / f"rank{rank}.pickle").read_bytes())
        assert same(outcome[0], whole)
        assert same(outcome[1], none)
        assert same(outcome[2], whole)
