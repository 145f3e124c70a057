"""Weights that publishers offer for download: by name, fetched on request, checked against their hash."""

from __future__ import annotations

import http.client
import urllib.error
from pathlib import Path

import torch
import torchvision

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights.files import sha256

# torchvision's first ImageNet weights: those its detectors were trained from.
IMAGENET = dict.fromkeys(
    (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
        *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
    ),
    "IMAGENET1K_V1",
)

DETECTORS: dict[tuple[str, str | None, str | None], tuple[str, str]] = {
    ("faster_rcnn", None, "resnet50"): ("fasterrcnn_resnet50_fpn", "COCO_V1"),
    ("retinanet", "v1", "resnet50"): ("retinanet_resnet50_fpn", "COCO_V1"),
    ("retinanet", "v2", "resnet50"): ("retinanet_resnet50_fpn_v2", "COCO_V1"),
    ("fcos", None, "resnet50"): ("fcos_resnet50_fpn", "COCO_V1"),
}
"""(model, variant or None, backbone or None) -> torchvision's name of the twin and of its weights. BSD-3-Clause; trained
on COCO."""

EPSILON_ZERO = ("258fb6c6", "eeacb38b")
"""Hashes (first eight digits) of files made before torchvision's frozen batch norm had an epsilon: they want 0."""


def imagenet_file(backbone: str) -> Path:
    """The ImageNet weights of a backbone, downloaded from torchvision's publisher if not yet in torch's cache."""
    if backbone not in IMAGENET:
        raise VisionTasksError(
            f"There are no published ImageNet weights for the backbone {backbone!r}. "
            f"There are for: {', '.join(IMAGENET)}. Or give backbone_weights a file."
        )
    return fetch(str(torchvision.models.get_model_weights(backbone)[IMAGENET[backbone]].url))


def detector_file(model: str, variant: str | None = None, backbone: str | None = None) -> Path:
    """The COCO weights of a detector, downloaded from torchvision's publisher if not yet in torch's cache."""
    if (model, variant, backbone) not in DETECTORS:
        known = "; ".join(" ".join(filter(None, key)) for key in DETECTORS)
        wanted = " ".join(filter(None, (model, variant, backbone)))
        raise VisionTasksError(
            f"There are no published COCO weights for {wanted}. There are for: {known}. Or give weights a file."
        )
    twin, version = DETECTORS[model, variant, backbone]
    return fetch(str(torchvision.models.get_model_weights(twin)[version].url))


def fetch(url: str, folder: Path | None = None) -> Path:
    """Download a file whose name ends in -<first digits of its SHA-256>, once.

    Args:
        folder: where to; torch's cache (`TORCH_HOME`) if None.

    Raises:
        VisionTasksError: no network, no room, or the content does not match the hash.
    """
    folder = folder or Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[-1]
    wanted = path.stem.rsplit("-", 1)[-1]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Writes to a temporary file, checks the hash, then renames; shows progress on standard error.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=wanted, progress=True)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise VisionTasksError(
                f"Could not download {url} ({error}). If this machine is offline, fetch the file elsewhere, "
                f"and put it at {path} or give its path."
            ) from error
        except RuntimeError as error:
            raise VisionTasksError(f"The download of {url} is damaged ({error}). Try again.") from error
    if not sha256(path).startswith(wanted):
        raise VisionTasksError(f"{path} is not what its publisher offers (SHA-256 differs). Delete it and try again.")
    return path
