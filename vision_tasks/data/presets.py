"""Augmentations by one word: what peers' published recipes do, and two of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Entries = Sequence[str | Mapping[str, Mapping[str, Any] | None]]

_FLIP: dict[str, Any] = {"HorizontalFlip": {"p": 0.5}}
PRESETS: dict[str, Entries] = {
    "none": [],
    "default": [
        _FLIP,
        {"ColorJitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02, "p": 0.5}},
    ],
    "strong": [
        _FLIP,
        {"Affine": {"scale": [0.6, 1.4], "translate_percent": [-0.1, 0.1], "rotate": [-10, 10], "shear": [-4, 4],
                    "p": 0.7}},
        {"ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.05, "p": 0.8}},
        {"ToGray": {"p": 0.05}},
        {"GaussianBlur": {"blur_limit": [3, 5], "p": 0.1}},
    ],
    # YOLOX's gains on hue (of 180), saturation and value (of 255).
    "yolox": [{"HueSaturationValue": {"hue_shift_limit": 5, "sat_shift_limit": 30, "val_shift_limit": 30, "p": 1.0}},
              _FLIP],
    # SSD, section 2.2 and 3.6; colours in the ranges of torchvision's RandomPhotometricDistort.
    "ssd": [
        {"ColorJitter": {"brightness": [0.875, 1.125], "contrast": [0.5, 1.5], "saturation": [0.5, 1.5],
                         "hue": [-0.05, 0.05], "p": 0.8}},
        {"ZoomOut": {"side": 4.0, "p": 0.5}},
        "IoUCrop",
        _FLIP,
    ],
    # Darknet's jitter=.3, saturation=1.5, exposure=1.5, hue=.1.
    "darknet": [
        {"CropAndPad": {"percent": [-0.3, 0.3], "fill": 114, "p": 1.0}},
        {"ColorJitter": {"brightness": [0.667, 1.5], "contrast": [1, 1], "saturation": [0.667, 1.5],
                         "hue": [-0.1, 0.1], "p": 1.0}},
        _FLIP,
    ],
    # Ghiasi et al. (2021), for long trainings.
    "lsj": [_FLIP, "LargeScaleJitter"],
}  # fmt: skip


def without_colour(entries: Entries) -> Entries:
    """A preset for images whose channels are no colours."""
    kept: list[str | Mapping[str, Mapping[str, Any] | None]] = []
    for entry in entries:
        arguments = dict(entry.get("ColorJitter") or {}) if isinstance(entry, Mapping) else {}
        if arguments:
            limits = {
                f"{name}_limit": [v - 1 for v in value] if isinstance(value := arguments[name], Sequence) else value
                for name in ("brightness", "contrast")
            }
            kept.append({"RandomBrightnessContrast": limits | {"p": arguments["p"]}})
        elif isinstance(entry, str) or not {"ToGray", "HueSaturationValue"} & entry.keys():
            kept.append(entry)
    return kept
