"""Boundary IoU and boundary F-score: against distance transforms of scipy, category by category, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from vision_tasks.metrics import SemanticMetric
from vision_tasks.metrics.boundary import COLUMNS, boundary_counts
from vision_tasks.structures import Categories, Prediction, Target


def band(region: np.ndarray, ignored: np.ndarray, width: int) -> np.ndarray:
    """Pixels of the region at most `width` (chessboard) from one outside it, or outside the image."""
    outside = np.pad(~region & ~ignored, width + 1, constant_values=True)
    distance = ndimage.distance_transform_cdt(~outside, metric="chessboard")
    inner = distance[width + 1 : -width - 1, width + 1 : -width - 1]
    return region & (inner <= width)


def contour(region: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Pixels of the region that touch, also at a corner, one outside it; the frame of the image is no contour."""
    return region & ndimage.binary_dilation(~region & ~ignored, np.ones((3, 3)))


def slow(truth: np.ndarray, predicted: np.ndarray, k: int, ratio: float, bound: float) -> np.ndarray:
    ignored = truth == -1
    diagonal = float(np.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    width, reach = max(1, round(ratio * diagonal)), int(np.ceil(bound * diagonal))
    rows = []
    for c in range(k):
        true, guess = truth == c, (predicted == c) & ~ignored
        bands = band(true, ignored, width), band(guess, ignored, width)
        lines = contour(true, ignored), contour(guess, ignored)
        to_true, to_guess = (
            ndimage.distance_transform_edt(~line) if line.any() else np.full(line.shape, np.inf) for line in lines
        )
        bands_of_c = [bands[0].sum(), bands[1].sum(), (bands[0] & bands[1]).sum()]
        truth_of_c = [lines[0].sum(), (lines[0] & (to_guess <= reach)).sum()]
        guess_of_c = [lines[1].sum(), (lines[1] & (to_true <= reach)).sum()]
        rows.append(bands_of_c + truth_of_c + guess_of_c)
    return np.array(rows, dtype=np.int64)


def regions(k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A map of smooth regions, and the same moved and spotted; a patch and some pixels of the truth are ignored."""
    r = np.random.default_rng(seed)
    size = tuple(r.integers(3, 90, 2))
    fields = ndimage.gaussian_filter(r.random((k, *size)), (0, 4, 4))
    truth = fields.argmax(axis=0).astype(np.int16)
    predicted = np.roll(truth, r.integers(-4, 5, 2), axis=(0, 1))
    predicted[r.random(size) < 0.02] = r.integers(-1, k)
    y, x = (int(r.integers(0, s)) for s in size)
    truth[y : y + 15, x : x + 20] = -1
    truth[r.random(size) < 0.02] = -1
    return truth, predicted


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("ratio", "bound"), [(0.02, 0.0075), (0.1, 0.05), (0.6, 0.3)])
def test_equals_distances_by_scipy(seed, ratio, bound):
    k = 2 + seed % 5
    truth, predicted = regions(k, seed)
    found = boundary_counts(truth, predicted, k, ratio, bound)
    assert np.array_equal(found, slow(truth, predicted, k, ratio, bound))


def test_camvid_against_itself_moved(real_data):
    cv2 = pytest.importorskip("cv2")
    path = sorted((real_data / "camvid" / "valannot").glob("*.png"))[0]
    truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.int16)
    truth[truth == 11] = -1
    predicted = np.where(np.roll(truth, 3, axis=1) < 0, 0, np.roll(truth, 3, axis=1)).astype(np.int16)
    found = boundary_counts(truth, predicted, 11, 0.02, 0.0075)
    assert np.array_equal(found, slow(truth, predicted, 11, 0.02, 0.0075))
    assert found[:, 4].sum() > 0.9 * found[:, 3].sum(), "what moved by three pixels is within five"


def numbers(truth: np.ndarray, predicted: np.ndarray, **options) -> tuple[dict[str, float], list[dict]]:
    known = Categories.of([f"c{i}" for i in range(3)])
    metric = SemanticMetric(known, **options)
    size = truth.shape[-2:]
    prediction = Prediction(size, known, semantic=torch.from_numpy(predicted))
    metric.update([prediction], [Target(1, size, semantic=torch.from_numpy(truth))])
    return metric.compute(), metric.summary().per_category


def test_by_hand():
    """A square of 10×10 in the middle of 30×40 (diagonal 50), found one pixel too far to the right."""
    truth, predicted = np.zeros((2, 30, 40), dtype=np.int16)
    truth[10:20, 10:20] = 1
    predicted[10:20, 11:21] = 1
    counts = dict(zip(COLUMNS, boundary_counts(truth, predicted, 3, 0.02, 0.0075)[1], strict=True))
    # Bands one pixel wide: 36 pixels each. Common: 9 of the upper and of the lower side; the left and right ones miss.
    assert counts == {
        "band_truth": 36, "band_predicted": 36, "band_both": 18,
        "truth": 36, "truth_found": 36, "predicted": 36, "predicted_right": 36,
    }  # fmt: skip
    found, rows = numbers(truth, predicted, boundary=0.02)
    assert rows[1]["boundary_IoU"] == pytest.approx(18 / 54)
    assert rows[1]["boundary_F"] == 1, "0.0075 of 50 is rounded up to a pixel"
    assert rows[2]["boundary_IoU"] == rows[2]["boundary_F"] == -1, "there is none of it"
    assert found["boundary_IoU"] == pytest.approx((rows[0]["boundary_IoU"] + 18 / 54) / 2)
    # Three pixels off: a side's 10 pixels of either map are 3 away from the other's; 7 of each long side are common.
    predicted[:] = 0
    predicted[10:20, 13:23] = 1
    _, rows = numbers(truth, predicted, boundary=0.02)
    assert rows[1]["boundary_IoU"] == pytest.approx(14 / 58)
    # Found, a pixel away at most: columns 12 to 19 of the upper and the lower side, and next to them a pixel each.
    assert rows[1]["boundary_F"] == pytest.approx(18 / 36)


def test_bands_equal_repeated_erosion():
    """What the paper's text says: the region without itself eroded pixel by pixel, nothing outside of the image."""
    cv2 = pytest.importorskip("cv2")
    for seed in range(5):
        labels = np.maximum(regions(4, seed)[0], 0)
        for width in (1, 3, 9):
            found = boundary_counts(labels, labels, 4, width / float(np.hypot(*labels.shape)), 0.01)
            for c in range(4):
                region = np.pad(labels == c, 1).astype(np.uint8)
                eroded = cv2.erode(region, np.ones((3, 3), np.uint8), iterations=width)
                assert found[c, 0] == int((region - eroded).sum())


def test_ignored_pixels_are_no_boundary_and_the_frame_is_one_for_bands_only():
    truth = np.zeros((20, 20), dtype=np.int16)
    truth[:, 10:] = -1
    predicted = np.ones((20, 20), dtype=np.int16)
    predicted[:, :10] = 0
    counts = dict(zip(COLUMNS, boundary_counts(truth, predicted, 2, 0.02, 0.0075)[0], strict=True))
    # One pixel along three sides of 20×10.
    assert counts["band_truth"] == counts["band_predicted"] == counts["band_both"] == 20 + 9 + 9
    assert counts["truth"] == counts["predicted"] == 0
    assert not boundary_counts(truth, predicted, 2, 0.02, 0.0075)[1].any()


def test_perfect_maps_score_one_and_several_labels_are_judged_each():
    truth, _ = regions(3, 5)
    perfect, _ = numbers(truth, np.maximum(truth, 0), boundary=0.02)
    assert perfect["boundary_IoU"] == perfect["boundary_F"] == 1
    layers = np.stack([np.where(truth < 0, -1, truth == c) for c in range(3)]).astype(np.int8)
    _, other = regions(3, 5)
    _, expected = numbers(truth, other, boundary=0.05)
    predicted = np.stack([other == c for c in range(3)])
    _, found = numbers(layers, predicted, boundary=0.05, multi_label=True)
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b)
