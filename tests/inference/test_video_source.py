"""Frames of videos, against OpenCV's own decoder, against what was put in, and with bytes changed and cut."""

from __future__ import annotations

import gc
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest

from tests.inference.source_clips import BLUE, GREEN, RED, WHITE, make_clip, number_of, numbers, open_clip
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.sources.video_decode import upright


def corners(image: np.ndarray) -> list[str]:
    """Names of the colours at top left, top right, bottom left, bottom right."""
    names = {"R": RED, "G": GREEN, "B": BLUE, "W": WHITE}
    seen = (image[4, 4], image[4, -5], image[-5, 4], image[-5, -5])
    return [min(names, key=lambda n: np.abs(np.array(names[n]) - pixel.astype(int)).sum()) for pixel in seen]


@pytest.mark.parametrize(
    ("name", "settings_of"),
    [
        ("a.mp4", {}),
        ("with space & é.mov", {}),
        ("a.mkv", {}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.ts", {"codec": "mpeg2video", "rate": 25}),
        ("a.m4v", {"form": "mp4"}),
        ("a.gif", {"codec": "gif", "pixels": "rgb8"}),
        ("a.mjpeg", {"codec": "mjpeg", "pixels": "yuvj420p"}),
        ("with_sound.mp4", {"sound": True}),
        ("yuv444.mp4", {"pixels": "yuv444p"}),
        ("ten_bits.mkv", {"codec": "ffv1", "pixels": "yuv420p10le"}),
        ("rgb.mkv", {"codec": "ffv1", "pixels": "bgr0"}),
        ("reordered.mp4", {"reordered": 2}),
    ],
)
def test_all_frames_of_all_kinds(tmp_path: Path, name: str, settings_of: dict[str, Any]) -> None:
    make_clip(tmp_path / name, 21, **settings_of)
    source = open_clip(tmp_path / name)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == list(range(21))
    assert source.problems == []
    assert [f.index for f in frames] == list(range(21))
    assert [f.name for f in frames[:2]] == ["clip_000000", "clip_000001"]
    assert {f.image.shape for f in frames} == {(48, 64, 3)}
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.flags.c_contiguous
    assert corners(frames[3].image) == ["R", "G", "B", "W"]
    rate = settings_of.get("rate", 25 if name.endswith("mjpeg") else 10)
    assert [f.time for f in frames] == pytest.approx([k / rate for k in range(21)], abs=0.002)
    assert source.rate == pytest.approx(rate)
    assert source.length is None or abs(source.length - 21) <= 4
    assert [f.index for f in source] == list(range(21)), "it can be read again"


def test_real_videos_equal_opencv(real_data: Path) -> None:
    path = real_data / "videos" / "car-detection.mp4"
    source, other, count = open_clip(path), cv2.VideoCapture(str(path)), 0
    for frame in source:
        there, picture = other.read()
        assert there
        assert frame.time == pytest.approx(other.get(cv2.CAP_PROP_POS_MSEC) / 1000, abs=1e-6)
        if count % 40 == 0:
            assert np.abs(frame.image.astype(int) - picture[..., ::-1]).max() <= 2
        count += 1
    assert not other.read()[0]
    assert (count, source.length, source.rate) == (377, 377, 12.5), "as the list of the videos has it"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"),
    [("bottle-detection", 1189), ("one-by-one-person-detection", 1394), ("mmtracking_demo_1080p_8frames", 8)],
)
def test_real_videos_are_whole(real_data: Path, name: str, count: int) -> None:
    path = real_data / "videos" / f"{name}.mp4"
    source, other = open_clip(path), cv2.VideoCapture(str(path))
    for index, frame in enumerate(source):
        there, picture = other.read()
        assert there
        assert np.abs(frame.image.astype(int) - picture[..., ::-1]).max() <= 2
        assert frame.index == index
    assert not other.read()[0]
    assert index + 1 == count == source.length


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        # Degrees anticlockwise, mirrored left-right, upside down; what the corners R G / B W become.
        ((90,), "GWRB"),
        ((180,), "WBGR"),
        ((-90,), "BRWG"),
        ((0, True), "GRWB"),
        ((0, False, True), "BWRG"),
    ],
)
def test_turned_videos_come_upright(tmp_path: Path, turn: tuple[Any, ...], expected: str) -> None:
    make_clip(tmp_path / "a.mp4", 3, turn=turn)
    frames = list(open_clip(tmp_path / "a.mp4"))
    assert "".join(corners(frames[1].image)) == expected
    assert frames[1].image.shape[:2] == ((64, 48) if abs(turn[0]) == 90 else (48, 64))
    if turn[0]:  # OpenCV turns, too, but mirrors nothing
        there, picture = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()
        assert there
        assert np.abs(frames[0].image.astype(int) - picture[..., ::-1]).max() <= 2
        assert frames[0].image.flags.c_contiguous


