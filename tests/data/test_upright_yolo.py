"""Images that EXIF turns, annotated as stored: YOLO labels fit the upright image that its tools read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.formats.upright import turned_points
from vision_tasks.data.images import read_image
from vision_tasks.data.operations.writing import write_data


def turned_set(root: Path, orientation: int, outline: bool) -> None:
    """One grey image of 64 × 48 with a white rectangle at (4, 6), 10 × 8."""
    pixels = np.full((48, 64, 3), 90, np.uint8)
    pixels[6:14, 4:14] = 255
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(root / "a.png", exif=exif)
    item = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 6, 10, 8], "area": 80, "iscrowd": 0}
    if outline:
        item["segmentation"] = [[4, 6, 14, 6, 14, 14, 4, 14]]
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 48}
    content = {"images": [image], "annotations": [item], "categories": [{"id": 1, "name": "x"}]}
    (root / "train.json").write_text(json.dumps(content))


@pytest.mark.parametrize("outline", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_fit_the_upright_image(tmp_path: Path, orientation: int, outline: bool) -> None:
    turned_set(tmp_path, orientation, outline)
    losses = write_data(read_data(tmp_path), tmp_path / "out", "yolo", "copy").lines()
    assert any("EXIF turns or mirrors" in line for line in losses) == (orientation != 1)
    # As any tool does: PIL's own transposition, and the shares of the label file.
    with Image.open(tmp_path / "out/images/train/a.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    numbers = np.array((tmp_path / "out/labels/train/a.txt").read_text().split()[1:], float).reshape(-1, 2)
    numbers *= upright.shape[1::-1]
    low, high = (
        (numbers.min(0), numbers.max(0)) if outline else (numbers[0] - numbers[1] / 2, numbers.sum(0) - numbers[1] / 2)
    )
    ys, xs = np.nonzero(upright[..., 0] == 255)
    np.testing.assert_allclose([*low, *high], [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1e-6)
    again = read_data(tmp_path / "out")["train"]
    x, y, w, h = again.boxes[0].round().astype(int)
    shown = read_image(again.image_path(0), again.size(0))
    assert (shown[y : y + h, x : x + w] == 255).all()
    assert int((shown[..., 0] == 255).sum()) == w * h


def test_labelme_says_what_its_tool_will_show(tmp_path: Path) -> None:
    turned_set(tmp_path, 6, outline=False)
    lines = write_data(read_data(tmp_path), tmp_path / "out", "labelme", "copy").lines()
    assert any("labelme shows them turned" in line and "a.png" in line for line in lines)
    again = read_data(tmp_path / "out")["train"]
    assert again.boxes.tolist() == [[4, 6, 10, 8]]
    assert (read_image(again.image_path(0), again.size(0))[6:14, 4:14] == 255).all()


def test_a_square_is_always_turned(tmp_path: Path) -> None:
    """Nothing tells by its size how it was annotated: upright, by the rule of `read_image`."""
    exif = Image.Exif()
    exif[274] = 3
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[30:, 20:] = 255
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "images/train/a.png", exif=exif)
    (tmp_path / "labels/train/a.txt").write_text("0 0.25 0.125 0.5 0.25\n")
    records = read_data(tmp_path)["train"]
    assert records.boxes.tolist() == [[0, 0, 20, 10]]
    shown = read_image(records.image_path(0), records.size(0))
    assert (shown[:10, :20] == 255).all()
    write_data({"train": records}, tmp_path / "out", "yolo", "copy")
    assert (tmp_path / "out/labels/train/a.txt").read_text() == "0 0.25 0.125 0.5 0.25\n"


def test_points_by_hand() -> None:
    # 64 × 48, orientation 6: shown a quarter turn clockwise, so the left upper corner goes to the right upper one.
    points, size = turned_points(np.array([[0, 0], [64, 0]]), 6, (48, 64))
    assert (points.tolist(), size) == ([[48, 0], [48, 64]], (64, 48))
