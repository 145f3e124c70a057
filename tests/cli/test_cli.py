"""The command line: exit codes, one-line errors, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import vision_tasks as vt
from tests.tiny_model import tiny_model
from vision_tasks.cli import console, main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vt.save(tiny_model(), tmp_path_factory.mktemp("a run") / "best.ckpt")


def make_images(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (50 + i, 70, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs `vision-tasks ARGUMENTS` in this process through its real entry point."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["vision-tasks", *map(str, arguments)])
        capfd.readouterr()
        try:
            main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            code = 0
        text = capfd.readouterr()
        return Result(code, text.out, text.err)

    return run


def test_help_and_version_and_no_arguments(cli) -> None:
    for command in ((), ("train",), ("evaluate",), ("predict",), ("models",), ("demo",), ("config",)):
        done = cli(*command, "--help")
        assert done.code == 0
        assert "Usage: vision-tasks" in done.out
    assert cli("--version").out.strip() == vt.__version__
    assert "Usage" in "".join((cli().out, cli().err))


def test_models_and_config(cli) -> None:
    done = cli("models")
    assert done.code == 0
    assert "faster_rcnn" in done.out
    assert "resnet50" in done.out
    line = next(line for line in done.out.splitlines() if line.startswith("mask_rcnn") and "variant=v2" in line)
    assert line.split()[-5:] == ["47.4", "41.8", "–", "torchvision", "BSD-3-Clause"]  # as torchvision states them
    rows = json.loads(cli("models", "--json").out)
    assert {"yolox", "ssdlite"} <= {row["model"] for row in rows}
    assert "trainable_stages=5" in cli("models", "faster_rcnn").out
    options = [line.split(maxsplit=1) for line in cli("models", "semantic_fpn").out.splitlines()]
    assert ["weights=None", '"coco", or a file'] in options
    assert ["backbone_weights=None", '"imagenet", "imagenet_v2", or a file'] in options
    assert "}} dict[str" in cli("models", "multi_head").out
    assert "There is no model 'rcnn'" in cli("models", "rcnn").err
    done = cli("config", "data=my photos", "train.epochs=3")
    assert done.code == 0
    assert yaml.safe_load(done.out)["train"]["epochs"] == 3
    assert "# passes over the training images" in done.out
    assert yaml.safe_load(done.out)["data"]["path"] == "my photos"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nothing.ckpt", "."], "."),
        (["predict", "{checkpoint}", "nowhere"], "There is no file or folder nowhere"),
        (["predict", "{checkpoint}", "{empty}"], "holds no images"),
        (["predict", "{checkpoint}", "{image}", "--format", "xml"], "no output form 'xml'. Choose of jsonl, coco, csv"),
        (["predict", "{checkpoint}", "{image}", "--device", "gpu"], "device 'gpu' cannot be used"),
        (["predict", "{checkpoint}", "{image}", "--track", "bytetrac"], "bytetrack"),
        (["predict", "{checkpoint}", "{image}", "--track-option", "buffer=3"], "give --track bytetrack"),
        (["predict", "{checkpoint}", "{image}", "--track", "sort", "--track-option", "buffer"], "must be KEY=VALUE"),
        (["predict", "{checkpoint}", "{image}", "--track", "sort", "--track-option", "bufer=3"], "no option 'bufer'"),
        (["predict", "{checkpoint}", "{image}", "--batch-size", "many"], "a number or auto, not 'many'"),
        (["predict", "{checkpoint}", "{image}", "--speed", "warp"], "exact, fast, max"),
        (["predict", "{checkpoint}", "{image}", "--codec", "h266"], "h266"),
        (["predict", "{checkpoint}", "{image}", "--format", "jsonl,instances"], "instances"),
        (["predict", "{checkpoint}", "{image}", "--format", "mot"], "--track"),
        (["predict", "{checkpoint}", "{image}", "--merge", "glue"], "merge must be one of join"),
        (["predict", "{checkpoint},nothing.ckpt", "{image}"], "There is no weight file nothing.ckpt"),
        (["predict", "{image}", "{image}"], "is no torch file"),
        (["predict", "{checkpoint}", "{image}", "--out", "{image}"], "{image}"),
        (["evaluate", "nothing.ckpt"], "There is no weight file nothing.ckpt"),
        (["evaluate", "{checkpoint}"], "Give data=FOLDER"),
        (["evaluate", "{checkpoint}", "--split", "dev"], "--split must be val, test or train"),
        (["train"], "Give data=FOLDER"),
        (["train", "data=nowhere"], "nowhere"),
        (["train", "trian.epochs=3"], "did you mean 'train'?"),
        (["train", "nothing.yaml"], "There is no recipe nothing.yaml"),
        (["train", "a.yaml", "b.yaml"], "Give one recipe, not 2"),
        (["config", "train.epochs=x"], "train.epochs: input should be a valid integer"),
    ],
)
def test_bad_input_is_one_error_without_a_traceback(
    arguments: list[str], message: str, cli, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    make_images(tmp_path, "image.png")
    places = {"checkpoint": checkpoint, "empty": tmp_path / "empty", "image": tmp_path / "image.png"}
    done = cli(*(a.format(**places) for a in arguments))
    assert done.code == 2, done.err
    assert done.err.startswith("error: ")
    assert message.format(**places) in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("*.part"))


def test_debug_shows_where_it_came_from(cli) -> None:
    for arguments in (("--debug", "predict", "nothing.ckpt", "."), ("predict", "nothing.ckpt", "nowhere", "--debug")):
        with pytest.raises(vt.VisionTasksError):
            cli(*arguments)


def test_wrong_use_is_exit_code_2(cli, checkpoint: Path) -> None:
    assert cli("predict", checkpoint).code == 2
    assert cli("predict", checkpoint, "x", "--threshold", "2").code == 2
    assert cli("nonsense").code == 2


def test_a_folder_with_a_broken_image(cli, checkpoint: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "my photos [new]", tmp_path / "what came out"
    make_images(source, "a.png", "deeper/b c.png", "deeper/a.jpg")
    (source / "broken [bold].png").write_bytes(b"no image")
    (source / "notes.txt").write_text("not an image, and not asked to be")
    done = cli("predict", checkpoint, source, "--out", out, "--threshold", "0.1", "--device", "cpu")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert str(source / "broken [bold].png") in done.err
    assert "3 images" in done.out
    assert "1 could not be read" in done.out
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["file"] for line in lines} == {str(source / n) for n in ("a.png", "deeper/a.jpg", "deeper/b c.png")}
    assert {p.name for p in out.iterdir()} == {"predictions.jsonl", "a.jpg", "a-2.jpg", "b c.jpg"}
    predictor = vt.Predictor(checkpoint, device="cpu", threshold=0.1)
    for line in lines:
        found = predictor(line["file"])
        assert len(found) == len(line["objects"]) > 0
        assert (line["height"], line["width"]) == found.size
        first = line["objects"][0]
        assert first["score"] == pytest.approx(float(found.scores[0]), abs=1e-4)
        x, y, w, h = first["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(found.boxes[0].tolist(), abs=0.02)
        assert first["category"] == found.categories.names[int(found.labels[0])]


def test_nothing_readable_is_an_error(cli, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    done = cli("predict", checkpoint, tmp_path / "x.png", "--out", tmp_path / "out")
    assert done.code == 2
    assert "Nothing could be read of" in done.err
    assert not list((tmp_path / "out").iterdir()), "nothing is written of nothing"
    assert done.err.count("x.png: not an image") >= 1


def test_coco_json_is_read_by_pycocotools(cli, checkpoint: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    make_images(tmp_path, "x y.png", "z.png")
    out = tmp_path / "out"
    done = cli(
        "predict", checkpoint, tmp_path / "*.png", "--out", out, "--format", "coco", "--threshold", 0.1, "--no-draw"
    )
    assert done.code == 0, done.err
    assert [p.name for p in out.iterdir()] == ["predictions.json"]
    coco = COCO(str(out / "predictions.json"))
    assert len(coco.imgs) == 2
    assert {c["name"] for c in coco.cats.values()} == {"cat", "dog"}
    assert len(coco.anns) > 2
    for annotation in coco.anns.values():
        assert annotation["image_id"] in coco.imgs
        assert annotation["area"] == pytest.approx(annotation["bbox"][2] * annotation["bbox"][3])
    rows = [{k: a[k] for k in ("image_id", "category_id", "bbox", "score")} for a in coco.anns.values()]
    assert len(coco.loadRes(rows).anns) == len(rows)


def test_no_file_if_none_is_wanted(cli, checkpoint: Path, tmp_path: Path) -> None:
    make_images(tmp_path, "x.png")
    out = tmp_path / "out"
    assert cli("predict", checkpoint, tmp_path / "x.png", "--out", out, "--format", "none").code == 0
    assert [p.name for p in out.iterdir()] == ["x.jpg"]


def test_a_name_that_is_no_text(cli, checkpoint: Path, tmp_path: Path) -> None:
    import os

    make_images(tmp_path, "good.png")
    odd = os.fsencode(tmp_path) + b"/photos/caf\xe9.png"
    (tmp_path / "photos").mkdir()
    try:
        os.rename(tmp_path / "good.png", odd)
    except OSError:
        pytest.skip("this file system wants names in UTF-8")
    done = cli("predict", checkpoint, tmp_path / "photos", "--out", tmp_path / "out", "--no-draw")
    assert done.code == 0, done.err
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8"))
    assert os.fsencode(line["file"]) == odd


def test_tables_align() -> None:
    text = console.table([{"name": "cat", "AP": 0.5}, {"name": "horse", "AP": -1.0}], ["name", "AP"])
    assert text.splitlines() == ["name      AP", "cat    0.500", "horse      –"]


@pytest.mark.slow
def test_as_a_program(checkpoint: Path, tmp_path: Path) -> None:
    """A process of its own: exit code, streams, and tracebacks only with --debug."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "vision_tasks.cli.main", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    make_images(tmp_path, "my photos/x.png")
    bad = run("train", "a.yaml", "b.yaml")
    assert bad.returncode == 2
    said = "error: Give one recipe, not 2: a.yaml, b.yaml. Options have the form key=value."
    assert bad.stderr.strip().splitlines() == [said]
    assert bad.stdout == ""
    debug = run("train", "a.yaml", "b.yaml", "--debug")
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert "VisionTasksError" in debug.stderr
    good = run("predict", checkpoint, "my photos", "--device", "cpu")
    assert good.returncode == 0, good.stderr
    assert good.stderr == ""
    assert (tmp_path / "predictions" / "x.jpg").is_file()


def test_originals_are_never_overwritten_nor_drawings_read(cli, checkpoint: Path, tmp_path: Path) -> None:
    make_images(tmp_path / "photos", "a.jpg", "b.png")
    before = (tmp_path / "photos" / "a.jpg").read_bytes()
    (tmp_path / "photos" / "predictions.jsonl").write_text("of an earlier run")
    done = cli("predict", checkpoint, tmp_path / "photos", "--out", tmp_path / "photos")
    assert done.code == 2
    assert "another --out" in done.err
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == before
    assert (tmp_path / "photos" / "predictions.jsonl").read_text() == "of an earlier run"
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.jpg").symlink_to(tmp_path / "photos" / "a.jpg")
    assert cli("predict", checkpoint, tmp_path / "links", "--out", tmp_path / "links").code == 2
    assert (tmp_path / "links" / "a.jpg").is_symlink()
    for _ in range(2):  # the second time, the first time's drawings lie below the source
        done = cli("predict", checkpoint, tmp_path / "photos", "--out", tmp_path / "photos" / "drawn", "--threshold", 0)
        assert done.code == 0
        assert "2 images" in done.out
