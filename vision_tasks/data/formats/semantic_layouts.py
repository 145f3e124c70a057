"""Published layouts of semantic data, as settings: where images and masks lie, what values mean.

The tables are facts of the data sets' publications: Cityscapes' 19 training classes of its label ids, VOC's 21 classes
and their palette, the 11 classes of CamVid in its common reduction (Badrinarayanan et al. 2015).
"""

from __future__ import annotations

from typing import Any

_CITYSCAPES = (
    (7, "road", (128, 64, 128)), (8, "sidewalk", (244, 35, 232)), (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)), (13, "fence", (190, 153, 153)), (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)), (20, "traffic sign", (220, 220, 0)), (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)), (23, "sky", (70, 130, 180)), (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)), (26, "car", (0, 0, 142)), (27, "truck", (0, 0, 70)), (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)), (32, "motorcycle", (0, 0, 230)), (33, "bicycle", (119, 11, 32)),
)  # fmt: skip
_VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_CAMVID = (
    ("sky", (128, 128, 128)), ("building", (128, 0, 0)), ("pole", (192, 192, 128)), ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)), ("tree", (128, 128, 0)), ("sign", (192, 128, 128)), ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)), ("pedestrian", (64, 64, 0)), ("bicyclist", (0, 128, 192)),
)  # fmt: skip


def voc_color(index: int) -> tuple[int, int, int]:
    """VOC's palette: the bits of the index dealt to red, green and blue, three at a time, highest first."""
    r, g, b = (sum((index >> (3 * bit + shift) & 1) << (7 - bit) for bit in range(8)) for shift in range(3))
    return r, g, b


def _cityscapes() -> list[dict[str, Any]]:
    return [{"id": i, "name": n, "color": c, "isthing": int(i >= 24)} for i, n, c in _CITYSCAPES]


MARKS: dict[str, tuple[str, ...]] = {
    "scenes": ("images", "semantic/categories.json"),
    "folders": ("images", "masks/categories.json"),
    "camvid": ("train", "trainannot"),
    "voc": ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"),
    "cityscapes": ("leftImg8bit", "gtFine"),
    "ade20k": ("images/training", "annotations/training"),
    "nuclei": ("stage1_train",),
    "coco_panoptic": ("annotations/panoptic_*.json",),
    "coco_stuff": ("annotations/stuff_*.json",),
}
"""What a folder holds, all of it, that has a layout; the first that fits counts."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "scenes": {
        "images": "images/{split}/{stem}.*",
        "masks": "semantic/{split}/{stem}.png",
        "categories": "semantic/categories.json",
    },
    "folders": {
        "images": "images/{split}/{stem}.*",
        "masks": "masks/{split}/{stem}.png",
        "categories": "masks/categories.json",
    },
    "camvid": {
        "images": "{split}/{stem}.png",
        "masks": "{split}annot/{stem}.png",
        "categories": [
            {"id": i, "name": n, "color": c, "isthing": int(i in (8, 9, 10))} for i, (n, c) in enumerate(_CAMVID)
        ],
        "ignore": [11, 255, (0, 0, 0)],
    },
    "voc": {
        "images": "JPEGImages/{stem}.jpg",
        "masks": "SegmentationClass/{stem}.png",
        "splits": {s: f"ImageSets/Segmentation/{s}.txt" for s in ("train", "val", "test")},
        "categories": [
            {"id": i, "name": n, "color": voc_color(i), "isthing": int(i > 0)} for i, n in enumerate(_VOC)
        ],
        "ignore": [255, (224, 224, 192)],
    },
    "cityscapes": {
        "images": "leftImg8bit/{split}/{stem}_leftImg8bit.png",
        "masks": "gtFine/{split}/{stem}_gtFine_labelIds.png",
        "categories": _cityscapes(),
        "ignore": [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255],
    },
    "cityscapes_train_ids": {
        "images": "leftImg8bit/{split}/{stem}_leftImg8bit.png",
        "masks": "gtFine/{split}/{stem}_gtFine_labelTrainIds.png",
        "categories": [{**c, "id": i} for i, c in enumerate(_cityscapes())],
    },
    "ade20k": {
        "images": "images/{split}/{stem}.jpg",
        "masks": "annotations/{split}/{stem}.png",
        "splits": {"train": "training", "val": "validation"},
        "categories": "objectInfo150.txt",
        "first_value": 1,
        "ignore": [0],
    },
    "nuclei": {
        "images": "stage1_train/{stem}/images/*.*",
        "masks": "stage1_train/{stem}/masks/*.png",
        "categories": ["nucleus"],
        "splits": {"train": 0.8, "val": 0.2},
    },
    "coco_panoptic": {
        "panoptic": "annotations/panoptic_{split}.json",
    },
    "coco_stuff": {
        "annotations": "annotations/stuff_{split}.json",
        "background": None,
    },
}  # fmt: skip
