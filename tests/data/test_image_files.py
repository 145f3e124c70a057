"""Image files that go along when annotations are written: copies, links, and what must not be followed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.image_files import place_images, unique_names, unique_stems
from vision_tasks.data.formats.interface import Losses
from vision_tasks.data.progress import reporting_to
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError


def records_of(root: Path, names: list[str]) -> Records:
    root.mkdir(exist_ok=True)
    images = [{"id": i, "file_name": name, "width": 4, "height": 3} for i, name in enumerate(names)]
    content: dict[str, Any] = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (root.parent / "a.json").write_text(json.dumps(content))
    return read_coco(root.parent / "a.json", root)


def paint(path: Path, value: int = 7) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((3, 4, 3), value, np.uint8))


@pytest.mark.parametrize("images", ["copy", "link"])
def test_files_arrive_as_they_are(tmp_path: Path, images: Any) -> None:
    names = ["a.png", "deep/er/b ü.png", "./c.png"]
    records = records_of(tmp_path / "in", names)
    for i, name in enumerate(names):
        paint(tmp_path / "in" / name, i)
    heard: list[tuple[str, int, int | None]] = []
    with reporting_to(lambda *told: heard.append(told)):
        place_images(records, tmp_path / "out", images)
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.png", "c.png", "deep/er/b ü.png"]
    for name in names:
        source, target = tmp_path / "in" / name, tmp_path / "out" / name
        assert source.read_bytes() == target.read_bytes()
        assert source.samefile(target) == (images == "link")
    work = "linking images" if images == "link" else "copying images"
    assert heard == [(work, i, 3) for i in range(4)]


def test_none_touches_nothing(tmp_path: Path) -> None:
    place_images(records_of(tmp_path / "in", ["a.png"]), tmp_path / "out", "none")
    assert not (tmp_path / "out").exists()


def test_where_links_cannot_be_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = records_of(tmp_path / "in", ["a.png"])
    paint(tmp_path / "in/a.png")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(os, "link", refuse)
    place_images(records, tmp_path / "out", "link")
    assert (tmp_path / "out/a.png").read_bytes() == (tmp_path / "in/a.png").read_bytes()


def test_a_full_disk_is_no_reason_to_try_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = records_of(tmp_path / "in", ["a.png"])
    paint(tmp_path / "in/a.png")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="no space left"):
        place_images(records, tmp_path / "out", "link")


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    records = records_of(tmp_path / "in", ["gone.png", "folder.png", "pipe.png", "circle.png", "a.png"])
    (tmp_path / "in/folder.png").mkdir()
    os.mkfifo(tmp_path / "in/pipe.png")  # reading it would wait for ever
    (tmp_path / "in/circle.png").symlink_to("circle.png")
    paint(tmp_path / "in/a.png")
    losses = Losses()
    place_images(records, tmp_path / "out", "copy", losses)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]
    assert losses.lines() == [
        "4 × image files that are not there or cannot be read: listed, but not copied "
        "(gone.png, folder.png, pipe.png, circle.png)"
    ]


@pytest.mark.parametrize("images", ["copy", "link"])
def test_links_carry_images_along_but_nothing_else_of_the_machine(tmp_path: Path, images: Any) -> None:
    paint(tmp_path / "elsewhere/a.png")
    (tmp_path / "elsewhere/key.png").write_text("PRIVATE KEY")
    records = records_of(tmp_path / "in", ["train/a.png", "key.png", "inside.png"])
    (tmp_path / "in/train").symlink_to(tmp_path / "elsewhere")  # as people do whose images are on another disk
    (tmp_path / "in/key.png").symlink_to(tmp_path / "elsewhere/key.png")
    (tmp_path / "in/text.txt").write_text("their own")
    (tmp_path / "in/inside.png").symlink_to("text.txt")
    losses = Losses()
    place_images(records, tmp_path / "out", images, losses)
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["a.png", "inside.png"]
    assert not any(p.is_symlink() for p in (tmp_path / "out").rglob("*"))
    assert losses.lines() == ["1 × links out of the image folder to what is no image: listed, but not copied (key.png)"]


def test_two_images_never_become_one(tmp_path: Path) -> None:
    paint(tmp_path / "in/a.png", 1)
    paint(tmp_path / "other/a.png", 2)
    place_images(records_of(tmp_path / "in", ["a.png", "a.png", "./a.png"]), tmp_path / "out", "copy")  # one file
    with pytest.raises(VisionTasksError, match=r"two images would be written to one file, a\.png"):
        place_images(records_of(tmp_path / "other", ["a.png"]), tmp_path / "out", "copy")


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "C:\\a.png"])
def test_names_that_lead_out_are_refused_also_where_nothing_is_copied(tmp_path: Path, name: str) -> None:
    records = records_of(tmp_path / "in", [name])
    for act in (lambda: place_images(records, tmp_path / "out", "none"), lambda: unique_stems(records)):
        with pytest.raises(VisionTasksError, match="which is refused"):
            act()


def test_stems_are_unique(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "b/a.jpg", "a.png", "a_png.tif", "x.y.jpg", "noending", "b//a.tif"]
    records = records_of(tmp_path / "in", names)
    stems = unique_stems(records)
    assert stems == ["a", "a_png", "b/a", "a_png_2", "a_png_tif", "x.y", "noending", "b/a_tif"]
    assert unique_names(records) == [
        "a.jpg", "a_png.png", "b/a.jpg", "a_png_2.png", "a_png_tif.tif", "x.y.jpg", "noending", "b/a_tif.tif",
    ]  # fmt: skip


def test_losses_print_as_what_was_lost() -> None:
    losses = Losses()
    assert str(losses) == "Everything was kept."
    losses.add("areas", [3, 4])
    losses.add("crowds", count=5)
    assert str(losses) == "5 × crowds\n2 × areas (3, 4)"
