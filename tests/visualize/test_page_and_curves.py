"""The page escapes what it is given and can be moved; curves are drawn from what a run logs."""

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from vision_tasks.errors import VisionTasksError
from vision_tasks.visualize.confusion import plot_confusion
from vision_tasks.visualize.curves import _PANELS, plot_precision_recall, plot_training, read_metrics
from vision_tasks.visualize.page import write_page

EVIL = "<script>alert('x')</script>\"><img src=x onerror=y>"


class Reader(HTMLParser):
    """Collects the tags, their attributes and the text between."""

    def __init__(self):
        super().__init__()
        self.tags, self.words = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.lasttag != "style":
            self.words.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "run" / "pictures" / "a b#1%.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    return path


def test_page_escapes_everything(tmp_path, picture):
    page = write_page(
        tmp_path / "run" / "index.html",
        EVIL,
        {"AP": 0.51234, EVIL: EVIL, "APs": -1.0, "bad": float("nan"), "n": 12345},
        {EVIL: [{"category": EVIL, "AP": 0.5, EVIL: None}]},
        [(picture, EVIL)],
        [picture],
        [EVIL],
        lead=EVIL,
    )
    reader = read(page)
    assert not [t for t, _ in reader.tags if t == "script"]
    assert not [a for _, a in reader.tags if any(name.startswith("on") for name in a)]
    assert [a["alt"] for t, a in reader.tags if t == "img"] == [EVIL, "a b#1%"]
    words = "".join(reader.words)
    assert words.count(EVIL) >= 7
    assert "0.512" in words
    assert "12,345" in words
    assert "nan" not in words
    assert "-1" not in words


def test_links_are_relative_or_embedded(tmp_path, picture):
    outside = tmp_path / "elsewhere.png"
    outside.write_bytes(picture.read_bytes())
    page = write_page(tmp_path / "run" / "index.html", "t", images=[(picture, "in"), (outside, "out")])
    sources = [a["src"] for t, a in read(page).tags if t == "img"]
    assert sources[0] == "pictures/a%20b%231%25.png"
    assert sources[1].startswith("data:image/png;base64,")
    assert str(tmp_path) not in page.read_text()
    assert not re.search(r"https?://", page.read_text())
    embedded = write_page(tmp_path / "run" / "index.html", "t", images=[(picture, "in")], embed=True)
    assert "pictures/" not in embedded.read_text()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["index.html", "pictures"]


def test_missing_picture_and_empty_page(tmp_path):
    with pytest.raises(VisionTasksError, match=r"gone\.png"):
        write_page(tmp_path / "p.html", "t", images=[(tmp_path / "gone.png", "")])
    assert list(tmp_path.iterdir()) == []
    assert "Per category" not in write_page(tmp_path / "p.html", "t").read_text()


METRICS = """epoch,step,loss,loss_box,lr-SGD/pg1,val/AP,note
0,0,2.5,1.0,,,
0,1,nan,0.9,,,hello
0,1,,,0.01,,
0,2,1.5,0.8,,0.25,
"""


