"""Videos that are cut off, damaged, no videos at all, or made to do harm."""

from __future__ import annotations

import random
import resource
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inference.source_clips import make_clip, number_of, numbers, open_clip
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.sources import video_damage as video_source_damage
from vision_tasks.inference.sources import video_open as video_source_open


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


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
