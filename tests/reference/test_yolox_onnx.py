"""YOLOX against the published network: a real file of its weights, and the same network as ONNX, run by ONNX Runtime.

The twin's pipeline (letterbox by OpenCV, decoding, suppression by torchvision, judged by pycocotools) shares nothing
with ours but the photos.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

import vision_tasks as vt
from tests.metrics.coco_reference import numbers, pycocotools_eval
from vision_tasks.backbones.registry import build_backbone
from vision_tasks.metrics import coco_evaluate
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.models.yolox import yolox
from vision_tasks.structures import Categories
from vision_tasks.weights.yolox import rename_yolox

SIDE = 416


@pytest.fixture(scope="module")
def weights(real_data: Path) -> Path:
    return real_data / "weights" / "yolox_nano.pth"


@pytest.fixture(scope="module")
def nano(weights: Path) -> VisionModel:
    return vt.create_model("yolox", weights=weights)


@pytest.fixture(scope="module")
def twin(real_data: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, which runs the twin, is not installed")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(real_data / "weights" / "yolox_nano_coco_416.onnx", options)


def photo(real_data: Path, name: str) -> np.ndarray:
    """(H, W, 3) BGR."""
    image = cv2.imread(str(real_data / "coco_mini" / "val2017" / name))
    assert image is not None
    return image


def as_rgb_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy())


def letterboxed(image: np.ndarray) -> tuple[np.ndarray, float]:
    """As YOLOX does: (1, 3, 416, 416) float32 BGR in 0..255, and the scale."""
    height, width = image.shape[:2]
    scale = min(SIDE / height, SIDE / width)
    small = cv2.resize(image, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LINEAR)
    canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas.transpose(2, 0, 1)[None].astype(np.float32), scale


def test_every_weight_of_the_file_has_its_place(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = vt.create_model("yolox", weights=weights, norm="batch")
    assert not caplog.records, caplog.text
    assert model.blueprint is not None
    assert model.blueprint.arguments["variant"] == "nano"  # which the file says
    published = torch.load(weights, weights_only=True)["model"]
    own = model.state_dict()
    assert len(published) == len(own)
    assert sorted(v.double().sum().item() for v in own.values()) == sorted(
        v.double().sum().item() for v in published.values()
    )
    assert len(model.categories) == 80
    assert model.categories.ids[14:17] == (16, 17, 18)  # bird, cat, dog


def test_raw_outputs_equal_the_twins(nano: VisionModel, twin: Any) -> None:
    """Boxes as they come, sigmoids of objectness and classes.

    On noise: photos make larger activations, whose rounding in float32 leaves both up to 4e-4 from what float64 gives.
    """
    noise = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        out = nano.heads["objects"].outputs(nano.features(noise), (SIDE, SIDE))
    found = torch.cat((out.boxes, out.quality.sigmoid(), out.logits.sigmoid()), dim=-1)
    expected = torch.from_numpy(twin.run(None, {"images": noise.numpy()})[0])
    assert expected.shape == (1, 3549, 85)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_network_sees_what_yolox_shows_it(nano: VisionModel, real_data: Path) -> None:
    """The letterbox, its grey, BGR and 0..255: within the rounding of OpenCV's uint8 pixels."""
    for name in ("000000423617.jpg", "000000022892.jpg", "000000377575.jpg"):
        image = photo(real_data, name)
        expected, _ = letterboxed(image)
        found = nano.preprocess([as_rgb_tensor(image)]).images
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1.0)


