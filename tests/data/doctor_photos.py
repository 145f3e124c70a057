"""The balloons, made clean and small, on a disk; and ways to damage their files, one at a time."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

Coco = dict[str, Any]
SIDE = 320
"""Longer side of the photos, in pixels: those of the set have up to 2048."""


@dataclass
class Photos:
    """A data set that is being damaged: its folder, and the contents of its two annotation files."""

    folder: Path
    train: Coco
    val: Coco

    def path(self, image: dict[str, Any], split: str = "train") -> Path:
        return self.folder / split / str(image["file_name"])

    def some(self, count: int = 5) -> list[dict[str, Any]]:
        """Entries of training images, spread over the set."""
        return list(self.train["images"][2 :: max(1, len(self.train["images"]) // count)][:count])

    def write(self) -> Path:
        for split, content in (("train", self.train), ("val", self.val)):
            (self.folder / "annotations").mkdir(exist_ok=True)
            (self.folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        return self.folder


def make_clean(source: Path, folder: Path) -> Photos:
    """The balloons, scaled down; areas are computed anew, for those of the files are a tenth of what they should be."""
    contents = {}
    for split in ("train", "val"):
        content = json.loads((source / "balloon_coco" / "annotations" / f"custom_{split}.json").read_text())
        (folder / split).mkdir(parents=True)
        scales = {}
        for image in content["images"]:
            with Image.open(source / "balloon_coco" / f"{split}2017" / image["file_name"]) as photo:
                photo.draft("RGB", (SIDE, SIDE))
                scale = SIDE / max(image["width"], image["height"])
                size = round(image["width"] * scale), round(image["height"] * scale)
                photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0).save(
                    folder / split / image["file_name"], quality=90
                )
            scales[image["id"]] = np.array([size[0] / image["width"], size[1] / image["height"]])
            image["width"], image["height"] = size
        for annotation in content["annotations"]:
            _scale(annotation, scales[annotation["image_id"]])
        contents[split] = content
    return Photos(folder, contents["train"], contents["val"])


def _scale(annotation: dict[str, Any], scale: np.ndarray) -> None:
    """Outline and what follows from it; in float32, as outlines are kept."""
    rings = [
        (np.array(p).reshape(-1, 2) * scale).astype(np.float32).astype(np.float64) for p in annotation["segmentation"]
    ]
    points = np.concatenate(rings)
    low, high = points.min(0), points.max(0)
    annotation["segmentation"] = [ring.ravel().tolist() for ring in rings]
    annotation["bbox"] = [*low.tolist(), *(high - low).tolist()]
    annotation["area"] = sum(map(_shoelace, rings))


def _shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def copied(clean: Photos, folder: Path) -> Photos:
    """The same with files of its own: linked, for whoever damages one replaces it."""
    shutil.copytree(clean.folder, folder, copy_function=os.link)
    for file in (folder / "annotations").glob("*.json"):
        file.unlink()
    return Photos(folder, copy.deepcopy(clean.train), copy.deepcopy(clean.val))


class Damage(NamedTuple):
    """One way to damage photos.

    Attributes:
        code: of the finding that must come first. do: damages. restores: whether the patch gives back the very
            records that there were. trains: whether a step of training is to be tried after the patch.
    """

    code: str
    do: Callable[[Photos], None]
    restores: bool = False
    trains: bool = False


def on_train(do: Callable[[Coco], None]) -> Callable[[Photos], None]:
    """A damage of annotations alone, done to the training file."""
    return lambda photos: do(photos.train)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _saved(path: Path, image: Image.Image, target: Path | None = None, **options: Any) -> None:
    """Save in place of a file, which may be a link to another set's."""
    image.load()
    path.unlink()
    image.save(target or path, **options)


def missing(photos: Photos) -> None:
    for image in photos.some():
        photos.path(image).unlink()


