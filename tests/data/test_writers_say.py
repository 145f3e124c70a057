"""What writers of formats with a file per image rename, merge or drop: said, and read again as said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.structures import Categories


def records_of(root: Path, names: list[str], categories: list[str], ids: list[int] | None = None) -> Records:
    """An image and a box of each category in turn, for each name."""
    builder = RecordsBuilder(root, root, Categories.of(categories))
    for n, name in enumerate(names):
        Image.new("RGB", (20, 10)).save(root / name)
        builder.add_image(name, 10, 20, image_id=ids[n] if ids else None)
        builder.add_object(n % len(categories), (2, 2, 4, 4))
    return builder.finish()


@pytest.mark.parametrize("form", ["voc", "labelme"])
def test_names_that_become_one_are_said(tmp_path: Path, form: str) -> None:
    records = records_of(tmp_path, ["1.png", "2.png"], ["a b", "a  b"])
    lines = write_data({"train": records}, tmp_path / "out", form).lines()
    assert "1 × categories of the same name: they become one ('a  b')" in lines
    assert any("several spaces: mended ('a  b')" in line for line in lines)
    assert read_data(tmp_path / "out")["train"].categories.names == ("a b",)


@pytest.mark.parametrize("form", ["voc", "labelme", "yolo"])
def test_names_that_break_lines_are_changed(tmp_path: Path, form: str) -> None:
    names = ["a\nb.png", " c.png", "d\u2028 .png", "e.png", "e.jpg"]
    records = records_of(tmp_path, names, ["k"])
    lines = write_data({"train": records}, tmp_path / "out", form).lines()
    assert any(line.startswith("4 × images") and "renamed ('a\\nb.png'" in line for line in lines)
    again = read_data(tmp_path / "out")["train"]
    found = sorted(again.file_name(row) for row in range(5))
    assert found == ["_c.png", "a_b.png", "d__.png", "e.png", "e_jpg.jpg"]
    assert again.first.tolist() == [0, 1, 2, 3, 4, 5]


def test_yolo_says_which_ids_are_lost(tmp_path: Path) -> None:
    records = records_of(tmp_path, ["b.png", "a.png"], ["k"], [2, 7])
    lines = write_data({"train": records}, tmp_path / "out", "yolo").lines()
    assert "1 × ids of images: YOLO has none, they are counted anew (7)" in lines
    again = read_data(tmp_path / "out")["train"]
    assert {again.file_name(r): int(again.image_ids[r]) for r in range(2)} == {"a.png": 1, "b.png": 2}
    numbered = records_of(tmp_path, ["12.png", "7.png"], ["k"], [12, 7])
    assert not any("ids of images" in s for s in write_data({"train": numbered}, tmp_path / "out2", "yolo").lines())
