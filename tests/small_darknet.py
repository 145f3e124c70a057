"""Small Darknet networks of each family, as `.cfg` text, with `.weights` files of lively random numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

ANCHORS = "6,8, 14,10, 12,20, 30,18, 24,40, 50,52"
CLASSES = 3


def section(kind: str, **options: object) -> str:
    """Heading and options."""
    return f"[{kind}]\n" + "".join(f"{key}={value}\n" for key, value in options.items())


def conv(filters: int, size: int = 3, stride: int = 1, act: str = "leaky", **options: object) -> str:
    """Convolution with batch norm, padded to keep the size."""
    return section(
        "convolutional", batch_normalize=1, filters=filters, size=size, stride=stride, pad=1, activation=act, **options
    )


def yolo(mask: str, **options: object) -> str:
    """A yolo layer and the convolution before it."""
    outputs = len(mask.split(",")) * (5 + CLASSES)
    act = "logistic" if options.get("new_coords") else "linear"
    head = section("convolutional", size=1, stride=1, pad=1, filters=outputs, activation=act)
    return head + section("yolo", mask=mask, anchors=ANCHORS, classes=CLASSES, num=6, **options)


def _net(width: int = 64, height: int = 64, **options: object) -> str:
    return section("net", batch=1, width=width, height=height, channels=3, **options)


CFGS = {
    # Redmon and Farhadi 2018: residual blocks, two scales, the finer one from an upsampled and an earlier map
    "v3": "# small\n" + _net()
    + conv(8) + conv(16, stride=2) + conv(8, 1) + conv(16) + section("shortcut", **{"from": -3}, activation="linear")
    + conv(24, stride=2) + conv(32, stride=2) + conv(32, stride=2) + conv(16, 1) + yolo("3,4,5", ignore_thresh=".7")
    + section("route", layers="-3") + conv(8, 1) + section("upsample", stride=2) + section("route", layers="-1, 6")
    + conv(16) + yolo("0,1,2", ignore_thresh=".7"),
    # YOLOv3-tiny: max pooling, the last of them with stride 1
    "v3-tiny": _net(96, 64)
    + conv(8) + section("maxpool", size=2, stride=2) + conv(12) + section("maxpool", size=2, stride=2) + conv(16)
    + section("maxpool", size=2, stride=2) + conv(16) + section("maxpool", size=2, stride=2) + conv(20)
    + section("maxpool", size=2, stride=1) + conv(24) + conv(12, 1) + yolo("3,4,5")
    + section("route", layers="-3") + conv(8, 1) + section("upsample", stride=2) + section("route", layers="-1,6")
    + yolo("1,2,3"),
    # Bochkovskiy et al. 2020: Mish, groups of channels, spatial pyramid pooling, grid factors, finest scale first
    "v4": _net(64, 96)
    + conv(8, stride=2, act="mish") + conv(16, stride=2, act="mish")
    + section("route", layers=-1, groups=2, group_id=1)
    + conv(8, act="mish") + conv(8, act="mish") + section("route", layers="-1,-2") + conv(16, 1, act="mish")
    + section("route", layers="-6,-1") + section("maxpool", size=2, stride=2) + conv(24, groups=4)
    + conv(32, stride=2) + conv(16, 1) + section("maxpool", stride=1, size=5) + section("route", layers=-2)
    + section("maxpool", stride=1, size=9) + section("route", layers=-4) + section("maxpool", stride=1, size=13)
    + section("route", layers="-1,-3,-5,-6") + conv(16, 1, act="swish")
    + section("upsample", stride=2) + section("route", layers="-1,9") + conv(16)
    + yolo("0,1,2", scale_x_y=1.2, iou_loss="ciou", iou_normalizer=0.07, iou_thresh=0.213, nms_kind="greedynms")
    + section("route", layers=-3) + conv(24, stride=2) + section("route", layers="-1,18")
    + yolo("3,4,5", scale_x_y=1.05, iou_loss="ciou", iou_normalizer=0.07, iou_thresh=0.213),
    # Scaled-YOLOv4's coordinates and EfficientNet's channel attention
    "csp": _net()
    + conv(8, stride=2, act="swish") + section("avgpool") + conv(4, 1, act="swish") + conv(8, 1, act="logistic")
    + section("scale_channels", **{"from": -4}) + conv(16, stride=2, act="mish") + conv(16, stride=2, act="relu")
    + section("dropout", probability=".15") + conv(16, stride=2)
    + yolo("3,4,5", scale_x_y=2.0, new_coords=1, iou_loss="giou"),
}  # fmt: skip
"""By name; each detects `CLASSES` classes."""


def shapes_of(cfg: str) -> list[tuple[bool, tuple[int, int, int, int]]]:
    """(batch norm?, kernel shape) of every convolution, worked out from the text alone."""
    channels: list[int] = []
    shapes = []
    for block in cfg.split("[")[2:]:
        kind, _, rest = block.partition("]")
        options = dict(line.split("=") for line in rest.split() if "=" in line)
        index = len(channels)
        before = channels[-1] if channels else 3
        if kind == "convolutional":
            size = int(options.get("size", 1))
            filters = int(options["filters"])
            shapes.append(
                ("batch_normalize" in options, (filters, before // int(options.get("groups", 1)), size, size))
            )
            channels.append(filters)
        elif kind == "route":
            numbers = [int(n) for n in rest.split("layers=")[1].splitlines()[0].split(",")]
            wide = sum(channels[n if n >= 0 else index + n] for n in numbers)
            channels.append(wide // int(options.get("groups", 1)))
        elif kind == "scale_channels":
            channels.append(channels[index + int(options["from"])])
        else:
            channels.append(before)
    return shapes


def write_darknet(folder: Path, name: str, cfg: str | None = None) -> tuple[Path, Path]:
    """Write `name.cfg` and `name.weights`; the same numbers on every machine."""
    cfg = cfg or CFGS[name]
    generator = np.random.default_rng(list(name.encode()))
    values = []
    for norm, shape in shapes_of(cfg):
        filters, fan = shape[0], shape[1] * shape[2] * shape[3]
        values.append(generator.uniform(-0.5, 0.5, filters))  # bias
        if norm:
            values.append(generator.uniform(0.6, 1.4, filters))  # scale
            values.append(generator.uniform(-0.3, 0.3, filters))  # mean
            values.append(generator.uniform(0.5, 1.5, filters))  # variance
        spread = (6 / fan) ** 0.5 * (1 if norm else 0.5)
        values.append(generator.uniform(-spread, spread, fan * filters))
    path = folder / f"{name}.weights"
    header = struct.pack("<3iq", 0, 2, 5, 32013312)
    path.write_bytes(header + np.concatenate(values).astype("<f4").tobytes())
    (folder / f"{name}.cfg").write_text(cfg)
    return folder / f"{name}.cfg", path


def picture(height: int, width: int) -> np.ndarray:
    """(1, 3, H, W) float32 in 0..1, the same on every machine."""
    return np.random.default_rng(5).random((1, 3, height, width), dtype=np.float32)
