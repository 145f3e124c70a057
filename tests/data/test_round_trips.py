"""From any format to any other and back: what both can hold comes back; what is written, other eyes read alike."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hand_read import BY_HAND

from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.mask_images import objects_of_maps
from vision_tasks.data.formats.registry import FORMATS, read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.structures import Categories

WRITTEN = [name for name, form in FORMATS.items() if form.write is not None]
MAPS = ("coco_panoptic", "masks")
"""Formats that hold outlines alone, not boxes: what comes from VOC has nothing to give them."""

Contents = dict[tuple[str, str], tuple[Any, list[tuple[str, tuple[float, ...]]]]]


def squares(folder: Path) -> dict[str, Records]:
    """What every format can hold: in each image at most one object of a category, a rectangle on whole pixels."""
    out = {}
    for number, split in enumerate(("train", "val", "test")):
        root = folder / split
        builder = RecordsBuilder(folder, root, Categories.of(["cat", "dog house", "größe"]), extras=True)
        for i, name in enumerate(["a.png", "d.png", "with space ü.png", "none.png", "b.jpg"]):
            path = root / ("deep/er" if name == "d.png" else "") / f"{split}_{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = 40 + i, 60 + number
            assert cv2.imwrite(str(path), np.full((height, width, 3), 50 * i, np.uint8))
            builder.add_image(path.relative_to(root).as_posix(), height, width)
            for label in range(3 if "none" not in name else 0):
                x, y, w, h = 2.0 + 19 * label, 3.0 + i, 10.0 + label, 20.0
                outline = array("f", [x, y, x + w, y, x + w, y + h, x, y + h])
                builder.add_object(label, (x, y, w, h), shape=shapes.encode_polygons([outline]))
        out[split] = builder.finish()
    return out


def contents(splits: Mapping[str, Records], digits: int = 5) -> Contents:
    """Size, and sorted names and boxes, of each image; of maps those of the objects that can be made of them."""
    out: Contents = {}
    for split, given in splits.items():
        records = given if given.has_boxes else objects_of_maps(given)
        for row in range(len(records)):
            own = range(int(records.first[row]), int(records.first[row + 1]))
            objects = [
                (records.categories.names[records.labels[i]], tuple(np.round(records.boxes[i], digits).tolist()))
                for i in own
            ]
            # Where nothing is drawn a map has a category of its own.
            named = sorted(o for o in objects if o[0] != "background")
            out[split, records.file_name(row)] = (records.size(row), named)
    return out


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The squares in every format."""
    folder = tmp_path_factory.mktemp("squares")
    source = squares(folder / "source")
    for form in WRITTEN:
        write_data(source, folder / form, form)
    return {form: folder / form for form in WRITTEN} | {"source": folder / "source"}


@pytest.mark.parametrize("form", WRITTEN)
def test_what_every_format_holds(written: dict[str, Path], form: str, tmp_path: Path) -> None:
    assert contents(read_data(written[form])) == contents(squares(tmp_path / "source"))


# With COCO every reader and writer takes part; all other pairs are slow.
PAIRS = [
    pytest.param(form, via, marks=[] if "coco" in (form, via) else [pytest.mark.slow])
    for form in WRITTEN
    for via in WRITTEN
]


@pytest.mark.parametrize(("form", "via"), PAIRS)
def test_to_any_format_and_back(written: dict[str, Path], form: str, via: str, tmp_path: Path) -> None:
    if "voc" in (form, via) and (via in MAPS or form in MAPS):
        pytest.skip("VOC has boxes, these have outlines: neither can hold what the other has")
    splits = read_data(written[form], extras=True)
    write_data(splits, tmp_path / "there", via, "link")
    write_data(read_data(tmp_path / "there", extras=True), tmp_path / "back", form, "link")
    assert contents(read_data(tmp_path / "back")) == contents(splits)


@pytest.mark.parametrize("form", BY_HAND)
def test_what_is_written_is_what_the_formats_mean(written: dict[str, Path], form: str, tmp_path: Path) -> None:
    """Read by hand, by the formats' definitions."""
    expected = {
        Path(name).stem: [(label, (x, y, x + w, y + h)) for label, (x, y, w, h) in objects]
        for (_, name), (_, objects) in contents(squares(tmp_path / "source")).items()
    }
    found = BY_HAND[form](written[form])
    assert {stem: boxes for stem, boxes in expected.items() if boxes or stem in found} == found
