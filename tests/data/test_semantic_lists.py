"""List files and shares of semantic data: which images a split has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.formats.semantic import read_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two folders with images of the same names."""
    for folder in ("a", "b"):
        for name in ("0000", "0001", f"my {folder} one"):
            for kind in ("images", "masks"):
                path = tmp_path / kind / folder / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return tmp_path


def read(root: Path, listed: str) -> Records:
    (root / "val.txt").write_text(listed)
    files = semantic_files(
        images="images/{stem}.png", masks="masks/{stem}.png", categories=["x", "y"],
        splits={"train": "train.txt", "val": "val.txt"},
    )  # fmt: skip
    return read_semantic(files, "val", root)


@pytest.mark.parametrize(
    ("line", "stem"),
    [
        ("a/0000.png", "a/0000"),
        ("b/0000.png", "b/0000"),
        ("a/0001", "a/0001"),
        ("images/a/0001.png masks/a/0001.png", "a/0001"),
        ("/somewhere/else/images/b/0000.png", "b/0000"),
        ("a/my a one.png", "a/my a one"),
        ("my b one", "b/my b one"),
    ],
)
def test_an_entry_is_the_image_of_its_folder(root: Path, line: str, stem: str) -> None:
    records = read(root, line + "\n\n")
    assert [records.file_name(row) for row in range(len(records))] == [f"images/{stem}.png"]
    assert not len(records.problems)


def test_a_name_that_two_folders_have_is_refused(root: Path) -> None:
    with pytest.raises(VisionTasksError, match=r"val\.txt: the entry '0000\.png' may be a/0000 or b/0000\. Write its"):
        read(root, "0000.png\n")


def test_an_entry_of_a_folder_that_is_not_there_is_no_other_folders_image(root: Path) -> None:
    (root / "images/b/0001.png").unlink()
    records = read(root, "a/0000.png\nb/0001.png\nc/my a one.png\n")
    assert [records.file_name(row) for row in range(len(records))] == ["images/a/0000.png"]
    assert records.problems["list_entry_missing"].examples == ("b/0001.png", "c/my a one.png")


def test_shares_of_more_than_all_images_are_refused() -> None:
    given = {"images": "images/{stem}.png", "masks": "masks/{stem}.png", "categories": ["x", "y"]}
    with pytest.raises(VisionTasksError, match=r"splits: the shares sum to 1\.6"):
        semantic_files(**given, splits={"train": 0.8, "val": 0.8})
    assert semantic_files(**given, splits={"train": 0.7, "val": 0.2, "test": 0.1}).splits["val"] == 0.2


def test_masks_alone_ask_for_images(root: Path) -> None:
    with pytest.raises(VisionTasksError, match=r"data\.semantic\.images is missing: which images do the masks m"):
        read_semantic(semantic_files(masks="masks/{stem}.png", categories=["x", "y"]), "train", root)
