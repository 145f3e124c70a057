"""Forms of output other than tables of JSON: read back by what is not their writer."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.inference.small_results import CATEGORIES, SIZE, found, frame
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.outputs.registry import open_outputs
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Categories, Masks, Prediction


def blobs(*shapes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Prediction:
    """Objects of label 0, best first, whose masks are rectangles x1, y1, x2, y2, and boxes around them."""
    boxes = torch.tensor(shapes, dtype=torch.float32).reshape(-1, 4)
    bitmaps = torch.zeros(len(shapes), *size, dtype=torch.bool)
    for bitmap, (x1, y1, x2, y2) in zip(bitmaps, shapes, strict=True):
        bitmap[y1:y2, x1:x2] = True
    scores = torch.linspace(0.9, 0.5, len(shapes))
    labels = torch.zeros(len(shapes), dtype=torch.int64)
    return Prediction(size, CATEGORIES, boxes, labels, scores, Masks(size, shapes=list(mask_ops.encode(bitmaps))))


def written(forms: list[str], out: Path, *results: tuple[Frame, Prediction]) -> list[str]:
    with open_outputs(forms, out) as outputs:
        for taken, prediction in results:
            outputs.add(taken, prediction)
    return outputs.written


def test_csv(tmp_path: Path) -> None:
    truth = found(1, 2, masks=True, tracks=True)
    assert written(["csv"], tmp_path, (frame(7), truth), (frame(8), found(2, 0)), (frame(9, False), found(3, 1))) == [
        "predictions.csv"
    ]
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["film.mp4", "film.mp4", "photos/9.png"]
    assert [(row["frame"], row["time"], row["track_id"]) for row in rows] == [
        ("7", "0.28", "5"), ("7", "0.28", "6"), ("", "", "")
    ]  # fmt: skip
    areas = mask_ops.area(mask_ops.to_rles(truth.masks)).tolist()
    for i, row in enumerate(rows[:2]):
        x, y, w, h = (float(row[key]) for key in ("x", "y", "width", "height"))
        assert [x, y, x + w, y + h] == pytest.approx(truth.boxes[i].tolist(), abs=2e-3)
        assert float(row["score"]) == pytest.approx(float(truth.scores[i]), abs=1e-6)
        assert float(row["area"]) == areas[i]
        assert row["category"] == CATEGORIES.names[truth.labels[i]]
        assert (row["image_width"], row["image_height"]) == ("60", "40")


def test_csv_holds_no_formulas(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", 'a,"b"\nc', "plain"]
    count = len(names)
    boxes = torch.tensor([[1.0, 1, 5, 5]]).expand(count, 4)
    result = Prediction(SIZE, Categories.of(names), boxes, torch.arange(count), torch.ones(count))
    written(["csv"], tmp_path, (Frame(np.zeros((*SIZE, 3), np.uint8), "=1+1.png", "x"), result))
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["category"] for row in rows] == [f"'{name}" for name in names[:4]] + names[4:]
    assert {row["file"] for row in rows} == {"'=1+1.png"}


def test_csv_of_a_map(tmp_path: Path) -> None:
    labels = torch.tensor([[-1, 0, 0], [1, 0, 0]], dtype=torch.int16)
    written(["csv"], tmp_path, (frame(1, False), Prediction((2, 3), CATEGORIES, semantic=labels)))
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["category_id"], r["x"], r["y"], r["width"], r["height"], r["area"], r["score"]) for r in rows] == [
        ("3", "1.0", "0.0", "2.0", "2.0", "4.0", ""), ("17", "0.0", "1.0", "1.0", "1.0", "1.0", "")
    ]  # fmt: skip


def test_yolo_boxes(tmp_path: Path) -> None:
    outside = torch.tensor([[-5.0, -5, 30, 20], [50, 30, 70, 60]])
    results = [found(1, 3), Prediction(SIZE, CATEGORIES, outside, torch.tensor([1, 0]), torch.tensor([0.9, 0.8]))]
    results.append(found(5, 0))
    words = written(["yolo"], tmp_path, *((frame(i), result) for i, result in enumerate(results)))
    assert words == ["yolo/labels/*.txt", "yolo/data.yaml"]
    described = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert described["names"] == {0: "cat", 1: "größe"}
    for i, result in enumerate(results):
        text = (tmp_path / "yolo" / "labels" / f"film_{i:06d}.txt").read_text()
        values = np.array([[float(word) for word in line.split()] for line in text.splitlines()]).reshape(-1, 5)
        assert values[:, 0].tolist() == result.labels.tolist()
        assert ((values[:, 1:] >= 0) & (values[:, 1:] <= 1)).all()
        center, size = values[:, 1:3] * (60, 40), values[:, 3:] * (60, 40)
        expected = result.boxes.numpy().clip(0, [60, 40, 60, 40])
        np.testing.assert_allclose(np.concatenate([center - size / 2, center + size / 2], 1), expected, atol=1e-4)


def test_yolo_with_confidence(tmp_path: Path) -> None:
    result = found(1, 2, tracks=True)
    written(["yolo-conf", "yolo"], tmp_path, (frame(0), result))
    lines = (tmp_path / "yolo" / "labels" / "film_000000.txt").read_text().splitlines()
    assert [float(line.split()[5]) for line in lines] == pytest.approx(result.scores.tolist(), abs=1e-6)
    assert [line.split()[6] for line in lines] == ["5", "6"]


def test_yolo_outlines(tmp_path: Path) -> None:
    """Rectangles come back as their four corners; of two parts the larger; of no part the box."""
    result = blobs((10, 5, 20, 25), (30, 10, 50, 35))
    assert result.masks is not None
    pieces = torch.zeros(1, *SIZE, dtype=torch.bool)
    pieces[0, 2:4, 2:4] = pieces[0, 20:30, 3:9] = True
    result.masks.shapes[1] = mask_ops.encode(pieces)[0]
    result = result[[0, 1, 1]]
    result.masks.shapes[2] = None
    written(["yolo"], tmp_path, (frame(0), result))
    lines = (tmp_path / "yolo" / "labels" / "film_000000.txt").read_text().splitlines()
    corners = [
        {(round(x * 60), round(y * 40)) for x, y in np.array(line.split()[1:], float).reshape(-1, 2)} for line in lines
    ]
    assert corners[0] == {(10, 5), (20, 5), (20, 25), (10, 25)}
    assert corners[1] == {(3, 20), (9, 20), (9, 30), (3, 30)}
    assert corners[2] == {(30, 10), (50, 10), (50, 35), (30, 35)}
    assert {len(line.split()) for line in lines} == {9}


def test_numbers_of_instances(tmp_path: Path) -> None:
    result = blobs((0, 0, 20, 20), (10, 10, 40, 30))[[1, 0]]  # the worse first, as a tracker may have them
    assert written(["masks"], tmp_path, (frame(0), result)) == [
        "instances/*.png (values are objects' places in their list, from 1)"
    ]
    picture = Image.open(tmp_path / "instances" / "film_000000.png")
    assert picture.mode == "P"
    values = np.array(picture)
    expected = np.zeros(SIZE, int)
    expected[10:30, 10:40] = 1
    expected[:20, :20] = 2
    assert np.array_equal(values, expected)
    many = blobs(*[(i % 60, i // 60, i % 60 + 1, i // 60 + 1) for i in range(300)])
    written(["instances"], tmp_path, (frame(1), many))
    values = np.array(Image.open(tmp_path / "instances" / "film_000001.png"))
    assert np.array_equal(values.ravel()[:301], [*range(1, 301), 0])
    assert written(["instances"], tmp_path / "b", (frame(1), found(1))) == []


def test_crops(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    image = np.kron(draw.integers(0, 256, (5, 10, 3)), np.ones((8, 6, 1))).astype(np.uint16) * 200
    boxes = torch.tensor([[2.4, 3.6, 10.2, 9.0], [-4, 30, 5, 90], [60, 0, 70, 10], [5, 5, 5, 5]])
    names = Categories.of(["../x", "../X"])
    result = Prediction(SIZE, names, boxes, torch.tensor([0, 1, 0, 1]), torch.tensor([0.9, 0.8, 0.7, 0.6]))
    eight = Frame((image // 256).astype(np.uint8), "a.png", "a")
    assert written(["crops"], tmp_path, (Frame(image, "b.png", "b"), result), (eight, result)) == [
        "crops/CATEGORY/*.jpg"
    ]
    files = {p.relative_to(tmp_path / "crops").as_posix() for p in tmp_path.rglob("*.*g")}
    assert files == {"_x/a-1.jpg", "_x/b-1.png", "_X-2/a-2.jpg", "_X-2/b-2.png"}
    exact = cv2.imread(str(tmp_path / "crops" / "_x" / "b-1.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(exact, image[3:9, 2:11])
    assert np.array(Image.open(tmp_path / "crops" / "_X-2" / "a-2.jpg")).shape == (10, 5, 3)
    assert np.abs(np.array(Image.open(tmp_path / "crops" / "_x" / "a-1.jpg")) - exact / 256.0).mean() < 20


def test_cutouts(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 256, (*SIZE, 3)).astype(np.uint8)
    result = blobs((5, 6, 9, 12), (20, 20, 30, 24))
    result.masks.shapes[1] = None
    hole = torch.zeros(1, *SIZE, dtype=torch.bool)
    hole[0, 6:12, 5:9] = True
    hole[0, 8, 7] = False
    (result.masks.shapes[0],) = mask_ops.encode(hole)
    assert written(["cutouts"], tmp_path, (Frame(image, "a", "a"), result), (frame(1), found(1, 0))) == [
        "cutouts/CATEGORY/*.png"
    ]
    (path,) = tmp_path.rglob("*.png")
    assert path == tmp_path / "cutouts" / "cat" / "a-1.png"
    pixels = np.array(Image.open(path))
    inside = hole[0, 6:12, 5:9].numpy()
    assert np.array_equal(pixels[..., 3], inside * 255)
    assert np.array_equal(pixels[inside][:, :3], image[6:12, 5:9][inside])
    with pytest.raises(VisionTasksError, match=r"cutouts need masks.*Use crops"):
        written(["cutouts"], tmp_path / "b", (frame(1), found(1)))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pictures_of_other_channels(channels: int, tmp_path: Path) -> None:
    image = np.full((*SIZE, channels), 90, np.uint8)
    written(["crops", "cutouts", "labelme", "sheet"], tmp_path, (Frame(image, "no file", "a"), blobs((5, 6, 9, 12))))
    assert np.array(Image.open(tmp_path / "crops" / "cat" / "a-1.jpg")).shape[:2] == (6, 4)
    cut = np.array(Image.open(tmp_path / "cutouts" / "cat" / "a-1.png"))
    assert cut.shape == (6, 4, 4)
    assert (cut == [90, 90, 90, 255]).all()
    assert np.array(Image.open(tmp_path / "labelme" / "a.jpg")).shape[:2] == SIZE


def test_labelme(tmp_path: Path) -> None:
    """The fields that labelme's format has, and a path to the image that leads there from the file."""
    photo = tmp_path / "photos" / "a b.png"
    photo.parent.mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    two = blobs((10, 5, 20, 25))
    parts = torch.zeros(1, *SIZE, dtype=torch.bool)
    parts[0, 2:4, 2:4] = parts[0, 20:30, 3:9] = True
    two.masks.shapes[0] = mask_ops.encode(parts)[0]
    image = np.zeros((*SIZE, 3), np.uint8)
    words = written(["labelme"], tmp_path / "out", (Frame(image, str(photo), "a b"), found(1)), (frame(3), two))
    assert words == ["labelme/*.json"]
    folder = tmp_path / "out" / "labelme"
    of_photo, of_frame = (json.loads((folder / f"{n}.json").read_text()) for n in ("a b", "film_000003"))
    keys = {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
    assert set(of_photo) == set(of_frame) == keys
    assert (of_photo["imageHeight"], of_photo["imageWidth"], of_photo["imageData"]) == (40, 60, None)
    for content in (of_photo, of_frame):
        with Image.open(os.path.join(folder, content["imagePath"])) as picture:
            assert picture.size == (60, 40)
    assert of_photo["imagePath"] == "../../photos/a b.png"
    boxes = found(1).boxes.tolist()
    for shape, box in zip(of_photo["shapes"], boxes, strict=True):
        assert {"label", "points", "group_id", "shape_type", "flags", "description"} <= set(shape)
        assert shape["shape_type"] == "rectangle"
        assert np.ravel(shape["points"]) == pytest.approx(box, abs=1e-5)
    assert [s["shape_type"] for s in of_frame["shapes"]] == ["polygon"] * 2
    assert [s["group_id"] for s in of_frame["shapes"]] == [1, 1]
    assert of_frame["shapes"][0]["label"] == "cat"
    assert {tuple(p) for p in of_frame["shapes"][0]["points"]} == {(3, 20), (9, 20), (9, 30), (3, 30)}


def test_mot(tmp_path: Path) -> None:
    """A box over the first pixel begins at 1, 1 there; columns as motchallenge.net/instructions has them."""
    box = torch.tensor([[0.0, 0, 1, 1], [4.5, 8, 10, 20.25]])
    tracked = Prediction(
        SIZE, CATEGORIES, box, torch.tensor([0, 1]), torch.tensor([0.5, 0.25]), track_ids=torch.tensor([7, 9])
    )
    results = [
        (frame(0), tracked),
        (frame(3), tracked),
        (frame(0, source="x/film.mp4"), tracked),
        (frame(4), found(1, 0)),
    ]
    assert written(["mot"], tmp_path, *results) == ["mot/*.txt"]
    lines = ["7,1.00,1.00,1.00,1.00,0.5000,-1,-1,-1\n", "9,5.50,9.00,5.50,12.25,0.2500,-1,-1,-1\n"]
    assert (tmp_path / "mot" / "film.txt").read_text() == "".join(f"{n},{line}" for n in (1, 4) for line in lines)
    assert (tmp_path / "mot" / "film-2.txt").read_text() == "".join(f"1,{line}" for line in lines)


@pytest.mark.parametrize(
    ("files", "name", "numbers"),
    [
        (["MOT17-02/img1/000001.jpg", "MOT17-02/img1/000003.jpg"], "MOT17-02", [1, 3]),
        (["s/000000.jpg", "s/000001.jpg"], "s", [1, 2]),
        (["a.jpg", "c.jpg"], "sequence", [1, 2]),
    ],
)
def test_mot_of_a_folder(files: list[str], name: str, numbers: list[int], tmp_path: Path) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    written(["mot"], tmp_path, *((Frame(image, file, str(i)), found(1, 1)) for i, file in enumerate(files)))
    (path,) = (tmp_path / "mot").iterdir()
    assert path.name == f"{name}.txt"
    assert [int(line.split(",")[0]) for line in path.read_text().splitlines()] == numbers
    assert {line.split(",")[1] for line in path.read_text().splitlines()} == {"-1"}


def test_sheet(tmp_path: Path) -> None:
    """A few pictures all; of many some, from the first to the last; those that were drawn already as they are."""
    assert written(["sheet"], tmp_path, *((frame(i), found(i)) for i in range(3))) == ["sheet.jpg"]
    assert np.array(Image.open(tmp_path / "sheet.jpg")).shape == (2 * 213 + 6, 2 * 320 + 6, 3)
    with open_outputs(["sheet"], tmp_path) as outputs:
        for i in range(200):
            outputs.add(frame(i), found(i), drawn=np.full((40, 60, 3), i, np.uint8))
    page = np.array(Image.open(tmp_path / "sheet.jpg").convert("L")).astype(int)
    columns = (page.shape[1] + 6) // 326
    rows = (page.shape[0] + 6) // 219
    shown = [page[r * 219 + 100, c * 326 + 160] for r in range(rows) for c in range(columns)]
    shown = [value for value in shown if value < 250]
    assert len(shown) == 50
    np.testing.assert_allclose(shown, range(0, 200, 4), atol=2)
