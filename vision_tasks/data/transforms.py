"""Augmentation by Albumentations, by name, on image, boxes, masks and semantic map together.

The only file that imports albumentations. Its transforms are run one by one rather than through its `Compose`, because
they disagree on where a pixel's coordinate lies, its box handling drops a box and keeps its mask, and one seed given to
a `Compose` makes all its transforms draw the same numbers. Here every label that a transform moves goes through
it as points, in the convention that this transform was measured to have (`_MOVES`), or as a bitmap.
"""

from __future__ import annotations

import difflib
import inspect
import os
import random as python_random
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

# Set before the import, which would otherwise ask a server for the newest version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

from vision_tasks.data.colour import shift_hsv
from vision_tasks.data.crops import IoUCrop, ObjectCrop, ZoomOut
from vision_tasks.data.dataset import Sample
from vision_tasks.data.geometry import move_target, warp_target
from vision_tasks.data.jitter import LargeScaleJitter
from vision_tasks.data.occlusion import covered
from vision_tasks.data.presets import PRESETS, Entries, without_colour
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Target

_CENTER, _CORNER, _RATIO = 0.5, 0.0, None

# Where the transform's coordinates have their origin: 0.5, the centre of the first pixel (so half a pixel is taken off
# and put back); 0, its corner, as ours; None, points scale as the image did, whatever the transform rounds.
_MOVES: dict[str, float | None] = {
    **dict.fromkeys(("HorizontalFlip", "VerticalFlip", "Transpose", "D4", "SquareSymmetry", "RandomRotate90"), _CENTER),
    **dict.fromkeys(("Rotate", "SafeRotate", "Affine", "Perspective"), _CENTER),
    **dict.fromkeys(("RandomCrop", "CenterCrop", "Crop", "CropAndPad", "RandomCropFromBorders"), _CORNER),
    **dict.fromkeys(("RandomResizedCrop", "RandomSizedCrop", "Pad", "PadIfNeeded"), _CORNER),
    **dict.fromkeys(("RandomSizedBBoxSafeCrop", "BBoxSafeRandomCrop", "AtLeastOneBBoxRandomCrop"), _CORNER),
    **dict.fromkeys(("Resize", "RandomScale", "LongestMaxSize", "SmallestMaxSize"), _RATIO),
}
# Lines do not stay straight under these, and their key points are approximate: labels go through as bitmaps.
_WARPS = ("ElasticTransform", "GridDistortion", "OpticalDistortion", "ThinPlateSpline", "GridElasticDeform")
# Those of `_MOVES` that leave the size as it is, or exchange the sides.
_KEEPING = ("HorizontalFlip", "VerticalFlip", "Affine", "Rotate", "Perspective")
_NEED_BOXES = ("RandomSizedBBoxSafeCrop", "BBoxSafeRandomCrop", "AtLeastOneBBoxRandomCrop")
# What changes pixels only. Normalising belongs to the model; others need reference images.
_NO_PIXELS = ("Normalize", "ToFloat", "FromFloat", "ToRGB", "FDA", "HistogramMatching", "PixelDistributionAdaptation",
              "TextImage", "ImageOnlyTransform")  # fmt: skip
_PIXELS = (
    *sorted(
        name
        for name, value in vars(A).items()
        if inspect.isclass(value) and issubclass(value, A.ImageOnlyTransform) and name not in _NO_PIXELS
    ),
    "PixelDropout",
)  # fmt: skip
# Holes hide what lies behind them. (Those of PixelDropout are noise.)
_HOLES = ("CoarseDropout", "GridDropout", "XYMasking")
OWN: dict[str, Any] = {
    "IoUCrop": IoUCrop,
    "ZoomOut": ZoomOut,
    "ObjectCrop": ObjectCrop,
    "LargeScaleJitter": LargeScaleJitter,
}
"""Beside Albumentations' names, these may be used in a configuration."""
TRANSFORMS = (*_MOVES, *_WARPS, *_PIXELS, *_HOLES, *OWN)
"""Names that may be used in a configuration."""


_TINY = 8
"""Images with a side shorter than this stay as they are where a transform cannot do with them."""


