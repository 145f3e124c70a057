"""Tiles: where they lie, what of each object is in them, what their files hold."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.data.written_coco import written
from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.operations.clipping import clip_shape
from vision_tasks.data.operations.tile import tile_records, tiles_of, windows
from vision_tasks.data.operations.tile_files import cut_images
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.ops.masks import encode, to_rles
from vision_tasks.structures import Masks, Size


def decoded(records: Records, index: int, size: Size) -> np.ndarray:
    """(H, W) by pycocotools."""
    shape = records.segmentation(index)
    return np.asarray(coco_mask.decode(to_rles(Masks(size, shapes=[shape]))[0]), bool)


def test_windows_as_sahi_lays_them() -> None:
    # sahi.slicing.get_slice_bboxes(1000, 1500, slice_height=512, slice_width=512, overlap_*_ratio=0.2), sahi 0.12.8
    wanted = [
        [x, y, x + 512, y + 512] for y in (0, 410, 488) for x in (0, 410, 820, 988)
    ]  # fmt: skip
    found = windows((1000, 1500), 512, 0.2).tolist()
    assert found == wanted
    assert windows((100, 80), 512, 0.2).tolist() == [[0, 0, 80, 100]]
    assert windows((512, 513), 512, 100).tolist() == [[0, 0, 512, 512], [1, 0, 513, 512]]
    with pytest.raises(VisionTasksError, match="leaves nothing"):
        windows((1000, 1000), 64, 64)
    with pytest.raises(VisionTasksError, match="no part below 1, nor a whole number"):
        windows((1000, 1000), 64, 1.5)


def test_boxes_by_hand(tmp_path: Path) -> None:
    boxes = [[10, 10, 20, 10], [45, 5, 10, 10], [48, 30, 10, 10], [90, 70, 30, 30], [0, 0, 100, 80], [30, 30, 0, 5]]
    images = {"a.png": [("x", [float(v) for v in box]) for box in boxes]}
    records = written(tmp_path, "train", images, ["x"], object_keys={2: {"keypoints": [1], "note": "kept"}})
    tiles = tiles_of(records, {0: (80, 100)}, 50, 0)
    assert tiles.windows.tolist() == [[0, 0, 50, 50], [50, 0, 100, 50], [0, 30, 50, 80], [50, 30, 100, 80]]
    made, counts = tile_records(records, tiles, [f"{i}.png" for i in range(4)], visible=0.4)
    found = [
        (tile, *made.boxes[i].tolist(), round(float(made.areas[i]), 2), bool(made.is_crowd[i]))
        for tile in range(4)
        for i in range(made.first[tile], made.first[tile + 1])
    ]
    assert found == [
        (0, 10, 10, 20, 10, 200, False), (0, 45, 5, 5, 10, 50, False), (0, 48, 30, 2, 10, 20, True),
        (0, 0, 0, 50, 50, 2500, True),
        (1, 0, 5, 5, 10, 50, False), (1, 0, 30, 8, 10, 80, False), (1, 0, 0, 50, 50, 2500, True),
        (2, 48, 0, 2, 10, 20, True), (2, 0, 0, 50, 50, 2500, True),
        (3, 0, 0, 8, 10, 80, False),
        # What is beyond the image is in no tile: the object that is left is whole.
        (3, 40, 40, 10, 10, 900, False), (3, 0, 0, 50, 50, 2500, True),
    ]  # fmt: skip
    assert (counts.whole, counts.cut, counts.crowds, counts.unusable) == (2, 10, 6, 1)
    assert made.extras is not None
    assert made.extras.of_image(3) == {"tile_of": "a.png", "x": 50, "y": 30}
    assert made.extras.of_annotation(1) == {"note": "kept"}


@pytest.mark.parametrize("visible", [0.0, 1.0])
def test_visible_share(visible: float, tmp_path: Path) -> None:
    records = written(tmp_path, "train", {"a.png": [("x", [40.0, 0.0, 20.0, 10.0])]}, ["x"])
    made, _ = tile_records(records, tiles_of(records, {0: (80, 100)}, 50, 0), ["q.png"] * 4, visible)
    assert made.is_crowd.tolist() == [visible == 1.0] * 2


def test_a_polygon_round_a_corner_is_hugged() -> None:
    # An L round the window's upper left corner, which it does not hold: clipping leads by that corner.
    points = [[30, 5], [30, 12], [12, 12], [12, 30], [5, 30], [5, 5]]
    window = np.array([10, 10, 40, 40])
    found = clip_shape([np.array(points, np.float32)], window, (50, 50))
    assert found is not None
    assert found.box is not None
    assert found.box.tolist() == [0, 0, 20, 20]
    assert found.part == pytest.approx((20 * 2 + 2 * 18) / (25 * 7 + 18 * 7))
    # The same without the corner itself: two arms that reach in from two sides.
    arms = [[30, 5], [30, 12], [25, 12], [25, 8], [8, 8], [8, 25], [12, 25], [12, 30], [5, 30], [5, 5]]
    found = clip_shape([np.array(arms, np.float32)], window, (50, 50))
    assert found is not None
    assert found.box is not None
    assert found.box.tolist() == [0, 0, 20, 20]
    # A frame round the window with two prongs that reach in from above: clipping leads along all borders.
    frame = [
        [15, -10], [15, 2], [12, 2], [12, -6], [-6, -6], [-6, 46], [36, 46], [36, -6], [25, -6], [25, 2], [22, 2],
        [22, -10], [40, -10], [40, 50], [-10, 50], [-10, -10],
    ]  # fmt: skip
    found = clip_shape([np.array(frame, np.float32) + 20], np.array([20, 20, 50, 60]), (100, 100))
    assert found is not None
    assert found.box is not None
    assert found.box.tolist() == [12, 0, 25, 2]
    assert clip_shape([np.array([[0, 0], [9, 0], [0, 9]], np.float32)], window, (50, 50)) is None


def test_run_lengths_are_cut_as_bitmaps_are() -> None:
    import torch

    bitmap = np.random.default_rng(0).random((60, 70)) < 0.3
    rle = encode(torch.from_numpy(bitmap)[None])[0]
    for window in windows((60, 70), 32, 0.25):
        x1, y1, x2, y2 = window.tolist()
        found = clip_shape(rle, window, (60, 70))
        assert found is not None
        part = bitmap[y1:y2, x1:x2]
        assert np.array_equal(coco_mask.decode(found.shape), part)
        assert found.part == pytest.approx(part.sum() / bitmap.sum())


@pytest.mark.slow
def test_real_masks_are_those_of_the_whole_image(real_data: Path, tmp_path: Path) -> None:
    records = read_data(real_data / "coco_mini", extras=True)["val"].subset(range(12))
    cut = cut_images(records, tmp_path, 256, 0.2, visible=0.3, workers=2)
    made, rows = cut.records, {records.file_name(row): row for row in range(12)}
    assert made.extras is not None
    overlaps, crowds = [], 0
    for tile in range(len(made)):
        own = made.extras.of_image(tile)
        row, x, y, size = rows[own["tile_of"]], own["x"], own["y"], made.size(tile)
        assert size is not None
        part = np.s_[y : y + size[0], x : x + size[1]]
        whole_size = records.size(row)
        assert whole_size is not None
        whole = [decoded(records, i, whole_size) for i in range(records.first[row], records.first[row + 1])]
        there = [mask for mask in whole if mask[part].any()]
        got = range(made.first[tile], made.first[tile + 1])
        assert len(there) <= len(got) <= len(there) + 1  # a sliver of a polygon may cover no pixel
        for index in got:
            mask = decoded(made, index, size)
            if mask.sum() > 200:
                best = max(there, key=lambda m: (m[part] & mask).sum() / (m[part] | mask).sum())
                overlaps.append((best[part] & mask).sum() / (best[part] | mask).sum())
                share = mask.sum() / best.sum()
                if abs(share - 0.3) > 0.01 and best.sum() > 200 and not made.is_crowd[index]:
                    assert share > 0.3
                crowds += int(made.is_crowd[index])
        image = np.asarray(Image.open(made.image_path(tile)).convert("RGB"), int)
        source = np.asarray(Image.open(records.image_path(row)).convert("RGB"), int)[part]
        assert image.shape == source.shape
        assert np.abs(image - source).mean() < 12
    assert len(overlaps) > 100
    assert crowds > 20
    assert min(overlaps) > 0.96
    assert np.mean(overlaps) > 0.999


def test_files_stay_what_they_are(tmp_path: Path) -> None:
    names = ["deep.png", "grey.jpg", "sub dir/clear.png", "gone.jpg", "empty.jpg", "wrong.png", "ok.bmp"]
    records = written(tmp_path / "dä ta", "train", {name: [("x", [1.0, 1.0, 98.0, 70.0])] for name in names}, ["x"])
    folder, random = records.root, np.random.default_rng(1)
    deep = random.integers(0, 65536, (80, 100)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    Image.fromarray(random.integers(0, 256, (80, 100), dtype=np.uint8)).save(folder / "grey.jpg")
    clear = random.integers(0, 256, (80, 100, 4), dtype=np.uint8)
    Image.fromarray(clear).save(folder / "sub dir" / "clear.png")
    (folder / "gone.jpg").unlink()
    (folder / "empty.jpg").write_bytes(b"")
    cv2.imwrite(str(folder / "wrong.png"), np.zeros((40, 40, 3), np.uint8))
    cut = cut_images(records, tmp_path / "out", 64, 0.1)
    assert sorted(cut.unreadable) == ["empty.jpg", "gone.jpg", "wrong.png"]
    made = cut.records
    assert len(made) == 4 * 4
    assert made.image_ids.tolist() == list(range(1, 17))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "deep_36_16.png")), deep[16:, 36:])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "sub dir" / "clear_0_16.png")), clear[16:, :64])
    with Image.open(tmp_path / "out" / "grey_0_0.jpg") as grey:
        assert grey.mode == "L"
    assert (tmp_path / "out" / "ok_36_0.png").is_file()


def test_tiles_without_objects_may_be_left_out(tmp_path: Path) -> None:
    records = written(tmp_path, "train", {"a.png": [("x", [2.0, 2.0, 5.0, 5.0])], "b.png": []}, ["x"])
    cut = cut_images(records, tmp_path / "out", 50, 0, empty=False)
    assert [cut.records.file_name(i) for i in range(len(cut.records))] == ["a_0_0.png"]
    assert cut.empty == 7
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a_0_0.png"]
    bare = written(tmp_path / "2", "train", {"b.png": []}, ["x"])
    with pytest.raises(VisionTasksError, match="not one tile"):
        cut_images(bare, tmp_path / "none", 50, 0, empty=False)


def test_maps_are_cut_too(real_data: Path) -> None:
    records = read_data(real_data / "camvid")["val"].subset([3, 4])
    tiles = tiles_of(records, {0: (360, 480), 1: (360, 480)}, 200, 0.1)
    made, _ = tile_records(records, tiles, ["x.png"] * len(tiles.rows))
    whole = records.semantic
    assert made.semantic is not None
    assert whole is not None
    for i in (0, 5, len(tiles.rows) - 1):
        x1, y1, x2, y2 = tiles.windows[i].tolist()
        own = whole.read(int(tiles.rows[i]), (360, 480))
        assert own is not None
        assert np.array_equal(made.semantic.read(i, (200, 200)), own[y1:y2, x1:x2])
