"""`vision-tasks convert`: what it writes, says and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vision_tasks.cli.console import set_up_logging
from vision_tasks.cli.main import main
from vision_tasks.data.formats.registry import FORMATS, read_data
from vision_tasks.data.images import read_bytes
from vision_tasks.data.patch import fingerprint


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str]:
    """Exit code and all that was said."""
    monkeypatch.setattr(sys, "argv", ["vision-tasks", "convert", *map(str, words)])
    set_up_logging()
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two splits; an object with polygon, a crowd, and a box that is no box."""
    folder = tmp_path / "my data"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        assert cv2.imwrite(str(folder / split / f"{split}.png"), np.full((30, 40, 3), 80, np.uint8))
        thing: dict[str, Any] = {
            "id": 1, "image_id": 1, "category_id": 7, "bbox": [2, 3, 10, 8], "area": 80, "iscrowd": 0,
            "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]],
        }  # fmt: skip
        crowd = {"size": [30, 40], "counts": [0, 30, 1170]}
        content = {
            "info": {"description": "small"},
            "images": [{"id": 1, "file_name": f"{split}.png", "width": 40, "height": 30}],
            "annotations": [
                thing,
                thing | {"id": 2, "bbox": [0, 0, 1, 30], "iscrowd": 1, "segmentation": crowd},
                thing | {"id": 3, "bbox": [5, 5, -3, 2], "segmentation": []},
            ],
            "categories": [{"id": 7, "name": "cat"}],
        }
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("to", [name for name, form in FORMATS.items() if form.write is not None])
def test_every_format_is_written_and_found_again(
    source: Path, tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out put"
    code, said = command(capsys, monkeypatch, source, out, "--to", to)
    assert code == 0, said
    assert said.startswith(f"{source} (COCO instances):\nsplit  images  objects  outlines  crowds  maps  categories\n")
    assert "train       1        3         2       1     –           1\n" in said
    assert "boxes have negative width or height" in said
    assert f"Written to {out}. Next:\n" in said
    assert said.endswith(f"  vision-tasks doctor '{out}'\n  vision-tasks train data='{out}'\n")
    assert ("Everything was kept." in said) == (to in ("coco", "webdataset"))
    splits = read_data(out)
    assert list(splits) == ["train", "val"]
    assert all(len(records) == 1 and len(read_bytes(records, 0)) for records in splits.values())
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "nothing half written stays"


def test_help_names_all_formats(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = command(capsys, monkeypatch, "--help")
    words = said.replace(",", " ").split()
    assert all(name in words for name, form in FORMATS.items() if form.write is not None)


def test_bad_requests_are_refused_before_anything_is_read(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    for words, expected in [
        ([tmp_path / "gone", tmp_path / "o"], "there is no such file or folder"),
        ([source, tmp_path / "o", "--to", "yolp"], "'yolp' cannot be written"),
        ([source, tmp_path / "o", "--from", "cocoa"], "did you mean 'coco'"),
        ([source, tmp_path / "o", "--from", "voc"], "Pascal VOC"),
        ([source, tmp_path / "o", "--images", "move"], "choose one of copy, link, none"),
        ([source, full], "holds something already"),
        ([source, source / "o"], "the data set would be mixed up with its copy"),
        ([source, source], "holds something already"),
        ([source, tmp_path / "o", "--image-folder", tmp_path / "gone"], "no such folder of images"),
        ([source, tmp_path / "o", "--patch", tmp_path / "gone.json"], "cannot be read"),
    ]:
        code, said = command(capsys, monkeypatch, *words)
        assert code == 2, said
        assert said.startswith("error: ") or "--patch" in words, said
        assert expected in said
        assert "Traceback" not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "my data"]


def test_images_may_stay_where_they_are(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = command(capsys, monkeypatch, source, tmp_path / "o", "--images", "none")
    assert code == 0
    assert "annotations alone: the images stay where they are" in said
    assert not list((tmp_path / "o").rglob("*.png"))
    code, _ = command(
        capsys, monkeypatch, tmp_path / "o", tmp_path / "o2", "--image-folder", source, "--images", "link"
    )
    assert code == 0
    assert (tmp_path / "o2/images/val/val.png").samefile(source / "val/val.png")
    code, said = command(capsys, monkeypatch, tmp_path / "o", tmp_path / "o3")
    assert (code, "Name the image folder" in said) == (2, True)
    code, said = command(capsys, monkeypatch, tmp_path / "o", tmp_path / "o3", "--images", "none")
    assert code == 0, said


def test_a_patch_mends_the_splits_that_it_is_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_data(source)["train"]
    edits = [{"op": "drop_annotations", "ids": [3], "why": "box_inverted"}]
    part = {"source": "x", "fingerprint": fingerprint(before), "edits": edits}
    (tmp_path / "patch.json").write_text(json.dumps({"vision_tasks_patch": 1, "splits": {"train": part}}))
    code, said = command(capsys, monkeypatch, source, tmp_path / "o", "--patch", tmp_path / "patch.json")
    assert code == 0, said
    assert f"train: mended by {tmp_path / 'patch.json'}\nval: not in {tmp_path / 'patch.json'}\n" in said
    after = read_data(tmp_path / "o")
    assert after["train"].annotation_ids.tolist() == [1, 2]
    assert after["val"].annotation_ids.tolist() == [1, 2, 3]
    # The two splits are alike but for the file name: a patch of one is not taken for the other.
    part["fingerprint"] = "0" * 64
    (tmp_path / "patch.json").write_text(json.dumps({"vision_tasks_patch": 1, "splits": {"train": part}}))
    code, said = command(capsys, monkeypatch, source, tmp_path / "o3", "--patch", tmp_path / "patch.json")
    assert code == 2
    assert "the data changed since" in said
    assert not (tmp_path / "o3").exists()
