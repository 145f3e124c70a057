"""The COCO metric against pycocotools."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vision_tasks.metrics import coco_evaluate, coco_summarize

sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from coco_reference import numbers, pycocotools_eval, random_dataset, save


def assert_equal(
    tmp_path: Path, gt: dict, results: list, iou_type: str = "bbox", image_ids: list | None = None
) -> None:
    paths = save(tmp_path, gt, results)
    expected = pycocotools_eval(gt, results, iou_type, image_ids)
    summary = coco_summarize(*paths, iou_type, image_ids)
    np.testing.assert_allclose(summary.precision, expected.eval["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(summary.recall, expected.eval["recall"], rtol=0, atol=1e-12)
    assert coco_evaluate(*paths, iou_type, image_ids) == pytest.approx(numbers(expected), rel=0, abs=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_random_data_sets_give_the_same_numbers_and_curves(tmp_path, seed):
    assert_equal(tmp_path, *random_dataset(seed))


@pytest.mark.parametrize("seed", range(3))
def test_more_than_100_detections_in_a_category(tmp_path, seed):
    assert_equal(tmp_path, *random_dataset(1000 + seed, crowded=True))