def test_diagonal_matrices() -> None:
    image = np.arange(6).reshape(2, 3, 1)
    assert (upright(image, (0, 65536, 65536, 0)) == image.transpose(1, 0, 2)).all(), "mirrored on the diagonal"
    assert (upright(image, (0, -65536, -65536, 0)) == image.transpose(1, 0, 2)[::-1, ::-1]).all()
    assert (upright(image, None) == image).all()


def test_square_pixels_are_not_made(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 3, sample_aspect_ratio=Fraction(4, 3))
    source = open_clip(tmp_path / "a.mp4")
    assert next(iter(source)).image.shape == (48, 64, 3)
    assert source.pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_rate_keeps_true_times(tmp_path: Path, name: str) -> None:
    stamps = [700 + 15 * k * k for k in range(12)]
    make_clip(tmp_path / name, 12, stamps=stamps)
    times = [f.time for f in open_clip(tmp_path / name)]
    assert times == pytest.approx([(s - 700) / 1000 for s in stamps], abs=0.0011)


def test_grey_and_other_channels(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 4)
    colour, grey = list(open_clip(tmp_path / "a.mp4")), list(open_clip(tmp_path / "a.mp4", channels=1))
    assert grey[2].image.shape == (48, 64, 1)
    luma = colour[2].image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[2].image[..., 0] - luma).mean() < 1.5
    four = next(iter(open_clip(tmp_path / "a.mp4", channels=4))).image
    assert four.shape == (48, 64, 4)
    assert (four[..., 3] == 255).all()
    with pytest.raises(VisionTasksError, match="the model takes 5"):
        open_clip(tmp_path / "a.mp4", channels=5)


def test_deep_grey_stays_deep(tmp_path: Path) -> None:
    wanted = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(wanted, "gray16le")))
        container.mux(stream.encode(None))
    (frame,) = open_clip(tmp_path / "a.mkv", channels=1)
    assert frame.image.dtype == np.uint16
    assert (frame.image[..., 0] == wanted).all()
    (frame,) = open_clip(tmp_path / "a.mkv", channels=3)
    assert (frame.image == wanted[..., None]).all()


def test_some_frames_only(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 21)
    source = open_clip(tmp_path / "a.mp4", every=4)
    frames = list(source)
    assert [f.index for f in frames] == [0, 4, 8, 12, 16, 20]
    assert [number_of(f.image) for f in frames] == [0, 4, 8, 12, 16, 20]
    assert frames[-1].time == pytest.approx(2.0)
    assert (source.length, source.rate) == (6, 2.5)
    part = open_clip(tmp_path / "a.mp4", start=0.5, end=1.2)
    assert numbers(part) == [5, 6, 7, 8, 9, 10, 11]
    assert part.length == 7
    assert part.problems == []
    with pytest.raises(VisionTasksError, match="end after start"):
        open_clip(tmp_path / "a.mp4", start=2, end=1)


def test_leaving_early_says_nothing(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 30)
    source = open_clip(tmp_path / "a.mp4")
    frames = iter(source)
    assert [f.index for f in itertools.islice(frames, 3)] == [0, 1, 2]
    frames.close()  # type: ignore[attr-defined]
    assert source.problems == []


def test_frames_are_let_go_without_garbage_collection(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 250, size=(360, 640), turn=(90,))
    process = psutil.Process()
    gc.disable()
    try:
        used = []
        for frame in open_clip(tmp_path / "a.mp4"):
            if frame.index in (50, 249):
                used.append(process.memory_info().rss)
    finally:
        gc.enable()
    # Each frame takes 1 MB as it is decoded and as RGB; the allocator's own noise stays far below 200 of them.
    assert used[1] - used[0] < 50e6
