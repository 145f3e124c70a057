"""Weights that publishers offer for download, by name: where, whose, under which licence, and how good."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torchvision

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights.download import fetch

log = logging.getLogger("vision_tasks")

Key = tuple[str, str | None, str | None]
"""(model, variant, backbone), None where the builder has no such option or leaves it at None."""


@dataclass(frozen=True)
class Published:
    """One file of a model's weights, trained on COCO.

    Attributes:
        url: of the file; its SHA-256 begins with the digits after the name's last dash, if there are any.
        publisher, licence: of the file, as the publisher says.
        box_ap, mask_ap: COCO AP on val2017 in percent, as the publisher says; None if he does not.
        miou: of a semantic model, in percent, over the 21 classes of Pascal VOC on COCO's val2017.
    """

    url: str
    publisher: str
    licence: str
    box_ap: float | None = None
    mask_ap: float | None = None
    miou: float | None = None


def _torchvision(twin: str, version: str = "COCO_V1") -> Published:
    """torchvision's file for one of its models; the figures are those it carries along."""
    weights = torchvision.models.get_model_weights(twin)[version]
    ap = weights.meta["_metrics"]["COCO-val2017"]
    return Published(str(weights.url), "torchvision", "BSD-3-Clause", ap.get("box_map"), ap.get("mask_map"))


def _semantic(twin: str) -> Published:
    """The same for one of its semantic models."""
    weights = torchvision.models.get_model_weights(twin)["COCO_WITH_VOC_LABELS_V1"]
    figures = weights.meta["_metrics"]["COCO-val2017-VOC-labels"]
    return Published(str(weights.url), "torchvision", "BSD-3-Clause", miou=figures["miou"])


def _yolox(variant: str, box_ap: float) -> Published:
    """A file of YOLOX's release 0.1.1rc0; AP from the table in its README. No hash is stated."""
    release = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0"
    return Published(f"{release}/yolox_{variant}.pth", "YOLOX", "Apache-2.0", box_ap)


MODELS: dict[Key, Published] = {
    ("faster_rcnn", "v1", "resnet50"): _torchvision("fasterrcnn_resnet50_fpn"),
    ("faster_rcnn", "v2", "resnet50"): _torchvision("fasterrcnn_resnet50_fpn_v2"),
    ("faster_rcnn", "v1", "mobilenet_v3_large"): _torchvision("fasterrcnn_mobilenet_v3_large_fpn"),
    ("faster_rcnn", "320px", "mobilenet_v3_large"): _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn"),
    ("mask_rcnn", "v1", "resnet50"): _torchvision("maskrcnn_resnet50_fpn"),
    ("mask_rcnn", "v2", "resnet50"): _torchvision("maskrcnn_resnet50_fpn_v2"),
    ("retinanet", "v1", "resnet50"): _torchvision("retinanet_resnet50_fpn"),
    ("retinanet", "v2", "resnet50"): _torchvision("retinanet_resnet50_fpn_v2"),
    ("fcos", None, "resnet50"): _torchvision("fcos_resnet50_fpn"),
    ("ssd", None, "vgg16"): _torchvision("ssd300_vgg16"),
    ("ssdlite", None, "mobilenet_v3_large"): _torchvision("ssdlite320_mobilenet_v3_large"),
    ("yolox", "nano", None): _yolox("nano", 25.8),
    ("yolox", "tiny", None): _yolox("tiny", 32.8),
    ("yolox", "s", None): _yolox("s", 40.5),
    ("yolox", "m", None): _yolox("m", 46.9),
    ("yolox", "l", None): _yolox("l", 49.7),
    ("yolox", "x", None): _yolox("x", 51.1),
    ("fcn", None, "resnet50"): _semantic("fcn_resnet50"),
    ("fcn", None, "resnet101"): _semantic("fcn_resnet101"),
    ("deeplabv3", None, "resnet50"): _semantic("deeplabv3_resnet50"),
    ("deeplabv3", None, "resnet101"): _semantic("deeplabv3_resnet101"),
    ("deeplabv3", None, "mobilenet_v3_large"): _semantic("deeplabv3_mobilenet_v3_large"),
    ("lraspp", None, "mobilenet_v3_large"): _semantic("lraspp_mobilenet_v3_large"),
}
"""What `weights="coco"` means. Add a file by adding an entry: the key is the model, and its options `variant` and
`backbone` (defaults included; None for an option it does not have)."""