def truncated(photos: Photos) -> None:
    for image in photos.some():
        content = photos.path(image).read_bytes()
        _replace(photos.path(image), content[: len(content) // 2])


def zero_bytes(photos: Photos) -> None:
    for image in photos.some():
        _replace(photos.path(image), b"")


def unreadable(photos: Photos) -> None:
    for image in photos.some():
        _replace(photos.path(image), b"<html>404 Not Found</html>" * 40)


def mis_sized(photos: Photos) -> None:
    """Files of half the size, as a mirror of thumbnails gives them."""
    for image in photos.some():
        with Image.open(photos.path(image)) as photo:
            _saved(
                photos.path(image), photo.resize((photo.width // 2 * 2, photo.height // 2 * 2)).reduce(2), quality=90
            )


def rotated(photos: Photos) -> None:
    for image in photos.some():
        with Image.open(photos.path(image)) as photo:
            exif = photo.getexif()
            exif[0x0112] = 6
            _saved(photos.path(image), photo.copy(), quality=90, exif=exif)


def cmyk(photos: Photos) -> None:
    for image in photos.some():
        with Image.open(photos.path(image)) as photo:
            _saved(photos.path(image), photo.convert("CMYK"), quality=90)


def deep(photos: Photos) -> None:
    """Grey PNG files of 16 bits; all of them, so that they are not the grey ones among coloured."""
    for split, content in (("train", photos.train), ("val", photos.val)):
        for image in content["images"]:
            path = photos.path(image, split)
            with Image.open(path) as photo:
                pixels = np.asarray(photo.convert("L"), np.uint16) * 257
            image["file_name"] = path.with_suffix(".png").name
            path.unlink()
            Image.fromarray(pixels).save(path.with_suffix(".png"), compress_level=1)


def grey(photos: Photos) -> None:
    for image in photos.some():
        with Image.open(photos.path(image)) as photo:
            _saved(photos.path(image), photo.convert("L"), quality=90)


def _into_val(photos: Photos, change: Callable[[Image.Image], Image.Image] | None) -> None:
    """Training images, with their objects, in validation, too."""
    top = max(a["id"] for a in photos.val["annotations"])
    for n, image in enumerate(photos.some(3)):
        name, new = f"copy_{n}.jpg", 9000 + n
        if change is None:
            shutil.copy(photos.path(image), photos.folder / "val" / name)
        else:
            with Image.open(photos.path(image)) as photo:
                change(photo).save(photos.folder / "val" / name, quality=55)
        photos.val["images"].append(image | {"id": new, "file_name": name})
        own = [a for a in photos.train["annotations"] if a["image_id"] == image["id"]]
        photos.val["annotations"] += [a | {"id": top + 1 + k, "image_id": new} for k, a in enumerate(own)]
        top += len(own)


def leaked(photos: Photos) -> None:
    _into_val(photos, None)


def leaked_again(photos: Photos) -> None:
    _into_val(photos, lambda photo: ImageOps.autocontrast(photo, cutoff=1))


def copied_within(photos: Photos) -> None:
    """Photos that are there twice under other names, the second time without annotations."""
    for n, image in enumerate(photos.some(3)):
        name = f"again_{n}.jpg"
        shutil.copy(photos.path(image), photos.folder / "train" / name)
        photos.train["images"].append(image | {"id": 8000 + n, "file_name": name})


def shared_file(photos: Photos) -> None:
    """One file under two ids, half of its objects with each."""
    image = max(
        photos.train["images"], key=lambda i: sum(a["image_id"] == i["id"] for a in photos.train["annotations"])
    )
    photos.train["images"].append(image | {"id": 7000})
    own = [a for a in photos.train["annotations"] if a["image_id"] == image["id"]]
    for annotation in own[len(own) // 2 :]:
        annotation["image_id"] = 7000


def absent(photos: Photos) -> None:
    """A category of training that validation knows, and has no object of."""
    for content in (photos.train, photos.val):
        content["categories"].append({"id": 1, "name": "kite"})
    for annotation in photos.train["annotations"][::5]:
        annotation["category_id"] = 1


def conflict(photos: Photos) -> None:
    """Validation calls the same things otherwise."""
    photos.val["categories"] = [{"id": 0, "name": "ballon"}]


PHOTOS: dict[str, Damage] = {
    "image files missing": Damage("image_missing", missing),
    "image files cut off": Damage("image_truncated", truncated),
    "image files of 0 bytes": Damage("image_zero_bytes", zero_bytes),
    "image files unreadable": Damage("image_unreadable", unreadable),
    "image files of half the size": Damage("image_mis_sized", mis_sized),
    "turned by EXIF": Damage("image_rotated", rotated),
    "CMYK": Damage("image_cmyk", cmyk),
    "16 bits": Damage("image_16_bit", deep),
    "grey among coloured": Damage("image_mixed_channels", grey),
    "training images in val": Damage("image_leaked", leaked),
    "training images in val, recompressed": Damage("image_leaked", leaked_again),
    "images twice": Damage("image_copied", copied_within),
    "one file under two ids": Damage("image_file_shared", shared_file, restores=True),
    "a category absent from val": Damage("category_absent", absent),
    "other names in val": Damage("category_conflict", conflict),
}