def postprocessed(outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in network pixels, labels and scores, best first, of (3549, 85) raw outputs, as YOLOX makes them."""
    cells = [(x, y, s) for s in (8, 16, 32) for y in range(SIDE // s) for x in range(SIDE // s)]
    x, y, stride = torch.tensor(cells, dtype=outputs.dtype).unbind(1)
    centers = torch.stack(((outputs[:, 0] + x) * stride, (outputs[:, 1] + y) * stride), 1)
    half = outputs[:, 2:4].exp() * stride[:, None] / 2
    best, label = outputs[:, 5:].max(1)
    scores, boxes = outputs[:, 4] * best, torch.cat((centers - half, centers + half), 1)
    good = scores >= 0.01
    boxes, label, scores = boxes[good], label[good], scores[good]
    kept = batched_nms(boxes, scores, label, 0.65)
    return boxes[kept], label[kept], scores[kept]


def test_detections_equal_the_twins(weights: Path, twin: Any, real_data: Path) -> None:
    model = vt.create_model("yolox", weights=weights, detections_per_image=1000)  # YOLOX keeps all
    total = odd = 0
    for name in ("000000423617.jpg", "000000022892.jpg", "000000183709.jpg"):
        batch = model.preprocess([as_rgb_tensor(photo(real_data, name))])
        boxes, labels, scores = postprocessed(torch.from_numpy(twin.run(None, {"images": batch.images.numpy()})[0][0]))
        with torch.inference_mode():
            found = model.heads["objects"].predict(model.features(batch.images), batch)[0]
        assert found.boxes is not None
        assert found.labels is not None
        assert found.scores is not None
        same = (boxes[:, None] - found.boxes).abs().amax(-1) < 1e-4 * SIDE
        same &= (labels[:, None] == found.labels) & ((scores[:, None] - found.scores).abs() < 1e-4)
        total += len(boxes)
        odd += int((~same.any(1)).sum()) + abs(len(found) - len(boxes))
    assert total > 100
    assert odd / total < 0.02, f"{odd} of {total} detections differ"


def rows(image_id: int, ids: tuple[int, ...], boxes: Tensor, labels: Tensor, scores: Tensor) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": ids[label], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for (x1, y1, x2, y2), label, score in zip(boxes.tolist(), labels.tolist(), scores.tolist(), strict=True)
    ]


@pytest.mark.slow
def test_average_precision_equals_the_twins(nano: VisionModel, twin: Any, real_data: Path, tmp_path: Path) -> None:
    """On all real photos of the validation split, judged by pycocotools and by our own metric."""
    truth_path = real_data / "coco_mini" / "annotations" / "instances_val2017.json"
    truth = json.loads(truth_path.read_text())
    ids = nano.categories.ids
    theirs, ours = [], []
    for entry in truth["images"]:
        image = photo(real_data, entry["file_name"])
        pixels, scale = letterboxed(image)
        boxes, labels, scores = postprocessed(torch.from_numpy(twin.run(None, {"images": pixels})[0][0]))
        theirs += rows(entry["id"], ids, boxes / scale, labels, scores)
        with torch.inference_mode():
            found = nano.predict(nano.preprocess([as_rgb_tensor(image)]))[0]
        assert found.boxes is not None
        assert found.labels is not None
        assert found.scores is not None
        ours += rows(entry["id"], ids, found.boxes, found.labels, found.scores)
    by_pycocotools = [numbers(pycocotools_eval(truth, found)) for found in (theirs, ours)]
    assert by_pycocotools[0]["AP"] > 0.3, "the twin detects well on these photos"
    for name in ("AP", "AP50"):
        assert by_pycocotools[1][name] == pytest.approx(by_pycocotools[0][name], abs=0.002)
    for found, expected in zip((theirs, ours), by_pycocotools, strict=True):
        results = tmp_path / "results.json"
        results.write_text(json.dumps(found))
        assert coco_evaluate(truth_path, results) == pytest.approx(expected, abs=1e-9)


def test_other_categories_keep_what_the_file_knows(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="vision_tasks"):
        model = vt.create_model("yolox", ["zebra crossing", "dog"], weights=weights)
    assert "dog" in caplog.text
    assert "zebra crossing" in caplog.text
    published = torch.load(weights, weights_only=True)["model"]
    for level in range(3):
        own = model.state_dict()[f"heads.objects.classes.{level}.weight"]
        assert own.shape == (2, 64, 1, 1)
        assert own[1].equal(published[f"head.cls_preds.{level}.weight"][16])  # the 17th of COCO's 80
        boxes = model.state_dict()[f"heads.objects.boxes.{level}.weight"]
        assert boxes.equal(published[f"head.reg_preds.{level}.weight"])


def test_another_variant_or_architecture_is_refused(weights: Path) -> None:
    with pytest.raises(vt.VisionTasksError, match=r"holds the weights of yolox 'nano', not 's'"):
        vt.create_model("yolox", weights=weights, variant="s")
    with pytest.raises(vt.VisionTasksError, match=r"variant takes one of nano, tiny, s, m, l, x, not 'xl'"):
        vt.create_model("yolox", ["a"], variant="xl")
    with pytest.raises(vt.VisionTasksError, match=r"holds the weights of YOLOX, which fit yolox, not retinanet"):
        vt.create_model("retinanet", ["a"], weights=weights)


@pytest.mark.parametrize(
    ("variant", "millions", "tolerance"),
    [  # YOLOX's README, tables of the standard and the light models
        *(("nano", 0.91, 0.005), ("tiny", 5.06, 0.005), ("s", 9.0, 0.05)),
        *(("m", 25.3, 0.05), ("l", 54.2, 0.05), ("x", 99.1, 0.05)),
    ],
)
def test_parameters_are_as_published(variant: Any, millions: float, tolerance: float) -> None:
    with torch.device("meta"):
        model = yolox(Categories.of([str(i) for i in range(80)]), variant)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=tolerance)


def test_names_and_shapes_of_a_network_without_depthwise_convolutions() -> None:
    """Of yolox_s.pth, read off YOLOX's code; the real file that is at hand is a nano."""
    expected = {
        "backbone.backbone.stem.conv.conv.weight": (32, 12, 3, 3),
        "backbone.backbone.dark2.0.conv.weight": (64, 32, 3, 3),
        "backbone.backbone.dark3.1.m.2.conv2.conv.weight": (64, 64, 3, 3),
        "backbone.backbone.dark5.1.conv2.conv.weight": (512, 1024, 1, 1),
        "backbone.backbone.dark5.2.conv3.bn.running_var": (512,),
        "backbone.lateral_conv0.conv.weight": (256, 512, 1, 1),
        "backbone.C3_p4.conv1.conv.weight": (128, 512, 1, 1),
        "backbone.reduce_conv1.conv.weight": (128, 256, 1, 1),
        "backbone.C3_p3.m.0.conv2.conv.weight": (64, 64, 3, 3),
        "backbone.bu_conv2.conv.weight": (128, 128, 3, 3),
        "backbone.C3_n3.conv3.conv.weight": (256, 256, 1, 1),
        "backbone.bu_conv1.conv.weight": (256, 256, 3, 3),
        "backbone.C3_n4.conv2.conv.weight": (256, 512, 1, 1),
        "head.stems.2.conv.weight": (128, 512, 1, 1),
        "head.cls_convs.1.0.conv.weight": (128, 128, 3, 3),
        "head.reg_convs.0.1.bn.bias": (128,),
        "head.cls_preds.2.weight": (80, 128, 1, 1),
        "head.reg_preds.0.bias": (4,),
        "head.obj_preds.1.weight": (1, 128, 1, 1),
    }
    with torch.device("meta"):
        own = yolox(Categories.of([str(i) for i in range(80)]), "s").state_dict()
    renamed = rename_yolox({name: torch.empty(shape) for name, shape in expected.items()})
    assert len(renamed) == len(expected)
    for name, tensor in renamed.items():
        assert own[name].shape == tensor.shape, name


@pytest.mark.parametrize("size", [(64, 96), (75, 50)])
def test_the_body_is_a_backbone(size: tuple[int, int]) -> None:
    levels = ("C1", "C2", "C3", "C4", "C5")
    body = build_backbone("csp_darknet_nano", "batch", levels).eval()
    assert body.channels == dict(zip(levels, (16, 32, 64, 128, 256), strict=True))
    with torch.inference_mode():
        maps = body(torch.rand(2, 3, *size))
    for level, found in maps.items():
        stride = 2 ** int(level[1])
        assert found.shape == (2, body.channels[level], -(-size[0] // stride), -(-size[1] // stride))
    short = build_backbone("csp_darknet_nano", "batch", ("C3",))
    assert not hasattr(short, "dark4")
