"""YOLOX's head: its losses against a plain computation in loops, what comes out of it, and odd batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import vision_tasks as vt
from tests.ops.test_sim_ota import cells_of, overlap_of, sigmoid, slow_sim_ota
from vision_tasks.config import model_config_of
from vision_tasks.heads.yolox import YOLOXHead, encode_cells
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Target

SIZE = (64, 64)


def tiny(categories: tuple[str, ...] = ("cat", "dog"), **options: object) -> VisionModel:
    """YOLOX's smallest pyramid and head on the narrow ResNet, with outputs bold enough to differ."""
    torch.manual_seed(0)
    defaults = {"variant": "nano", "backbone": "resnet_narrow", "size": SIZE}
    model = vt.create_model("yolox", categories, **(defaults | options))
    head = model.heads["objects"]
    with torch.no_grad():
        for layers, spread in ((head.classes, 8), (head.objectness, 8), (head.boxes, 3)):
            for layer in layers:
                layer.weight *= spread
                layer.bias.normal_(0, 0.5)
    return model


def target(boxes: list[list[float]] | None, crowd: bool | list[bool] = False) -> Target:
    if boxes is None:
        return Target(0, SIZE)
    n = len(boxes)
    flags = [crowd] * n if isinstance(crowd, bool) else crowd
    return Target(
        0, SIZE, boxes=torch.tensor(boxes, dtype=torch.float32).reshape(n, 4),
        labels=torch.arange(n) % 2, is_crowd=torch.tensor(flags, dtype=torch.bool),
    )  # fmt: skip


BOX, OTHER = [5.0, 6, 40, 50], [30.0, 20, 60, 58]
BATCHES = {
    "ordinary": [target([BOX, OTHER]), target([BOX])],
    "one image without boxes": [target([BOX]), target([])],
    "no boxes at all": [target([]), target([])],
    "crowds only": [target([BOX, OTHER], True), target([BOX], True)],
    "a crowd among others": [target([BOX, OTHER], [False, True]), target([])],
    "one pixel": [target([[3, 3, 4, 4]]), target([[0, 0, 1, 1], [63, 63, 64, 64]])],
    "a thousandth of a pixel": [target([[3, 3, 3.001, 3.001]]), target([BOX])],
    "no area": [target([[3, 3, 3, 9], [3, 3, 3, 3]]), target([BOX])],
    "only without area": [target([[3, 3, 3, 9]]), target([[5, 5, 5, 5]])],
    "the whole image": [target([[0, 0, 64, 64]]), target([[0, 0, 64, 64]])],
    "one not annotated": [target(None), target([BOX])],
    "none annotated": [target(None), target(None)],
    "very many": [target([[i % 50, i % 40, i % 50 + 9, i % 40 + 9] for i in range(300)]), target([])],
}


def pictures(n: int) -> list[Tensor]:
    return [torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(i)) for i in range(n)]


def losses(targets: list[Target], model: VisionModel | None = None, use_l1: bool = True) -> dict[str, Tensor]:
    model = (model or tiny()).train()
    model.heads["objects"].use_l1 = use_l1
    return {
        name.removeprefix("objects/"): loss
        for name, loss in model.losses(model.preprocess(pictures(len(targets)), targets)).items()
    }


@pytest.mark.parametrize("name", BATCHES)
def test_losses_are_finite_and_every_parameter_gets_a_gradient(name: str) -> None:
    # A parameter without one stops training on several processes.
    model = tiny()
    found = losses(BATCHES[name], model)
    assert set(found) == {"box", "objectness", "class", "l1"}
    assert all(loss.isfinite() and loss >= 0 and loss.ndim == 0 for loss in found.values()), found
    sum(found.values()).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


def cross_entropy(logit: float, wanted: float) -> float:
    p = sigmoid(logit)
    return -wanted * math.log(p) - (1 - wanted) * math.log(1 - p)


