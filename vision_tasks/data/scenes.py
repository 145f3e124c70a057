"""A small COCO-format data set of made-up photos, for the demo, for tests and for a first try of any model.

Balls, crates, cones, wheels and bottles stand about on a ground under a sky or before a wall, seen in perspective,
with shadows, texture, blur and noise. The truth is exact: an object's mask is what its rays hit at pixel centres.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from vision_tasks.data.scene_layout import place_objects
from vision_tasks.data.scene_render import GROUND, SKY, WALL, Picture, Surroundings, render
from vision_tasks.data.scene_shapes import THINGS, Solid
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size

SIZES: tuple[Size, ...] = ((192, 192), (160, 224), (192, 256), (224, 160), (208, 208), (256, 192))
"""(height, width) of the images, in turn."""

SEMANTIC = {"ground": 0, **{name: i for i, name in enumerate(THINGS, start=1)}, "sky": 6, "wall": 7}
"""Pixel values of the semantic maps. Things have their COCO category id; 255 is left out of training and scores."""

IGNORED = 255
HIDDEN = 0.25
"""An object of which less than this share is in sight is not annotated."""

_FORM = 1  # Raise when the pictures change, so that older folders are made anew.
_MANIFEST = "scenes.json"
_ABOUT = "Made by vision_tasks.data.scenes; free of rights (CC0)."


@dataclass(frozen=True)
class Scene:
    """One image with its truth.

    `image` (H, W, 3) uint8 RGB; `semantic` (H, W) uint8 as in `SEMANTIC`; `annotations`: COCO dictionaries without
    `id` and `image_id`.
    """

    image: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    annotations: list[dict[str, Any]]


def make_scene(size: Size, seed: Sequence[int]) -> Scene:
    """The scene of this seed, (height, width) pixels large: the same on every call."""
    rng = np.random.default_rng(list(seed))
    around = Surroundings.draw(size, rng)
    solids = place_objects(around, rng)
    picture = render(around, solids, rng)
    return _annotated(picture, solids)


def generate_scenes(
    folder: Path | str,
    train: int = 160,
    val: int = 40,
    sizes: Sequence[Size] = SIZES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the data set, or return at once if it is already there.

    Layout: `annotations/instances_{train,val}.json`, `images/{train,val}/*.jpg`, `semantic/{train,val}/*.png` (index
    PNG), `semantic/categories.json`. Built beside `folder` and renamed, so a half-made one never stands there.

    Args:
        folder: where to. train, val: numbers of images. sizes: (height, width), taken in turn.
        seed: another seed, other scenes. progress: called with (images done, images in all).

    Raises:
        VisionTasksError: if `folder` holds something else.
    """
    folder = Path(folder)
    wanted = {"form": _FORM, "train": train, "val": val, "sizes": [list(s) for s in sizes], "seed": seed}
    if _found(folder) == wanted:
        return folder
    if folder.exists() and _found(folder) is None and (not folder.is_dir() or any(folder.iterdir())):
        raise VisionTasksError(
            f"{folder} exists and holds something other than generated scenes; "
            "name another folder, or remove it yourself if it may go"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            done = train * number
            step = None if progress is None else (lambda i, done=done: progress(done + i, train + val))
            _write_split(building, split, number, count, sizes, seed, step)
        _write_json(building / "semantic" / "categories.json", _semantic_categories())
        _write_json(building / _MANIFEST, wanted)
        building.chmod(0o755)  # mkdtemp makes it private
        _move_into_place(building, folder, wanted)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def _found(folder: Path) -> Any:
    """What the manifest in the folder says, or None without a sound one. It is written last."""
    try:
        return json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError):
        return None


def _move_into_place(building: Path, folder: Path, wanted: dict[str, Any]) -> None:
    if _found(folder) is not None:
        shutil.rmtree(folder)
    try:
        os.replace(building, folder)
    except OSError:
        # Another process was faster; its scenes are the same.
        if _found(folder) != wanted:
            raise


