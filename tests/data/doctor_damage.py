"""Ways to damage a COCO set, one at a time: code that must be the first finding -> what is done to the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.data.doctor_sets import Coco

Damage = Callable[[Coco], None]


def _size(data: Coco, annotation: dict[str, Any]) -> tuple[float, float]:
    known = (i for i in data["images"] if i["id"] == annotation["image_id"])
    image = next(known, data["images"][0])  # other damages change ids
    return float(image["width"]), float(image["height"])


def _some(data: Coco, every: int = 20) -> list[dict[str, Any]]:
    return list(data["annotations"][3::every])


def xyxy(data: Coco) -> None:
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [x, y, x + w, y + h]


def normalised(data: Coco) -> None:
    for a in data["annotations"]:
        w, h = _size(data, a)
        a["bbox"] = [v / s for v, s in zip(a["bbox"], (w, h, w, h), strict=True)]


def yolo_shares(data: Coco) -> None:
    centred(data)
    normalised(data)


def corner_shares(data: Coco) -> None:
    xyxy(data)
    normalised(data)


def swapped(data: Coco) -> None:
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [y, x, h, w]


def centred(data: Coco) -> None:
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [x + w / 2, y + h / 2, w, h]


def yxyx(data: Coco) -> None:
    for a in data["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [y, x, y + h, x + w]


def percent(data: Coco) -> None:
    normalised(data)
    for a in data["annotations"]:
        a["bbox"] = [100 * v for v in a["bbox"]]


def doubled(data: Coco) -> None:
    """As for images of twice the size."""
    for a in data["annotations"]:
        a["bbox"] = [2 * v for v in a["bbox"]]


def _points(data: Coco, change: Callable[[dict[str, Any], int, float], float]) -> None:
    for a in data["annotations"]:
        a["segmentation"] = [[change(a, i % 2, v) for i, v in enumerate(p)] for p in a["segmentation"]]


def halved_masks(data: Coco) -> None:
    _points(data, lambda a, axis, v: v / 2)


def doubled_masks(data: Coco) -> None:
    _points(data, lambda a, axis, v: v * 2)


def relative_masks(data: Coco) -> None:
    _points(data, lambda a, axis, v: v - a["bbox"][axis])


def masks_in_shares(data: Coco) -> None:
    _points(data, lambda a, axis, v: v / _size(data, a)[axis])


def swapped_masks(data: Coco) -> None:
    for a in data["annotations"]:
        a["segmentation"] = [[p[i ^ 1] for i in range(len(p))] for p in a["segmentation"]]


def nothing(data: Coco) -> None:
    data["annotations"] = []


def unreadable(data: Coco) -> None:
    for a in _some(data):
        a["bbox"] = [1.0, 2.0, None, 4.0]


def inverted(data: Coco) -> None:
    for a in _some(data):
        x, y, w, h = a["bbox"]
        a["bbox"] = [x + w, y + h, -w, -h]


def empty(data: Coco) -> None:
    for a in _some(data):
        a["bbox"][2] = 0


def outside(data: Coco) -> None:
    for a in _some(data):
        a["bbox"][0] += 2 * _size(data, a)[0]


def beyond(data: Coco) -> None:
    for a in _some(data):
        w, h = _size(data, a)
        a["bbox"][:2] = [w - a["bbox"][2] * 0.5, h - a["bbox"][3] * 0.5]


def duplicated(data: Coco) -> None:
    top = max(a["id"] for a in data["annotations"])
    data["annotations"] += [{**a, "id": top + 1 + k} for k, a in enumerate(_some(data))]


def duplicated_entries(data: Coco) -> None:
    data["annotations"] += [dict(a) for a in _some(data)]


def whole_image(data: Coco) -> None:
    for a in _some(data):
        a["bbox"] = [0, 0, *_size(data, a)]


def beside(data: Coco) -> None:
    for a in _some(data):
        a["segmentation"] = [[v * 0.8 for v in p] for p in a["segmentation"]]
        a["area"] *= 0.64


def crossing(data: Coco) -> None:
    for a in _some(data):
        points = a["segmentation"][0]
        k = len(points) // 4 * 2
        third = k // 2 // 2 * 2
        a["segmentation"][0] = (
            points[:third] + points[k : k + 2] + points[third + 2 : k] + points[third : third + 2] + points[k + 2 :]
        )


def no_mask(data: Coco) -> None:
    for a in _some(data):
        a["segmentation"] = []


def flat_mask(data: Coco) -> None:
    for a in _some(data):
        x, y = a["bbox"][:2]
        a["segmentation"] = [[x, y, x + 9, y, x + 5, y]]


def empty_runs(data: Coco) -> None:
    for a in _some(data):
        w, h = (int(v) for v in _size(data, a))
        a["segmentation"] = {"size": [h, w], "counts": [h * w]}


def areas(data: Coco) -> None:
    for a in data["annotations"]:
        a["area"] = a["bbox"][2] * a["bbox"][3]


def one_area(data: Coco) -> None:
    for a in _some(data):
        a["area"] *= 3


def mask_size(data: Coco) -> None:
    for a in _some(data):
        w, h = (int(v) for v in _size(data, a))
        a["segmentation"] = {"size": [h + 8, w], "counts": [5 * h, 3 * h, (h + 8) * w - 8 * h]}


def broken_mask(data: Coco) -> None:
    for a in _some(data):
        a["segmentation"] = [a["segmentation"][0][:5]]


def unknown_category(data: Coco) -> None:
    for a in _some(data):
        a["category_id"] = 77


def alike(data: Coco) -> None:
    name = data["categories"][0]["name"]
    data["categories"].append({"id": 90, "name": f"{name.title()} "})
    for a in data["annotations"][::3]:
        a["category_id"] = 90


def unused(data: Coco) -> None:
    top = max(c["id"] for c in data["categories"])
    data["categories"].append({"id": top + 1, "name": "unicorn"})


def gaps(data: Coco) -> None:
    top = max(c["id"] for c in data["categories"])
    data["categories"].append({"id": top + 7, "name": "zebra"})
    for a in data["annotations"][::4]:
        a["category_id"] = top + 7


def rare(data: Coco) -> None:
    top = max(c["id"] for c in data["categories"])
    data["categories"].append({"id": top + 1, "name": "zebra"})
    for a in data["annotations"][:2]:
        a["category_id"] = top + 1


def ambiguous(data: Coco) -> None:
    data["images"][3]["id"] = data["images"][4]["id"]


def listed_twice(data: Coco) -> None:
    data["images"].append(dict(data["images"][4]))


def shared_file(data: Coco) -> None:
    data["images"][4]["file_name"] = data["images"][5]["file_name"]
    for key in ("width", "height"):
        data["images"][4][key] = data["images"][5][key] = max(data["images"][4][key], data["images"][5][key])


def unknown_image(data: Coco) -> None:
    for a in _some(data):
        a["image_id"] = 999_999


def no_objects(data: Coco) -> None:
    gone = {i["id"] for i in data["images"][::5]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] not in gone]


# Damage -> the code it must be found by, and what masks of the set must be.
WITH_MASKS: dict[str, tuple[str, Damage]] = {
    "halved masks": ("mask_beside_box", halved_masks),
    "doubled masks": ("mask_beside_box", doubled_masks),
    "relative masks": ("mask_beside_box", relative_masks),
    "masks in shares": ("mask_beside_box", masks_in_shares),
    "swapped masks": ("mask_beside_box", swapped_masks),
    "beside": ("mask_beside_box", beside),
    "crossing": ("mask_crossing", crossing),
    "no mask": ("mask_missing", no_mask),
    "flat mask": ("mask_empty", flat_mask),
    "empty runs": ("mask_empty", empty_runs),
    "areas of boxes": ("mask_area", areas),
    "some areas": ("mask_area", one_area),
    "mask size": ("mask_size", mask_size),
    "broken mask": ("mask_unreadable", broken_mask),
}
ANYWHERE: dict[str, tuple[str, Damage]] = {
    "xyxy": ("boxes_xyxy", xyxy),
    "normalised": ("boxes_normalised", normalised),
    "YOLO's shares": ("boxes_normalised", yolo_shares),
    "shares of corners": ("boxes_normalised", corner_shares),
    "percentages": ("boxes_percent", percent),
    "yxyx": ("boxes_yxyx", yxyx),
    "nothing": ("training_empty", nothing),
    "swapped": ("boxes_swapped", swapped),
    "centred": ("boxes_centred", centred),
    "unreadable": ("box_unreadable", unreadable),
    "inverted": ("box_inverted", inverted),
    "empty": ("box_empty", empty),
    "outside": ("box_outside", outside),
    "beyond": ("box_beyond", beyond),
    "duplicated": ("box_duplicated", duplicated),
    "duplicated entries": ("box_duplicated", duplicated_entries),
    "whole image": ("box_whole_image", whole_image),
    "unknown category": ("category_unknown", unknown_category),
    "alike": ("category_alike", alike),
    "unused": ("category_unused", unused),
    "gaps": ("category_gaps", gaps),
    "rare": ("category_rare", rare),
    "ambiguous": ("image_ambiguous", ambiguous),
    "listed twice": ("image_listed_twice", listed_twice),
    "shared file": ("image_file_shared", shared_file),
    "unknown image": ("image_unknown", unknown_image),
    "no objects": ("image_empty", no_objects),
}