def slow_losses(model: VisionModel, targets: list[Target]) -> dict[str, float]:
    """The paper's losses, cell by cell, from the head's raw outputs in float64."""
    head = model.heads["objects"]
    batch = model.preprocess(pictures(len(targets)), targets)
    with torch.no_grad():
        out = head.outputs(model.features(batch.images), SIZE)
    total = dict.fromkeys(("box", "objectness", "class", "l1"), 0.0)
    matched = 0
    for i, truth in enumerate(targets):
        logits, raw, quality = out.logits[i].double(), out.boxes[i].double(), out.quality[i, :, 0].double()
        corners = []
        for cell, (dx, dy, dw, dh) in zip(out.references.tolist(), raw.tolist(), strict=True):
            stride = cell[2] - cell[0]
            x, y = (cell[0] / stride + dx) * stride, (cell[1] / stride + dy) * stride
            w, h = math.exp(dw) * stride, math.exp(dh) * stride
            corners.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        boxes = truth.boxes.double()
        real = torch.tensor([b[2] > b[0] and b[3] > b[1] for b in boxes.tolist()], dtype=torch.bool) & ~truth.is_crowd
        predicted = torch.tensor(corners, dtype=torch.float64)
        matches = slow_sim_ota(logits, quality, predicted, out.references.double(), boxes, truth.labels, real)
        for a, match in enumerate(matches):
            total["objectness"] += cross_entropy(quality[a].item(), float(match >= 0))
            if match < 0:
                continue
            matched += 1
            overlap = overlap_of(boxes[match].tolist(), corners[a])
            total["box"] += 5 * (1 - overlap**2)
            for c, logit in enumerate(logits[a].tolist()):
                total["class"] += cross_entropy(logit, overlap if c == truth.labels[match] else 0.0)
            x1, y1, x2, y2 = boxes[match].tolist()
            left, top, right, _ = out.references[a].tolist()
            stride = right - left
            wanted = [((x1 + x2) / 2 - left) / stride, ((y1 + y2) / 2 - top) / stride]
            wanted += [math.log((x2 - x1) / stride), math.log((y2 - y1) / stride)]
            total["l1"] += sum(abs(w - r) for w, r in zip(wanted, raw[a].tolist(), strict=True))
    return {name: loss / max(matched, 1) for name, loss in total.items()}


@pytest.mark.parametrize("name", ["ordinary", "one image without boxes", "a crowd among others", "no boxes at all"])
def test_losses_equal_the_papers(name: str) -> None:
    model = tiny(norm="frozen").eval()
    for module in model.modules():  # the same statistics for both
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    expected = slow_losses(model, BATCHES[name])
    model.heads["objects"].use_l1 = True
    found = model.losses(model.preprocess(pictures(2), BATCHES[name]))
    assert {n: found[f"objects/{n}"].item() for n in expected} == pytest.approx(expected, rel=1e-4)
    if name != "no boxes at all":
        assert min(expected.values()) > 0.01


def test_l1_counts_when_it_is_switched_on() -> None:
    assert losses(BATCHES["ordinary"], use_l1=False)["l1"] == 0
    assert losses(BATCHES["ordinary"], use_l1=True)["l1"] > 0
    assert not tiny().heads["objects"].use_l1


@pytest.mark.parametrize("name", ["none annotated", "no boxes at all", "crowds only"])
def test_without_objects_only_objectness_learns_and_only_where_somebody_looked(name: str) -> None:
    found = losses(BATCHES[name])
    assert found["box"] == found["class"] == found["l1"] == 0
    assert (found["objectness"] > 0) == (name != "none annotated")


def test_an_image_nobody_looked_at_leaves_the_others_losses_alone() -> None:
    model = tiny().eval()
    both, one = (
        model.losses(model.preprocess(pictures(len(t)), t)) for t in ([target([BOX]), target(None)], [target([BOX])])
    )
    torch.testing.assert_close(both, one)


def test_gradients_are_the_numbers() -> None:
    """The class target is an overlap, which is not to be learned from: there only the logits are checked."""
    g = torch.Generator().manual_seed(5)
    head = tiny().heads["objects"]
    cells = cells_of(32, (8, 16, 32))
    logits = torch.randn(len(cells), 2, generator=g, dtype=torch.float64, requires_grad=True)
    objectness = torch.randn(len(cells), generator=g, dtype=torch.float64, requires_grad=True)
    raw = torch.randn(len(cells), 4, generator=g, dtype=torch.float64, requires_grad=True)
    truth = target([[3.0, 4, 21, 19], [10, 12, 30, 31]])
    truth.boxes = truth.boxes.double()
    head.use_l1 = True

    def located(raw: Tensor) -> tuple[Tensor, Tensor]:
        found, _ = head._image_losses(logits, objectness, head.decode(raw, cells), raw, cells, truth)
        return found["box"], found["l1"]

    def scored(logits: Tensor, objectness: Tensor) -> tuple[Tensor, Tensor]:
        found, _ = head._image_losses(logits, objectness, head.decode(raw, cells), raw, cells, truth)
        return found["class"], found["objectness"]

    assert torch.autograd.gradcheck(located, (raw,))
    assert torch.autograd.gradcheck(scored, (logits, objectness))
    classes, _ = scored(logits, objectness)
    assert torch.autograd.grad(classes, raw, allow_unused=True)[0] is None


