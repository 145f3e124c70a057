"""`vision-tasks data ...`: from the command line to files that other tools read."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.data.written_coco import read_again, written
from vision_tasks.cli.main import app
from vision_tasks.data.formats.registry import read_data
from vision_tasks.errors import VisionTasksError
from vision_tasks.visualize.browse import choose, draw_record, shrunk

NAMES = ["cat", "dog"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def refusal(*arguments: object) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, VisionTasksError), done.output
    return str(done.exception)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of 100 × 80 pixels: cats everywhere, dogs in every third image."""
    for split, count in (("train", 12), ("val", 4)):
        images = {
            f"{split} {i}.png": [("cat", [5.0, 5.0, 30.0, 20.0])] + [("dog", [60.0, 40.0, 30.0, 30.0])] * (i % 3 == 0)
            for i in range(count)
        }
        written(tmp_path / "my data", split, images, NAMES)
    return tmp_path / "my data"


def test_split_into_a_format(folder: Path, tmp_path: Path) -> None:
    done = run("split", folder, tmp_path / "new", "--shares", "50,25,25", "--to", "yolo", "--images", "link")
    assert done.exit_code == 0, done.output
    assert "divided anew" in done.stdout
    assert "train 8 (50.0 %), val 4 (25.0 %), test 4 (25.0 %)" in done.stdout
    found = read_data(tmp_path / "new")
    assert [len(records) for records in found.values()] == [8, 4, 4]
    assert sum(len(records.labels) for records in found.values()) == 12 + 4 + 4 + 2
    image = found["test"].image_path(0)
    assert image.stat().st_nlink == 2


def test_refusals_come_before_work(folder: Path, tmp_path: Path) -> None:
    assert "sum to 1" in refusal("split", folder, tmp_path / "new", "--shares", "0.5,0.6")
    assert "numbers with commas" in refusal("split", folder, tmp_path / "new", "--shares", "most")
    assert "formats to write" in refusal("split", folder, tmp_path / "new", "--to", "paper")
    assert "lies in" in refusal("split", folder, folder / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert "holds something" in refusal("tile", folder, tmp_path / "full")
    assert "leaves nothing" in refusal("tile", folder, tmp_path / "new", "--overlap", "2000")
    assert "two data sets" in refusal("merge", tmp_path / "new", folder)
    assert "say what to keep" in refusal("subset", folder, tmp_path / "new")
    assert "no split 'test'" in refusal("browse", folder, "--split", "test")
    assert "There are: cat, dog" in refusal("browse", folder, "--category", "cow")
    assert "such as browse.html" in refusal("browse", folder, "--out", tmp_path / "page")
    assert not (tmp_path / "new").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "my data"]


def test_merge_with_a_map(folder: Path, tmp_path: Path) -> None:
    written(tmp_path / "more", "train", {"train 0.png": [("Hound", [1.0, 1.0, 9.0, 9.0])]}, ["Hound", "mud"])
    renaming = tmp_path / "map.yaml"
    renaming.write_text("Hound: dog\nmud: null\n")
    done = run("merge", tmp_path / "new", folder, tmp_path / "more", "--map", renaming)
    assert done.exit_code == 0, done.output
    found = read_again(tmp_path / "new", "train")
    assert [c["name"] for c in found["categories"]] == NAMES
    assert len(found["images"]) == 13
    assert sum(a["category_id"] == 2 for a in found["annotations"]) == 5
    assert "more/train 0.png" in {image["file_name"] for image in found["images"]}
    for text, words in (("- a", "must hold lines"), ("a: [b", "YAML"), ("cat: [1]", "not an old and a new")):
        renaming.write_text(text)
        assert words in refusal("merge", tmp_path / "other", folder, tmp_path / "more", "--map", renaming)


