"""Telling what a file is that is not COCO instances annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision_tasks.errors import VisionTasksError

_WANTED = 'A file with boxes is needed: an object with "images", "annotations" (each with bbox) and "categories".'

# Keys of other tools' files -> what they are.
_TOOLS = {
    "shapes": "a LabelMe annotation of one image",
    "_via_img_metadata": "a project of the VGG Image Annotator",
    "features": "GeoJSON",
    "completions": "an export of Label Studio in its own format",
}


def foreign_start(path: Path, first: str, head: bytes) -> VisionTasksError:
    """For a file that does not begin with `{`."""
    if not first:
        what = "the file is empty"
    elif first != "[":
        what = "this is no JSON file"
    elif b'"score"' in head:
        what = "this is a list of detections (a results file)"
    elif b'"supercategory"' in head or b'"isthing"' in head:
        what = "this is a list of categories"
    else:
        what = "this is a list, not an object"
    return VisionTasksError(f"{path}: {what}. {_WANTED}")


def foreign_object(path: Path, keys: Sequence[str]) -> VisionTasksError:
    """For an object without "images" or "annotations"."""
    what = next((f"this is {tool}" for key, tool in _TOOLS.items() if key in keys), None)
    if what is None and "images" in keys:
        what = 'this is a list of images without "annotations" (as COCO gives for its test images)'
    shown = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")
    return VisionTasksError(
        f"{path}: {what or 'these are no COCO annotations'} (it has: {shown or 'nothing'}). {_WANTED}"
    )


def foreign_annotation(path: Path, annotation: dict[str, Any]) -> VisionTasksError | None:
    """For an annotation that has no box because it is of another kind; None if it is not."""
    if "bbox" in annotation or "segmentation" in annotation:
        return None
    if "segments_info" in annotation:
        what, instead = "COCO panoptic annotations", "its instances_*.json, or convert it"
    elif "caption" in annotation:
        what, instead = "COCO captions", "its instances_*.json"
    elif "keypoints" in annotation:
        what, instead = "key points without boxes", "its instances_*.json"
    else:
        return None
    return VisionTasksError(f"{path}: these are {what}, not boxes. Name {instead}. {_WANTED}")
