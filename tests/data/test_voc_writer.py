"""Pascal VOC written: nothing is lost that it can hold, and what it cannot hold is said."""

from __future__ import annotations

import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.written_records import NAMES, build, by_name, data_sets
from vision_tasks.data.formats import shapes
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records

FLAG = st.just(1)
OF_OBJECT = st.fixed_dictionaries(
    {},
    optional={
        "difficult": FLAG, "truncated": FLAG, "occluded": FLAG, "pose": NAMES, "description": NAMES,
        "part": st.lists(st.fixed_dictionaries({"name": NAMES}), min_size=2, max_size=3),
    },
)  # fmt: skip
OF_IMAGE = st.fixed_dictionaries(
    {},
    optional={
        "depth": st.just(1), "segmented": FLAG, "source": st.fixed_dictionaries({"database": NAMES}),
        "date_captured": NAMES, "verified": st.just("yes"),
    },
)  # fmt: skip


def again(splits: dict[str, Records], folder: Path) -> tuple[dict[str, Records], list[str]]:
    losses = write_data(splits, folder, "voc", images="none")
    return read_data(folder, extras=True), losses.lines()


@settings(max_examples=25, deadline=None)
@given(splits=data_sets(OF_OBJECT, OF_IMAGE))
def test_nothing_is_lost_that_it_can_hold(splits: dict[str, Records]) -> None:
    """Boxes to the last digit, categories in order, unused ones too, other keys, names in any script, folders."""
    with tempfile.TemporaryDirectory() as folder:
        back, losses = again(splits, Path(folder) / "out")
    assert losses == []
    assert list(back) == list(splits)
    names = [records.file_name(row).rsplit(".", 1)[0] for records in splits.values() for row in range(len(records))]
    shared = len(set(names)) < len(names)
    for split, records in splits.items():
        assert back[split].categories == records.categories
        assert by_name(back[split], f"{split}/" if shared else "") == by_name(records)


def test_what_is_written(tmp_path: Path) -> None:
    """As the development kit writes it, whole numbers without a point."""
    records = build(
        ["cat", "dog & <co>"],
        [("x/a.png", {}, [{"label": 1, "box": (0.14, 0.1, 299.0, 0.2), "extras": {"truncated": 1, "pose": "Left"}}])],
    )
    write_data({"val": records}, tmp_path / "out", "voc", images="none")
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "x" / "a.xml").getroot()
    assert [(e.tag, (e.text or "").strip()) for e in root.iter()] == [
        ("annotation", ""), ("folder", "JPEGImages/x"), ("filename", "a.png"), ("size", ""), ("width", "300"),
        ("height", "200"), ("depth", "3"), ("segmented", "0"), ("object", ""), ("name", "dog & <co>"),
        ("pose", "Left"), ("truncated", "1"), ("difficult", "0"), ("bndbox", ""), ("xmin", "1.14"), ("ymin", "1.1"),
        ("xmax", "299.14"), ("ymax", "0.3"),
    ]  # fmt: skip
    assert (tmp_path / "out" / "ImageSets" / "Main" / "val.txt").read_text() == "x/a\n"
    assert (tmp_path / "out" / "labels.txt").read_text() == "cat\ndog & <co>\n"


def test_losses_are_said(tmp_path: Path) -> None:
    triangle = shapes.from_polygons([[1, 1, 9, 1, 9, 9]])[0]
    records = build(
        ["a", "b\nc\x01"],
        [
            ("i.jpg", {"shapes": [1, 2]}, [
                {"label": 0, "box": (1.0, 1.0, 8.0, 8.0), "shape": triangle, "area": 32.0, "annotation_id": 7},
                {"label": 1, "box": (1.0, 1.0, 8.0, 8.0), "is_crowd": True, "annotation_id": 8,
                 "extras": {"keypoints": [1, 2, 2], "pose": "Left"}},
                {"label": 1, "box": (float("nan"), 1.0, 8.0, 8.0), "annotation_id": 9},
            ]),
        ],
    )  # fmt: skip
    back, losses = again({"train": records}, tmp_path / "out")
    assert losses == [
        "3 × ids of annotations: VOC has none, they are counted anew (7, 8, 9)",
        "1 × 'keypoints' of annotations: VOC has no place for it",
        "1 × 'shapes' of images: VOC has no place for it",
        "1 × areas: VOC has none, that of the box will count (annotation 7)",
        "1 × boxes that are no numbers: left out (annotation 9)",
        "1 × crowds: VOC has none, they become difficult objects (annotation 8)",
        "1 × masks: VOC has boxes alone (annotation 7)",
        "1 × names of categories with letters that XML has not, or several spaces: mended ('b\\nc\\x01')",
    ]
    train = back["train"]
    assert train.categories.names == ("a", "b c\ufffd")
    assert train.extras is not None
    assert train.extras.annotations == {1: {"difficult": 1, "pose": "Left"}}


def test_images_that_differ_in_their_ending_alone(tmp_path: Path) -> None:
    """Files are found by their stem: the second of a.jpg and a.png gets a name of its own, and its own objects."""
    root = tmp_path / "in"
    root.mkdir()
    names = ["a.jpg", "a.png"]
    records = build(["k"], [(n, {}, [{"label": 0, "box": (float(i), 0.0, 5.0, 5.0)}]) for i, n in enumerate(names)])
    object.__setattr__(records, "root", root)
    for name in names:
        (root / name).write_text(name)
    losses = write_data({"train": records}, tmp_path / "out", "voc")
    assert [line for line in losses.lines() if "renamed" in line and "'a.png'" in line] == losses.lines()
    back = read_data(tmp_path / "out")["train"]
    assert [back.image_path(row).read_text() for row in range(2)] == names
    np.testing.assert_array_equal(back.boxes, records.boxes)


@pytest.mark.parametrize("name", ["bccd_voc", "voc_quirks"])
def test_real_data_come_back(name: str, real_data: Path, tmp_path: Path) -> None:
    splits = read_data(real_data / name, extras=True)
    losses = write_data(splits, tmp_path / "out", "voc", images="link")
    assert losses.lines() == []
    back = read_data(tmp_path / "out", extras=True)
    for split, records in splits.items():
        assert by_name(back[split]) == by_name(records)
        assert back[split].image_path(0).read_bytes() == records.image_path(0).read_bytes()
    assert find_data(tmp_path / "out")["train"].format == "voc"
