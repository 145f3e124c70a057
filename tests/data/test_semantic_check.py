"""What is wrong with maps is found before training, with file names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.formats.semantic import read_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_check import check_maps
from vision_tasks.errors import VisionTasksError


def data(root: Path, masks: dict[str, list[list[int]]], sizes: dict[str, tuple[int, int]] | None = None) -> Records:
    """Records of masks by stem; images are as large as their mask, or (width, height) of `sizes`."""
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for stem, mask in masks.items():
        pixels = np.array(mask, np.uint8)
        Image.fromarray(pixels).save(root / f"masks/{stem}.png")
        size = (sizes or {}).get(stem, (pixels.shape[1], pixels.shape[0]))
        Image.new("RGB", size).save(root / f"images/{stem}.jpg")
    files = semantic_files(images="images/{stem}.jpg", masks="masks/{stem}.png", categories=["a", "b", "c"])
    return read_semantic(files, "train", root)


def test_pixels_are_counted(tmp_path: Path) -> None:
    records, found = check_maps(data(tmp_path, {"1": [[0, 1, 1, 255]], "2": [[1, 0]]}))
    assert found.pixels.tolist() == [2, 3, 0]
    assert found.shares.tolist() == [0.4, 0.6, 0]
    assert (found.area, found.maps, found.total) == (5, 2, 2)
    assert found.is_whole
    assert len(records) == 2
    assert not len(records.problems)


def test_values_outside_the_table_stop_training_with_all_of_them_and_their_files(tmp_path: Path) -> None:
    records = data(tmp_path, {"1": [[0, 1]], "2": [[7, 1]], "3": [[9, 7]], "4": [[0, 0]]})
    with pytest.raises(VisionTasksError) as raised:
        check_maps(records)
    said = str(raised.value)
    assert "in no category (the table has 0, 1, 2, 255)" in said
    assert "in 2 of 4 masks looked at" in said
    assert "outside the table are 7, 9" in said
    assert "2.png" in said
    assert "3.png" in said


def test_masks_of_another_size_than_their_image_are_left_out(tmp_path: Path) -> None:
    records, found = check_maps(data(tmp_path, {"1": [[0, 1]], "2": [[0, 1]]}, {"2": (3, 3)}))
    assert records.problems["mask_size"].count == 1
    assert "2.png: the mask has 2 × 1 pixels, its image" in records.problems["mask_size"].examples[0]
    assert records.image_ids.tolist() == [1]
    assert found.lost == [1]


def test_damaged_masks_are_left_out_and_named(tmp_path: Path) -> None:
    records = data(tmp_path, {"1": [[0, 1]], "2": [[0, 1]]})
    path = tmp_path / "masks/2.png"
    path.write_bytes(path.read_bytes()[:-20])
    records, _ = check_maps(records)
    assert len(records) == 1
    assert "2.png: cut off" in records.problems["mask_unreadable"].examples[0]
    path = tmp_path / "masks/1.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VisionTasksError, match="not one semantic map can be used"):
        check_maps(records)


def test_maps_of_nothing_but_ignored_pixels_are_told_and_kept(tmp_path: Path) -> None:
    records, _ = check_maps(data(tmp_path, {"1": [[0, 1]], "2": [[255, 255]]}))
    assert len(records) == 2
    assert "2.png" in records.problems["mask_all_ignored"].examples[0]


def test_an_image_that_is_missing_is_not_the_masks_fault(tmp_path: Path) -> None:
    records = data(tmp_path, {"1": [[0, 1]], "2": [[0, 1]]})
    (tmp_path / "images/2.jpg").write_bytes(b"broken")
    records, found = check_maps(records)
    assert (len(records), found.maps) == (2, 2)
    assert not len(records.problems)


def test_what_is_looked_at_is_limited_and_spread(tmp_path: Path) -> None:
    records = data(tmp_path, {f"{i:03}": [[i // 10 % 3]] for i in range(90)})
    _, found = check_maps(records, maps=30)
    assert (found.maps, found.total) == (30, 90)
    assert not found.is_whole
    assert (found.pixels >= 8).all()  # ten of each, were the spread perfect
    assert check_maps(records, seconds=0)[1].maps == 1


def test_images_without_a_map_are_not_counted(tmp_path: Path) -> None:
    records = data(tmp_path, {"1": [[0, 1]], "2": [[0, 1]]})
    assert records.semantic is not None
    bare = dataclasses.replace(records.semantic, annotated=np.array([True, False]))  # type: ignore[type-var]
    assert check_maps(dataclasses.replace(records, semantic=bare))[1].total == 1


def test_planes_count_each_for_itself(tmp_path: Path) -> None:
    records = data(tmp_path, {"1": [[0, 1, 1, 255]]})
    assert records.semantic is not None
    planes = dataclasses.replace(records.semantic, multi_label=True)  # type: ignore[type-var]
    _, found = check_maps(dataclasses.replace(records, semantic=planes))
    assert found.pixels.tolist() == [1, 2, 0]
    assert found.shares.tolist() == pytest.approx([1 / 3, 2 / 3, 0])
