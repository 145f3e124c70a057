"""Where a data set is written: names that mislead are refused before the work, and a full disk is named."""

import os
import resource
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from vision_tasks.cli.main import main
from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.operations.writing import check_target, write_data
from vision_tasks.errors import VisionTasksError


@pytest.fixture
def source(tmp_path):
    """An image of 300 kB with one object."""
    folder = tmp_path / "source" / "images"
    (tmp_path / "source" / "labels").mkdir(parents=True)
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 330, 3), np.uint8)).save(folder / "a.png")
    (tmp_path / "source" / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return tmp_path / "source"


@pytest.mark.parametrize("name", [".", "nd/..", "link_here", "full/..", "file/new", "circle", "link_full"])
def test_places_that_cannot_be_are_refused_first(name, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (tmp_path / "link_here").symlink_to(here)
    if name in ("full/..", "link_full"):
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").write_text("")
        (tmp_path / "link_full").symlink_to("full")
        name = f"../{name}"
    elif name == "link_here":
        name = "../link_here"
    elif name == "file/new":
        (tmp_path / "file").write_text("")
        name = "../file/new"
    elif name == "circle":
        (tmp_path / "circle").symlink_to("circle")
        name = "../circle"
    before = sorted(map(str, tmp_path.rglob("*")))
    with pytest.raises(VisionTasksError, match=r"holds something|current folder|nothing can be written|cannot be writ"):
        check_target(name, "coco")
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_a_link_to_an_empty_folder_and_folders_not_there_are_fine(source, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    splits = read_data(source)
    write_data(splits, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "images" / "train" / "a.png").is_file()
    write_data(splits, tmp_path / "not" / ".." / "there" / "yet")
    assert (tmp_path / "there" / "yet" / "annotations").is_dir()
    assert not (tmp_path / "not").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "link", "source", "there"]


@contextmanager
def _small_disk(size):
    """Within, no file can grow beyond so many bytes: what the kernel says is what it says of a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize(
    "words", [["convert", "--to", "voc"], ["data", "tile", "--size", "256"], ["convert", "--to", "labelme"]]
)
def test_a_full_disk_is_named_by_what_was_to_be_written(words, source, tmp_path, monkeypatch, capsys):
    at = 2 if words[0] == "data" else 1
    words = [*words[:at], str(source), str(tmp_path / "out"), *words[at:]]
    monkeypatch.setattr(sys, "argv", ["vision-tasks", *words])
    with _small_disk(50_000), pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert str(tmp_path / "out") in said.replace("/.out", "/out")
    assert str(source) not in said
    assert os.listdir(tmp_path) == ["source"]


def test_a_page_of_numbers_names_itself_when_the_disk_is_full(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vision-tasks", "data", "stats", str(source), "--out", str(tmp_path / "s.html")])
    with _small_disk(3_000), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"{tmp_path}/s.html" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["source"]
