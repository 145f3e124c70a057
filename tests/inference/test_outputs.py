"""Tables of predictions: what they hold, that other programs read them, and that they are whole whatever ends a run."""

from __future__ import annotations

import contextlib
import io
import json
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.inference.small_results import CATEGORIES, SIZE, found, frame, lines_of, stop_early
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.files import file_stem, folder_names, plain_name
from vision_tasks.inference.outputs.registry import OUTPUTS, Outputs, check_forms, open_outputs
from vision_tasks.structures import Categories


def test_lines_of_a_video(tmp_path: Path) -> None:
    with open_outputs(["jsonl"], tmp_path / "new" / "folder") as outputs:
        for number in range(3):
            outputs.add(frame(number), found(number, number, masks=True, tracks=True))
    assert (outputs.frames, outputs.objects, outputs.written) == (3, 3, ["predictions.jsonl"])
    lines = lines_of(tmp_path / "new" / "folder")
    assert [(line["file"], line["frame"], line["time"]) for line in lines] == [
        ("film.mp4", 0, 0.0), ("film.mp4", 1, 0.04), ("film.mp4", 2, 0.08)
    ]  # fmt: skip
    assert [(line["width"], line["height"], len(line["objects"])) for line in lines] == [(60, 40, n) for n in range(3)]
    truth = found(2, 2, masks=True)
    for i, row in enumerate(lines[2]["objects"]):
        assert list(row) == ["category", "category_id", "score", "bbox", "segmentation", "track_id"]
        assert row["category"] == CATEGORIES.names[truth.labels[i]]
        assert row["category_id"] == CATEGORIES.ids[truth.labels[i]]
        assert row["score"] == pytest.approx(float(truth.scores[i]))
        x, y, w, h = row["bbox"]
        assert [x, y, x + w, y + h] == pytest.approx(truth.boxes[i].tolist(), abs=1e-5)
        assert row["track_id"] == 5 + i
        inside = coco_mask.decode(row["segmentation"])
        assert inside.shape == SIZE
        assert inside[int(y) + 1 : int(y + h), int(x) + 1 : int(x + w)].all()


def test_an_image_has_no_time(tmp_path: Path) -> None:
    with open_outputs(["jsonl"], tmp_path) as outputs:
        outputs.add(frame(1, time=False), found(1))
    (line,) = lines_of(tmp_path)
    assert list(line) == ["file", "width", "height", "objects"]
    assert list(line["objects"][0]) == ["category", "category_id", "score", "bbox"]


def test_pycocotools_evaluates_what_is_written(tmp_path: Path) -> None:
    """Truth is made of the predictions themselves: average precision must be 1, of boxes and masks."""
    with open_outputs(["coco"], tmp_path) as outputs:
        for number in range(4):
            outputs.add(frame(number, time=False), found(number, 3, masks=True))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "predictions.json"))
        rows = [{k: v for k, v in a.items() if k not in ("id", "area")} for a in truth.anns.values()]
        assert len(rows) == 12
        for kind in ("bbox", "segm"):
            judge = COCOeval(truth, truth.loadRes([dict(row) for row in rows]), kind)
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
            assert judge.stats[0] == pytest.approx(1)
    assert [image["file_name"] for image in truth.dataset["images"]] == [f"photos/{n}.png" for n in range(4)]
    assert "videos" not in truth.dataset
    assert [a["id"] for a in truth.dataset["annotations"]] == list(range(1, 13))
    for a in truth.dataset["annotations"]:
        assert a["area"] == coco_mask.area(a["segmentation"])
        assert a["iscrowd"] == 0


