"""The COCO metric against pycocotools: twelve numbers, precision and recall arrays."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vision_tasks.metrics import coco_evaluate, coco_summarize

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from coco_reference import NUMBERS, numbers, pycocotools_eval, random_dataset, save, with_masks


def assert_equal(
    tmp_path: Path, gt: dict, results: list, iou_type: str = "bbox", image_ids: list | None = None
) -> None:
    paths = save(tmp_path, gt, results)
    expected = pycocotools_eval(gt, results, iou_type, image_ids)
    summary = coco_summarize(*paths, iou_type, image_ids)
    np.testing.assert_allclose(summary.precision, expected.eval["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(summary.recall, expected.eval["recall"], rtol=0, atol=1e-12)
    found = coco_evaluate(*paths, iou_type, image_ids)
    assert list(found) == NUMBERS
    assert found == pytest.approx(numbers(expected), rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", [*range(40), *(pytest.param(n, marks=pytest.mark.slow) for n in range(40, 100))])
def test_random_data_sets(tmp_path, seed):
    assert_equal(tmp_path, *random_dataset(seed))


@pytest.mark.parametrize("seed", range(1000, 1004))
def test_more_than_100_detections_in_a_category(tmp_path, seed):
    gt, results = random_dataset(seed, crowded=True)
    first = results[0]
    assert sum((r["image_id"], r["category_id"]) == (first["image_id"], first["category_id"]) for r in results) > 80
    assert_equal(tmp_path, gt, results)


@pytest.mark.parametrize("seed", [*range(12), *(pytest.param(n, marks=pytest.mark.slow) for n in range(12, 30))])
def test_masks(tmp_path, seed):
    gt, results = with_masks(*random_dataset(seed), seed)
    assert_equal(tmp_path, gt, results, "segm")  # area of the box, as the rows hold boxes
    for row in results:
        del row["bbox"]
    assert_equal(tmp_path, gt, results, "segm")  # area of the mask
    assert_equal(tmp_path, gt, results, "bbox")  # box of the mask


@pytest.mark.parametrize("seed", range(10))
def test_boxes_evaluated_as_masks(tmp_path, seed):
    gt, results = random_dataset(seed)
    masked, _ = with_masks(gt, results, seed)
    results = [r for r in results if r["bbox"][2] > 0 and r["bbox"][3] > 0]
    assert_equal(tmp_path, masked, results, "segm")


@pytest.mark.parametrize("seed", range(10))
def test_some_images_only(tmp_path, seed):
    gt, results = random_dataset(seed)
    assert_equal(tmp_path, gt, results, image_ids=[i["id"] for i in gt["images"]][::2])


def test_no_results_at_all(tmp_path):
    gt, _ = random_dataset(3)
    assert_equal(tmp_path, gt, [])


def test_no_truth_at_all(tmp_path):
    gt, results = random_dataset(3)
    gt["annotations"] = []
    assert_equal(tmp_path, gt, results)
    assert coco_evaluate(*save(tmp_path, gt, results)) == dict.fromkeys(NUMBERS, -1.0)


def test_annotations_and_results_of_unlisted_categories_are_left_out(tmp_path):
    gt, results = random_dataset(5)
    gt["categories"] = gt["categories"][1:]
    assert_equal(tmp_path, gt, results)


@pytest.mark.parametrize(
    ("truth", "found"), [([0, 0, 10, 10], [0, 0, 10, 5]), ([0.1, 0.1, 0.3, 0.4], [0.1, 0.1, 0.3, 0.3])]
)
def test_overlap_exactly_on_a_threshold(tmp_path, truth, found):
    """1/2 exactly, and 0.75 where rounding decides."""
    gt, _ = random_dataset(0)
    image, category = gt["images"][0]["id"], gt["categories"][0]["id"]
    gt["annotations"] = [
        {"id": 7, "image_id": image, "category_id": category, "bbox": truth, "area": 100, "iscrowd": 0}
    ]
    assert_equal(tmp_path, gt, [{"image_id": image, "category_id": category, "bbox": found, "score": 1}])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_equal_overlaps_the_later_annotation_wins(tmp_path, order):
    """The first detection overlaps both by 2/3; the second fits only one, which may already be taken."""
    boxes = [[0, 0, 10, 10], [4, 0, 10, 10]]
    gt = {
        "images": [{"id": 1, "height": 40, "width": 40}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": boxes[i], "area": 100, "iscrowd": 0} for i in order
        ],
    }
    row = {"image_id": 1, "category_id": 1}
    results = [row | {"bbox": [2, 0, 10, 10], "score": 0.9}, row | {"bbox": boxes[0], "score": 0.8}]
    assert_equal(tmp_path, gt, results)
    recall = coco_summarize(*save(tmp_path, gt, results)).recall[0, 0, 0, 2]
    assert recall == (1.0 if order == (0, 1) else 0.5)


def test_annotation_with_id_0_counts_here_and_not_in_pycocotools(tmp_path):
    """pycocotools marks a match by the annotation's id, so that 0 reads as "no match": its only known difference."""
    gt = {
        "images": [{"id": 1, "height": 40, "width": 40}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}],
    }
    results = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]
    assert numbers(pycocotools_eval(gt, results))["AP"] == 0
    assert coco_evaluate(*save(tmp_path, gt, results))["AP"] == pytest.approx(1)
    gt["annotations"][0]["id"] = 1
    assert_equal(tmp_path, gt, results)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_real_coco_annotations_with_jittered_truths_as_results(tmp_path, real_data, seed, iou_type):
    gt = json.loads((real_data / "coco_mini" / "annotations" / "instances_val2017.json").read_text())
    sizes = {i["id"]: (i["height"], i["width"]) for i in gt["images"]}
    categories = [c["id"] for c in gt["categories"]]
    r = np.random.default_rng(seed)
    results = []
    for a in gt["annotations"]:
        for _ in range(int(r.integers(0, 4))):
            box = (np.array(a["bbox"]) + r.normal(0, r.choice([0, 0.02, 0.2]), 4) * a["bbox"][2]).tolist()
            wrong = r.random() < 0.1
            row = {"image_id": a["image_id"], "category_id": int(r.choice(categories)) if wrong else a["category_id"]}
            results.append(row | {"score": round(float(r.random()), 2), "bbox": [*box[:2], *np.abs(box[2:]).tolist()]})
    if iou_type == "segm":
        from pycocotools import mask as coco_mask

        for row in results:
            x, y, w, h = row.pop("bbox")
            outline = [[x, y, x + w, y, x + w * 0.9, y + h, x, y + h * 0.9]]
            rle = coco_mask.merge(coco_mask.frPyObjects(outline, *sizes[row["image_id"]]))
            row["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    assert_equal(tmp_path, gt, results, iou_type)
