"""The published networks, layer for layer: their weights must have the length of the published files."""

from __future__ import annotations

import pytest

from tests.small_darknet import section
from vision_tasks.weights.darknet import count_values
from vision_tasks.weights.darknet_cfg import plan, read_cfg

NET = section("net", width=416, height=416, channels=3)
HEADER = 20  # bytes before the values: version and the count of images seen
V3_ANCHORS = "10,13,  16,30,  33,23,  30,61,  62,45,  59,119,  116,90,  156,198,  373,326"
TINY_ANCHORS = "10,14,  23,27,  37,58,  81,82,  135,169,  344,319"


def conv(filters: int, size: int, stride: int = 1) -> str:
    return section(
        "convolutional", batch_normalize=1, filters=filters, size=size, stride=stride, pad=1, activation="leaky"
    )


def route(*layers: int, **options: int) -> str:
    return section("route", layers=",".join(map(str, layers)), **options)


def yolo(mask: str, anchors: str) -> str:
    plain = section("convolutional", filters=255, size=1, stride=1, pad=1, activation="linear")
    return plain + section("yolo", mask=mask, anchors=anchors, classes=80, num=len(anchors.split(",")) // 2)


def darknet53() -> str:
    """Redmon and Farhadi 2018, table 1: five halvings, each followed by 1, 2, 8, 8, 4 residual blocks."""
    text = conv(32, 3)
    for blocks, width in ((1, 64), (2, 128), (8, 256), (8, 512), (4, 1024)):
        text += conv(width, 3, 2)
        text += (
            conv(width // 2, 1) + conv(width, 3) + section("shortcut", activation="linear", **{"from": -3})
        ) * blocks
    return text


def yolov3() -> str:
    """Three scales; layers 36 and 61 are the last of stride 8 and 16 in the body."""
    text = NET + darknet53()
    for width, mask, earlier in ((512, "6,7,8", 61), (256, "3,4,5", 36), (128, "0,1,2", None)):
        text += (conv(width, 1) + conv(2 * width, 3)) * 3 + yolo(mask, V3_ANCHORS)
        if earlier is not None:
            text += route(-4) + conv(width // 2, 1) + section("upsample", stride=2) + route(-1, earlier)
    return text


def yolov3_tiny() -> str:
    text = NET
    for width in (16, 32, 64, 128, 256):
        text += conv(width, 3) + section("maxpool", size=2, stride=2)
    text += conv(512, 3) + section("maxpool", size=2, stride=1) + conv(1024, 3) + conv(256, 1) + conv(512, 3)
    text += yolo("3,4,5", TINY_ANCHORS) + route(-4) + conv(128, 1) + section("upsample", stride=2) + route(-1, 8)
    return text + conv(256, 3) + yolo("0,1,2", TINY_ANCHORS)


def yolov4_tiny() -> str:
    """Three cross-stage blocks, each on the second half of its channels."""
    text = NET + conv(32, 3, 2) + conv(64, 3, 2)
    for width in (64, 128, 256):
        text += conv(width, 3) + route(-1, groups=2, group_id=1) + conv(width // 2, 3) * 2 + route(-1, -2)
        text += conv(width, 1) + route(-6, -1) + section("maxpool", size=2, stride=2)
    text += conv(512, 3) + conv(256, 1) + conv(512, 3) + yolo("3,4,5", TINY_ANCHORS)
    text += route(-4) + conv(128, 1) + section("upsample", stride=2) + route(-1, 23)
    return text + conv(256, 3) + yolo("1,2,3", TINY_ANCHORS)


@pytest.mark.parametrize(
    ("cfg", "layers", "size"),
    [
        # Layers as Darknet prints them, the last one's number plus one; bytes as the publishers serve the files.
        (yolov3(), 107, 248_007_048),
        (yolov3_tiny(), 24, 35_434_956),
        (yolov4_tiny(), 38, 24_251_276),
    ],
    ids=["yolov3", "yolov3-tiny", "yolov4-tiny"],
)
def test_length_of_the_published_file(cfg: str, layers: int, size: int) -> None:
    planned = plan(read_cfg(cfg))
    assert len(planned) == layers
    assert HEADER + 4 * count_values(planned) == size
