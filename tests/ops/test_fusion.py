"""Fusion of boxes against SAHI 0.12 and ensemble_boxes 1.0.9, whose results stand here as numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.ops.fusion import joining, non_maximum_merging, suppression
from vision_tasks.ops.overlaps import leaders, pairs, touching
from vision_tasks.ops.suppression import suppress
from vision_tasks.ops.weighted_fusion import weighted_boxes_fusion

# fmt: off
BOXES = torch.tensor([
    [220, 157, 292, 203], [136, 191, 252, 299], [149, 181, 187, 251], [174, 32, 286, 136], [0, 61, 88, 143],
    [86, 192, 110, 286], [216, 17, 282, 45], [127, 190, 171, 264], [15, 186, 107, 256], [18, 89, 98, 195],
    [181, 74, 269, 130], [69, 57, 153, 135], [187, 79, 217, 103], [224, 107, 300, 165], [105, 125, 183, 177],
    [148, 145, 190, 179], [123, 218, 181, 300], [193, 192, 253, 248], [160, 121, 236, 237], [82, 228, 140, 300],
    [110, 41, 172, 121], [200, 27, 264, 109], [198, 134, 272, 220], [0, 23, 114, 57], [98, 6, 174, 70],
    [36, 132, 90, 174], [250, 111, 274, 171], [173, 236, 275, 264], [197, 123, 257, 239], [78, 133, 192, 173],
    [83, 106, 103, 192], [111, 64, 131, 114], [234, 0, 300, 85], [39, 33, 67, 119], [226, 180, 298, 212],
    [189, 26, 293, 130], [169, 61, 237, 175], [107, 0, 187, 85], [120, 191, 236, 267], [165, 50, 213, 84],
])
SCORES = torch.tensor([
    29, 32, 12, 35, 14, 38, 3, 28, 11, 22, 19, 16, 17, 23, 37, 40, 7, 8, 25, 27, 21, 31, 18, 13, 1, 39, 9, 2, 15, 4, 6,
    36, 34, 20, 5, 30, 10, 24, 26, 33,
]) / 50
LABELS = torch.tensor([
    0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1,
    0,
])
# SAHI's GreedyNMMPostprocess(0.5, "IOS", class_agnostic): box, 50 × score, label.
NMM_EVERY = [
    [78, 125, 192, 179, 40, 1], [18, 89, 98, 195, 39, 1], [82, 192, 140, 300, 38, 1], [69, 41, 172, 135, 36, 1],
    [165, 26, 293, 175, 35, 0], [216, 0, 300, 85, 34, 0], [120, 181, 275, 300, 32, 0], [197, 123, 298, 239, 29, 0],
    [98, 0, 187, 85, 24, 1], [224, 107, 300, 171, 23, 1], [0, 33, 88, 143, 20, 1], [0, 23, 114, 57, 13, 0],
    [83, 106, 103, 192, 6, 0],
]
NMM_EACH = [
    [78, 125, 192, 179, 40, 1], [36, 132, 90, 174, 39, 1], [82, 192, 140, 300, 38, 1], [69, 57, 153, 135, 36, 1],
    [165, 27, 286, 175, 35, 0], [216, 0, 300, 85, 34, 0], [127, 190, 252, 299, 32, 0], [181, 26, 293, 130, 30, 1],
    [220, 157, 292, 203, 29, 0], [120, 181, 275, 300, 26, 1], [107, 0, 187, 85, 24, 1], [224, 107, 300, 171, 23, 1],
    [18, 89, 103, 195, 22, 0], [110, 41, 172, 121, 21, 0], [0, 33, 88, 143, 20, 1], [197, 123, 298, 239, 18, 1],
    [0, 23, 114, 57, 13, 0], [98, 6, 174, 70, 1, 0],
]
# NMSPostprocess(0.5, "IOS", class_agnostic)
NMS_EVERY = [
    [148, 145, 190, 179, 40, 1], [36, 132, 90, 174, 39, 1], [86, 192, 110, 286, 38, 1], [111, 64, 131, 114, 36, 1],
    [174, 32, 286, 136, 35, 0], [234, 0, 300, 85, 34, 0], [136, 191, 252, 299, 32, 0], [220, 157, 292, 203, 29, 0],
    [107, 0, 187, 85, 24, 1], [224, 107, 300, 165, 23, 1], [39, 33, 67, 119, 20, 1], [0, 23, 114, 57, 13, 0],
    [83, 106, 103, 192, 6, 0],
]
NMS_EACH = [
    [148, 145, 190, 179, 40, 1], [36, 132, 90, 174, 39, 1], [86, 192, 110, 286, 38, 1], [111, 64, 131, 114, 36, 1],
    [174, 32, 286, 136, 35, 0], [234, 0, 300, 85, 34, 0], [136, 191, 252, 299, 32, 0], [189, 26, 293, 130, 30, 1],
    [220, 157, 292, 203, 29, 0], [120, 191, 236, 267, 26, 1], [107, 0, 187, 85, 24, 1], [224, 107, 300, 165, 23, 1],
    [18, 89, 98, 195, 22, 0], [110, 41, 172, 121, 21, 0], [39, 33, 67, 119, 20, 1], [198, 134, 272, 220, 18, 1],
    [0, 23, 114, 57, 13, 0], [98, 6, 174, 70, 1, 0],
]
# fmt: on


def rows(fused: object) -> list[list[int]]:
    return [
        [*map(round, box), round(50 * score), int(LABELS[best])]
        for box, score, best in zip(fused.boxes.tolist(), fused.scores.tolist(), fused.best.tolist(), strict=True)
    ]


@pytest.mark.parametrize(("groups", "expected"), [(None, NMM_EVERY), (LABELS, NMM_EACH)])
def test_merging_is_sahis(groups: Tensor | None, expected: list[list[int]]) -> None:
    assert rows(non_maximum_merging(BOXES, SCORES, groups, 0.5, "ios")) == expected


@pytest.mark.parametrize(("groups", "expected"), [(None, NMS_EVERY), (LABELS, NMS_EACH)])
def test_suppression_by_the_smaller_box_is_sahis(groups: Tensor | None, expected: list[list[int]]) -> None:
    assert rows(suppression(BOXES, SCORES, groups, 0.5, "ios")) == expected


def test_merging_by_iou_grows_step_by_step() -> None:
    # Equal parts of SAHI's result of GreedyNMMPostprocess(0.4, "IOU", True); a member that the grown box no longer
    # matches is dropped, and not merged.
    fused = non_maximum_merging(BOXES, SCORES, None, 0.4, "iou")
    found = rows(fused)
    assert len(found) == 33
    for row in ([174, 26, 293, 136, 35, 0], [120, 191, 252, 299, 32, 0], [98, 0, 187, 85, 24, 1]):
        assert row in found
    boxes = torch.tensor([[0, 0, 10, 10], [0, 6, 10, 16], [-6, 0, 4, 10]])
    fused = non_maximum_merging(boxes, torch.tensor([0.9, 0.8, 0.7]), None, 0.25, "iou")
    assert fused.boxes.tolist() == [[0, 0, 10, 16]]  # the third: 40 of 160 + 100 - 40
    assert fused.cluster.tolist() == [0, 0, -1]


# The authors' own example (example.py of ensemble_boxes), weights 2 and 1, IoU 0.5.
FIRST = [[0, 51, 81, 91], [10, 31, 71, 61], [1, 32, 83, 93], [2, 53, 11, 94], [3, 24, 12, 35]]
SECOND = [[4, 56, 84, 92], [12, 33, 72, 64], [38, 66, 79, 95], [8, 49, 21, 89]]
# fmt: off
AUTHORS = {
    "average": ([0.8, 0.733333, 0.466667, 0.266667, 0.233333, 0.166667, 0.1], [1, 0, 1, 1, 1, 1, 0]),
    "max": ([0.9, 0.8, 0.7, 0.4, 0.35, 0.25, 0.15], [0, 1, 1, 1, 1, 1, 0]),
    "box_and_model": ([0.8, 0.466667, 0.366667, 0.266667, 0.233333, 0.166667, 0.1], [1, 1, 0, 1, 1, 1, 0]),
    "absent_aware": ([0.8, 0.466667, 0.44, 0.266667, 0.233333, 0.166667, 0.1], [1, 1, 0, 1, 1, 1, 0]),
}
# fmt: on


@pytest.mark.parametrize("score", list(AUTHORS))
def test_weighted_fusion_gives_the_authors_example(score: str) -> None:
    boxes = torch.tensor(FIRST + SECOND)
    values = torch.tensor([0.9, 0.8, 0.2, 0.4, 0.7, 0.5, 0.8, 0.7, 0.3])
    labels, source = torch.tensor([0, 1, 0, 1, 1, 1, 1, 1, 0]), torch.tensor([0] * 5 + [1] * 4)
    fused = weighted_boxes_fusion(boxes, values, labels, source, (2, 1), 0.5, 0.0001, score=score)
    scores, names = AUTHORS[score]
    assert fused.scores.tolist() == pytest.approx(scores, abs=1e-5)
    assert labels[fused.best].tolist() == names
    two = {0: [0.1818, 47.5455, 81.3636, 91.3636], 1: [10.6667, 31.6667, 71.3333, 62.0]}
    for row, best in enumerate(fused.best.tolist()):
        if best in two:
            assert fused.boxes[row].tolist() == pytest.approx(two[best], abs=1e-3)
            assert int((fused.cluster == row).sum()) == 2
        else:
            assert fused.boxes[row].tolist() == boxes[best].tolist()


def test_weighted_fusion_of_three_models() -> None:
    # fmt: off
    boxes = torch.tensor([
        [120, 21, 166, 61], [37, 52, 72, 80], [35, 116, 76, 167], [20, 22, 50, 64], [53, 68, 100, 108],
        [117, 26, 166, 61], [38, 50, 67, 78], [32, 114, 76, 168], [141, 98, 159, 119], [17, 27, 54, 64],
        [53, 67, 104, 111], [119, 20, 165, 62], [38, 52, 71, 73], [31, 121, 81, 167], [137, 101, 159, 126],
        [20, 25, 58, 62], [47, 73, 102, 106],
    ])
    scores = torch.tensor([11, 2, 10, 4, 1, 14, 8, 16, 15, 3, 5, 17, 12, 9, 13, 7, 6]) / 25
    labels = torch.tensor([0, 0, 1, 2, 2, 0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
    source = torch.tensor([0] * 5 + [1] * 6 + [2] * 6)
    expected = torch.tensor([  # ensemble_boxes: weights 1, 2, 1.5, iou_thr 0.4, skip_box_thr 0.1
        [118.302, 22.775, 165.605, 61.395, 0.57333, 0], [32.297, 116.063, 77.216, 167.577, 0.49333, 1],
        [139.424, 99.182, 159.0, 121.758, 0.44, 1], [38.0, 51.059, 69.118, 75.353, 0.30222, 0],
        [19.122, 25.0, 55.268, 62.976, 0.18222, 2], [50.158, 69.842, 103.053, 108.632, 0.16889, 2],
    ])
    # fmt: on
    fused = weighted_boxes_fusion(boxes, scores, labels, source, (1, 2, 1.5), 0.4, 0.1)
    torch.testing.assert_close(fused.boxes, expected[:, :4], atol=1e-3, rtol=0)
    torch.testing.assert_close(fused.scores, expected[:, 4], atol=1e-5, rtol=0)
    assert labels[fused.best].tolist() == expected[:, 5].tolist()
    assert fused.cluster.tolist() == [0, -1, 1, 4, -1, 0, 3, 1, 2, 4, 5, 0, 3, 1, 2, 4, 5]


def slow_fusion(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[tuple[list[int], np.ndarray]]:
    """Section 3.2 of the paper, word by word: (members, mean)."""
    clusters: list[tuple[list[int], np.ndarray]] = []
    for i in np.argsort(-scores, kind="stable"):
        found = [float(pairwise_iou(torch.tensor(mean)[None], torch.tensor(boxes[i])[None])) for _, mean in clusters]
        if found and max(found) > threshold:
            place = int(np.argmax(found))
            members = [*clusters[place][0], int(i)]
            clusters[place] = (members, np.average(boxes[members], axis=0, weights=scores[members]))
        else:
            clusters.append(([int(i)], boxes[i]))
    return clusters


@pytest.mark.parametrize(("count", "wide"), [(1, 50), (60, 400), (150, 120), (200, 3000)])
@pytest.mark.slow
def test_parts_that_cannot_meet_change_nothing(count: int, wide: int) -> None:
    # Few and many boxes of one part take different ways; so do parts side by side.
    generator = np.random.default_rng(count)
    corner, side = generator.uniform(0, wide, (count, 2)), generator.uniform(10, 60, (count, 2))
    boxes, scores = np.concatenate([corner, corner + side], axis=1), generator.uniform(0.1, 1, count)
    fused = weighted_boxes_fusion(
        torch.tensor(boxes), torch.tensor(scores), None, torch.zeros(count, dtype=torch.int64), (1.0,), 0.3
    )
    expected = slow_fusion(boxes, scores, 0.3)
    expected.sort(key=lambda cluster: -float(np.mean(scores[cluster[0]])))
    assert len(fused) == len(expected)
    for row, (members, mean) in enumerate(expected):
        np.testing.assert_allclose(fused.boxes[row].numpy(), mean, atol=1e-3)
        assert set((fused.cluster == row).nonzero().flatten().tolist()) == set(members)


def test_more_boxes_than_models_may_raise_a_score() -> None:
    boxes, scores = torch.tensor([[0, 0, 10, 10]] * 3), torch.tensor([0.5, 0.6, 0.7])
    source = torch.zeros(3, dtype=torch.int64)
    fused = weighted_boxes_fusion(boxes, scores, None, source)
    assert fused.scores.tolist() == pytest.approx([0.6])
    fused = weighted_boxes_fusion(boxes, scores, None, source, allows_overflow=True)
    assert fused.scores.tolist() == pytest.approx([1.8])


def test_nothing_and_boxes_without_area() -> None:
    none, no_score = torch.zeros(0, 4), torch.zeros(0)
    index = torch.zeros(0, dtype=torch.int64)
    assert len(suppression(none, no_score, index)) == 0
    assert len(non_maximum_merging(none, no_score, index)) == 0
    assert len(joining(none, no_score, index, none, torch.zeros(0, dtype=torch.bool))) == 0
    assert len(weighted_boxes_fusion(none, no_score, index, index)) == 0
    flat = torch.tensor([[0, 0, 5, 0], [0, 0, 5, 5]])
    fused = weighted_boxes_fusion(flat, torch.tensor([0.9, 0.0]), None, torch.zeros(2, dtype=torch.int64))
    assert fused.boxes.tolist() == [[0, 0, 5, 5]]  # a score of 0 is a score
    assert fused.cluster.tolist() == [-1, 0]


@pytest.mark.parametrize("weights", [(), (1, 0), (-1,), (float("nan"),)])
def test_bad_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(VisionTasksError, match="must be positive"):
        weighted_boxes_fusion(BOXES, SCORES, LABELS, LABELS, weights)
    with pytest.raises(VisionTasksError, match="average, max"):
        weighted_boxes_fusion(BOXES, SCORES, LABELS, LABELS, (1, 1), score="mean")


@pytest.mark.parametrize("metric", ["iou", "ios"])
def test_pairs_are_those_of_the_whole_matrix(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_tasks.ops.overlaps._PAIRS_AT_ONCE", 50)  # in many parts
    boxes = BOXES.double()
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = (torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - low).clamp(min=0).prod(-1)
    size = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    whole = torch.minimum(size[:, None], size) if metric == "ios" else size[:, None] + size - shared
    for groups in (None, LABELS):
        same = torch.ones(40, 40, dtype=torch.bool) if groups is None else groups[:, None] == groups
        expected = {tuple(p) for p in ((shared / whole >= 0.3) & same).triu(1).nonzero().tolist()}
        one, two = pairs(BOXES.float(), groups, 0.3, metric)
        found = [tuple(sorted(p)) for p in zip(one.tolist(), two.tolist(), strict=True)]
        assert len(found) == len(set(found))
        assert set(found) == expected
        every = [p for a, b in touching(BOXES.float(), groups) for p in zip(a.tolist(), b.tolist(), strict=True)]
        assert len(every) == int(((shared > 0) & same).triu(1).sum())


def test_leaders_keep_what_greedy_suppression_keeps() -> None:
    one, two = pairs(BOXES.float(), LABELS, 0.3, "iou")
    leader = leaders(SCORES, one, two)
    kept, _ = suppress(BOXES, SCORES, LABELS, 0.3)
    own = (leader == torch.arange(40)).nonzero().flatten()
    assert set(own.tolist()) == set(kept.tolist())
    overlaps = pairwise_iou(BOXES.float(), BOXES.float()) * (LABELS[:, None] == LABELS)
    for box in range(40):
        if leader[box] != box:
            above = [k for k in kept.tolist() if overlaps[box, k] >= 0.3 and SCORES[k] > SCORES[box]]
            assert int(leader[box]) == max(above, key=lambda k: float(SCORES[k]))


LEFT, RIGHT, ALL = [0, 0, 100, 100], [80, 0, 180, 100], [0, 0, 180, 100]


def joined(found: list[tuple[list[int], float, list[int], bool]], doubt: float = 1.0) -> list[tuple[list[int], float]]:
    boxes, scores, windows, cut = zip(*found, strict=True)
    fused = joining(
        torch.tensor(boxes), torch.tensor(scores), None, torch.tensor(windows), torch.tensor(cut), 0.5, doubt
    )
    return [([*map(round, b)], round(s, 4)) for b, s in zip(fused.boxes.tolist(), fused.scores.tolist(), strict=True)]


def test_a_part_gives_way_to_the_whole_and_leaves_it_its_score() -> None:
    # The left tile sees 15 of 60 pixels of a car that the right one sees all of: IoU 0.25, but the same where both saw.
    car, part = ([85, 10, 145, 40], 0.6, RIGHT, False), ([85, 10, 100, 40], 0.8, LEFT, True)
    assert joined([car, part]) == [([85, 10, 145, 40], 0.8)]
    assert joined([part, car]) == [([85, 10, 145, 40], 0.8)]
    # A smaller thing in front of it is another one.
    assert len(joined([car, ([86, 10, 92, 16], 0.8, LEFT, False)])) == 2
    # Nor does a part give way to what is smaller than it.
    assert len(joined([([60, 0, 100, 40], 0.9, LEFT, True), ([80, 4, 93, 32], 0.5, RIGHT, False)])) == 2
    # What a tile sees all of is not a part: a box in a larger one stays.
    assert len(joined([([60, 10, 140, 90], 0.9, ALL, False), ([60, 10, 78, 40], 0.5, LEFT, False)])) == 2


def test_parts_of_a_train_become_one() -> None:
    left, right = ([20, 30, 100, 60], 0.7, LEFT, True), ([80, 31, 170, 60], 0.9, RIGHT, True)
    assert joined([left, right]) == [([20, 30, 170, 60], 0.9)]
    assert joined([left, right], doubt=0.5) == [([20, 30, 170, 60], 0.45)]
    # Parts do not stand for one another: both count for its outline.
    assert joined([left, ([80, 28, 101, 62], 0.5, RIGHT, True)]) == [([20, 28, 101, 62], 0.7)]
    # Seen whole, it needs no parts, though it scores less.
    assert joined([left, right, ([19, 30, 171, 61], 0.3, ALL, False)], doubt=0.5) == [([19, 30, 171, 61], 0.9)]
    # Another one beside it is not the same in the 20 pixels that both tiles saw.
    assert len(joined([left, ([80, 60, 170, 90], 0.9, RIGHT, True)])) == 2
