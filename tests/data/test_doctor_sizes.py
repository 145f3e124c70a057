"""Sizes and anchors: by hand, against brute force, published anchors, and what the models themselves compute."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vision_tasks.config import Config
from vision_tasks.data.doctor import anchors, sizes
from vision_tasks.data.doctor.network import Network
from vision_tasks.data.doctor.sizes import check_sizes
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.registry import create_model
from vision_tasks.ops.boxes import pairwise_iou
from vision_tasks.training.network import network_for, network_of

RNG = np.random.default_rng(0)


def records_of(folder: Path, boxes: list[list[float]], size: tuple[int, int] = (640, 480), crowd: int = 0) -> Records:
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": int(i <= crowd)}
        for i, b in enumerate(boxes, 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (folder / "data.json").write_text(json.dumps(content))
    return read_coco(folder / "data.json", folder)


@pytest.mark.parametrize(
    "rule",
    [Preprocess(), Preprocess(min_size=320, max_size=400), Preprocess(resize="stretch", size=(300, 200)),
     Preprocess(resize="letterbox", size=(416, 640)), Preprocess(resize="none")],
)  # fmt: skip
def test_images_are_resized_as_the_models_do(rule: Preprocess) -> None:
    images = np.concatenate([RNG.integers(1, 3000, (300, 2)), [[1, 1], [1, 5000], [6000, 8000]]])
    network = Network(resize=rule.resize, min_size=rule.min_size, max_size=rule.max_size, size=rule.size)
    theirs = [rule.network_size((int(h), int(w))) for h, w in images]
    np.testing.assert_array_equal(network.resized(images), theirs)


def test_overlaps_of_shapes() -> None:
    ours = anchors.shape_iou(np.array([[10.0, 10], [20, 5]]), np.array([[10.0, 10], [5, 20]]))
    np.testing.assert_allclose(ours, [[1, 50 / 150], [50 / 150, 25 / 175]], rtol=1e-6)


def test_kmeans_finds_the_shapes_that_there_are() -> None:
    shapes = np.array([[10.0, 12], [60, 30], [40, 160], [300, 250]])
    sizes = np.repeat(shapes, 200, 0) * RNG.uniform(0.95, 1.05, (800, 2))
    found = anchors.kmeans_anchors(sizes, 4)
    np.testing.assert_allclose(found, shapes, rtol=0.02)
    np.testing.assert_array_equal(found, anchors.kmeans_anchors(sizes, 4))  # the same draw


def test_kmeans_is_nearly_as_good_as_trying_all() -> None:
    boxes = np.exp(RNG.uniform(np.log(8), np.log(400), (40, 2)))
    best = 0.0
    for parts in itertools.combinations(range(40), 3):  # every three boxes as first anchors, then Lloyd's rounds
        chosen = boxes[list(parts)]
        for _ in range(6):
            nearest = anchors.shape_iou(boxes, chosen).argmax(1)
            chosen = np.stack([boxes[nearest == k].mean(0) if (nearest == k).any() else chosen[k] for k in range(3)])
        best = max(best, float(anchors.shape_iou(boxes, chosen).max(1).mean()))
        if parts[0] > 3:  # 4 * 741 starts are plenty
            break
    reached = anchors.shape_iou(boxes, anchors.kmeans_anchors(boxes, 3)).max(1).mean()
    assert reached > best - 0.02


@pytest.mark.parametrize("boxes", [np.zeros((0, 2)), np.array([[5.0, 5]]), np.repeat([[5.0, 5], [9, 9]], 50, 0)])
def test_kmeans_of_few_boxes_gives_those(boxes: np.ndarray) -> None:
    np.testing.assert_array_equal(anchors.kmeans_anchors(boxes, 9), np.unique(boxes, axis=0))


def test_overlaps_where_anchors_stand_are_those_of_all_anchors() -> None:
    """Against every anchor of a grid, laid out and compared one by one."""
    boxes = np.concatenate([RNG.uniform(100, 300, (60, 2)), np.exp(RNG.uniform(2, 5.5, (60, 2)))], 1)
    strides, shapes = (8.0, 32.0), [np.array([[20.0, 30], [32, 16]]), np.array([[100.0, 100]])]
    corners = torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
    for place in (0.0, 0.5):
        per_level = []
        for stride, own in zip(strides, shapes, strict=True):
            at = (np.arange(0, 800 / stride) + place) * stride
            y, x, k = (g.ravel() for g in np.meshgrid(at, at, np.arange(len(own)), indexing="ij"))
            half = own[k] / 2
            grid = np.stack([x - half[:, 0], y - half[:, 1], x + half[:, 0], y + half[:, 1]], 1)
            per_level.append(pairwise_iou(corners, torch.from_numpy(grid)).amax(1).numpy())
        best, level = anchors.best_overlaps(boxes, strides, shapes, place)
        np.testing.assert_allclose(best, np.max(per_level, 0), rtol=1e-5)
        np.testing.assert_array_equal(level, np.argmax(per_level, 0))


def test_levels_are_those_of_the_pyramids_paper() -> None:
    sides = np.array([32.0, 64, 128, 256, 512, 5, 5000])
    level = anchors.level_of(np.stack([sides, sides], 1), (4, 8, 16, 32, 64))
    assert level.tolist() == [0, 1, 2, 3, 4, 0, 4]


def test_objects_that_the_resize_swallows(tmp_path: Path) -> None:
    # 4000×3000 becomes 1066×800: a side of 7 pixels has 1.87 left, one of 8 has 2.13.
    boxes = [[10.0, 10, 7, 100], [50, 10, 8, 8], [100, 100, 3, 3], [3998.5, 5, 40, 40], [0, 0, 4000, 2]]
    records = records_of(tmp_path, boxes, (4000, 3000), crowd=0)
    (finding,), advice = check_sizes(records, "train")
    assert (finding.code, finding.count, finding.of, finding.split) == ("object_vanishes", 4, 5, "train")
    assert [e.annotation_id for e in finding.examples] == [4, 5, 3, 1]  # the smallest first; 4 is clipped to 1.5 pixels
    assert finding.examples[2].detail == "3.0 × 3.0 pixels become 0.8 × 0.8"
    assert advice["objects"] == 5
    crowds = records_of(tmp_path, boxes, (4000, 3000), crowd=5)
    assert check_sizes(crowds, "train") == ([], {})


def test_without_objects_or_sizes_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert check_sizes(records_of(tmp_path, []), "train") == ([], {})
    assert check_sizes(records_of(tmp_path, [[1.0, 1, 5, 5]], (0, 0)), "train") == ([], {})
    _, advice = check_sizes(records_of(tmp_path, [[1.0, 1, 50, 50]]), "train")
    assert advice["objects"] == 1
    json.dumps(advice)


def test_input_sizes_that_would_suit(tmp_path: Path) -> None:
    """In images of 1600×1200, at 400: 24 pixels become 8, 12 become 4."""
    network = Network(min_size=400, max_size=640)
    many = [[20.0 * i, 20, 12, 40] for i in range(60)]
    advice = check_sizes(records_of(tmp_path, many, (1600, 1200)), "train", network)[1]["input"]
    assert (advice["seen"], advice["chosen"], advice["seen_chosen"]) == (0, {"min_size": 800, "max_size": 1280}, 1)
    tiny = [[20.0 * i, 20, 3, 3] for i in range(60)]
    _, found = check_sizes(records_of(tmp_path, tiny, (1600, 1200)), "train", network)
    assert found["input"]["chosen"]["min_size"] == 1216  # no more than the images hold
    assert any("tile" in line for line in found["lines"])
    large = [[20.0 * i, 20, 300, 400] for i in range(60)]
    advice = check_sizes(records_of(tmp_path, large, (1600, 1200)), "train", Network())[1]["input"]
    assert advice["is_smaller"]
    assert advice["chosen"]["min_size"] == 320


def test_anchors_that_would_suit(tmp_path: Path) -> None:
    """All objects of 12×12 pixels: anchors of 32 and more reach none of them, half or a third as large all."""
    boxes = [[float(x), float(y), 12, 12] for x, y in RNG.integers(0, 460, (300, 2))]
    network = Network(resize="none", strides=(4, 8, 16, 32, 64))
    advice = check_sizes(records_of(tmp_path, boxes), "train", network)[1]["anchors"]
    assert advice["present"]["recall"] == 0
    assert advice["option"]["recall"] > 0.95
    assert advice["option"]["value"][0] in range(11, 17)
    assert advice["chosen"]["anchors"] == [[12, 12]]
    assert advice["chosen"]["shape_iou"] == 1


def test_real_anchors_agree_with_published_ones(real_data: Path) -> None:
    """YOLOv3's nine for COCO at 416 (Redmon and Farhadi 2018, section 2.3); ours come of 80 images only."""
    published = [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]]
    folder = real_data / "coco_mini"
    records = read_coco(folder / "annotations" / "instances_train2017.json", folder / "train2017")
    shown = sizes.Shown.of(records)
    boxes = shown.boxes(Network(resize="letterbox", size=(416, 416)))[:, 2:]
    ours = anchors.kmeans_anchors(boxes, 9)
    theirs = anchors.shape_iou(boxes, np.array(published, float)).max(1).mean()
    mean = anchors.shape_iou(boxes, ours).max(1).mean()
    assert theirs > 0.55
    assert theirs < mean < theirs + 0.08  # better on these boxes than those for all of COCO, but of their kind
    assert anchors.shape_iou(ours, np.array(published, float)).max(1).min() > 0.45


