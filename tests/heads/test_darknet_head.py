"""The yolo layers: their loss against the rules of Darknet, as loops and by hand; and output of fixed shape."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss

import vision_tasks as vt
from tests.small_darknet import ANCHORS, CFGS, picture, write_darknet
from vision_tasks.heads.darknet import DarknetHead, YoloLayer
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.detections import DetectionRule
from vision_tasks.structures import Batch, Categories, Target

SIX = tuple((float(w), float(h)) for w, h in zip(ANCHORS.split(",")[::2], ANCHORS.split(",")[1::2], strict=True))
CANVAS = (64, 96)
NAMES = Categories.of(["a", "b", "c"])


def head_of(*layers: YoloLayer, columns: tuple[int, ...] = (0, 1, 2)) -> DarknetHead:
    torch.manual_seed(0)
    head = DarknetHead(NAMES, columns, layers, 3, DetectionRule(0.005, 0.45, 100))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(std=0.4)
    return head


def layer(level: str, mask: tuple[int, ...], **options: object) -> YoloLayer:
    return YoloLayer(level, 4, 1, 0, SIX, mask, **options)  # type: ignore[arg-type]


def maps(*sizes: tuple[int, int], images: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {f"y{i}": torch.randn(images, 4, h, w, generator=generator) for i, (h, w) in enumerate(sizes)}


def batch_of(*targets: Target) -> Batch:
    n = len(targets)
    images = torch.zeros(n, 3, *CANVAS)
    return Batch(images, [CANVAS] * n, [CANVAS] * n, [(1, 1)] * n, [(0, 0)] * n, list(targets))


def truth(boxes: list[list[float]], labels: list[int], crowd: list[bool] | None = None) -> Target:
    return Target(
        0, CANVAS, boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64), is_crowd=None if crowd is None else torch.tensor(crowd),
    )  # fmt: skip


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def darknet_delta(raw: np.ndarray, yolo: YoloLayer, boxes: list[list[float]], labels: list[int]) -> np.ndarray:
    """The gradient (downhill) that Darknet's yolo layer writes for one image, rule by rule.

    From YOLOv3's paper, section 2.1, and the behaviour of yolo_layer.c: every prediction that overlaps no truth by more
    than ignore_thresh is background; then each truth claims the anchor whose shape fits it best of all, if this layer
    has it, in the cell of its centre. Box outputs move by (2 - area) × error.

    Args:
        raw: (n, 5 + C, h, w) outputs before any activation.
    """
    n, depth, h, w = raw.shape
    delta = np.zeros_like(raw)
    image_h, image_w = CANVAS
    for a in range(n):
        anchor_w, anchor_h = yolo.anchors[yolo.mask[a]]
        for y in range(h):
            for x in range(w):
                out = raw[a, :, y, x]
                cx = (x + yolo.scale_x_y * sigmoid(out[0]) - (yolo.scale_x_y - 1) / 2) / w * image_w
                cy = (y + yolo.scale_x_y * sigmoid(out[1]) - (yolo.scale_x_y - 1) / 2) / h * image_h
                bw, bh = math.exp(out[2]) * anchor_w, math.exp(out[3]) * anchor_h
                corners = torch.tensor([[cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2]])
                best = box_iou(corners, torch.tensor(boxes)).max() if boxes else 0
                delta[a, 4, y, x] = 0 if best > yolo.ignore_thresh else -sigmoid(out[4])
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        tw, th = x2 - x1, y2 - y1
        fits = [min(tw, aw) * min(th, ah) / (tw * th + aw * ah - min(tw, aw) * min(th, ah)) for aw, ah in yolo.anchors]
        for a, anchor in enumerate(yolo.mask):
            if anchor != int(np.argmax(fits)) and fits[anchor] <= yolo.iou_thresh:
                continue
            gx, gy = (x1 + x2) / 2 / image_w * w, (y1 + y2) / 2 / image_h * h
            x, y = int(gx), int(gy)
            out, d = raw[a, :, y, x], delta[a, :, y, x]
            scale = 2 - tw * th / (image_w * image_h)
            grid = yolo.scale_x_y
            d[0] = scale * (gx - x - (grid * sigmoid(out[0]) - (grid - 1) / 2))
            d[1] = scale * (gy - y - (grid * sigmoid(out[1]) - (grid - 1) / 2))
            d[2] = scale * (math.log(tw / yolo.anchors[anchor][0]) - out[2])
            d[3] = scale * (math.log(th / yolo.anchors[anchor][1]) - out[3])
            d[4] = 1 - sigmoid(out[4])
            for c in range(depth - 5):
                d[5 + c] = (c == label) - sigmoid(out[5 + c])
    return delta


BOXES = [[3.0, 4, 9, 13], [40, 10, 66, 49], [70, 30, 84, 41], [2, 40, 50, 63], [33, 5, 41, 12]]
LABELS = [0, 2, 1, 1, 0]


@pytest.mark.parametrize("options", [{}, {"scale_x_y": 1.2}, {"iou_thresh": 0.213}, {"ignore_thresh": 0.2}])
def test_gradients_are_darknets(options: dict[str, float]) -> None:
    layers = (layer("y0", (0, 1, 2), **options), layer("y1", (3, 4, 5), **options))
    head = head_of(*layers)
    features = maps((8, 12), (4, 6))
    raws: list[Tensor] = []
    for yolo in layers:  # each predictor's outputs become leaves whose gradient we can read
        predictor = head.get_submodule(yolo.level)
        raws.extend(part.detach().requires_grad_() for part in predictor(features[yolo.level]))
        predictor.forward = lambda _, parts=tuple(raws[-3:]): parts  # type: ignore[method-assign]
    losses = head.losses(features, batch_of(truth(BOXES, LABELS)))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    claimed = 0
    for i, (yolo, (h, w)) in enumerate(zip(layers, ((8, 12), (4, 6)), strict=True)):

        def arranged(parts: list[Tensor], h: int = h, w: int = w) -> np.ndarray:
            return torch.cat(parts, -1)[0].unflatten(0, (h, w, 3)).permute(2, 3, 0, 1).double().numpy()

        values = arranged([raw.detach() for raw in raws[3 * i : 3 * i + 3]])
        gradient = arranged([raw.grad for raw in raws[3 * i : 3 * i + 3]])
        expected = darknet_delta(values, yolo, BOXES, LABELS)
        claimed += int((expected[:, 4] > 0).sum())
        assert (expected[:, 4] == 0).any() or options.get("ignore_thresh", 0.5) > 0.4
        np.testing.assert_allclose(-gradient, expected, atol=2e-5)
    assert claimed > 5 if "iou_thresh" in options else claimed == 5


def test_losses_of_one_truth_by_hand() -> None:
    """One cell, one anchor of 20 × 40 pixels, all outputs 0: sigmoid 0.5 everywhere, the box is the anchor."""
    yolo = YoloLayer("y0", 4, 1, 0, ((20.0, 40.0),), (0,))
    head = DarknetHead(NAMES, (0, 1, 2), (yolo,), 3, DetectionRule(0.005, 0.45, 100))
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    # Centre at (60, 32) of 96 × 64: 0.625 and 0.5 of the cell; e times the anchor's width, the anchor's height.
    wide = 20 * math.e
    target = truth([[60 - wide / 2, 12, 60 + wide / 2, 52]], [1])
    losses = head.losses({"y0": torch.zeros(1, 4, 1, 1)}, batch_of(target))
    scale = 2 - wide * 40 / (96 * 64)
    # Cross entropy with sigmoid 0.5 is log 2 whatever is wanted; half of (0 - 1)² for the width.
    assert losses["box"].item() == pytest.approx(scale * (2 * math.log(2) + 0.5), rel=1e-5)
    assert losses["objectness"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert losses["class"].item() == pytest.approx(3 * math.log(2), rel=1e-5)


def test_weights_of_the_cfg_and_the_overlap_loss() -> None:
    """CIoU against torchvision's, on the one prediction that answers; each weight multiplies its loss."""
    plain = layer("y0", (0, 1, 2), iou_loss="ciou")
    head, features = head_of(plain), maps((8, 12))
    target = truth(BOXES[:1], LABELS[:1])
    losses = head.losses(features, batch_of(target))
    out = head.outputs(features, CANVAS)
    row = (1 * 12 + 0) * 3 + 0  # centre (6, 8.5) lies in row 1, column 0; the first anchor, 6 × 8, fits best
    predicted = head.decode(out.boxes, out.references)[0, row : row + 1]
    assert target.boxes is not None
    assert losses["box"].item() == pytest.approx(complete_box_iou_loss(predicted, target.boxes).item(), rel=1e-4)
    weights = {"iou_normalizer": 0.5, "obj_normalizer": 3.0, "cls_normalizer": 7.0}
    heavier = head_of(layer("y0", (0, 1, 2), iou_loss="ciou", **weights)).losses(features, batch_of(target))
    for name, factor in zip(("box", "objectness", "class"), weights.values(), strict=True):
        torch.testing.assert_close(heavier[name], losses[name] * factor)


