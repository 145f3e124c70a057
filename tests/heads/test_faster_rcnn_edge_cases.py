"""Faster R-CNN on batches that training meets sooner or later."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.tiny_model import tiny_model
from vision_tasks.ops.matching import BACKGROUND, IGNORED
from vision_tasks.structures import Target

SIZE = (64, 80)


def target(boxes: list[list[float]] | None, crowd: bool | list[bool] = False) -> Target:
    if boxes is None:
        return Target(0, SIZE)
    n = len(boxes)
    flags = [crowd] * n if isinstance(crowd, bool) else crowd
    return Target(
        0, SIZE, boxes=torch.tensor(boxes, dtype=torch.float32).reshape(n, 4),
        labels=torch.arange(n) % 2, is_crowd=torch.tensor(flags, dtype=torch.bool),
    )  # fmt: skip


BOX, OTHER = [5.0, 6, 40, 50], [30.0, 20, 70, 60]
BATCHES = {
    "ordinary": [target([BOX, OTHER]), target([BOX])],
    "one image without boxes": [target([BOX]), target([])],
    "no boxes at all": [target([]), target([])],
    "crowds only": [target([BOX, OTHER], True), target([BOX], True)],
    "a crowd among others": [target([BOX, OTHER], [False, True]), target([])],
    "one pixel": [target([[3, 3, 4, 4]]), target([[0, 0, 1, 1], [79, 63, 80, 64]])],
    "a thousandth of a pixel": [target([[3, 3, 3.001, 3.001]]), target([BOX])],
    "no area": [target([[3, 3, 3, 9], [3, 3, 3, 3]]), target([BOX])],
    "only without area": [target([[3, 3, 3, 9]]), target([[5, 5, 5, 5]])],
    "the whole image": [target([[0, 0, 80, 64]]), target([[0, 0, 80, 64]])],
    "one not annotated": [target(None), target([BOX])],
    "none annotated": [target(None), target(None)],
    "not annotated beside empty": [target(None), target([])],
    "very many": [target([[i % 60, i % 50, i % 60 + 9, i % 50 + 9] for i in range(300)]), target([])],
}


def losses(targets: list[Target], **options: object) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    model = tiny_model(**options).train()
    images = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(len(targets))]
    torch.manual_seed(1)
    return model, model.losses(model.preprocess(images, targets))


@pytest.mark.parametrize("name", BATCHES)
def test_losses_are_finite_and_every_parameter_gets_a_gradient(name: str) -> None:
    # A parameter without one stops training on several processes.
    model, found = losses(BATCHES[name])
    assert set(found) == {f"objects/{n}" for n in ("rpn_objectness", "rpn_box", "roi_class", "roi_box")}
    assert all(loss.isfinite() and loss >= 0 and loss.ndim == 0 for loss in found.values()), found
    sum(found.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ["none annotated", "no boxes at all"])
def test_an_image_nobody_looked_at_teaches_nothing_but_an_empty_one_does(name: str) -> None:
    _, found = losses(BATCHES[name])
    assert found["objects/rpn_box"] == 0
    assert found["objects/roi_box"] == 0
    learns = name == "no boxes at all"
    assert (found["objects/rpn_objectness"] > 0) == learns
    assert (found["objects/roi_class"] > 0) == learns


def test_an_image_nobody_looked_at_leaves_the_others_losses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its anchors and proposals do not count in any mean."""

    def all_of_them(matches: Tensor, count: int, fraction: float) -> tuple[Tensor, Tensor]:
        return torch.arange(len(matches)), matches != IGNORED

    results = []
    for targets in ([target([BOX])], [target([BOX]), target(None)]):
        model = tiny_model(norm="frozen").train()
        head = model.heads["objects"]
        monkeypatch.setattr(head.rpn, "sample", all_of_them)
        monkeypatch.setattr(head.roi, "sample", all_of_them)
        images = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(len(targets))]
        results.append(model.losses(model.preprocess(images, targets)))
    torch.testing.assert_close(results[0], results[1])


def test_crowds_never_come_back_as_samples() -> None:
    model = tiny_model()
    stage = model.heads["objects"].roi
    crowd, single = torch.tensor([BOX]), torch.tensor([OTHER])
    truth = Target(
        0, SIZE, boxes=torch.cat((crowd, single)), labels=torch.tensor([0, 1]), is_crowd=torch.tensor([True, False])
    )
    far = torch.tensor([[60.0, 2, 75, 12]])
    boxes, matches = stage.draw(far, truth)
    rows = {tuple(b): int(m) for b, m in zip(boxes.tolist(), matches.tolist(), strict=True)}
    assert rows == {tuple(OTHER): 1, (60.0, 2.0, 75.0, 12.0): BACKGROUND}


def test_a_proposal_upon_a_crowd_is_not_its_object() -> None:
    stage = tiny_model().heads["objects"].roi
    truth = target([BOX, OTHER], [True, False])
    boxes, matches = stage.draw(torch.tensor([BOX]), truth)
    assert 0 not in matches.tolist(), "matched to a crowd"
    assert matches[(boxes == torch.tensor(OTHER)).all(1)].tolist() == [1]


def test_a_crowd_adds_no_positive_anchor() -> None:
    def box_loss(targets: list[Target]) -> Tensor:
        return losses(targets)[1]["objects/rpn_box"]

    assert box_loss(BATCHES["crowds only"]) == 0
    assert box_loss(BATCHES["ordinary"]) > 0


def test_a_step_of_training_lowers_the_loss_on_its_own_batch() -> None:
    model = tiny_model(norm="frozen").train()
    images = [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    batch = model.preprocess(images, BATCHES["ordinary"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(12):
        torch.manual_seed(0)
        total = sum(model.losses(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


@pytest.mark.parametrize("size", [(64, 80), (1, 1), (1, 300), (300, 1)])
def test_predictions_lie_inside_their_image(size: tuple[int, int]) -> None:
    model = tiny_model()
    picture = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.predict(model.preprocess([picture]))[0]
    assert found.boxes is not None
    assert found.scores is not None
    assert found.size == size
    if len(found):
        assert found.boxes.min() >= 0
        assert (found.boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all()
        assert (found.scores.diff() <= 0).all()
        assert len(found) <= 100
