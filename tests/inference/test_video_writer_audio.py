"""The sound of a source beside new pictures: the same packets, at the same times; a click stays at its flash."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vision_tasks.inference.video.codecs import available_codecs
from vision_tasks.inference.video.writer import VideoWriter

RATE = 48_000
CLICK = 1.2  # seconds from the start of the pictures


def make_source(
    path: Path,
    codec: str = "aac",
    seconds: float = 2.0,
    sound: float | None = None,
    late: float = 0.0,
    layout: str = "stereo",
) -> Path:
    """A video of 10 frames a second with a burst of sound at `CLICK`; all begins `late` seconds into the file."""
    sound = seconds if sound is None else sound
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=RATE, layout=layout)
        for number in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))
            frame.pts, frame.time_base = number + round(late * 10), Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = np.zeros(round(sound * RATE), np.float32)
        burst = slice(round(CLICK * RATE), round((CLICK + 0.05) * RATE))
        wave[burst] = np.sin(np.arange(burst.stop - burst.start)[: len(wave[burst])] * 0.2)
        channels = 1 if layout == "mono" else 2
        for at in range(0, len(wave), 1024):
            part = (wave[at : at + 1024] * 30000).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(np.repeat(part, channels)[None], format="s16", layout=layout)
            samples.sample_rate = RATE
            samples.pts, samples.time_base = at + round(late * RATE), Fraction(1, RATE)
            container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
    return path


def packets(path: Path) -> list[tuple[float, bytes]]:
    """Time in seconds and content of every packet of sound."""
    with av.open(str(path)) as container:
        return [
            (float(packet.pts * packet.time_base), bytes(packet)) for packet in container.demux(audio=0) if packet.size
        ]


def click(path: Path) -> float:
    """When the sound begins, in seconds of the file's pictures."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        zero = float(video.start_time * video.time_base)
        for frame in container.decode(audio=0):
            wave = np.abs(frame.to_ndarray().astype(np.float64))
            wave = wave.max(0) if wave.shape[0] > 1 else wave.reshape(-1, frame.layout.nb_channels).max(1)
            loud = np.flatnonzero(wave > (0.2 if "flt" in frame.format.name else 6000))
            if len(loud):
                return float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate - zero
    raise AssertionError("no sound at all")


def copy_pictures(source: Path, path: Path, codec: str = "h264", start: float = 0.0, end: float = 1e9) -> VideoWriter:
    with VideoWriter(path, 10, codec=codec, audio_from=source) as writer, av.open(str(source)) as container:
        video = container.streams.video[0]
        for frame in container.decode(video):
            time = float((frame.pts - video.start_time) * frame.time_base)
            if start <= time < end:
                writer.write(frame.to_ndarray(format="rgb24"), time)
    return writer


@pytest.mark.parametrize(
    ("source_ending", "sound", "ending"),
    [
        (".mp4", "aac", ".mp4"),
        (".mp4", "aac", ".mov"),
        (".mp4", "aac", ".mkv"),
        (".mp4", "libmp3lame", ".mp4"),
        (".mkv", "libopus", ".mp4"),
        (".mkv", "flac", ".mp4"),
        (".mkv", "ac3", ".mkv"),
        (".ts", "aac", ".mp4"),
    ],
)
def test_packets_are_copied(source_ending: str, sound: str, ending: str, tmp_path: Path) -> None:
    source = make_source(tmp_path / f"source{source_ending}", sound)
    path = tmp_path / f"video{ending}"
    writer = copy_pictures(source, path)
    assert writer.problems == []
    before, after = packets(source), packets(path)
    if source_ending == ".ts":  # there each packet has a header that MP4 keeps once
        assert len(after) == len(before)
        assert all(old.endswith(new) for (_, old), (_, new) in zip(before, after, strict=True))
    else:
        assert [content for _, content in before] == [content for _, content in after]
    assert click(path) == pytest.approx(click(source), abs=0.002)
    assert click(path) == pytest.approx(CLICK, abs=0.04)  # what an encoder may add in front