def test_the_default_is_this_projects_faster_rcnn() -> None:
    model = create_model("faster_rcnn", ["thing"], backbone="resnet18")
    assert network_of(model) == Network()


@pytest.mark.parametrize(
    ("name", "strides", "count", "place"),
    [("retinanet", (8, 16, 32, 64, 128), 45, 0.0), ("fcos", (8, 16, 32, 64, 128), 0, 0.0),
     ("yolox", (8, 16, 32), 0, 0.0),
     ("ssdlite", (16, 32, 64, 320 / 3, 160, 320), 36, 0.5)],
)  # fmt: skip
def test_networks_of_models(name: str, strides: tuple[float, ...], count: int, place: float) -> None:
    options = {"backbone": "resnet18"} if name in ("retinanet", "fcos") else {}
    network = network_of(create_model(name, ["thing"], **options))
    assert network is not None
    np.testing.assert_allclose(network.strides, strides)
    assert (sum(map(len, network.anchors or ())), network.place) == (count, place)


def test_the_network_of_a_recipe_needs_no_weights(tmp_path: Path) -> None:
    records = records_of(tmp_path, [[1.0, 1, 50, 50]])
    config = Config(
        model={"name": "faster_rcnn", "backbone": "resnet18", "min_size": 320, "max_size": 640,
               "weights": "not/there.pth", "anchor_sizes": (8, 16, 32, 64, 128)},
        data={"path": str(tmp_path)},
    )  # fmt: skip
    network = network_for(config, records)
    assert network is not None
    assert (network.min_size, network.max_size, network.anchor_sizes) == (320, 640, (8, 16, 32, 64, 128))
    assert config.model["weights"] == "not/there.pth"
    assert network_of(create_model("unet", {"semantic": ["thing"]}, backbone="resnet18")) is None