def test_the_recipe_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth of the same files under other ids and in another folder; some that were not predicted, some that are not
    known."""
    monkeypatch.chdir(tmp_path)
    with open_outputs(["coco"], tmp_path / "found") as outputs:
        for number in range(4):
            outputs.add(frame(number, time=False), found(number, 3))
    truth = json.loads((tmp_path / "found" / "predictions.json").read_text())
    for image in truth["images"]:
        image |= {"id": 900 - image["id"], "file_name": f"val/{Path(image['file_name']).name}"}
    for annotation in truth["annotations"]:
        annotation["image_id"] = 900 - annotation["image_id"]
        del annotation["score"]
    del truth["images"][0]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] != 899]
    truth["images"].append({"id": 5, "file_name": "val/9.png", "width": 60, "height": 40})
    truth["annotations"].append(truth["annotations"][0] | {"id": 99, "image_id": 5})
    (tmp_path / "instances_val.json").write_text(json.dumps(truth))
    text = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text(encoding="utf-8")
    recipe = text.split("\n## coco\n")[1].split("```python\n")[1].split("```")[0]
    names: dict = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(recipe, names)
    assert names["judge"].stats[0] == pytest.approx(1)


def test_frames_of_videos_are_images_of_their_own(tmp_path: Path) -> None:
    with open_outputs(["coco"], tmp_path) as outputs:
        for i, source in enumerate(("a.mp4", "a.mp4", "b.mp4")):
            outputs.add(frame(i % 2, source=source), found(i, tracks=True))
    written = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    keys = ("id", "file_name", "frame_id", "time", "video_id")
    assert [tuple(image[k] for k in keys) for image in written["images"]] == [
        (1, "a_000000.jpg", 0, 0.0, 1), (2, "a_000001.jpg", 1, 0.04, 1), (3, "b_000000.jpg", 0, 0.0, 2)
    ]  # fmt: skip
    assert written["videos"] == [{"id": 1, "name": "a.mp4"}, {"id": 2, "name": "b.mp4"}]
    assert [a["track_id"] for a in written["annotations"]] == [5, 6] * 3
    assert Categories.of(written["categories"]) == CATEGORIES


def test_nothing_found_and_nothing_seen(tmp_path: Path) -> None:
    with open_outputs(["jsonl", "coco", "csv"], tmp_path) as outputs:
        pass
    assert lines_of(tmp_path) == []
    coco = json.loads((tmp_path / "predictions.json").read_text())
    assert coco == {"annotations": [], "images": [], "categories": []}
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1
    with open_outputs(list(OUTPUTS), tmp_path / "b") as outputs:
        outputs.add(frame(0), found(0, 0, masks=True))
    (line,) = lines_of(tmp_path / "b")
    assert line["objects"] == []
    assert outputs.objects == 0


@pytest.mark.parametrize("forms", [["none"], []])
def test_no_files_are_wanted(forms: list[str], tmp_path: Path) -> None:
    with open_outputs(forms, tmp_path / "out") as outputs:
        outputs.add(frame(0), found(0))
    assert (outputs.objects, outputs.written) == (2, [])
    assert not (tmp_path / "out").exists()


def test_forms_are_checked(tmp_path: Path) -> None:
    assert check_forms(["masks", "jsonl", "maps", "jsonl", "instances"]) == ["masks", "jsonl"]
    for wrong in (["json"], ["none", "jsonl"]):
        with pytest.raises(VisionTasksError, match=r"no output form '(json|none)'.*jsonl, coco"):
            open_outputs(wrong, tmp_path)
    wide = Categories.of([{"id": 70_000, "name": "a"}])
    with pytest.raises(VisionTasksError, match="ids of 0"):
        open_outputs(["maps"], tmp_path, maps=wide)
    (tmp_path / "file").write_text("")
    with pytest.raises(VisionTasksError, match="cannot be made"):
        open_outputs(["jsonl"], tmp_path / "file" / "out")


def test_what_ends_a_run_leaves_whole_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "predictions.csv").write_text("of an earlier run")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        stop_early(open_outputs(["jsonl", "coco"], tmp_path))
    assert len(lines_of(tmp_path)) == 1
    assert len(json.loads((tmp_path / "predictions.json").read_text())["annotations"]) == 2
    assert "stopped; predictions.jsonl, predictions.json hold what was done" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "notes.txt", "predictions.csv", "predictions.json", "predictions.jsonl"
    ]  # fmt: skip
    assert (tmp_path / "predictions.csv").read_text() == "of an earlier run"


@pytest.mark.parametrize("fails", [False, True])
def test_what_ends_before_the_first_frame_leaves_earlier_results(
    fails: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = ["jsonl", "coco", "csv", "mot", "sheet"]
    with open_outputs(forms, tmp_path) as outputs:
        outputs.add(frame(0), found(0, tracks=True))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert len(before) == 5
    broken = found(0)
    assert broken.scores is not None
    broken.scores[1] = torch.nan
    outputs = open_outputs(forms, tmp_path)
    with pytest.raises(VisionTasksError if fails else KeyboardInterrupt), outputs:  # noqa: PT012
        if fails:
            outputs.add(frame(0), broken)
        raise KeyboardInterrupt
    assert outputs.written == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    assert "hold what was done" not in capsys.readouterr().err


@contextlib.contextmanager
def small_files():
    """No file may grow beyond 8 kB, as if the disk were full; for no longer than needed: what the tests print may go
    to a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_much(form: str, out: Path) -> None:
    with small_files(), open_outputs([form], out) as outputs:
        for number in range(1000):
            outputs.add(frame(number), found(number, 5))


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_full_disk(form: str, tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match=r"predictions\.\w+ cannot be written: .*Make room"):
        write_much(form, tmp_path)
    name = f"predictions.{form}"
    text = (tmp_path / name).read_text()
    assert 7_000 < len(text) <= 8_000
    assert text.endswith("\n")
    if form == "jsonl":
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_full_disk_leaves_no_broken_coco_file(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match=r"Make room.* is in \.predictions\.json\.part \(annotations\)"):
        write_much("coco", tmp_path)
    assert not (tmp_path / "predictions.json").exists()
    rows = json.loads((tmp_path / ".predictions.json.part").read_text() + "]}")["annotations"]
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 20
    images = json.loads("[" + (tmp_path / ".predictions.json.images.part").read_text() + "]")
    assert [image["id"] for image in images] == list(range(1, rows[-1]["image_id"] + 1))


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path: Path) -> None:
    """The peak of 800 frames is that of 200; 600 frames' entries and rows would be more than a megabyte."""
    one = found(0, 3)

    def peak(frames: int) -> int:
        with open_outputs(["jsonl", "coco", "csv", "mot"], tmp_path) as outputs:
            outputs.add(frame(0), one)
            tracemalloc.start()
            for number in range(1, frames):
                outputs.add(frame(number), one)
            outputs.close()
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    # Adding a file to another goes through blocks of a megabyte.
    assert peak(800) < peak(200) + 400_000