@pytest.mark.skipif("vp9" not in available_codecs(), reason="this build of PyAV has no libvpx")
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_webm_has_its_sound_encoded_anew(layout: str, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mp4", layout=layout)
    path = tmp_path / "video.webm"
    assert copy_pictures(source, path, "vp9").problems == []
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name in ("opus", "libopus")
        assert stream.codec_context.layout.name == layout
    assert click(path) == pytest.approx(click(source), abs=0.03)
    assert packets(path)[-1][0] == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("sound", ["pcm_s16le", "libvorbis"])
def test_mp4_has_sound_that_it_does_not_take_as_aac(sound: str, tmp_path: Path) -> None:
    if sound not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {sound}")
    source = make_source(tmp_path / "source.mkv", sound)
    path = tmp_path / "video.mp4"
    assert copy_pictures(source, path).problems == []
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert click(path) == pytest.approx(click(source), abs=0.03)


@pytest.mark.parametrize(("sound", "ending"), [("aac", ".mp4"), ("pcm_s16le", ".mp4"), ("aac", ".mkv")])
def test_a_part_of_the_video_has_that_part_of_the_sound(sound: str, ending: str, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mkv", sound, seconds=6.0)
    path = tmp_path / f"video{ending}"
    assert copy_pictures(source, path, start=1.0, end=3.0).problems == []
    assert click(path) == pytest.approx(click(source) - 1.0, abs=0.03)
    times = [time for time, _ in packets(path)]
    assert times[0] == pytest.approx(0.0, abs=0.05)
    assert 1.9 < times[-1] < 2.05


@pytest.mark.parametrize("sound", ["aac", "pcm_s16le"])
def test_a_source_whose_clock_begins_late_stays_in_sync(sound: str, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mkv", sound, late=3.0)
    path = tmp_path / "video.mp4"
    copy_pictures(source, path)
    assert click(path) == pytest.approx(click(source), abs=0.03)
    assert click(path) == pytest.approx(CLICK, abs=0.04)


@pytest.mark.parametrize(("sound", "kept"), [(2.4, 2.4), (9.0, 2.0), (0.5, 0.5)])
def test_sound_that_is_longer_or_shorter_than_the_pictures(sound: float, kept: float, tmp_path: Path) -> None:
    source = make_source(tmp_path / "source.mp4", sound=sound)
    path = tmp_path / "video.mp4"
    copy_pictures(source, path)
    assert packets(path)[-1][0] == pytest.approx(kept, abs=0.03)


def test_no_sound_no_stream_and_no_word(tmp_path: Path) -> None:
    source = tmp_path / "silent.mp4"
    with VideoWriter(source, 10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    path = tmp_path / "video.mp4"
    assert copy_pictures(source, path).problems == []
    with av.open(str(path)) as container:
        assert len(container.streams) == 1


@pytest.mark.parametrize("content", [None, b"no video"])
def test_sound_that_cannot_be_read_is_a_problem_not_an_error(content: bytes | None, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    if content is not None:
        source.write_bytes(content)
    with VideoWriter(tmp_path / "video.mp4", 10, audio_from=source) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    assert len(writer.problems) == 1
    assert writer.problems[0].startswith(f"{source}: its sound could not be kept")


def test_sound_that_breaks_off(tmp_path: Path) -> None:
    whole = make_source(tmp_path / "whole.mkv", "pcm_s16le", seconds=3.0)
    source = tmp_path / "source.mkv"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 10, audio_from=source) as writer:
        for number in range(30):
            writer.write(np.zeros((48, 64, 3), np.uint8), number / 10)
    assert 0.2 < packets(path)[-1][0] < 3.0
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 30


def test_a_real_video_keeps_every_packet(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "videos" / "car-detection.mp4"
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 12.5, audio_from=source) as writer, av.open(str(source)) as container:
        video = container.streams.video[0]
        times = [float(packet.pts * packet.time_base) for packet in container.demux(video) if packet.pts is not None]
        for time in sorted(times):
            writer.write(np.zeros((48, 64, 3), np.uint8), time)
    assert packets(path) == packets(source)
    with av.open(str(path)) as container:
        assert [float(frame.pts * frame.time_base) for frame in container.decode(video=0)] == pytest.approx(
            sorted(times)
        )
