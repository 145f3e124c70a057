"""Reading truth and results: what is refused, and how it is said; writing results."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from coco_reference import save
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vision_tasks.errors import VisionTasksError
from vision_tasks.metrics import CocoTruth, coco_evaluate, read_results, results_of, write_results
from vision_tasks.structures import Categories, Prediction

GT = {
    "images": [{"id": 5, "height": 40, "width": 60, "file_name": "a.jpg"}, {"id": 2, "height": 40, "width": 60}],
    "categories": [{"id": 9, "name": "cat"}, {"id": 3, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 8, "image_id": 2, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100.5},
    ],
}
ROW = {"image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.5}


def changed(**keys: object) -> dict:
    first, *others = GT["annotations"]
    first = {k: v for k, v in {**first, **keys}.items() if v is not None}
    return {**GT, "annotations": [first, *others]}


@pytest.mark.parametrize(
    ("gt", "results", "message"),
    [
        ([], [ROW], r"gt.json is not COCO ground truth: Expected `object`, got `array`"),
        ({**GT, "annotations": None}, [ROW], r"annotations"),
        ({"images": [], "annotations": []}, [ROW], "missing required field `categories`"),
        (changed(area=None), [ROW], r"annotation 1 \(image 5\) has no `area`"),
        (changed(bbox=[1, 2, 3]), [ROW], r"annotation 1 \(image 5\): `bbox` must be \[x, y, width, height\]"),
        (changed(bbox=["1", 2, 3, 4]), [ROW], r"Expected `float`, got `str` - at `\$.annotations\[0\].bbox"),
        (changed(id=2**70), [ROW], "64 bits"),
        (GT, {"annotations": [ROW]}, r"results.json is not a COCO results list: Expected `array`, got `object`"),
        (GT, [{**ROW, "image_id": 77}], "results.json: image 77 is not among the ground truth"),
        (GT, [{**ROW, "score": None}], r"Expected `float`, got `null` - at `\$\[0\].score`"),
        (GT, [{"image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4]}], "missing required field `score`"),
        (GT, [ROW, {**ROW, "bbox": [1, 2]}], r"result 1 \(image 5\): `bbox` must be"),
        (GT, [ROW, {k: v for k, v in ROW.items() if k != "bbox"}], r"result 1 \(image 5\).*either all results"),
        (GT, [{k: v for k, v in ROW.items() if k != "bbox"}], r"result 0 \(image 5\): unusable segmentation"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path, gt, results, message):
    with pytest.raises(VisionTasksError, match=message):
        coco_evaluate(*save(tmp_path, gt, results))


def test_files_that_are_no_json_or_missing(tmp_path):
    gt, results = save(tmp_path, GT, [ROW])
    with pytest.raises(VisionTasksError, match=r"cannot read a COCO results list .*none.json: No such file"):
        coco_evaluate(gt, tmp_path / "none.json")
    results.write_bytes(results.read_bytes()[:-5])
    with pytest.raises(VisionTasksError, match=r"results.json is not valid JSON .*cut short"):
        coco_evaluate(gt, results)
    gt.write_bytes(b'{"images": "\xff\xfe"}')
    with pytest.raises(VisionTasksError, match=r"gt.json"):
        coco_evaluate(gt, results)
    with pytest.raises(VisionTasksError, match="image 4 is not among"):
        coco_evaluate(*save(tmp_path, GT, [ROW]), image_ids=[4, 5])


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "no segmentation"),
        ([], "no segmentation"),
        ([[1, 2]], "annotation 1"),
        ({"size": [40, 60]}, "annotation 1"),
        ({"size": [40, 60], "counts": [40 * 59]}, r"annotation 1 \(image 5\).*do not add up"),
        ({"size": [40, 60], "counts": [2500, -100]}, "do not add up"),
        ({"size": [40, 60], "counts": "0"}, r"annotation 1 \(image 5\).*do not add up"),
        ({"size": [40, 60], "counts": "é"}, "do not add up"),
        ({"size": [40, 60], "counts": ""}, "do not add up"),
        ({"size": [40, 60], "counts": "o"}, "do not add up"),
        ({"size": [40, 60], "counts": 5}, "annotation 1"),
        ({"size": [60, 40], "counts": [60 * 40]}, "its mask is 60×40 pixels, the image 40×60"),
    ],
)
def test_bad_masks_are_refused(tmp_path, segmentation, message):
    gt = changed(segmentation=segmentation)
    gt["annotations"] = gt["annotations"][:1]
    with pytest.raises(VisionTasksError, match=message):
        coco_evaluate(*save(tmp_path, gt, [ROW]), iou_type="segm")


def test_broken_run_lengths_are_refused_before_pycocotools_loops_over_them():
    """Intact codes pass; of broken ones only those pass that still fill the image."""
    from vision_tasks.metrics.coco_masks import check_rles

    r = np.random.default_rng(0)
    bitmaps = r.random((50, 60, 40)) < r.random((50, 1, 1)) ** 2
    intact = coco_mask.encode(np.asfortranarray(bitmaps.transpose(2, 1, 0).astype(np.uint8)))
    check_rles(intact, str)
    broken = 0
    for rle in intact * 4:
        counts = bytearray(rle["counts"])
        counts[int(r.integers(len(counts)))] = int(r.integers(48, 112))
        try:
            check_rles([*intact, {"size": [40, 60], "counts": bytes(counts)}], str)
        except VisionTasksError as error:
            broken += 1
            named = str(error)
        else:
            assert coco_mask.area({"size": [40, 60], "counts": bytes(counts)}) <= 2400
    assert broken > 100
    assert named.startswith("50:")


def test_truth_is_sorted_and_keeps_float64(tmp_path):
    gt = changed(bbox=[0.1, 0.2, 0.3, 0.7])
    truth = CocoTruth.from_file(save(tmp_path, gt, [])[0])
    assert truth.image_ids.tolist() == [2, 5]
    assert truth.category_names == ("dog", "cat")
    assert truth.annotation_ids.tolist() == [8, 1]
    assert truth.boxes.tolist() == [[0, 0, 10, 10], [0.1, 0.2, 0.3, 0.7]]
    assert truth.area.tolist() == [100.5, 12]


def test_truth_from_arrays_equals_truth_from_file(tmp_path):
    read = CocoTruth.from_file(save(tmp_path, GT, [])[0])
    made = CocoTruth.from_arrays([5, 2], [9, 3], [5, 2], [9, 3], [[1, 2, 3, 4], [0, 0, 10, 10]], [12, 100.5], [0, 0])
    for name in ("image_ids", "category_ids", "image", "category", "boxes", "area", "is_crowd"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    with pytest.raises(VisionTasksError, match="annotation of image 7 is not among"):
        CocoTruth.from_arrays([5], [9], [7], [9], [[1, 2, 3, 4]], [12], [0])
    with pytest.raises(VisionTasksError, match="lengths"):
        CocoTruth.from_arrays([5], [9], [5], [9], [[1, 2, 3, 4]], [12, 3], [0])


def test_results_are_written_whole_and_pycocotools_reads_them_back(tmp_path):
    categories = Categories.of([{"id": 3, "name": "dog"}, {"id": 9, "name": "cat"}])
    boxes = torch.tensor([[0.1, 2, 3.3, 5], [0, 0, 10, 10]])
    prediction = Prediction((40, 60), categories, boxes, torch.tensor([1, 0]), torch.tensor([0.9, 0.25]))
    rows = results_of(prediction, 5)
    assert [(r["image_id"], r["category_id"]) for r in rows] == [(5, 9), (5, 3)]
    assert rows[1] == {"image_id": 5, "category_id": 3, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.25}
    path = tmp_path / "out.json"
    path.write_text("old")

    def breaks() -> object:
        yield rows[0]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_results(path, breaks())  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_results(path, rows)
    assert json.loads(path.read_text()) == rows
    gt_path, _ = save(tmp_path, GT, [])
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(gt_path)).loadRes(str(path))
    assert [a["bbox"] for a in read.dataset["annotations"]] == [r["bbox"] for r in rows]
    found = read_results(path, CocoTruth.from_file(gt_path))
    np.testing.assert_array_equal(found.boxes, [r["bbox"] for r in rows])
    assert found.scores.tolist() == [float(np.float32(0.9)), 0.25]
    write_results(path, [])
    assert json.loads(path.read_text()) == []
    with pytest.raises(VisionTasksError, match="cannot write results"):
        write_results(tmp_path / "none" / "out.json", rows)


def test_an_empty_prediction_gives_no_rows():
    prediction = Prediction(
        (4, 4), Categories.of(["a"]), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
    )
    assert results_of(prediction, 1) == []
    with pytest.raises(VisionTasksError, match=r"image 1 has no boxes, labels, scores"):
        results_of(Prediction((4, 4), Categories.of(["a"])), 1)
