"""CVAT, KITTI and Open Images: small files made by hand after each format's documentation."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>1</id><name>t</name><size>2</size><mode>annotation</mode><labels>
<label><name>car</name><attributes><attribute><name>parked</name><input_type>checkbox</input_type>
<default_value>false</default_value><values>false</values></attribute></attributes></label>
<label><name>dog</name><attributes></attributes></label></labels></task></meta>
<image id="0" name="a b.png" width="120" height="80">
<box label="car" occluded="1" xtl="10.5" ytl="20.25" xbr="50.75" ybr="60.0"><attribute name="parked">true</attribute>
</box>
<polygon label="dog" occluded="0" points="60.0,10.0;80.0,10.0;80.0,30.5"></polygon>
<polyline label="dog" occluded="0" points="1,1;2,2"></polyline>
<mask label="dog" occluded="0" rle="3, 5, 2" left="5" top="6" width="5" height="2"></mask>
</image>
<image id="1" name="c.png" width="120" height="80"></image>
</annotations>"""
KITTI = """Car 0.00 0 -1.57 10.50 20.25 50.75 60.00 1.5 1.6 3.9 1.0 1.5 8.4 -1.5
Pedestrian 0.30 2 0.2 70 10 90 70 1.8 0.5 0.9 1 1 9 0.1
DontCare -1 -1 -10 100 5 118 15 -1 -1 -1 -1000 -1000 -1000 -10
"""
COLUMNS = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
OPEN_IMAGES = f"""{COLUMNS}
aaaa,xclick,/m/01g317,1,0.1,0.5,0.25,0.75,0,1,0,0,0
aaaa,xclick,/m/0k4j,1,0.0,1.0,0.0,1.0,0,0,1,0,0
"""
IMAGES = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation\naaaa,train,,,,,,,,,,\n"
)


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((80, 120, 3), 90, np.uint8))


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def objects(records: Records, row: int = 0) -> list[tuple[str, list[float], bool]]:
    return [
        (records.categories.names[records.labels[i]], records.boxes[i].round(2).tolist(), bool(records.is_crowd[i]))
        for i in range(int(records.first[row]), int(records.first[row + 1]))
    ]


def test_cvat(tmp_path: Path) -> None:
    pytest.importorskip("datumaro")
    put(tmp_path / "in/annotations.xml", CVAT)
    for name in ("a b.png", "c.png"):
        paint(tmp_path / "in/images" / name)
    records = read_data(tmp_path / "in", extras=True)["train"]
    assert [records.file_name(row) for row in range(2)] == ["images/a b.png", "images/c.png"]
    assert records.size(0) == (80, 120)
    assert objects(records) == [
        ("car", [10.5, 20.25, 40.25, 39.75], False),
        ("dog", [60, 10, 20, 20.5], False),
        ("dog", [5, 6, 5, 2], False),  # after three zeros of the first row two ones, then three of the second
    ]
    assert objects(records, 1) == []
    assert records.extras is not None
    assert records.extras.of_annotation(0) == {"parked": 1, "occluded": 1}
    assert records.extras.data_set == {"datumaro_left_out": {"polyline": 1}}
    assert not any("images" in line for line in write_data({"train": records}, tmp_path / "out", "coco").lines())
    assert (tmp_path / "out/images/train/images/a b.png").is_file()


def test_kitti(tmp_path: Path) -> None:
    pytest.importorskip("datumaro")
    put(tmp_path / "training/label_2/000000.txt", KITTI)
    paint(tmp_path / "training/image_2/000000.png")
    found = find_data(tmp_path)
    assert {split: f.format for split, f in found.items()} == {"train": "datumaro:kitti"}
    records = read_data(tmp_path, extras=True)["train"]
    assert objects(records) == [
        ("Car", [10.5, 20.25, 40.25, 39.75], False),
        ("Pedestrian", [70, 10, 20, 60], False),
        ("DontCare", [100, 5, 18, 10], True),
    ]
    assert records.image_path(0).is_file()
    assert records.extras is not None
    assert records.extras.of_annotation(1) == {"truncated": 1, "occluded": 1}
    put(tmp_path / "training/label_2/000000.txt", "Car 1 2\n")
    with pytest.raises(VisionTasksError, match="datumaro cannot read it as KITTI 2D objects"):
        read_data(tmp_path)


def test_open_images(tmp_path: Path) -> None:
    pytest.importorskip("datumaro")
    put(tmp_path / "annotations/class-descriptions-boxable.csv", "/m/01g317,Person\n/m/0k4j,Car\n")
    put(tmp_path / "annotations/image_ids_and_rotation.csv", IMAGES)
    put(tmp_path / "annotations/train-annotations-bbox.csv", OPEN_IMAGES)
    paint(tmp_path / "images/train/aaaa.jpg")
    records = read_data(tmp_path, extras=True)["train"]
    assert objects(records) == [("Person", [12, 20, 48, 40], False), ("Car", [0, 0, 120, 80], True)]
    assert records.extras is not None
    assert records.extras.of_annotation(0)["truncated"] == 1


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("datumaro")
    paint(tmp_path / "secret.png")
    put(tmp_path / "in/annotations.xml", CVAT.replace("a b.png", "../../secret.png"))
    paint(tmp_path / "in/images/c.png")
    with pytest.raises(VisionTasksError, match=r"lies outside of|must not contain '\.\.'"):
        read_data(tmp_path / "in")


def test_without_datumaro_one_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "annotations.xml", CVAT)
    monkeypatch.setitem(sys.modules, "datumaro", None)
    with pytest.raises(VisionTasksError, match=r"is CVAT for images, .* pip install 'vision_tasks\[datumaro\]'"):
        find_data(tmp_path)