def test_reads_sparse_columns(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    columns = read_metrics(tmp_path / "metrics.csv")
    assert set(columns) == {"loss", "loss_box", "lr-SGD/pg1", "val/AP"}
    np.testing.assert_array_equal(columns["loss_box"][0], [0, 1, 2])
    np.testing.assert_array_equal(columns["loss"][1], [2.5, np.nan, 1.5])
    np.testing.assert_array_equal(columns["val/AP"], [[2], [0.25]])


def test_panels_follow_the_columns(tmp_path):
    (tmp_path / "all.csv").write_text(METRICS)
    (tmp_path / "loss.csv").write_text("step,train/loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(100)))
    wide = cv2.imread(str(plot_training(tmp_path / "all.csv", tmp_path / "out" / "all.png")))
    narrow = cv2.imread(str(plot_training(tmp_path / "loss.csv", tmp_path / "out" / "loss.png")))
    assert wide.shape[1] == 3 * narrow.shape[1]
    assert narrow.std() > 10
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["all.png", "loss.png"]


@pytest.mark.parametrize("content", ["", "epoch,step\n", "step,loss\n0,\n", "step,lorry\n0,1\n"])
def test_nothing_to_draw_is_said(tmp_path, content):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(VisionTasksError, match=r"m\.csv"):
        plot_training(tmp_path / "m.csv", tmp_path / "c.png")
    with pytest.raises(VisionTasksError, match=r"none\.csv"):
        plot_training(tmp_path / "none.csv", tmp_path / "c.png")


def test_wide_pictures_take_the_whole_width(tmp_path, picture):
    wide = tmp_path / "wide.png"
    wide.write_bytes(cv2.imencode(".png", np.zeros((4, 12, 3), np.uint8))[1].tobytes())
    page = write_page(tmp_path / "index.html", "t", images=[(picture, "square"), (wide, "three panels")])
    classes = [a.get("class") for t, a in read(page).tags if t == "figure"]
    assert classes == [None, "wide"]


def test_numbers_of_maps_and_segments_are_explained(tmp_path):
    names = ["mIoU", "pixel_accuracy", "PQ_things", "segm/AP", "boundary_IoU", "PQ_elsewhere"]
    text = write_page(tmp_path / "p.html", "t", dict.fromkeys(names, 0.5)).read_text()
    said = re.findall(r"<dt>(.*?)</dt><dd>0.500</dd>(?:<small>(.*?)</small>)?", text)
    assert [name for name, _ in said] == names
    meanings = dict(said)
    assert meanings["PQ_things"] == "things: panoptic quality, SQ × RQ"
    assert meanings["segm/AP"] == "masks: average precision, IoU 0.50 to 0.95"
    assert meanings["PQ_elsewhere"] == ""
    assert all(meanings[name] for name in names[:-1])


def test_scores_of_all_kinds_are_drawn(tmp_path):
    numbers = ["AP", "AP50", "segm/AP", "mIoU", "pixel_accuracy", "PQ", "SQ", "RQ"]
    others = ["APs", "boundary_F", "PQ_things", "fwIoU", "lossy"]
    columns = ["step", *(f"val/{name}" for name in numbers + others[:-1]), others[-1]]
    rows = [",".join(map(str, [step, *np.linspace(0.1, 0.9, len(columns) - 1)])) for step in range(3)]
    (tmp_path / "m.csv").write_text("\n".join([",".join(columns), *rows]))
    plot_training(tmp_path / "m.csv", tmp_path / "c.svg")
    pattern = dict(_PANELS)["score"]
    assert [name for name in numbers + others if pattern.search(f"val/{name}")] == numbers
    drawn = (tmp_path / "c.svg").read_text()
    assert [name for name in numbers if f'id="val/{name}"' not in drawn] == []


CONFUSION = np.asarray([[60, 30, 10], [0, 0, 0], [5, 0, 95]])


def test_confusion_is_in_shares_of_the_truth(tmp_path):
    names = ["$road", "_sky", "树"]
    drawn = plot_confusion(CONFUSION, names, tmp_path / "c.svg").read_text()
    assert re.findall(r"<!-- (\d+) -->", drawn) == ["60", "30", "10", "5", "95"]
    assert "<!-- nothing -->" not in drawn
    assert all(f"<!-- {name} -->" in drawn for name in names)
    missed = np.concatenate([CONFUSION, [[100], [0], [0]]], axis=1)
    drawn = plot_confusion(missed, names, tmp_path / "c.svg").read_text()
    assert re.findall(r"<!-- (\d+) -->", drawn) == ["30", "15", "5", "50", "5", "95"]
    assert "<!-- nothing -->" in drawn
    assert cv2.imread(str(plot_confusion(CONFUSION * 0, names, tmp_path / "empty.png"))) is not None


def test_confusion_of_many_categories(tmp_path):
    names = [f"category {i}" for i in range(100)]
    counts = np.diag(np.arange(100, 0, -1)) * 9
    counts[0, 99] = 100  # a confusion with one that is not drawn
    drawn = plot_confusion(counts, names, tmp_path / "c.svg").read_text()
    assert re.findall(r"<!-- (category \d+) -->", drawn) == names[:40] * 2
    assert re.findall(r"<!-- (\d+) -->", drawn)[:2] == ["90", "10"]
    assert "40 of 100" in drawn
    for wrong in (np.zeros((3, 2)), np.zeros((2, 2, 2)), np.zeros((0, 0))):
        with pytest.raises(ValueError, match="names"):
            plot_confusion(wrong, ["a", "b", "c"][: len(wrong)], tmp_path / "bad.png")


def test_precision_recall(tmp_path):
    recalls = np.linspace(0, 1, 101)
    one = np.stack([1 - recalls, np.full(101, -1.0), 1 - recalls**2], axis=1)
    names = ["$broken", "_absent", "瓶"]
    single = cv2.imread(str(plot_precision_recall(one, recalls, names, tmp_path / "one.png")))
    many = cv2.imread(str(plot_precision_recall(np.stack([one] * 10), recalls, names, tmp_path / "ten.png")))
    assert many.shape[1] > 1.5 * single.shape[1]
    plot_precision_recall(np.tile(one, (1, 30)), recalls, [str(i) for i in range(90)], tmp_path / "ninety.png")
    plot_precision_recall(np.full((101, 1), -1.0), recalls, ["none"], tmp_path / "none.png")
    with pytest.raises(ValueError, match="K = 2"):
        plot_precision_recall(one, recalls, ["a", "b"], tmp_path / "bad.png")