def test_subset(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("train 0.png\ntrain 3.png\nval 1.png\n")
    done = run("subset", folder, tmp_path / "new", "--files", names, "--categories", "dog")
    assert done.exit_code == 0, done.output
    found = read_again(tmp_path / "new", "train")
    assert [c["id"] for c in found["categories"]] == [2]
    assert [image["file_name"] for image in found["images"]] == ["train 0.png", "train 3.png"]
    assert not (tmp_path / "new" / "annotations" / "instances_val.json").exists()


def test_tile(folder: Path, tmp_path: Path) -> None:
    done = run("tile", folder, tmp_path / "new", "--size", "50", "--overlap", "0", "--no-empty")
    assert done.exit_code == 0, done.output
    found = read_again(tmp_path / "new", "train")
    tiles = {image["id"]: image for image in found["images"]}
    source = {p.name: np.asarray(Image.open(p)) for p in (folder / "images" / "train").iterdir()}
    for image in tiles.values():
        pixels = np.asarray(Image.open(tmp_path / "new" / "images" / "train" / image["file_name"]))
        x, y = image["x"], image["y"]
        assert np.array_equal(pixels, source[image["tile_of"]][y : y + 50, x : x + 50])
    back = {
        (tiles[a["image_id"]]["tile_of"], a["category_id"], a["bbox"][0] + tiles[a["image_id"]]["x"])
        for a in found["annotations"]
    }
    assert {entry for entry in back if entry[1] == 1} == {(name, 1, 5.0) for name in source}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my data", "new"]  # no traces


def test_stats(folder: Path, tmp_path: Path) -> None:
    done = run("stats", folder, "--json", "--out", tmp_path / "page.html")
    found = json.loads(done.stdout)
    assert found["train"]["objects"] == 16
    assert [row["objects"] for row in found["val"]["categories"]] == [4, 2]
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 2
    plain = run("stats", folder)
    assert re.search(r"^cat +1 +16 +16", plain.stdout, re.M), plain.stdout
    assert plain.stdout.endswith(f"Next:\n  vision-tasks data browse '{folder}'\n  vision-tasks doctor '{folder}'\n")


def test_browse_escapes_text_and_shows_what_is_broken(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    images = {"a&b.png": [(evil, [5.0, 5.0, 30.0, 20.0])], "broken.png": [], "c.png": []}
    records = written(tmp_path / "my data", "train", images, [evil])
    (records.root / "broken.png").write_bytes(b"no image")
    done = run("browse", tmp_path / "my data", "--out", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "1 of them cannot be drawn" in done.stdout
    assert done.stdout.endswith(f"Next:\n  vision-tasks doctor '{tmp_path / 'my data'}'\n")
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "broken.png: not an image" in page.replace("\n", " ")
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 3
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))).convert("L"), int)
    plain = np.asarray(Image.open(records.image_path(0)).convert("L").resize((400, 320), Image.Resampling.BICUBIC), int)
    assert drawn.shape == plain.shape
    assert np.abs(drawn - plain)[240:].mean() < 15  # below the box nothing is drawn


def test_browse_chooses_by_seed_and_category(folder: Path, tmp_path: Path) -> None:
    splits = read_data(folder)
    chosen, of = choose(splits, 3, "dog", 1)
    assert of == 6
    assert len(chosen) == 3
    for split, row in chosen:
        assert 1 in splits[split].labels[splits[split].first[row] : splits[split].first[row + 1]]
    assert choose(splits, 3, "dog", 1)[0] == chosen
    assert any(choose(splits, 3, "dog", seed)[0] != chosen for seed in range(2, 6))
    assert len(choose(splits, 100)[0]) == 16


def test_more_pictures_than_a_page_holds(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vision_tasks.visualize.browse._EMBEDDED", 5)
    assert run("browse", folder, "--out", tmp_path / "page.html").exit_code == 0
    assert len(list((tmp_path / "page_images").glob("*.jpg"))) == 16
    assert 'src="page_images/00000.jpg"' in (tmp_path / "page.html").read_text()


def test_small_truth_is_the_large_one_shrunk(real_data: Path) -> None:
    from vision_tasks.ops.masks import render

    records = read_data(real_data / "coco_mini")["train"]
    row = next(r for r in range(len(records)) if records.is_crowd[records.first[r] : records.first[r + 1]].any())
    target = records.target(row)
    half = (target.size[0] // 2, target.size[1] // 2)
    small = shrunk(target, half)
    assert small.boxes is not None
    assert target.boxes is not None
    assert small.masks is not None
    assert target.masks is not None
    assert np.allclose(small.boxes.numpy() * 2, target.boxes.numpy(), atol=2)
    own, whole = render(small.masks).numpy(), render(target.masks).numpy()[:, : 2 * half[0] : 2, : 2 * half[1] : 2]
    large = whole.sum(axis=(1, 2)) > 400
    overlap = (own & whole).sum(axis=(1, 2)) / np.maximum((own | whole).sum(axis=(1, 2)), 1)
    assert large.any()
    assert overlap[large].min() > 0.8


def test_maps_are_drawn(real_data: Path, tmp_path: Path) -> None:
    records = read_data(real_data / "camvid")["val"]
    picture, caption, fine = draw_record(records, 0)
    assert fine
    assert picture.shape[0] > 360 or picture.shape[1] > 480  # the legend
    assert caption.endswith("480×360")
    done = run("browse", real_data / "camvid", "--out", tmp_path / "b.html", "--category", "bicyclist", "--count", "2")
    assert "2 images with bicyclist" in done.stdout