def test_a_step_of_training_lowers_the_loss_on_its_own_batch() -> None:
    model = tiny().train()
    batch = model.preprocess(pictures(2), BATCHES["ordinary"])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    totals = []
    for _ in range(12):
        total = sum(model.losses(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.8 * totals[0]


def test_half_precision_features_give_float32_losses() -> None:
    model = tiny().train()
    batch = model.preprocess(pictures(2), BATCHES["ordinary"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.losses(batch)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in found.values())


def test_a_cell_says_its_best_class_alone() -> None:
    head: YOLOXHead = tiny(("a", "b"), columns=(2, 0), outputs=3).heads["objects"]
    scores = head.scores(torch.tensor([[0.0, 9.0, 2.0], [1.0, 0.0, -1.0]]), torch.tensor([[0.0], [3.0]]))
    # Output 1 belongs to no category. sigmoid(0) sigmoid(2) = 0.4404, sigmoid(3) sigmoid(1) = 0.6964
    assert scores.tolist() == [pytest.approx([0.4404, 0], abs=1e-4), pytest.approx([0, 0.6964], abs=1e-4)]


def test_boxes_by_hand_and_back() -> None:
    head: YOLOXHead = tiny().heads["objects"]
    cell = torch.tensor([[16.0, 8, 24, 16]])  # column 2, row 1, stride 8
    raw = torch.tensor([[0.5, 0.25, math.log(2), 0.0]])
    # centre ((2 + 0.5) 8, (1 + 0.25) 8) = (20, 10), width 16, height 8
    box = head.decode(raw, cell)
    torch.testing.assert_close(box, torch.tensor([[12.0, 6, 28, 14]]))
    torch.testing.assert_close(encode_cells(box, cell), raw)
    assert head.decode(torch.full((1, 4), 1e4), cell).isfinite().all()


def test_cells_in_the_order_of_the_outputs() -> None:
    model = tiny()
    out = model.heads["objects"].outputs(model.features(torch.zeros(1, 3, 64, 96)), (64, 96))
    assert out.lengths == [8 * 12, 4 * 6, 2 * 3]
    assert out.references[1].tolist() == [8, 0, 16, 8]
    assert out.references[12].tolist() == [0, 8, 8, 16]
    assert out.references[-1].tolist() == [64, 32, 96, 64]
    assert out.logits.shape == (1, 126, 2)


@pytest.mark.parametrize("suppression", ["nms", "soft_linear"])
def test_the_tensor_path_says_the_same(suppression: str) -> None:
    model = tiny(("a", "b", "c"), suppression=suppression, detections_per_image=30)
    batch = model.preprocess([torch.rand(3, 64, 64), torch.rand(3, 40, 64)])
    with torch.inference_mode():
        features = model.features(batch.images)
        fixed = model.heads["objects"].tensors(features, torch.tensor(batch.image_sizes), SIZE)
        eager = model.heads["objects"].predict(features, batch)
    for i, prediction in enumerate(eager):
        n = int(fixed["count"][i])
        assert n == len(prediction) > 5
        torch.testing.assert_close(fixed["boxes"][i, :n], prediction.boxes)
        torch.testing.assert_close(fixed["scores"][i, :n], prediction.scores)
        assert fixed["labels"][i, :n].equal(prediction.labels)
        assert not fixed["boxes"][i, n:].any()


@pytest.mark.parametrize("size", [(64, 80), (1, 1), (1, 300), (300, 1)])
def test_predictions_lie_inside_their_image(size: tuple[int, int]) -> None:
    model = tiny()
    with torch.inference_mode():
        found = model.predict(model.preprocess([torch.rand(3, *size)]))[0]
    assert found.boxes is not None
    assert found.size == size
    assert len(found) > 0
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= torch.tensor([size[1], size[0]])).all()


def test_beside_a_foreign_backbone_only_that_is_frozen() -> None:
    model = tiny(norm="frozen", trainable_stages=0).train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.backbone.modules())
    assert not any(p.requires_grad for p in model.backbone.parameters())
    norms = [m for part in (model.neck, model.heads) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.training and m.eps == 1e-3 and m.momentum == 0.03 for m in norms)
    assert model.preprocess.channel_order == "rgb"
    own = vt.create_model("yolox", ["a"], variant="nano", norm="frozen")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in own.modules())
    assert own.preprocess.channel_order == "bgr"


def test_the_canvas() -> None:
    images = [torch.rand(3, 30, 60)]
    for options, size in (
        ({}, (416, 416)), ({"variant": "s"}, (640, 640)), ({"size": 256}, (256, 256)), ({"size": (96, 160)}, (96, 160)),
    ):  # fmt: skip
        model = vt.create_model("yolox", ["a"], **({"variant": "nano"} | options))
        batch = model.preprocess(images)
        assert batch.images.shape[-2:] == size
        assert batch.images[..., -1, -1].unique().tolist() == pytest.approx([114])
    config = model_config_of("yolox")
    assert config(size=256).size == 256
    assert config(size=[96, 160]).size == (96, 160)


def test_starts_from_a_probability_of_one_percent() -> None:
    head = vt.create_model("yolox", ["a", "b"], variant="nano").heads["objects"]
    for layer in (*head.classes, *head.objectness):
        torch.testing.assert_close(layer.bias.sigmoid(), torch.full_like(layer.bias, 0.01))
