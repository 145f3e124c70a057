"""`vision-tasks doctor`: what it says, writes and refuses, and its exit codes."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

from vision_tasks.cli import main
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.patch import apply_patch
from vision_tasks.data.scenes import generate_scenes
from vision_tasks.training.splits import read_splits


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs `vision-tasks doctor ARGUMENTS` in this process through its real entry point."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["vision-tasks", "doctor", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main.main()
        text = capfd.readouterr()
        return Result(int(end.value.code or 0), text.out, text.err)

    return run


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp("some data") / "scenes", 16, 7, sizes=((96, 112), (112, 96)))


@pytest.fixture
def damaged(sound: Path, tmp_path: Path) -> Path:
    """Boxes of training are corners, one image file is missing, and one has a name that is no HTML."""
    folder = tmp_path / "damaged data"
    shutil.copytree(sound, folder)
    file = next(folder.glob("annotations/*train*.json"))
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]
    names = [image["file_name"] for image in content["images"]]
    images = read_coco(file).root.parent / "images" / "train"
    odd = "<b>&\N{SNOWMAN}.png"
    (images / names[0]).rename(images / odd)
    content["images"][0]["file_name"] = odd
    (images / names[1]).unlink()
    file.write_text(json.dumps(content))
    return folder


def test_sound_data(doctor: Callable[..., Result], sound: Path) -> None:
    found = doctor(sound)
    assert found.code == 0
    assert "clean: nothing found. Looked at:" in found.out
    assert "23 images" in found.out
    assert "train: 16 images" in found.out
    assert f"vision-tasks train data='{sound}'" in found.out
    assert "\033" not in found.out + found.err, "no colours where there is no terminal"


def test_damaged_data(doctor: Callable[..., Result], damaged: Path, tmp_path: Path) -> None:
    patch, page = tmp_path / "patch.json", tmp_path / "pages" / "doctor.html"
    found = doctor(damaged, "--fix", patch, "--report", page)
    assert found.code == 1
    lines = found.out.splitlines()
    assert lines[0].startswith(f"{damaged} (COCO instances): train annotations/instances_train.json, images in ")
    assert re.match(r"breaks  train: (\d+) of \1 boxes are corners .*\[boxes_xyxy\]", lines[2])
    assert any(line.strip().startswith("└ hence") for line in lines), "consequences beneath their cause"
    assert any("[image_missing]" in line for line in lines)
    assert "(the patch mends it)" in found.out
    assert f"data.train.patch={patch}" in found.out
    assert f"Page: {page}" in found.out
    check_page(page)
    assert json.loads(patch.read_text())["splits"]["train"]["edits"][0]["form"] == "xyxy"
    again = doctor(damaged, "--fix", patch)
    assert again.code == 1, "its own patches are replaced"


def check_page(page: Path) -> None:
    """Well formed, escaped, self-contained; pictures can be decoded, and boxes are on them."""
    html = page.read_text("utf-8")
    assert "&lt;b&gt;&amp;\N{SNOWMAN}.png" in html
    assert "<b>&" not in html
    sources = []

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            sources.extend(str(value) for key, value in attrs if key in ("src", "href"))
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    assert len(sources) > 5
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(sources[0].partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    red, green = (np.abs(pixels[..., ::-1].astype(int) - c).max(-1) < 40 for c in ((213, 60, 0), (0, 158, 115)))
    assert red.sum() > 50, "the box as written"
    assert green.sum() > 50, "the box as the patch mends it"


def test_the_patch_mends_what_is_trained_on(
    doctor: Callable[..., Result], damaged: Path, sound: Path, tmp_path: Path
) -> None:
    patch, recipe = tmp_path / "patch.json", tmp_path / "recipe.yaml"
    doctor(damaged, "--fix", patch)
    recipe.write_text(f"data: {{path: '{damaged}', train: {{patch: '{patch}'}}}}\nmodel: {{name: retinanet}}\n")
    from vision_tasks.config import load_config

    train, _ = read_splits(load_config(recipe).data)
    original = read_coco(next(sound.glob("annotations/*train*.json")))
    assert len(train) == 15, "without the image that is missing"
    kept = np.isin(original.annotation_ids, train.annotation_ids)
    assert np.allclose(train.boxes, original.boxes[kept])
    before = patch.read_text()
    found = doctor(recipe, "--fix", tmp_path / "second.json")
    assert found.code == 0
    assert "retinanet sees the shorter side" in found.out
    assert "[boxes_xyxy]" not in found.out
    second = json.loads((tmp_path / "second.json").read_text())["splits"]["train"]
    assert second == json.loads(before)["splits"]["train"], "edits that were made already are kept"
    assert len(apply_patch(read_coco(next(damaged.glob("annotations/*train*.json"))), patch, "train")) == 15


def test_json(doctor: Callable[..., Result], damaged: Path, tmp_path: Path) -> None:
    found = doctor(damaged, "--json", "--quick", "--fix", tmp_path / "p.json")
    content = json.loads(found.out)
    assert found.code == 1
    assert content["breaks"]
    assert not content["clean"]
    assert content["patch"] == str(tmp_path / "p.json")
    first = content["findings"][0]
    assert (first["code"], first["split"], first["severity"]) == ("boxes_xyxy", "train", "breaks")
    assert first["edits"] == [{"op": "boxes_from", "form": "xyxy", "why": "boxes_xyxy"}]
    assert first["examples"][0]["annotation_id"] is not None
    assert content["statistics"]["train"]["images"] == 16


def test_one_file_and_its_images(doctor: Callable[..., Result], damaged: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.json"
    shutil.copy(next(damaged.glob("annotations/*train*.json")), moved)
    found = doctor(moved, "--images", damaged / "images" / "train")
    assert found.code == 1
    assert "[boxes_xyxy]" in found.out
    assert "15 images" in found.out or "16 images" in found.out
    assert f"{moved} --images '{damaged / 'images' / 'train'}' --fix patch.json" in found.out, "as it was asked"
    above = doctor(moved, "--images", damaged / "images")
    assert "[boxes_xyxy]" in above.out
    assert "1 of 16 image files is missing" in above.out, "looked for in the split's folder"


def test_the_wrong_image_folder(doctor: Callable[..., Result], sound: Path, tmp_path: Path) -> None:
    alone = tmp_path / "train.json"
    shutil.copy(next(sound.glob("annotations/*train*.json")), alone)
    found = doctor(alone, "--fix", tmp_path / "patch.json")
    assert "16 of 16 image files are missing" in found.out
    assert "to do:   this is probably the wrong folder" in found.out
    assert f"Next:\n  vision-tasks doctor {alone} --images DIR" in found.out
    assert "vision-tasks train" not in found.out
    assert "Patch: none is written" in found.out
    assert not (tmp_path / "patch.json").exists()


def test_other_kinds_of_annotations_are_named(doctor: Callable[..., Result], sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "both"
    shutil.copytree(sound, folder)
    (folder / "yolo" / "labels").mkdir(parents=True)
    (folder / "yolo" / "images").mkdir()
    shutil.copy(next(folder.glob("images/train/*")), folder / "yolo" / "images" / "a.png")
    (folder / "yolo" / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert "Also there, and not looked at: mask images, yolo (YOLO txt).\n" in doctor(folder, "--quick").out
    assert "Also there, and not looked at: mask images.\n" in doctor(sound, "--quick").out
    shutil.rmtree(folder / "yolo")
    shutil.rmtree(folder / "semantic")
    assert "Also there" not in doctor(folder, "--quick").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone",), "there is no such file or folder"),
        (("{data}", "train.epochs=3"), "options belong to a recipe"),
        (("{data}", "--images", "gone"), "gone: there is no such folder of images"),
        (("{data}", "--report", "page.txt"), "name the page to write"),
        (("{data}", "--fix", "{data}/scenes.json"), "is there and no patch, so it is not overwritten"),
        (("{data}/recipe.yaml",), "nonsense"),
    ],
)
def test_wrong_input(doctor: Callable[..., Result], sound: Path, arguments: tuple[str, ...], said: str) -> None:
    (sound / "recipe.yaml").write_text("nonsense: 1\n")
    kept = (sound / "scenes.json").read_bytes()
    found = doctor(*(word.replace("{data}", str(sound)) for word in arguments))
    (sound / "recipe.yaml").unlink()
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err
    assert (sound / "scenes.json").read_bytes() == kept
