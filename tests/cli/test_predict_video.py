"""`vision-tasks predict` on videos: drawn, tracked, interrupted, divided among processes."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

import vision_tasks as vt
from tests.tiny_model import tiny_model

SIZE = (72, 96)


def moving(index: int) -> np.ndarray:
    """A bright square on its way to the right, (72, 96, 3) uint8."""
    image = np.full((*SIZE, 3), 60, np.uint8)
    left = 8 + 2 * index % 70
    image[20:44, left : left + 24] = (230, 60, 30)
    return image


def write_video(path: Path, frames: int = 12, rate: int = 10) -> Path:
    """An MPEG-4 video, made by PyAV alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        for i in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moving(i), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vt.save(tiny_model(score_threshold=0.05), tmp_path_factory.mktemp("model") / "tiny.ckpt")


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Runs `vision-tasks predict ARGUMENTS` in this process through its real entry point."""
    from vision_tasks.cli.main import main

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vision-tasks", "predict", *map(str, arguments), "--device", "cpu"])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_video_is_drawn_and_told_frame_by_frame(predict, checkpoint: Path, tmp_path: Path) -> None:
    video, out = write_video(tmp_path / "a film.mp4"), tmp_path / "out"
    code, said, _ = predict(checkpoint, video, "--out", out, "--threshold", 0.1, "--format", "jsonl,csv")
    assert code == 0
    assert "12 frames" in said
    assert "what each stage could do alone: decode" in said
    assert {p.name for p in out.iterdir()} == {"a film.mp4", "predictions.jsonl", "predictions.csv"}
    lines = lines_of(out)
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["time"] for line in lines] == pytest.approx([i / 10 for i in range(12)], abs=1e-3)
    originals, drawn = frames_of(video), frames_of(out / "a film.mp4")
    assert len(drawn) == 12
    assert drawn[0].shape == originals[0].shape
    found = vt.Predictor(checkpoint, device="cpu", threshold=0.1)(originals[5])
    assert len(found) == len(lines[5]["objects"]) > 0
    with (out / "predictions.csv").open(newline="", encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == sum(len(line["objects"]) for line in lines)
    assert np.abs(drawn[0].astype(int) - originals[0]).max() > 80, "boxes are drawn"


def test_every_third_frame_of_two_videos_and_a_picture(predict, checkpoint: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "one.mp4")
    write_video(tmp_path / "in" / "deep" / "one.mp4", 7)
    from PIL import Image

    Image.fromarray(moving(0)).save(tmp_path / "in" / "photo.png")
    code, said, _ = predict(checkpoint, tmp_path / "in", "--out", tmp_path / "out", "--every", 3, "--codec", "mpeg4")
    assert code == 0
    assert "8 frames" in said
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"photo.jpg", "predictions.jsonl"} < names
    videos = sorted(name for name in names if name.endswith(".mp4"))
    assert sorted(len(frames_of(tmp_path / "out" / name)) for name in videos) == [3, 4]


def test_tracks_have_numbers_that_stay(predict, checkpoint: Path, tmp_path: Path) -> None:
    video, out = write_video(tmp_path / "film.mp4"), tmp_path / "out"
    options = ("--track", "sort", "--track-option", "min_hits=1", "--threshold", 0.05, "--format", "jsonl,mot")
    code, said, told = predict(checkpoint, video, "--out", out, *options)
    assert code == 0, told
    lines = lines_of(out)
    assert f" on {len({o['track_id'] for line in lines for o in line['objects']})} tracks" in said
    assert "A track begins at a score of 0.5; --track-option threshold=0.2" in said
    ids = [{o["track_id"] for o in line["objects"]} for line in lines]
    assert ids[5]
    assert any(one & two for one, two in itertools.pairwise(ids)), "someone is seen twice"
    (mot,) = (out / "mot").glob("*.txt")
    rows = [line.split(",") for line in mot.read_text().splitlines()]
    assert {int(row[0]) for row in rows} <= set(range(1, 13))
    assert sorted({int(row[1]) for row in rows}) == sorted(set.union(*ids))


def test_a_broken_video_beside_a_good_one(predict, checkpoint: Path, tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "good.mp4")
    (tmp_path / "in" / "bad.mp4").write_bytes(b"no video")
    code, said, told = predict(checkpoint, tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert "bad.mp4" in told
    assert "1 could not be read" in said
    assert len(frames_of(tmp_path / "out" / "good.mp4")) == 12
    code, _, told = predict(checkpoint, tmp_path / "in" / "bad.mp4", "--out", tmp_path / "out")
    assert code == 2
    assert told.startswith("error: ")
    assert "bad.mp4" in told


def test_the_video_itself_is_never_overwritten(predict, checkpoint: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "film.mp4")
    before = video.read_bytes()
    code, _, said = predict(checkpoint, video, "--out", tmp_path)
    assert code == 2
    assert "another --out" in said
    assert video.read_bytes() == before


def test_no_window_without_a_display(
    predict, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, _, said = predict(checkpoint, write_video(tmp_path / "film.mp4"), "--show", "--out", tmp_path / "out")
    assert code == 2
    assert "window" in said


def test_a_model_of_maps_has_nothing_to_track(predict, tmp_path: Path) -> None:
    from tests.tiny_models import tiny

    model = vt.save(tiny("fcn", ("road", "car", "sky")), tmp_path / "maps.ckpt")
    video = write_video(tmp_path / "film.mp4", 3)
    code, _, said = predict(model, video, "--track", "sort", "--out", tmp_path / "out")
    assert code == 2
    assert "nothing to track" in said
    assert predict(model, video, "--out", tmp_path / "out2")[0] == 0
    drawn = frames_of(tmp_path / "out2" / "film.mp4")
    assert len(drawn) == 3
    assert drawn[0].shape > (*SIZE, 3), "room for the map's legend, the same in every frame"
    assert len(list((tmp_path / "out2" / "masks").iterdir())) == 3


@pytest.mark.slow
def test_ctrl_c_leaves_files_that_can_be_used(checkpoint: Path, tmp_path: Path) -> None:
    video, out = write_video(tmp_path / "film.mp4", 3000), tmp_path / "out"
    command = [sys.executable, "-m", "vision_tasks.cli.main", "predict", checkpoint, video, "--out", out]
    process = subprocess.Popen(
        [*map(str, command), "--device", "cpu"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(".film*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    frames, lines = frames_of(out / "film.mp4"), lines_of(out)
    assert 0 < len(frames) < 3000
    assert len(lines) == len(frames)
    assert {p.name for p in out.iterdir()} == {"film.mp4", "predictions.jsonl"}, "no temporary file is left"


@pytest.mark.slow
def test_three_processes_write_what_one_does(predict, checkpoint: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "in").mkdir()
    for i in range(7):
        Image.fromarray(moving(3 * i)).save(tmp_path / "in" / f"photo {i}.png")
    (tmp_path / "in" / "photo 30.png").write_bytes(b"broken")
    write_video(tmp_path / "in" / "film.mp4", 5)
    arguments = [checkpoint, tmp_path / "in", "--threshold", "0.1", "--codec", "mpeg4", "--format", "jsonl,coco,csv"]
    _, _, error = predict(*arguments, "--out", tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m"]
    torchrun += ["vision_tasks.cli.main", "predict", *map(str, arguments), "--device", "cpu"]
    done = subprocess.run(
        [*torchrun, "--out", str(tmp_path / "three")],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300,
    )  # fmt: skip
    for out, said in (("one", error), ("three", done.stderr)):
        assert (tmp_path / out / "predictions.jsonl").is_file(), said
        assert "photo 30.png" in said
    one, three = tmp_path / "one", tmp_path / "three"
    assert {p.name for p in one.iterdir()} == {p.name for p in three.iterdir()}
    assert lines_of(one) == lines_of(three)
    assert len(lines_of(one)) == 12
    for name in ("predictions.json", "predictions.csv"):
        assert (one / name).read_text() == (three / name).read_text(), name


def test_a_faster_way_is_measured_and_told(
    predict, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from vision_tasks.cli import predict_report
    from vision_tasks.inference.speed import prepare as fast

    if fast.half_precision(torch.device("cpu")) is torch.float32:
        pytest.skip("this processor computes bfloat16 no faster than float32")
    monkeypatch.setattr(predict_report, "_WORTH_SAYING", 0.0)
    measured = iter([0.1, 0.4])

    def timed(predictor: vt.Predictor, frame: vt.Frame):
        return predictor(frame.image), next(measured) if predictor.speed == "fast" else 0.4

    monkeypatch.setattr(predict_report, "_timed", timed)
    video = write_video(tmp_path / "film.mp4", 3)
    _, said, _ = predict(checkpoint, video, "--out", tmp_path / "out", "--no-draw", "--threshold", 0.1)
    assert "With --speed fast the model would have taken about" in said
    assert "objects the same on the last image" in said
    _, said, _ = predict(checkpoint, video, "--out", tmp_path / "out", "--no-draw", "--threshold", 0.1)
    assert "--speed fast" not in said, "not faster here"
    _, said, _ = predict(checkpoint, video, "--out", tmp_path / "out", "--no-draw", "--speed", "fast")
    assert "--speed fast" not in said, "it is fast already"
