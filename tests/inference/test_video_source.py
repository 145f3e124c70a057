"""Frames of videos, against OpenCV's own decoder, against what was put in, and with bytes changed and cut."""

from __future__ import annotations

import gc
import itertools
import random
import resource
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inference.source_clips import BLUE, GREEN, RED, WHITE, make_clip, number_of
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference import video_source_damage, video_source_open
from vision_tasks.inference.video_source import VideoSource
from vision_tasks.inference.video_source_decode import upright


def open_clip(path: Path, **options: Any) -> VideoSource:
    return VideoSource(str(path), path.name, "clip", **options)


def numbers(source: VideoSource) -> list[int]:
    return [number_of(frame.image) for frame in source]


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


@pytest.mark.parametrize("threads", [1, 8])
def test_damage_in_the_middle_is_passed_over(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_source_open, "os", SimpleNamespace(cpu_count=lambda: threads))
    make_clip(tmp_path / "a.mp4", 30, key_every=1, index_first=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    for bad in (9, 10, 17):
        at, size = packets[bad]
        data[at : at + size] = b"\xff" * size
    (tmp_path / "a.mp4").write_bytes(data)
    told: list[str] = []
    source = open_clip(tmp_path / "a.mp4", on_problem=told.append)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == [k % 25 for k in range(30) if k not in (9, 10, 17)]
    assert frames[9].time == pytest.approx(1.1), "times stay true"
    assert len(source.problems) == 1
    assert "3 packets left out" in source.problems[0]
    assert "a.mp4: damaged between 0.80 and 1.60 s" in source.problems[0] or threads > 1
    assert told == source.problems
    list(source)
    assert told == source.problems == told[:1], "said once"


@pytest.mark.parametrize("threads", [1, 8])
def test_cut_files_give_all_up_to_the_cut(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_source_open, "os", SimpleNamespace(cpu_count=lambda: threads))
    make_clip(tmp_path / "a.mp4", 30, index_first=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        ends = [p.pos + p.size for p in container.demux(video=0) if p.size]
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[: ends[16] - 3])
    source = open_clip(tmp_path / "a.mp4")
    assert numbers(source)[:16] == list(range(16))
    (problem,) = source.problems
    assert "ends at 1.50 s of 3.00 s, after 16 of 30 frames: it is cut off" in problem


def test_files_that_are_no_videos(tmp_path: Path) -> None:
    make_clip(tmp_path / "cut.mp4", 30)  # its index stands at the end
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:-500])
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        voice = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(voice.encode(silence))
        container.mux(voice.encode(None))
    for name, words in {
        "cut.mp4": "cut off before its index",
        "text.mp4": "not a video",
        "empty.mp4": "empty.mp4: ",
        "sound.mp4": "sound, but no pictures",
        "missing.mp4": "No such file",
    }.items():
        with pytest.raises(VisionTasksError, match=words):
            open_clip(tmp_path / name)


def test_a_header_without_frames_is_a_problem(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 5, index_first=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        first = min(p.pos for p in container.demux(video=0) if p.size)
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:first])
    source = open_clip(tmp_path / "a.mp4")
    assert list(source) == []
    assert "not one frame could be decoded" in source.problems[0]


def test_a_file_that_goes_away(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 5)
    source = open_clip(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").unlink()
    assert list(source) == []
    assert "No such file" in source.problems[0]


def test_leaving_early_says_nothing(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 30)
    source = open_clip(tmp_path / "a.mp4")
    frames = iter(source)
    assert [f.index for f in itertools.islice(frames, 3)] == [0, 1, 2]
    frames.close()  # type: ignore[attr-defined]
    assert source.problems == []


def test_frames_are_let_go_without_garbage_collection(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 400, size=(360, 640), turn=(90,))
    process = psutil.Process()
    gc.disable()
    try:
        used = []
        for frame in open_clip(tmp_path / "a.mp4"):
            if frame.index in (100, 399):
                used.append(process.memory_info().rss)
    finally:
        gc.enable()
    # Each frame takes 1 MB as it is decoded and as RGB; the allocator's own noise stays far below 300 of them.
    assert used[1] - used[0] < 50e6


def test_large_frames_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "a.mp4", 3)
    monkeypatch.setattr(video_source_open, "FRAME_LIMIT", 3000)
    with pytest.raises(VisionTasksError, match="64 × 48 pixels are more than the limit of 3,000"):
        open_clip(tmp_path / "a.mp4")


def test_a_frame_that_claims_to_be_huge_takes_no_memory(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mjpeg", 20, codec="mjpeg", pixels="yuvj420p")
    data = bytearray((tmp_path / "a.mjpeg").read_bytes())
    at = [k for k in range(len(data)) if data.startswith(b"\xff\xc0", k)][3]  # the header of frame 3
    data[at + 5 : at + 9] = (30_000).to_bytes(2, "big") * 2
    (tmp_path / "a.mjpeg").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    source = open_clip(tmp_path / "a.mjpeg")
    assert numbers(source) == [k for k in range(20) if k != 3]
    assert "1 packet left out" in source.problems[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KiB; the frame would take 1.3 GB"


@pytest.mark.parametrize("named", ["secret.ts", "http://127.0.0.1:9/secret.ts"])
def test_a_file_cannot_name_other_files(tmp_path: Path, named: str) -> None:
    make_clip(tmp_path / "secret.ts", 5, codec="mpeg2video", rate=25)
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,", named, "#EXT-X-ENDLIST", ""]
    (tmp_path / "a.m3u8").write_text("\n".join(lines))
    with pytest.raises(VisionTasksError, match=r"a\.m3u8: "):
        open_clip(tmp_path / "a.m3u8")


def test_the_clock() -> None:
    clock = video_source_damage.Clock(100, Fraction(1, 100), rate=10.0, duration=30.0)
    stamps = [100, 110, None, 130, 130, 10**9, 150, 160]
    assert [round(clock.at(s), 4) for s in stamps] == [0.0, 0.1, 0.2, 0.3, 0.301, 0.401, 0.5, 0.6]
    joined = video_source_damage.Clock(None, Fraction(1, 100), rate=10.0)
    stamps = [900_000, 900_010, 0, 10, 20]
    assert [round(joined.at(s), 4) for s in stamps] == [0.0, 0.1, 0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    kinds: dict[str, dict[str, Any]] = {
        "a.mp4": {"index_first": True}, "b.mkv": {}, "c.avi": {"codec": "mpeg4"},
        "d.ts": {"codec": "mpeg2video", "rate": 25}, "e.gif": {"codec": "gif", "pixels": "rgb8"},
    }  # fmt: skip
    for name, kind in kinds.items():
        make_clip(folder / name, 12, **kind)
    return {name: (folder / name).read_bytes() for name in kinds}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), kind=st.integers(0, 4), cut=st.booleans(), flips=st.sampled_from([0, 1, 5, 100]))
def test_any_bytes_end_well(
    clips: dict[str, bytes], tmp_path: Path, seed: int, kind: int, cut: bool, flips: int
) -> None:
    chance = random.Random(seed)
    name = sorted(clips)[kind]
    data = bytearray(clips[name])
    if cut:
        del data[chance.randrange(len(data)) :]
    for _ in range(flips if data else 0):
        data[chance.randrange(len(data))] = chance.randrange(256)
    path = tmp_path / name
    path.write_bytes(data)
    try:
        source = open_clip(path)
    except VisionTasksError:
        return
    last = -1.0
    for frame in source:
        assert frame.image.dtype == np.uint8
        assert frame.time is not None
        assert frame.time > last
        last = frame.time
    assert len(source.problems) <= 1