_PJREDDIE = ("pjreddie.com/darknet", "public domain (YOLO licence)")
_ALEXEY = ("AlexeyAB/darknet", "Unlicense (YOLO licence)")
_DARKNET_RELEASE = "https://github.com/AlexeyAB/darknet/releases/download/yolov4"

DARKNET: dict[str, Published] = {
    "yolov3": Published("https://pjreddie.com/media/files/yolov3.weights", *_PJREDDIE),
    "yolov3-spp": Published("https://pjreddie.com/media/files/yolov3-spp.weights", *_PJREDDIE),
    "yolov3-tiny": Published("https://pjreddie.com/media/files/yolov3-tiny.weights", *_PJREDDIE),
    "yolov4": Published(f"{_DARKNET_RELEASE}/yolov4.weights", *_ALEXEY),
    "yolov4-tiny": Published(f"{_DARKNET_RELEASE}/yolov4-tiny.weights", *_ALEXEY),
}
"""The same for Darknet networks, by the name of the `.cfg` (which the publishers offer beside them), in their own
format. No hash is stated; a file of another length than the cfg asks for is refused. AP is stated for test-dev only."""

EPSILON_ZERO = ("258fb6c6", "bf2d0c1e", "eeacb38b")
"""Hashes (first eight digits) of files made before torchvision's frozen batch norm had an epsilon: they want 0."""

IMAGENET = {
    "imagenet": "IMAGENET1K_V1",
    "imagenet_v2": "IMAGENET1K_V2",
    "imagenet_features": "IMAGENET1K_FEATURES",
}
"""What `backbone_weights=` says -> torchvision's name of the version. The first is what its detectors were trained
from; the second, of a longer recipe (2021), is better at classification and not there for every network. The third
is there for VGG-16 alone: its authors' weights, for pixels of 0..255 less their mean, from which SSD is trained."""

SSD_VGG = ("ssd", "vgg16")
"""The model and backbone whose "imagenet" is "imagenet_features", because the model's pixels go to 255."""


def imagenet_file(backbone: str, version: str = "imagenet") -> Path:
    """torchvision's ImageNet weights of a backbone, downloaded if not yet in the cache.

    Args:
        backbone: torchvision's name of a classification network. version: a key of `IMAGENET`.

    Raises:
        VisionTasksError: none are published, or they cannot be had.
    """
    try:
        weights = torchvision.models.get_model_weights(backbone)[IMAGENET[version]]
    except (ValueError, KeyError) as error:
        other = next((v for v in IMAGENET if v != version and _has(backbone, v)), None)
        raise VisionTasksError(
            f"There are no published ImageNet weights {version!r} for the backbone {backbone!r}. "
            + (f"There are {other!r}; or give" if other else "Give")
            + " backbone_weights a file."
        ) from error
    log.info("ImageNet weights of %s: torchvision, BSD-3-Clause, %s.", backbone, weights.url)
    return fetch(str(weights.url))


def _has(backbone: str, version: str) -> bool:
    try:
        return IMAGENET[version] in torchvision.models.get_model_weights(backbone).__members__
    except ValueError:
        return False


def model_file(model: str, variant: str | None = None, backbone: str | None = None) -> Path:
    """The COCO weights of a model, downloaded if not yet in the cache.

    Raises:
        VisionTasksError: none are published for this variant and backbone, or they cannot be had.
    """
    if (model, variant, backbone) not in MODELS:
        wanted = " ".join(filter(None, (model, variant, backbone)))
        known = "; ".join(" ".join(filter(None, key)) for key in MODELS)
        raise VisionTasksError(
            f"There are no published COCO weights for {wanted}. There are for: {known}. Or give weights a file."
        )
    return _fetched(MODELS[model, variant, backbone], model)


def darknet_file(cfg: str) -> Path:
    """The COCO weights of a Darknet network, downloaded if not yet in the cache.

    Args:
        cfg: path of the `.cfg`; its name says which network it is.

    Raises:
        VisionTasksError: none are published under this name, or they cannot be had.
    """
    name = "" if "\n" in cfg else Path(cfg).stem
    if name not in DARKNET:
        raise VisionTasksError(
            f"Which network is it? Give cfg= the path of one of {', '.join(f'{n}.cfg' for n in DARKNET)}, which have "
            "published COCO weights; or give weights a file."
        )
    return _fetched(DARKNET[name], f"darknet {name}")


def _fetched(file: Published, model: str) -> Path:
    log.info("COCO weights of %s: %s, %s, %s.", model, file.publisher, file.licence, file.url)
    return fetch(file.url)
