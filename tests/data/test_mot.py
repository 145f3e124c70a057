"""MOTChallenge files: read as they are in the wild, refused by line, written so that they come back."""

import numpy as np
import pytest
import torch

from vision_tasks.data.formats.mot import MotWriter, mot_lines, mot_rows, read_mot
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Prediction

CATEGORIES = Categories.of([{"id": 1, "name": "person"}, {"id": 3, "name": "car"}])


def written(tmp_path, text, name="gt.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def predicted(boxes, labels=None, ids=None, scores=None):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    ids = None if ids is None else torch.tensor(ids)
    return Prediction(
        (100, 100), CATEGORIES, boxes, labels, None if scores is None else torch.tensor(scores), track_ids=ids
    )


def test_columns_and_the_pixel_convention(tmp_path):
    rows = read_mot(written(tmp_path, "2,7,1,1,10,20,0,8,0.25\n1,3,101.5,51,4,5,1,1,1\n"), length=9)
    # A box at MOT's (1, 1) begins at the upper left corner of the image.
    np.testing.assert_array_equal(rows.boxes, [[100.5, 50, 104.5, 55], [0, 0, 10, 20]])
    assert rows.frames.tolist() == [0, 1]
    assert rows.ids.tolist() == [3, 7]
    assert rows.scores.tolist() == [1, 0]
    assert rows.classes.tolist() == [1, 8]
    assert rows.visibility.tolist() == [1, 0.25]
    assert rows.length == 9
    assert rows.name == "gt.txt"
    assert list(rows.by_frame()) == [(0, slice(0, 1)), (1, slice(1, 2))]


@pytest.mark.parametrize(
    ("text", "scores", "classes"),
    [
        ("1,-1,5,5,3,3,0.5\n1,-1,6,6,3,3,0.25\n", [0.5, 0.25], [-1, -1]),
        ("1,2,5,5,3,3,0.5,-1,-1,-1\r\n1,4,6,6,3,3,1,-1,-1,-1\r\n", [0.5, 1], [-1, -1]),
        ("1 2 5 5 3 3 0.5\n\n1\t4 6 6 3 3 1\n", [0.5, 1], [-1, -1]),
        ("\ufeff1, 2, 5, 5, 3, 3\n1, 4, 6, 6, 3, 3", [1, 1], [-1, -1]),
        ("1,2,5,5,3,3,0.5,\n1,4,6,6,3,3,1,\n", [0.5, 1], [-1, -1]),
        ("1,2,5,5,3,3\n1,4,6,6,3,3,0.5,3,0.1\n", [1, 0.5], [-1, 3]),
        ("1,2,5,5,3,3\n1,4,6,6,3,3,,3,0.1\n", None, None),
    ],
)
def test_forms_of_files(tmp_path, text, scores, classes):
    path = written(tmp_path, text)
    if scores is None:
        with pytest.raises(VisionTasksError, match="line 2"):
            read_mot(path)
        return
    rows = read_mot(path)
    assert rows.scores.tolist() == scores
    assert rows.classes.tolist() == classes
    np.testing.assert_array_equal(rows.boxes, [[4, 4, 7, 7], [5, 5, 8, 8]])


def test_empty_files(tmp_path):
    for text in ("", "\n\n"):
        rows = read_mot(written(tmp_path, text))
        assert len(rows) == 0
        assert rows.boxes.shape == (0, 4)
        assert list(rows.by_frame()) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2,3", "3 columns"),
        ("1,2,3,4,5,6,7,8,9,10,11", "11 columns"),
        ("1,2,3,4,nan,6,1", "not finite"),
        ("1,2,3,4,inf,6,1", "not finite"),
        ("0,2,3,4,5,6,1", "frame 0"),
        ("1.5,2,3,4,5,6,1", "frame 1.5"),
        ("1,2.5,3,4,5,6,1", "id 2.5"),
        ("1,2,3,4,-5,6,1", "width -5"),
        ("1,2,x,4,5,6,1", "'x'"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, reason):
    path = written(tmp_path, f"1,1,1,1,1,1,1\n\n{line}\n1,3,1,1,1,1,1\n")
    with pytest.raises(VisionTasksError, match=f"gt.txt, line 3: .*{reason}"):
        read_mot(path)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(VisionTasksError, match="cannot be read"):
        read_mot(tmp_path / "none.txt")
    (tmp_path / "video.txt").write_bytes(bytes(range(200, 256)))
    with pytest.raises(VisionTasksError, match="cannot be read"):
        read_mot(tmp_path / "video.txt")


def test_results_come_back(tmp_path):
    frames = [
        predicted([[0, 0, 10, 20], [5.5, 6.25, 50, 60]], [0, 1], [4, 9], [0.5, 0.875]),
        predicted([], ids=[]),
        predicted([[1, 2, 3, 4]], [1], [9], [1.0]),
    ]
    with MotWriter(tmp_path / "out.txt") as writer:
        for index, prediction in enumerate(frames):
            writer.add(index, prediction)
        assert not (tmp_path / "out.txt").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.txt"]
    assert (tmp_path / "out.txt").read_text() == (
        "1,4,1.00,1.00,10.00,20.00,0.5000,-1,-1,-1\n"
        "1,9,6.50,7.25,44.50,53.75,0.8750,-1,-1,-1\n"
        "3,9,2.00,3.00,2.00,2.00,1.0000,-1,-1,-1\n"
    )
    read, direct = read_mot(tmp_path / "out.txt"), mot_rows(frames)
    for field in ("frames", "ids", "xywh", "scores"):
        np.testing.assert_array_equal(getattr(read, field), getattr(direct, field))
    assert direct.classes.tolist() == [1, 3, 3]
    assert direct.length == 3
    assert mot_rows({7: frames[2]}).frames.tolist() == [7]
    assert mot_lines(2, frames[2], classes=True) == "3,9,2.00,3.00,2.00,2.00,1.0000,3,-1,-1\n"
    assert mot_lines(0, predicted([[1, 2, 3, 4]])).startswith("1,-1,")
    assert mot_lines(0, Prediction((9, 9), CATEGORIES)) == ""


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(VisionTasksError, match="cannot be written"):
        MotWriter(tmp_path / "none" / "out.txt")


def test_real_files(real_data):
    folder = real_data / "mot17_mini/train/MOT17-02-FRCNN"
    truth = read_mot(folder / "gt/gt.txt")
    assert (len(truth), len(np.unique(truth.ids)), int(truth.frames[-1])) == (156, 39, 3)
    assert set(truth.classes.tolist()) == {1, 2, 4, 7, 8, 9}
    assert int((truth.scores == 1).sum()) == 88
    assert read_mot(real_data / "mot17_mini/train/MOT17-04-FRCNN/gt/gt.txt").boxes[:, 1].min() < 0  # leaves the image
    found = read_mot(folder / "det/det.txt")
    assert (len(found), int(found.frames[-1])) == (8186, 599)
    assert set(found.ids.tolist()) == {-1}
