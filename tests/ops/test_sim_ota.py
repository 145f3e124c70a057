"""SimOTA against the paper's words, one truth and one cell at a time, and against cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vision_tasks.ops import sim_ota as module
from vision_tasks.ops.matching import BACKGROUND
from vision_tasks.ops.sim_ota import sim_ota


def cells_of(side: int, strides: tuple[int, ...]) -> Tensor:
    """Cells of a square canvas, level by level, row by row."""
    return torch.tensor(
        [(x * s, y * s, (x + 1) * s, (y + 1) * s) for s in strides for y in range(side // s) for x in range(side // s)],
        dtype=torch.float64,
    )


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def overlap_of(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def slow_sim_ota(
    logits: Tensor, objectness: Tensor, boxes: Tensor, cells: Tensor, truth: Tensor, outputs: Tensor, real: Tensor,
    center_radius: float = 2.5, most: int = 10,
) -> list[int]:  # fmt: skip
    """The same, as the paper and YOLOX's authors describe it, with loops."""
    truths = [t for t in range(len(truth)) if real[t]]
    rows, predicted = truth.tolist(), boxes.tolist()

    def inside(t: int, a: int) -> bool:
        x, y = (cells[a, 0] + cells[a, 2]).item() / 2, (cells[a, 1] + cells[a, 3]).item() / 2
        return rows[t][0] < x < rows[t][2] and rows[t][1] < y < rows[t][3]

    def near(t: int, a: int) -> bool:
        x, y = (cells[a, 0] + cells[a, 2]).item() / 2, (cells[a, 1] + cells[a, 3]).item() / 2
        reach = center_radius * (cells[a, 2] - cells[a, 0]).item()
        middle = (rows[t][0] + rows[t][2]) / 2, (rows[t][1] + rows[t][3]) / 2
        return abs(x - middle[0]) < reach and abs(y - middle[1]) < reach

    def cost(t: int, a: int) -> float:
        entropy = 0.0
        for c in range(logits.shape[1]):
            p = math.sqrt(sigmoid(logits[a, c].item()) * sigmoid(objectness[a].item()))
            entropy -= max(-100.0, math.log(p) if c == outputs[t] else math.log(1 - p))
        located = -math.log(overlap_of(rows[t], predicted[a]) + 1e-8)
        return entropy + 3 * located + (0 if inside(t, a) and near(t, a) else 100_000)

    possible = [a for a in range(len(cells)) if any(inside(t, a) or near(t, a) for t in truths)]
    costs = {(t, a): cost(t, a) for t in truths for a in possible}
    takers: dict[int, list[int]] = {a: [] for a in possible}
    for t in truths:
        best = sorted((overlap_of(rows[t], predicted[a]) for a in possible), reverse=True)[:most]
        count = max(1, int(sum(best)))
        for a in sorted(possible, key=lambda a, t=t: costs[t, a])[:count]:
            takers[a].append(t)
    answer = [BACKGROUND] * len(cells)
    for a, wanting in takers.items():
        if len(wanting) == 1:
            answer[a] = wanting[0]
        elif wanting:
            answer[a] = min(truths, key=lambda t, a=a: costs[t, a])
    return answer


def problem(seed: int, truths: int, classes: int = 3) -> dict[str, Tensor]:
    """Random truth on a canvas of 64 pixels, and predictions of which about half lie near some truth."""
    g = torch.Generator().manual_seed(seed)
    cells = cells_of(64, (8, 16, 32))
    corner = torch.rand(truths, 2, generator=g, dtype=torch.float64) * 50
    extent = 2 + torch.rand(truths, 2, generator=g, dtype=torch.float64) * 40
    truth = torch.cat((corner, corner + extent), 1)
    centers = (cells[:, :2] + cells[:, 2:]) / 2
    size = 10 + torch.rand(len(cells), 2, generator=g, dtype=torch.float64) * 30
    boxes = torch.cat((centers - size / 2, centers + size / 2), 1)
    if truths:
        drawn = truth[torch.randint(0, truths, (len(cells),), generator=g)]
        drawn = drawn + torch.randn(len(cells), 4, generator=g, dtype=torch.float64)
        boxes = torch.where(torch.rand(len(cells), 1, generator=g) < 0.5, drawn, boxes)
        boxes = torch.cat((boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + 0.1)), 1)
    return {
        "logits": torch.randn(len(cells), classes, generator=g, dtype=torch.float64) * 2,
        "objectness": torch.randn(len(cells), generator=g, dtype=torch.float64) * 2,
        "boxes": boxes,
        "cells": cells,
        "truth": truth,
        "outputs": torch.randint(0, classes, (truths,), generator=g),
        "real": torch.rand(truths, generator=g) < 0.85,
    }


@pytest.mark.parametrize("truths", [0, 1, 2, 5, 12])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_papers_words(seed: int, truths: int) -> None:
    given = problem(seed * 100 + truths, truths)
    assert sim_ota(**given).tolist() == slow_sim_ota(**given)


def test_other_constants() -> None:
    given = problem(1, 6)
    usual = sim_ota(**given).tolist()
    for options in ({"center_radius": 1.5}, {"most": 3}):
        found = sim_ota(**given, **options).tolist()
        assert found == slow_sim_ota(**given, **options)
        assert found != usual


