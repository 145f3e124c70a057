"""Every way to damage the photos, what the doctor says of it, and what its patch makes of it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.data import doctor_damage
from tests.data.doctor_photos import PHOTOS, Damage, Photos, copied, on_train
from vision_tasks.data import outlines
from vision_tasks.data.doctor.diagnose import diagnose, splits_of
from vision_tasks.data.doctor.findings import Diagnosis
from vision_tasks.data.doctor.mending import Mending, mend
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.patch import apply_patch, write_patch
from vision_tasks.data.records import Records

CONVENTIONS = ("xyxy", "normalised", "YOLO's shares", "shares of corners", "swapped", "centred")
_RESTORED = (
    *CONVENTIONS, "unreadable", "inverted", "empty", "outside", "beyond", "duplicated", "duplicated entries",
    "whole image", "alike", "areas of boxes", "some areas",
)  # fmt: skip


def tiny_objects(photos: Photos) -> None:
    """Objects of half a pixel: the resize leaves nothing of them."""
    top = max(a["id"] for a in photos.train["annotations"])
    for n, image in enumerate(photos.train["images"]):
        x, y = image["width"] / 2 + n % 7, image["height"] / 3
        photos.train["annotations"].append({
            "id": top + 1 + n, "image_id": image["id"], "category_id": 0, "iscrowd": 0, "bbox": [x, y, 0.5, 0.5],
            "area": 0.25, "segmentation": [[x, y, x + 0.5, y, x + 0.5, y + 0.5, x, y + 0.5]],
        })  # fmt: skip


def imbalance(photos: Photos) -> None:
    """Twelve objects of a category beside twelve hundred of another, in place of all others."""
    image_ids = [image["id"] for image in photos.train["images"]]
    photos.train["categories"].append({"id": 1, "name": "kite"})
    photos.val["categories"].append({"id": 1, "name": "kite"})
    photos.val["annotations"][0]["category_id"] = 1
    photos.train["annotations"] = []
    for n in range(1300):
        x, y = 10 + 9 * (n // 61 % 8) + n % 5, 10 + 9 * (n // 488)
        photos.train["annotations"].append({
            "id": n, "image_id": image_ids[n % 61], "category_id": int(n % 110 == 0), "iscrowd": 0,
            "bbox": [x, y, 8, 8], "area": 64, "segmentation": [[x, y, x + 8, y, x + 8, y + 8, x, y + 8]],
        })  # fmt: skip


def voc(photos: Photos) -> None:
    """The same as Pascal VOC, in place of the COCO files; coordinates are whole numbers."""
    for content in (photos.train, photos.val):
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = []
            x, y = int(x), int(y)
            annotation["bbox"] = [x, y, max(2, int(w)), max(2, int(h))]
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        first = content["annotations"][0]["bbox"]
        first[2], first[0] = first[2] + first[0], 0  # an object at the border
    folder = photos.folder
    splits = splits_of(photos.write())
    write_data(splits, folder / "voc", "voc", "copy")
    photos.folder = folder / "voc"


def voc_from_zero(photos: Photos) -> None:
    """All coordinates one less than VOC counts."""
    voc(photos)
    for file in (photos.folder / "Annotations").rglob("*.xml"):
        text = re.sub(
            r"<([xy]m(?:in|ax))>(\d+)(?:\.0)?<", lambda m: f"<{m[1]}>{int(m[2]) - 1}<", file.read_text("utf-8")
        )
        file.write_text(text, "utf-8")


DAMAGES: dict[str, Damage] = {
    name: Damage(code, on_train(do), restores=name in _RESTORED, trains=name in CONVENTIONS)
    for name, (code, do) in {**doctor_damage.ANYWHERE, **doctor_damage.WITH_MASKS}.items()
    if name != "shared file"  # with photos the sizes tell, too: "one file under two ids"
}
DAMAGES |= PHOTOS
DAMAGES |= {
    "objects of half a pixel": Damage("object_vanishes", tiny_objects),
    "imbalance": Damage("category_imbalance", imbalance),
    "VOC from zero": Damage("box_from_zero", voc_from_zero),
}


@dataclass
class Outcome:
    """What became of a damaged set.

    Attributes:
        diagnosis: of the damaged set. mending: the edits made of it. mended: by split, the records that are read with
            the patch. after: their diagnosis.
    """

    diagnosis: Diagnosis
    mending: Mending
    mended: dict[str, Records]
    after: Diagnosis

    @property
    def first(self) -> str:
        return next(iter(self.diagnosis.codes()), "nothing")

    @property
    def edits(self) -> int:
        return sum(map(len, self.mending.edits.values()))


def outcome(damage: Damage, clean: Photos, folder: Path) -> Outcome:
    """Damage a copy of the photos, examine it, write a patch, read the set with it, examine it again."""
    photos = copied(clean, folder)
    damage.do(photos)
    data = photos.folder if photos.folder != folder else photos.write()
    splits = splits_of(data)
    diagnosis = diagnose(splits)
    mending = mend(splits, diagnosis)
    patch = write_patch(folder / "patch.json", mending.patches(splits))
    mended = {name: apply_patch(records, patch, name) for name, records in splits_of(data).items()}
    return Outcome(diagnosis, mending, mended, diagnose(mended))


def difference(one: Records, other: Records) -> list[str]:
    """Names of what differs in two sets of records; numbers by more than rounding."""
    if len(one) != len(other) or len(one.labels) != len(other.labels):
        return ["counts"]
    exact = ("image_ids", "annotation_ids", "labels", "usable", "is_crowd", "first", "widths", "heights")
    close = ("boxes", "areas")
    out = [name for name in exact if not np.array_equal(getattr(one, name), getattr(other, name))]
    out += [name for name in close if not np.allclose(getattr(one, name), getattr(other, name), 1e-6, 1e-4)]
    if one.categories.names != other.categories.names:
        out.append("categories")
    outlined = [np.flatnonzero(records.shape_starts >= 0) for records in (one, other)]
    shapes = [
        outlines.extents(records.shape_bytes, records.shape_starts[at])
        for records, at in zip((one, other), outlined, strict=True)
    ]
    if not np.array_equal(*outlined) or not np.array_equal(*shapes):
        out.append("outlines")
    return out


def forget(folder: Path) -> None:
    """Make room for the next damage."""
    shutil.rmtree(folder, ignore_errors=True)
