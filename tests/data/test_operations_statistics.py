"""Statistics: counted by hand, and against pycocotools' index."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.data.written_coco import written
from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.operations.statistics import count, histogram, statistics


def test_by_hand(tmp_path: Path) -> None:
    boxes = [[0, 0, 10, 10], [5, 5, 40, 10], [1, 1, 31, 33], [2, 2, 96, 78], [9, 9, 0, 4]]
    images = {"a.png": [("x", [float(v) for v in b]) for b in boxes[:3]], "b.png": [], "c.png": [("y", [*map(float, boxes[3])]), ("x", [*map(float, boxes[4])])]}  # fmt: skip # noqa: E501
    crowd = {1: {"iscrowd": 1}}
    found = count(written(tmp_path, "train", images, ["x", "y", "z"], object_keys=crowd))
    assert (found.images, found.objects, found.crowds, found.unusable, found.empty_images) == (3, 5, 1, 1, 1)
    assert found.sizes == {"small": 2, "medium": 1, "large": 0}  # areas 40 · 10, 31 · 33, 96 · 78
    assert found.crowding["0"] == 1
    assert found.crowding["2"] == 1
    assert found.crowding["3"] == 1
    assert sum(found.sides.values()) == sum(found.aspects.values()) == 3
    assert found.aspects["4"] == 1  # 40 by 10
    assert found.image_sizes == {"100×80": 3}
    rows = {row["name"]: row for row in found.categories}
    assert (rows["x"]["objects"], rows["x"]["images"], rows["x"]["crowds"]) == (4, 2, 1)
    assert rows["y"]["share"] == 0.2
    assert rows["y"]["median_side"] == round((96 * 78) ** 0.5, 1)
    assert (rows["z"]["objects"], rows["z"]["images"], rows["z"]["median_side"]) == (0, 0, None)


def test_nothing_at_all(tmp_path: Path) -> None:
    found = count(written(tmp_path, "train", {"a.png": []}, ["x"]))
    assert (found.objects, found.sizes["small"], found.side_quantiles) == (0, 0, {})


def test_histogram_is_numpys() -> None:
    values = np.random.default_rng(0).exponential(40, 1000)
    limits = (0, 4, 16, 64, 256)
    wanted = np.histogram(values, [*limits, np.inf])[0].tolist()
    assert list(histogram(values, limits).values()) == wanted


@pytest.mark.parametrize("split", ["train", "val"])
def test_as_pycocotools_counts(real_data: Path, split: str) -> None:
    folder = real_data / "coco_mini" / "annotations"
    file = next(folder.glob(f"instances_{split}*.json"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
    found = statistics(read_data(real_data / "coco_mini"))[split]
    assert found.objects == len(truth.getAnnIds())
    assert found.crowds == len(truth.getAnnIds(iscrowd=True))
    for row in found.categories:
        assert row["objects"] == len(truth.getAnnIds(catIds=[row["id"]]))
        assert row["images"] == len(truth.getImgIds(catIds=[row["id"]]))
        low = truth.getAnnIds(catIds=[row["id"]], areaRng=[0, 32**2 - 1e-6], iscrowd=False)
        assert row["small"] == len(low)


def test_maps_are_counted(real_data: Path) -> None:
    records = read_data(real_data / "camvid")["test"]
    found = count(records)
    pixels = np.zeros(256, np.int64)
    for file in sorted((real_data / "camvid" / "testannot").glob("*.png")):
        from PIL import Image

        pixels += np.bincount(np.asarray(Image.open(file)).ravel(), minlength=256)
    for row in found.maps:
        assert row["pixels"] == pixels[row["id"]]
    assert found.ignored == pytest.approx(pixels[11] / pixels.sum(), abs=1e-5)
    assert found.categories == []
