"""LabelMe files whose few bytes would fill a machine."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from vision_tasks.data.formats import labelme_shapes
from vision_tasks.data.formats.labelme_shapes import Allowance, encode_mask, geometry, read_shape


def _mask(bitmap: np.ndarray, x: int = 0, y: int = 0) -> dict[str, object]:
    h, w = bitmap.shape
    corners = [[x, y], [x + w - 1, y + h - 1]]
    return {"label": "cat", "points": corners, "shape_type": "mask", "mask": encode_mask(bitmap)}


def test_masks_count_against_the_files_allowance(monkeypatch):
    bitmap = np.zeros((10, 20), bool)
    bitmap[2:5, 3:9] = True
    value = _mask(bitmap)
    turns = 2 * 6  # each of six columns begins and ends once
    allowance = Allowance(2 * (200 + 64 * turns) + 199)
    flaws = [read_shape(value, (10, 20), False, allowance)[1] for _ in range(3)]
    assert flaws == ["", "", "shape_mask_flaw"]
    assert allowance.left == 199

    monkeypatch.setattr(labelme_shapes, "_MOST_TURNS", turns - 1)
    shape, flaw = read_shape(value, (10, 20), False, Allowance())
    assert (flaw, shape.mask, shape.box) == ("shape_mask_flaw", None, (0, 0, 20, 10))


def test_masks_of_one_object_are_put_together():
    bitmaps = [np.random.default_rng(n).random((6, 9)) > 0.5 for n in range(2)]
    allowance = Allowance()
    parts = [read_shape(_mask(b, 10 * n, n), (30, 40), False, allowance)[0] for n, b in enumerate(bitmaps)]
    full = np.zeros((30, 40), np.uint8)
    full[0:6, 0:9] = bitmaps[0]
    full[1:7, 10:19] = bitmaps[1]
    _, entry, area = geometry(parts, (30, 40))
    rle = labelme_shapes.shapes.decode(np.frombuffer(entry, np.uint8), 0)
    np.testing.assert_array_equal(coco_mask.decode(rle), full)
    assert area == full.sum()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_bomb_of_masks_stays_small(tmp_path):
    """Forty masks of 100 megapixels (4 GB as bitmaps of one byte) and a checkerboard, in less than 2 GiB."""
    big = np.zeros((10000, 10000), bool)
    big[100:200, 100:200] = True
    bomb = _mask(big)
    rows, columns = np.indices((4000, 4000), sparse=True)
    board = _mask((rows + columns) % 2 == 0)
    shapes = [board, *[bomb] * 40, {"label": "dog", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}]
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageData": None, "imageHeight": 10000, "imageWidth": 10000}
    (tmp_path / "a.json").write_text(json.dumps(content))
    program = textwrap.dedent(
        """
        import pathlib, re, sys
        from vision_tasks.data.formats.registry import read_data
        records = read_data(sys.argv[1])["train"]
        print(len(records.labels), int((records.shape_starts >= 0).sum()), *map(int, records.areas[1:2]))
        # Not getrusage: what the process was forked from counts there.
        print(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
        """
    )
    run = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=200)
    first, peak = done.stdout.splitlines()
    # 2^29 pixels: the board takes 16 million, and five masks fit.
    assert first == "42 5 10000", done.stderr[-1000:]
    assert int(peak) < 2 << 20  # kilobytes