def test_predictions_that_overlap_enough_answer_too() -> None:
    """truth_thresh: every prediction that overlaps a truth by more is taught to be it."""
    head, features = head_of(layer("y0", (0, 1, 2), truth_thresh=0.3, ignore_thresh=0.3)), maps((8, 12))
    target = truth(BOXES, LABELS)
    assert target.boxes is not None
    out = head.outputs(features, CANVAS)
    overlap = box_iou(head.decode(out.boxes, out.references)[0], target.boxes).max(1).values
    once = head_of(layer("y0", (0, 1, 2), ignore_thresh=0.3)).losses(features, batch_of(target))
    more = head.losses(features, batch_of(target))
    quality = out.quality
    assert quality is not None
    # Two truths have their best anchor in this layer; what only overlaps adds its own cross entropy with 1.
    claimed = {(1 * 12 + 0) * 3, (1 * 12 + 4) * 3}
    added = [i for i in (overlap > 0.3).nonzero().flatten().tolist() if i not in claimed]
    assert len(added) > 3
    expected = torch.nn.functional.softplus(-quality[0, added, 0]).sum()
    torch.testing.assert_close(more["objectness"] - once["objectness"], expected, rtol=1e-4, atol=1e-4)


def test_truths_that_share_a_prediction_are_both_wanted() -> None:
    head, features = head_of(layer("y0", (0, 1, 2))), maps((8, 12))
    one = head.losses(features, batch_of(truth(BOXES[:1], [0])))
    both = head.losses(features, batch_of(truth([BOXES[0], BOXES[0]], [0, 2])))
    logits = head.outputs(features, CANVAS).logits[0, 12 * 3]
    torch.testing.assert_close(both["class"], one["class"] - logits[2], rtol=1e-4, atol=1e-4)  # BCE(1) - BCE(0) = -x
    torch.testing.assert_close(both["objectness"], one["objectness"])