def _annotated(picture: Picture, solids: list[Solid]) -> Scene:
    semantic = np.full(picture.owner.shape, IGNORED, np.uint8)
    for owner, name in ((GROUND, "ground"), (SKY, "sky"), (WALL, "wall")):
        semantic[picture.owner == owner] = SEMANTIC[name]
    annotations = []
    for index, solid in enumerate(solids):
        mask = picture.owner == index
        visible = np.count_nonzero(mask)
        if not solid.crowd and visible >= 40 and visible >= HIDDEN * picture.whole[index]:
            semantic[mask] = SEMANTIC[THINGS[solid.label]]
            annotations.append(_annotation(mask, solid.label, is_crowd=False))
    heap = [index for index, solid in enumerate(solids) if solid.crowd]
    mask = np.isin(picture.owner, heap)
    if heap and mask.any():
        semantic[mask] = SEMANTIC[THINGS[solids[heap[0]].label]]
        annotations.append(_annotation(mask, solids[heap[0]].label, is_crowd=True))
    return Scene(picture.image, semantic, annotations)


def _annotation(mask: NDArray[np.bool_], label: int, is_crowd: bool) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": label + 1,
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": int(is_crowd),
        "segmentation": _runs(mask) if is_crowd else _outline(mask),
    }


def _outline(mask: NDArray[np.bool_]) -> list[list[float]] | dict[str, Any]:
    """Polygons if pycocotools renders them to exactly this mask, else compressed RLE (COCO polygons have no holes)."""
    # On a doubled grid the outline runs a quarter pixel inside the mask's edge: pixel centres stay clear of it.
    doubled = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    for tolerance in (0.8, 0.4, 0.0):
        polygons = [
            ((cv2.approxPolyDP(c, tolerance, True).reshape(-1, 2) + 0.5) / 2).ravel().tolist() for c in contours
        ]
        if all(len(p) >= 6 for p in polygons):
            rendered = coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))
            if rendered["counts"] == encoded["counts"]:
                return polygons
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Uncompressed RLE, the form in which COCO gives crowds: lengths of runs down the columns, starting with 0s."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    edges = np.concatenate([[0], changes, [mask.size]] if changes[-1] != mask.size else [[0], changes])
    return {"size": list(mask.shape), "counts": np.diff(edges).tolist()}


def _write_split(
    root: Path,
    split: str,
    number: int,
    count: int,
    sizes: Sequence[Size],
    seed: int,
    step: Callable[[int], None] | None,
) -> None:
    for room in ("images", "semantic"):
        (root / room / split).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def make(index: int) -> Scene:
        return make_scene(sizes[index % len(sizes)], (seed, number, index))

    # Most of the work is in NumPy and OpenCV calls that release the interpreter's lock.
    with ThreadPoolExecutor(2) as pool:
        for index, scene in enumerate(pool.map(make, range(count))):
            size = scene.semantic.shape
            image_id = number * 100_000 + index + 1
            name = f"{image_id:06d}"
            _write_image(
                root / "images" / split / f"{name}.jpg", scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92]
            )
            _write_image(root / "semantic" / split / f"{name}.png", scene.semantic, [])
            images.append({"id": image_id, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
            for annotation in scene.annotations:
                annotations.append(
                    {"id": number * 1_000_000 + len(annotations) + 1, "image_id": image_id, **annotation}
                )
            if step is not None:
                step(index + 1)
    _write_json(
        root / "annotations" / f"instances_{split}.json",
        {
            "info": {"description": _ABOUT, "version": str(_FORM)},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(THINGS, start=1)],
        },
    )


def _semantic_categories() -> dict[str, Any]:
    entries = [{"id": v, "name": n, "isthing": int(n in THINGS)} for n, v in SEMANTIC.items()]
    return {
        "description": f"ids are pixel values of the PNGs; {IGNORED} is ignored",
        "ignore": IGNORED,
        "categories": entries,
    }


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, separators=(",", ":")))


def _write_image(path: Path, pixels: NDArray[np.uint8], options: list[int]) -> None:
    done, data = cv2.imencode(path.suffix, pixels, options)
    if not done:
        raise VisionTasksError(f"{path}: OpenCV could not encode this image; is its build complete?")
    path.write_bytes(data.tobytes())
