"""Several processes write parts, and merging gives what one process would have written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.inference.small_results import CATEGORIES, SIZE, found, frame, lines_of, stop_early
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.outputs.merge import merge_parts
from vision_tasks.inference.outputs.registry import open_outputs
from vision_tasks.structures import Panoptic, Prediction


def test_several_processes_write_what_one_would(tmp_path: Path) -> None:
    """Three processes share the frames unevenly, two of them have one frame both, one image is missing."""
    forms = ["jsonl", "coco", "csv", "mot", "panoptic", "yolo", "sheet"]
    places = [n for n in range(11) if n != 4]

    def prediction(number: int) -> Prediction:
        result = found(number, number % 4, masks=True, tracks=True)
        result.panoptic = Panoptic(
            torch.ones(SIZE, dtype=torch.int32), torch.tensor([number % 2]), CATEGORIES, torch.tensor([0.5])
        )
        return result

    def picture(number: int) -> Frame:
        return frame(number, source="a.mp4" if number < 6 else "b.mp4")

    with open_outputs(forms, tmp_path / "one") as outputs:
        for number in places:
            outputs.add(picture(number), prediction(number), order=number)
    shares = ([0, 3, 6, 9], [1, 7, 10], [2, 5, 7, 8])
    for rank, share in enumerate(shares):
        with open_outputs(forms, tmp_path / "three", part=(rank, 3)) as outputs:
            for number in share:
                outputs.add(picture(number), prediction(number), order=number)
        assert f"predictions.jsonl.part{rank}" in outputs.written
    assert not list((tmp_path / "three").glob("predictions.json"))
    words = merge_parts(tmp_path / "three", 3)
    assert {"predictions.jsonl", "predictions.json", "predictions.csv", "mot/*.txt", "panoptic.json"} <= set(words)
    one, three = ({p.relative_to(root): p.read_bytes() for root in [tmp_path / name] for p in root.rglob("*.*")}
                  for name in ("one", "three"))  # fmt: skip
    assert set(one) == set(three)
    assert {str(p) for p, content in one.items() if three[p] != content} == set()
    assert len(lines_of(tmp_path / "three")) == 10


def test_parts_that_are_missing_or_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for rank in (0, 2):
        with open_outputs(["jsonl"], tmp_path, part=(rank, 3)) as outputs:
            outputs.add(frame(rank), found(rank), order=(0, rank))
    with pytest.raises(VisionTasksError, match=r"predictions\.jsonl the part of process 1 is missing"):
        merge_parts(tmp_path, 3)
    with pytest.raises(KeyboardInterrupt):
        stop_early(open_outputs(["jsonl"], tmp_path, part=(1, 3)), 1)
    part = tmp_path / "predictions.jsonl.part1"
    whole = part.read_text()
    for broken, word in ((whole.splitlines()[0] + "\n", "is not whole"), (whole[:50], "is damaged")):
        part.write_text(broken)
        with pytest.raises(VisionTasksError, match=word):
            merge_parts(tmp_path, 3, ["jsonl"])
    part.write_text(whole)
    assert merge_parts(tmp_path, 3, ["jsonl", "maps"]) == ["predictions.jsonl"]
    assert "process 1 was stopped" in caplog.text
    assert [line["frame"] for line in lines_of(tmp_path)] == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.jsonl"]


def test_a_part_of_an_earlier_run_is_not_this_ones(tmp_path: Path) -> None:
    with open_outputs(["jsonl"], tmp_path, part=(0, 2)):
        pass
    assert (tmp_path / "predictions.jsonl.part0").exists()
    with open_outputs(["jsonl"], tmp_path, part=(0, 2)):
        assert not (tmp_path / "predictions.jsonl.part0").exists()


def test_a_form_that_cannot_begin(tmp_path: Path) -> None:
    (tmp_path / ".predictions.csv.part").mkdir()
    with pytest.raises(VisionTasksError, match=r"predictions\.csv cannot be written"):
        open_outputs(["jsonl", "coco", "csv"], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".predictions.csv.part"]