def test_many_truths_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(7, 23)
    whole = sim_ota(**given)
    assert whole.tolist() == slow_sim_ota(**given)
    seen = []
    original = module.pairwise_iou
    monkeypatch.setattr(module, "pairwise_iou", lambda a, b: seen.append(len(a)) or original(a, b))
    monkeypatch.setattr(module, "_PAIRS", 5 * len(given["cells"]))
    assert sim_ota(**given).tolist() == whole.tolist()
    assert seen == [5, 5, 5, 5, 3]


def plain(truth: list[list[float]], boxes: dict[int, list[float]], cells: Tensor) -> dict[str, Tensor]:
    """Indifferent scores; the cells in `boxes` predict these boxes, all others one far away."""
    predicted = torch.tensor([[900.0, 900, 901, 901]]).repeat(len(cells), 1)
    for cell, box in boxes.items():
        predicted[cell] = torch.tensor(box)
    return {
        "logits": torch.zeros(len(cells), 2), "objectness": torch.zeros(len(cells)), "boxes": predicted,
        "cells": cells.float(), "truth": torch.tensor(truth).reshape(-1, 4),
        "outputs": torch.zeros(len(truth), dtype=torch.int64), "real": torch.ones(len(truth), dtype=torch.bool),
    }  # fmt: skip


def matched(given: dict[str, Tensor]) -> dict[int, int]:
    found = sim_ota(**given).tolist()
    return {cell: truth for cell, truth in enumerate(found) if truth != BACKGROUND}


BOX = [16.0, 16, 48, 48]
CELLS = cells_of(64, (16,))  # 4×4; the centres of 5, 6, 9 and 10 lie in BOX


def test_as_many_cells_as_the_overlaps_sum_up_to() -> None:
    half = [16.0, 16, 48, 32]
    # 1 + 1 + 0.5 = 2.5, so two cells; the one that is only half right is left out
    assert matched(plain([BOX], {5: BOX, 6: half, 10: BOX}, CELLS)) == {5: 0, 10: 0}
    # 1 + 1 + 0.5 + 0.5 = 3, so three; of the equals the better score is taken
    given = plain([BOX], {5: BOX, 6: half, 9: half, 10: BOX}, CELLS)
    given["logits"][9, 0] = 1.0
    assert matched(given) == {5: 0, 9: 0, 10: 0}


def test_a_truth_that_nobody_sees_takes_one_cell() -> None:
    found = matched(plain([BOX], {}, CELLS))
    assert len(found) == 1
    assert set(found) <= {5, 6, 9, 10}


def test_an_object_smaller_than_a_cell_takes_a_cell_near_it() -> None:
    assert len(matched(plain([[20.0, 20, 21, 21]], {}, CELLS))) == 1
    assert matched(plain([[20.0, 20, 21, 21]], {6: [20, 20, 21, 21]}, CELLS)) == {6: 0}


def test_a_perfect_answer_from_outside_the_box_comes_after_a_poor_one_from_inside() -> None:
    given = plain([BOX], {4: BOX, 5: [16, 16, 24, 24]}, CELLS)  # cell 4 is near the centre, but not in the box
    assert matched(given) == {5: 0}


def test_a_cell_that_two_truths_want_goes_to_the_cheaper() -> None:
    other = [16.0, 16, 48, 40]
    given = plain([BOX, other], {5: other, 6: [17, 17, 47, 47]}, CELLS)
    # Overlaps of the first: 0.75 and 0.88, of the second 1 and 0.69: one cell each, and each its own.
    assert matched(given) == {5: 1, 6: 0}
    given = plain([BOX, other], {5: other}, CELLS)
    given["logits"][:, 0], given["objectness"][5] = -3.0, 5.0  # the only cell that sees anything
    assert matched(given)[5] == 1


def test_the_class_counts() -> None:
    given = plain([BOX], {5: BOX, 6: BOX}, CELLS)
    given["truth"] = torch.cat((given["truth"], given["truth"]))
    given["outputs"], given["real"] = torch.tensor([0, 1]), torch.ones(2, dtype=torch.bool)
    given["logits"] = torch.full((16, 2), -4.0)
    given["logits"][5] = torch.tensor([4.0, -4])
    given["logits"][6] = torch.tensor([-4.0, 4])
    given["boxes"][6] = torch.tensor([16.0, 16, 48, 47])  # 1 + 0.97: one cell each
    assert matched(given) == {5: 0, 6: 1}


def test_what_is_not_real_and_what_is_far_away_takes_nothing() -> None:
    given = plain([BOX, [20.0, 20, 40, 40]], {5: BOX}, CELLS)
    given["real"][:] = False
    assert matched(given) == {}
    assert matched(plain([], {}, CELLS)) == {}
    assert matched(plain([[5000.0, 5000, 5010, 5010]], {5: BOX}, CELLS)) == {}


def test_certain_scores_stay_finite() -> None:
    given = plain([BOX], {5: BOX, 6: BOX}, CELLS)
    given["logits"][:, 1], given["objectness"][:] = 200.0, 200.0
    given["logits"][6, 1] = -200.0
    assert set(matched(given)) == {5, 6}
