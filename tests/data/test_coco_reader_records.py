"""What comes out of Records: paths, targets, subsets, pickles, and the memory-mapped cache."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from test_coco_reader import DATA, IMAGES, equal_to_pycocotools, needs_data, one, written

from vision_tasks.data.formats.coco import read_coco
from vision_tasks.errors import VisionTasksError

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # in pycocotools, with numpy 2


def test_image_paths_stay_in_their_root(tmp_path: Path) -> None:
    names = ["../a.jpg", "/etc/a.jpg", "C:\\a.jpg", "x/../../a.jpg", "sub\\a.jpg"]
    images = [{"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(names)]
    records = read_coco(written(tmp_path, [], images), tmp_path / "images")
    for row in range(4):
        with pytest.raises(VisionTasksError, match=rf"image {row}: file_name"):
            records.image_path(row)
    assert records.image_path(4) == tmp_path / "images" / "sub" / "a.jpg"


def test_targets_and_absent_masks(tmp_path: Path) -> None:
    annotations = [one(bbox=[-5, 70, 20, 30], iscrowd=1), one(id=2, bbox=[1, 1, 0, 1])]
    records = read_coco(
        written(tmp_path, annotations, [*IMAGES, {"id": 2, "file_name": "b.jpg", "width": 5, "height": 5}])
    )
    target = records.target(0)
    assert target.boxes is not None
    assert target.boxes.tolist() == [[0, 70, 15, 80]]
    assert target.masks is None
    assert target.is_crowd is not None
    assert target.is_crowd.tolist() == [True]
    assert target.size == (80, 100)
    empty = records.target(1)
    assert empty.boxes is not None
    assert tuple(empty.boxes.shape) == (0, 4)
    with_shapes = read_coco(written(tmp_path, [*annotations, one(id=3, segmentation=[[0, 0, 9, 0, 9, 9]])]))
    masks = with_shapes.target(0).masks
    assert masks is not None
    assert masks.shapes is not None
    assert masks.shapes[0] is None
    np.testing.assert_array_equal(masks.shapes[1], [np.float32([[0, 0], [9, 0], [9, 9]])])


def test_size_from_the_decoded_image_where_the_file_states_none(tmp_path: Path) -> None:
    records = read_coco(
        written(tmp_path, [one(bbox=[50, 5, 20, 20]), one(id=2, bbox=[70, 5, 2, 2])], [{"id": 1, "file_name": "a.jpg"}])
    )
    assert records.size(0) is None
    target = records.target(0, (20, 60))
    assert target.boxes is not None
    assert target.boxes.tolist() == [[50, 5, 60, 20]]


@needs_data
def test_subset_and_pickle_keep_everything(tmp_path: Path) -> None:
    path = Path(str(DATA)) / "coco_mini/annotations/instances_val2017.json"
    whole = read_coco(path)
    rows = np.random.default_rng(0).permutation(len(whole))[:20]
    part = pickle.loads(pickle.dumps(whole.subset(rows)))
    for new, old in enumerate(rows.tolist()):
        assert part.file_name(new) == whole.file_name(old)
        ours, theirs = part.target(new), whole.target(old)
        assert ours.image_id == theirs.image_id
        assert ours.boxes.tolist() == theirs.boxes.tolist()
        np.testing.assert_equal(ours.masks.shapes, theirs.masks.shapes)
    assert whole.subset(np.zeros(len(whole), bool)).first.tolist() == [0]


@needs_data
def test_cache_is_used_is_whole_and_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_TASKS_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "a.json"
    file.write_bytes((Path(str(DATA)) / "coco_mini/annotations/instances_val2017.json").read_bytes())
    first = read_coco(file, cache=True)
    equal_to_pycocotools(first, file)
    assert first.folder is not None
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [first.folder.name]
    pickled = pickle.dumps(first)
    assert len(pickled) < 10_000
    equal_to_pycocotools(pickle.loads(pickled), file)
    monkeypatch.setattr("vision_tasks.data.formats.coco._Reader", None)
    equal_to_pycocotools(read_coco(file, cache=True), file)
    (first.folder / "first.npy").write_bytes(b"damaged")
    monkeypatch.undo()
    monkeypatch.setenv("VISION_TASKS_CACHE", str(tmp_path / "cache"))
    equal_to_pycocotools(read_coco(file, cache=True), file)
    written(tmp_path, [one()])
    assert len(read_coco(file, cache=True).labels) == 1


def test_unwritable_cache_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    records = read_coco(written(tmp_path, [one()]), cache=tmp_path / "blocked")
    assert records.problems["cache_unwritable"].count == 1
    assert len(records.labels) == 1