class Transforms:
    """A list of augmentations, applied in order: Sample → Sample.

    All randomness comes from the generator given to the call. Images are uint8 or uint16, (H, W, C); colour transforms
    see a uint16 image as float32 in 0..1.

    Args:
        entries: a preset's name ("none", "default", "strong", "yolox", "ssd", "darknet", "lsj"), or a list like
            `[{"HorizontalFlip": {"p": 0.5}}, {"RandomCrop": {"height": 400, "width": 400}}]`,
            with Albumentations' names and arguments.
        channels: of the images; most weather needs three. Presets are made for colour: where there are not three,
            brightness and contrast alone change.

    Raises:
        VisionTasksError: unknown name or argument (with the nearest valid one), a value Albumentations refuses, or a
            transform that does not take images of so many channels.
    """

    def __init__(self, entries: str | Entries = "default", channels: int = 3) -> None:
        if isinstance(entries, str):
            if entries not in PRESETS:
                raise VisionTasksError(f"data.augment: there is no preset {_unknown(entries, PRESETS)}")
            entries = PRESETS[entries] if channels == 3 else without_colour(PRESETS[entries])
        self.steps = [_build(entry) for entry in entries]
        for step in self.steps:
            _check_takes(step, channels)

    def check_sizes(self, widths: np.ndarray, heights: np.ndarray) -> None:
        """Find crops that are larger than some image before training meets that image.

        Args:
            widths, heights: (M,) pixels of the images as they come, 0 where unknown.

        Raises:
            VisionTasksError: such a crop, with how many images are too small and what to do.
        """
        known = (widths > 0) & (heights > 0)
        for step in self.steps:
            name = type(step).__name__
            if name in ("RandomCrop", "CenterCrop") and not step.pad_if_needed:
                small = known & ((widths < step.width) | (heights < step.height))
                if small.any():
                    raise VisionTasksError(
                        f"data.augment: {name} of {step.height}×{step.width} pixels (height, width) is larger than "
                        f"{int(small.sum()):,} of the {len(widths):,} images; the smallest sides are "
                        f"{heights[known].min()} and {widths[known].min()}. Set pad_if_needed: true, or put a resize "
                        "before it."
                    )
            if name in _MOVES and name not in _KEEPING:
                return  # from here on sizes are others

    def __call__(self, sample: Sample, random: Generator) -> Sample:
        if sample.image is None or not self.steps:
            return sample
        image, target = sample.image, sample.target
        # One pair of generators for all steps: with one seed each they would draw the same numbers.
        draw = python_random.Random(int(random.integers(2**63)))
        for step in self.steps:
            try:
                if type(step).__name__ in OWN:
                    image, target = step(image, target, random)
                    continue
                step.set_random_state(random, draw)
                if step.should_apply():
                    image, target = _apply(step, image, target)
            except Exception as error:
                if min(image.shape[:2]) < _TINY:
                    continue  # many of them know no image of a few pixels, and there is little to augment
                if isinstance(error, VisionTasksError):
                    raise
                raise VisionTasksError(
                    f"data.augment: {type(step).__name__} failed on image id {target.image_id} "
                    f"{image.shape} {image.dtype}: {error}"
                ) from error
        return replace(sample, image=np.ascontiguousarray(image), target=target)


def _apply(step: Any, image: np.ndarray, target: Target) -> tuple[np.ndarray, Target]:
    name = type(step).__name__
    if name in _MOVES:
        return _move(step, image, target, _MOVES[name])
    if name in _WARPS:
        moved = step(image=image, force_apply=True)["image"]
        return moved, warp_target(target, moved.shape[:2], lambda bitmap: _move_bitmap(step, bitmap))
    if name == "HueSaturationValue" and image.dtype == np.uint8 and image.shape[2] == 3:
        return shift_hsv(image, **step.get_params()), target
    pixels = image.astype(np.float32) / 65535 if image.dtype == np.uint16 else image
    changed: np.ndarray = step(image=pixels, force_apply=True)["image"]
    if image.dtype == np.uint16:
        changed = np.rint(changed.clip(0, 1) * 65535).astype(np.uint16)
    if changed.shape != image.shape or changed.dtype != image.dtype:
        raise VisionTasksError(
            f"data.augment: {name} made {changed.shape} {changed.dtype} of an image {image.shape} {image.dtype}; "
            "channels, type and normalisation are the model's own business (its preprocess)"
        )
    if name in _HOLES:
        seen = _move_bitmap(step, np.ones(image.shape[:2], dtype=np.uint8))
        return changed, covered(target, seen == 0)
    return changed, target