def test_order_must_ascend() -> None:
    outputs = Outputs([])
    outputs.add(frame(0), found(0), order=(1, 0))
    with pytest.raises(ValueError, match="must ascend"):
        outputs.add(frame(1), found(1), order=(0, 5))


def test_a_score_that_is_no_number(tmp_path: Path) -> None:
    broken = found(0)
    assert broken.scores is not None
    broken.scores[1] = torch.nan
    with open_outputs(["jsonl", "coco"], tmp_path) as outputs, pytest.raises(VisionTasksError, match="not finite"):
        outputs.add(frame(0), broken)
    assert lines_of(tmp_path) == []


def test_an_output_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_tasks.inference.outputs.base import Output
    from vision_tasks.inference.outputs.result import Result

    class Count(Output):
        def __init__(self, out: Path) -> None:
            self.written, self.total = [str(out)], 0

        def add(self, result: Result) -> None:
            self.total += len(result.objects)

        def close(self, stopped: bool = False) -> None:
            self.written.append(f"{self.total} {stopped}")

    monkeypatch.setitem(OUTPUTS, "count", Count)
    with open_outputs(["count"], tmp_path) as outputs:
        outputs.add(frame(0), found(0))
    assert outputs.written == [str(tmp_path), "2 False"]


def test_names_of_files() -> None:
    names = ["con", "../../etc/passwd", "..", "a" * 300, "b\0c", "NUL.txt", "größe 1", " x. "]
    names += ["road", "Road", "Road-10"]
    folders = folder_names(Categories.of(names))
    assert folders[:3] == ["_con", "_.._etc_passwd", "3"]
    assert len(folders[3]) <= 180
    assert folders[4:] == ["b_c", "_NUL.txt", "größe 1", "x", "road", "Road-10", "Road-10-11"]
    assert len({name.casefold() for name in folders}) == len(names)
    assert plain_name("a" * 300) != plain_name("a" * 301)
    assert plain_name("ö" * 200).encode().decode()
    assert plain_name("cafe\u0301") == "café"
    assert file_stem("b c") == "b c"
    assert file_stem("../x") == "_x"
    assert file_stem("caf\udce9") == "caf\udce9"
