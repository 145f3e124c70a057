"""Models made fast, against torchvision's eager ones and on real photos with real weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.ops import box_iou

import vision_tasks as vt
from tests.reference.rcnn_twins import SIZES, compare_predictions, pair
from vision_tasks.inference.speed.prepare import prepare
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Prediction

CPU = torch.device("cpu")


@pytest.mark.slow
def test_exact_mask_rcnn_equals_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=256, max_size=320, rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=50, box_detections_per_img=25,
    )  # fmt: skip
    ours, theirs = pair(
        "mask_rcnn", theirs, tmp_path, min_size=256, max_size=320, test_proposals=(300, 50), detections_per_image=25
    )
    ready = prepare(ours, "exact", CPU)
    ready.blueprint = ours.blueprint
    compare_predictions(ready, theirs, [SIZES[0], (300, 360)], at_least=20)


@pytest.fixture(scope="module", params=["yolox_nano.pth", "yolo-fastest-1.1-xl.weights"])
def real_model(request: pytest.FixtureRequest, real_data: Path) -> VisionModel:
    return vt.load(real_data / "weights" / request.param).eval()


@pytest.fixture(scope="module")
def photos(real_data: Path) -> list[Tensor]:
    """Twelve of COCO."""
    files = sorted((real_data / "coco_mini" / "val2017").glob("*.jpg"))[:12]
    return [torch.from_numpy(cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB)).permute(2, 0, 1) for f in files]


def predicted(model: VisionModel, images: list[Tensor]) -> list[Prediction]:
    with torch.inference_mode():
        return [model.predict(model.preprocess([image]))[0] for image in images]


def both(model: VisionModel, photos: list[Tensor], speed: str) -> tuple[list[Prediction], list[Prediction]]:
    return predicted(model, photos), predicted(prepare(model, speed, CPU), photos)


def test_exact_detections_on_photos_are_the_eager_ones(real_model: VisionModel, photos: list[Tensor]) -> None:
    total = 0
    for want, got in zip(*both(real_model, photos, "exact"), strict=True):
        want, got = want.filter(0.05), got.filter(0.05)
        assert len(got) == len(want)
        assert torch.equal(got.labels, want.labels)
        torch.testing.assert_close(got.boxes, want.boxes, rtol=0, atol=1e-2)
        torch.testing.assert_close(got.scores, want.scores, rtol=0, atol=1e-4)
        total += len(want)
    assert total > 50


@pytest.mark.slow
def test_fast_finds_the_objects_that_exact_finds(real_model: VisionModel, photos: list[Tensor]) -> None:
    again = total = 0
    for want, got in zip(*both(real_model, photos, "fast"), strict=True):
        want, got = want.filter(0.4), got.filter(0.3)
        if len(want) == 0:
            continue
        same = want.labels[:, None] == got.labels[None]
        again += int(((box_iou(want.boxes, got.boxes) > 0.9) & same).any(1).sum())
        total += len(want)
    assert total > 20
    assert again >= 0.95 * total