def _move(step: Any, image: np.ndarray, target: Target, origin: float | None) -> tuple[np.ndarray, Target]:
    data: dict[str, Any] = {"image": image}
    if type(step).__name__ in _NEED_BOXES:
        boxes = np.zeros((0, 4)) if target.boxes is None else target.boxes.numpy().astype(np.float64)
        data["bboxes"] = boxes / [image.shape[1], image.shape[0], image.shape[1], image.shape[0]]
    moved: np.ndarray = step(force_apply=True, **data)["image"]

    def points(given: np.ndarray) -> np.ndarray:
        if len(given) == 0:
            return given
        if origin is None:
            return np.asarray(given * [moved.shape[1] / image.shape[1], moved.shape[0] / image.shape[0]])
        # Albumentations' key points are x, y, z, angle, scale.
        padded = np.concatenate([given - origin, np.zeros((len(given), 3))], axis=1)
        placed = np.asarray(step.apply_with_params(step.params, keypoints=padded)["keypoints"], dtype=np.float64)
        return placed[:, :2] + origin

    return moved, move_target(target, moved.shape[:2], points, lambda bitmap: _move_bitmap(step, bitmap))


def _move_bitmap(step: Any, bitmap: np.ndarray) -> np.ndarray:
    """The bitmap (H, W) as the step moved the image, with the numbers it drew for that; 0 outside in any case."""
    own = {name: getattr(step, name) for name in ("border_mode", "fill_mask") if hasattr(step, name)}
    try:
        for name in own:
            setattr(step, name, 0)  # 0 is also cv2.BORDER_CONSTANT
        moved: np.ndarray = step.apply_with_params(step.params, mask=bitmap)["mask"]
    finally:
        for name, value in own.items():
            setattr(step, name, value)
    return moved


def _build(entry: str | Mapping[str, Mapping[str, Any] | None]) -> Any:
    """One transform from its name, or from {name: arguments}."""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise VisionTasksError(f"data.augment: an entry must be a name or one {{name: arguments}}, not {entry!r}")
    name, arguments = next(iter(entry.items()))
    if name not in TRANSFORMS:
        raise VisionTasksError(f"data.augment: there is no {_unknown(name, TRANSFORMS)}")
    arguments = dict(arguments or {})
    kind: Any = OWN[name] if name in OWN else getattr(A, name)
    known = [p for p in inspect.signature(kind.__init__).parameters if p != "self"]
    for argument in arguments:
        if argument not in known:
            raise VisionTasksError(f"data.augment: {name} has no argument {_unknown(argument, known)}")
    if name not in _PIXELS and arguments.get("border_mode", 0) not in (0, 1):
        raise VisionTasksError(
            f"data.augment: {name}: border_mode {arguments['border_mode']} would mirror or repeat objects that then "
            "have no label; use 0 (one colour) or 1 (the border's colour)"
        )
    if arguments.get("mask_interpolation", cv2.INTER_NEAREST) not in (cv2.INTER_NEAREST, cv2.INTER_NEAREST_EXACT):
        raise VisionTasksError(f"data.augment: {name}: mask_interpolation must be 0 or 6, as labels do not blend")
    try:
        step = kind(**arguments)
    except (ValueError, TypeError) as error:
        raise VisionTasksError(f"data.augment: {name} refuses its arguments {arguments}: {_said(error)}") from error
    if _MOVES.get(name, _CENTER) != _CENTER and "mask_interpolation" in known and "mask_interpolation" not in arguments:
        # When it resizes, OpenCV's plain nearest neighbour shifts masks by up to half a pixel against the image.
        step.mask_interpolation = cv2.INTER_NEAREST_EXACT
    return step


def _check_takes(step: Any, channels: int) -> None:
    """Try a transform of pixels on a small image, as many say only when they run that they need three channels.

    Raises:
        VisionTasksError: it works with three, but not with these; or it changes the image's form.
    """
    name = type(step).__name__
    if name not in (*_PIXELS, *_HOLES):
        return

    def works(count: int) -> bool:
        image = np.random.default_rng(0).integers(0, 256, (64, 64, count), dtype=np.uint8)
        step.set_random_state(np.random.default_rng(0), python_random.Random(0))
        try:
            _apply(step, image, Target(0, (64, 64)))
        except VisionTasksError:
            raise
        except Exception:  # whatever it says: it may only be that this image is small
            return False
        return True

    if not works(channels) and channels != 3 and works(3):
        raise VisionTasksError(
            f"data.augment: {name} is for images of three channels, but these have {channels}; leave it out"
        )


def _said(error: Exception) -> str:
    """What an exception says, in one line; of pydantic's long reports only which argument and why."""
    text = re.sub(r"\s*For further information visit \S+| \[type=[^\]]*\]", "", str(error))
    return " ".join(text.split())


def _unknown(word: str, valid: Iterable[str]) -> str:
    """The word in quotes, with the nearest valid one, or all if they are few."""
    valid = list(valid)
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"valid are: {', '.join(valid)}"
    return f"{word!r}; {hint}"