@pytest.mark.parametrize("options", [{}, {"iou_loss": "giou"}, {"new_coords": True, "scale_x_y": 2.0}])
def test_numeric_gradients(options: dict[str, object]) -> None:
    head, features = head_of(layer("y0", (0, 1, 2), **options)), maps((8, 12))
    losses = head.losses(features, batch_of(truth(BOXES, LABELS)))
    total = losses["box"]
    bias = head.get_parameter("y0.boxes.bias")
    (gradient,) = torch.autograd.grad(total, bias)
    for i in range(4):
        ends = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                bias[i] += step
                ends.append(head.losses(features, batch_of(truth(BOXES, LABELS)))["box"].item())
                bias[i] -= step
        assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(gradient[i].item(), rel=3e-2, abs=3e-2)


ODD = {
    "nothing": truth([], []),
    "crowds": truth(BOXES[:2], LABELS[:2], [True, True]),
    "one pixel": truth([[5, 5, 6, 6]], [0]),
    "no area": truth([[5, 5, 5, 9]], [0]),
    "at the corner": truth([[95, 63, 96, 64], [90, 60, 102, 68]], [0, 1]),
    "nobody looked": Target(0, CANVAS),
}


@pytest.mark.parametrize("loss", ["mse", "iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("kind", ODD)
def test_finite_and_no_parameter_unused(kind: str, loss: str) -> None:
    head = head_of(layer("y0", (0, 1, 2), iou_loss=loss, truth_thresh=0.9), layer("y1", (3, 4, 5), iou_loss=loss))
    losses = head.losses(maps((8, 12), (4, 6)), batch_of(ODD[kind]))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(value.isfinite() for value in losses.values())
    if kind in ("nothing", "crowds", "no area"):
        assert losses["box"] == losses["class"] == 0
        assert losses["objectness"] > 0
    if kind == "nobody looked":
        assert not any(losses.values())
    if kind in ("one pixel", "at the corner"):
        assert losses["box"] > 0


def test_huge_outputs_stay_finite() -> None:
    head = head_of(layer("y0", (0, 1, 2), iou_loss="ciou"))
    with torch.no_grad():
        head.get_parameter("y0.boxes.bias").fill_(500.0)
    losses = head.losses(maps((8, 12)), batch_of(truth(BOXES, LABELS)))
    assert all(value.isfinite() for value in losses.values())


def test_a_sum_per_image() -> None:
    """The loss of two images is the mean of theirs; an image nobody annotated does not count."""
    head, features = head_of(layer("y0", (0, 1, 2))), maps((8, 12), images=3)
    targets = [truth(BOXES, LABELS), truth([], []), Target(0, CANVAS)]
    one_by_one = [head.losses({"y0": features["y0"][i : i + 1]}, batch_of(targets[i])) for i in range(2)]
    together = head.losses(features, batch_of(*targets))
    for name, value in together.items():
        torch.testing.assert_close(value, (one_by_one[0][name] + one_by_one[1][name]) / 2)


def test_columns_pick_outputs_in_prediction_and_loss() -> None:
    features, target = maps((8, 12)), truth(BOXES, LABELS)
    straight, turned = head_of(layer("y0", (0, 1, 2))), head_of(layer("y0", (0, 1, 2)), columns=(2, 0, 1))
    swapped = truth(BOXES, [[1, 2, 0][label] for label in LABELS])  # the label whose output is the straight one's
    torch.testing.assert_close(
        turned.losses(features, batch_of(swapped))["class"], straight.losses(features, batch_of(target))["class"]
    )
    a, b = (h.predict(features, batch_of(target))[0] for h in (straight, turned))
    assert torch.equal(a.labels, torch.tensor([2, 0, 1])[b.labels])


def small_model(name: str, folder: Path, **options: object) -> VisionModel:
    write_darknet(folder, name)
    return vt.create_model("darknet", ["a", "b", "c"], weights=folder / f"{name}.weights", **options)


@pytest.mark.parametrize("name", CFGS)
def test_fixed_shapes_say_the_same(name: str, tmp_path: Path) -> None:
    model = small_model(name, tmp_path)
    assert model.preprocess.size is not None
    height, width = model.preprocess.size
    images = torch.from_numpy(np.concatenate((picture(height, width), 1 - picture(height, width))))
    sizes = torch.tensor([[height, width], [height - 5, width - 9]])
    batch = Batch(images, [tuple(s) for s in sizes.tolist()], [(height, width)] * 2, [(1, 1)] * 2, [(0, 0)] * 2)  # type: ignore[misc]
    with torch.inference_mode():
        eager = model.heads["objects"].predict(model.features(images), batch)
        fixed = model.tensors(images, sizes)
    for i, want in enumerate(eager):
        n = int(fixed["count"][i])
        assert n == len(want) > 10
        torch.testing.assert_close(fixed["boxes"][i, :n], want.boxes)
        assert torch.equal(fixed["labels"][i, :n], want.labels)
        assert not fixed["scores"][i, n:].any()


def test_frozen_stages_do_not_learn(tmp_path: Path) -> None:
    model = small_model("v3", tmp_path, trainable_stages=3)
    learning = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad and "backbone" in name}
    # Stage 3 begins with the layer that reaches stride 8, number 6 in this cfg.
    assert learning == {"6", "7", "8", "12", "15"}
    model.train()
    assert not model.backbone.layers[1].training


def test_cells_spread_over_a_canvas_that_is_no_multiple_of_the_stride() -> None:
    """By hand: a map of 4 × 6 on 64 × 96 pixels has cells of 16; one of 3 × 6 has cells 21⅓ high."""
    head = head_of(layer("y0", (0, 1, 2)))
    references = head.outputs(maps((3, 6)), CANVAS).references
    assert references[0].tolist() == pytest.approx([8, 32 / 3, 6, 8])
    assert references[-1].tolist() == pytest.approx([88, 160 / 3, 12, 20])


def test_batch_norm_adds_what_darknet_adds() -> None:
    model = vt.create_model("darknet", ["a"], cfg=CFGS["v3"])
    assert model.backbone.layers[0].norm.eps == 1e-5


def test_letterbox_of_the_cfg_is_centred_on_grey(tmp_path: Path) -> None:
    """A 32 × 64 image lies 16 pixels down on the 64 × 64 canvas; boxes come back to its own pixels."""
    _, weights = write_darknet(tmp_path, "v3")
    boxed = tmp_path / "boxed.cfg"
    boxed.write_text(CFGS["v3"].replace("[net]\n", "[net]\nletter_box=1\n"))
    letterbox, stretch = (
        vt.create_model("darknet", ["a", "b", "c"], weights=weights, cfg=str(cfg))
        for cfg in (boxed, tmp_path / "v3.cfg")
    )
    image = torch.from_numpy(picture(32, 64))[0]
    canvas = torch.full((3, 64, 64), 0.5)
    canvas[:, 16:48] = image
    with torch.inference_mode():
        (got,) = letterbox.predict(letterbox.preprocess([image]))
        (want,) = stretch.predict(stretch.preprocess([canvas]))
    assert got.boxes is not None
    assert want.boxes is not None
    assert len(got) == len(want) > 20
    inside = (want.boxes > 0).all(1) & (want.boxes < 64).all(1)  # those the larger canvas did not cut
    moved = want.boxes - torch.tensor([0.0, 16, 0, 16])
    moved[:, 1::2] = moved[:, 1::2].clamp(0, 32)
    torch.testing.assert_close(got.boxes[inside], moved[inside])
