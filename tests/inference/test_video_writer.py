"""What is written is read back by PyAV and by OpenCV: count, size, times, colours; and what ends the writing early."""

from __future__ import annotations

import errno
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.threads import StageTimes
from vision_tasks.inference.video.clock import Clock
from vision_tasks.inference.video.codecs import (
    CONTAINERS,
    VIDEO_CODECS,
    available_codecs,
    container_of,
    default_ending,
    find_codec,
)
from vision_tasks.inference.video.writer import VideoWriter

CODECS = [name for name in available_codecs() if not VIDEO_CODECS[name].hardware]
COLOURS = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 90), (255, 200, 0)],
    np.uint8,
)


def stripes(height: int = 64, width: int = 256) -> np.ndarray:
    """(height, width, 3): a vertical stripe of each colour."""
    return np.repeat(COLOURS[None], height, 0).repeat(width // len(COLOURS), 1)


def read(path: Path) -> tuple[list[np.ndarray], list[float], av.VideoStream]:
    """RGB pictures, times in seconds, and the stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray(), float(frame.pts * frame.time_base))
            for frame in container.decode(stream)
        ]
        return [picture for picture, _ in frames], [time for _, time in frames], stream


def boxes(path: Path) -> list[str]:
    """Names of an MP4 file's outermost boxes, read as ISO 14496-12 has it: 4 bytes of length, 4 of name."""
    names, data, at = [], path.read_bytes(), 0
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name.decode())
        at += length if length > 1 else struct.unpack(">Q", data[at + 8 : at + 16])[0] if length else len(data)
    return names


@pytest.mark.parametrize("codec", CODECS)
def test_pictures_come_back_in_number_size_and_colour(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"video{default_ending(codec)}"
    with VideoWriter(path, 10, codec=codec, quality=90) as writer:
        for _ in range(7):
            writer.write(stripes())
    assert writer.frames == 7
    assert writer.problems == []
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    pictures, times, stream = read(path)
    assert len(pictures) == 7
    assert times == pytest.approx(np.arange(7) / 10)
    middle = slice(16, None, 32)
    for picture in pictures:
        assert picture.shape == (64, 256, 3)
        assert np.abs(picture[32, middle].astype(int) - COLOURS).max() <= 4
    context = stream.codec_context
    assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
    assert context.pix_fmt == "yuv420p"
    if codec == "av1":  # which OpenCV's own FFmpeg does not decode
        return
    capture = cv2.VideoCapture(str(path))
    count = 0
    while True:
        ok, picture = capture.read()
        if not ok:
            break
        count += 1
        assert np.abs(picture[32, middle, ::-1].astype(int) - COLOURS).max() <= 6
    assert count == 7
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_luma_and_chroma_are_those_of_bt709(tmp_path: Path) -> None:
    # Pure red by ITU-R BT.709: Y = 16 + 219 * 0.2126, Cb = 128 - 224 * 0.2126 / 1.8556, Cr = 128 + 224 / 2
    path = tmp_path / "red.mp4"
    with VideoWriter(path, 10, quality=100) as writer:
        writer.write(np.full((64, 64, 3), (255, 0, 0), np.uint8))
    with av.open(str(path)) as container:
        planes = next(container.decode(video=0)).to_ndarray()
    assert planes[32, 32] == pytest.approx(16 + 219 * 0.2126, abs=1)
    assert planes[64 + 8, 8] == pytest.approx(128 - 224 * 0.2126 / 1.8556, abs=1)
    assert planes[64 + 16 + 8, 8] == pytest.approx(240, abs=1)


@pytest.mark.parametrize("ending", [".mp4", ".mov"])
def test_the_index_lies_in_front(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"video{ending}"
    with VideoWriter(path, 10) as writer:
        for _ in range(30):
            writer.write(stripes())
    order = boxes(path)
    assert order.index("moov") < order.index("mdat")


@pytest.mark.parametrize(("codec", "ending"), [(codec, end) for codec in CODECS for end in VIDEO_CODECS[codec].endings])
def test_uneven_times_are_kept(codec: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"video{ending}"
    times = [0.0, 0.04, 0.3, 0.31, 1.75, 1.8]
    with VideoWriter(path, 10, codec=codec) as writer:
        for time in times:
            writer.write(stripes(), time)
    step = 0.0005 if ending in (".mkv", ".webm") else 1e-4
    assert read(path)[1] == pytest.approx(times, abs=step)
    with av.open(str(path)) as container:
        assert container.duration / 1e6 == pytest.approx(1.9, abs=0.002)  # the last frame stays for 1 / rate


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ([5.2, 5.3, 5.5], [0, 0.1, 0.3]),  # the first is time 0
        ([None, None, None], [0, 0.1, 0.2]),
        ([0.0, 0.3, None], [0, 0.3, 0.4]),
        ([None, None, 70.0, 70.5], [0, 0.1, 0.2, 0.7]),
        ([0.0, 0.5, 0.4, 0.6], [0, 0.5, 0.5, 0.6]),  # a little back: right behind, and the clock goes on
        ([0.0, 0.0, 0.0, 0.1], [0, 0, 0, 0.1]),
        ([0.0, 5.0, 0.0, 0.2], [0, 5.0, 5.1, 5.3]),  # far back: the stream began anew
        ([0.0, 1.0, 1e9, 1e9 + 1], [0, 1.0, 1.1, 2.1]),  # another clock altogether
        ([-3.0, -2.0], [0, 1.0]),
    ],
)
def test_times_always_rise(asked: list[float | None], wanted: list[float]) -> None:
    clock = Clock(10, 90_000)
    ticks = [clock.place(time) for time in asked]
    assert [float(tick * clock.base) for tick in ticks] == pytest.approx(wanted, abs=1e-4)
    assert np.all(np.diff(ticks) > 0)


@pytest.mark.parametrize(
    ("rate", "ratio"),
    [
        (30, Fraction(30)),
        (29.97002997, Fraction(30000, 1001)),
        (23.976023976, Fraction(24000, 1001)),
        (12.5, Fraction(25, 2)),
    ],
)
@pytest.mark.parametrize("ticks", [90_000, 60_000, 1000])
def test_frames_without_times_do_not_drift(rate: float, ratio: Fraction, ticks: int) -> None:
    clock = Clock(rate, ticks)
    assert clock.rate == ratio
    for _ in range(3000):
        last = clock.place(None)
    assert abs(last * clock.base - 2999 / ratio) <= clock.base / 2
    assert clock.base >= Fraction(1, ticks)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [(1, 1), (33, 71), (64, 65), (65, 64)])
def test_odd_sizes_gain_a_repeated_row_or_column(codec: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / f"video{default_ending(codec)}"
    picture = cv2.resize(stripes(128, 128), size[::-1], interpolation=cv2.INTER_AREA)
    with VideoWriter(path, 10, codec=codec, quality=95) as writer:
        for _ in range(2):
            writer.write(picture)
    got = read(path)[0][0]
    least = VIDEO_CODECS[codec].smallest
    assert got.shape[:2] == tuple(max(side + side % 2, least) for side in size)
    inside = got[: size[0], : size[1]].astype(int)
    assert np.abs(inside.mean((0, 1)) - picture.mean((0, 1))).max() < 5
    if got.shape[0] > size[0]:
        assert np.abs(got[size[0] :, : size[1]] - inside[-1:]).mean() < 15
    if got.shape[1] > size[1]:
        assert np.abs(got[: size[0], size[1] :] - inside[:, -1:]).mean() < 15


def test_grey_pictures_and_slices_of_arrays(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, ::2] = 200
    with VideoWriter(path, 10) as writer:
        writer.write(np.full((64, 64), 90, np.uint8))
        writer.write(np.full((64, 64, 1), 90, np.uint8))
        writer.write(wide[:, ::2])
        writer.write(wide[::-1, -2::-2])
    means = [picture.mean() for picture in read(path)[0]]
    assert means == pytest.approx([90, 90, 200, 200], abs=3)


def test_a_picture_may_be_changed_after_it_was_handed_over(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    picture = np.zeros((240, 320, 3), np.uint8)
    with VideoWriter(path, 10) as writer:
        for number in range(20):
            picture[:] = number * 10
            writer.write(picture)
    assert [shown.mean() for shown in read(path)[0]] == pytest.approx(np.arange(20) * 10, abs=4)


def test_other_sizes_are_fitted_in_and_told_once(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 10) as writer:
        writer.write(np.full((64, 128, 3), 200, np.uint8))
        writer.write(np.full((128, 128, 3), 200, np.uint8))
        writer.write(np.full((10, 80, 3), 200, np.uint8))
    first, tall, flat = (picture.astype(int) for picture in read(path)[0])
    assert first.mean() == pytest.approx(200, abs=2)
    assert tall[:, 36:92].mean() == pytest.approx(200, abs=4)
    assert tall[:, :28].mean() == pytest.approx(0, abs=4)
    assert tall[:, 100:].mean() == pytest.approx(0, abs=4)
    assert flat[28:36].mean() == pytest.approx(200, abs=4)
    assert flat[:20].mean() == pytest.approx(0, abs=4)
    assert len(writer.problems) == 1
    assert "frame 1 has 128×128 pixels, the video 128×64" in writer.problems[0]


def test_a_size_may_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, None, size=(90, 160)) as writer:
        writer.write(np.zeros((720, 1280, 3), np.uint8))
        writer.write(np.zeros((720, 1280, 3), np.uint8))
    pictures, times, _ = read(path)
    assert pictures[0].shape == (90, 160, 3)
    assert times == pytest.approx([0, 1 / 30])


def test_the_shape_of_pixels_is_kept_and_encoding_is_timed(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    times = StageTimes()
    with VideoWriter(path, 25, pixel_aspect=16 / 11, times=times) as writer:
        for _ in range(3):
            writer.write(stripes())
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
    assert times.counts == {"encode": 3}


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "new" / "video.mp4", 10) as writer:
        pass
    writer.close()
    assert list(tmp_path.iterdir()) == []
    assert writer.problems == [f"{tmp_path / 'new' / 'video.mp4'}: not written, as there was no frame"]
    with pytest.raises(RuntimeError, match="after close"):
        writer.write(stripes())


def test_nothing_has_the_name_before_it_is_complete_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_text("old")
    writer = VideoWriter(path, 10)
    writer.write(stripes())
    assert path.read_text() == "old"
    writer.close()
    assert len(read(path)[0]) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_of_the_caller_finishes_the_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"

    def work() -> None:
        with VideoWriter(path, 10) as writer:
            for _ in range(12):
                writer.write(stripes())
            raise error

    with pytest.raises(error):
        work()
    assert len(read(path)[0]) == 12


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent there")
def test_ctrl_c_amid_the_frames_leaves_a_file_that_plays(tmp_path: Path) -> None:
    script = f"""
        import numpy as np
        from vision_tasks.inference.video.writer import VideoWriter
        picture = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
        try:
            with VideoWriter({str(tmp_path / "video.mp4")!r}, 30) as writer:
                while True:
                    writer.write(picture)
                    if writer.frames == 5:
                        print("ready", flush=True)
        except KeyboardInterrupt:
            print(writer.frames)
    """
    started = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    started.send_signal(signal.SIGINT)
    out, _ = started.communicate(timeout=60)
    assert [file.name for file in tmp_path.iterdir()] == ["video.mp4"]
    pictures, times, _ = read(tmp_path / "video.mp4")
    assert len(pictures) >= 5
    assert len(pictures) - int(out) in (0, 1)  # it may come between handing over and counting
    assert times == pytest.approx(np.arange(len(times)) / 30)


LIMITED_DISK = """
    import resource, signal, sys
    import numpy as np
    from vision_tasks.errors import VisionTasksError
    from vision_tasks.inference.video.writer import VideoWriter
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    rng = np.random.default_rng(0)
    try:
        with VideoWriter(sys.argv[1], 30, quality=95) as writer:
            for number in range({frames}):
                writer.write(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
    except VisionTasksError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such limit there")
@pytest.mark.parametrize(("limit", "frames"), [(1_000_000, 200), (20_000, 2), (0, 2)])
def test_a_file_that_cannot_grow_is_an_error_and_leaves_nothing(limit: int, frames: int, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    script = textwrap.dedent(LIMITED_DISK.format(limit=limit, frames=frames))
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == f"{path}: cannot write the video: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = VideoWriter(tmp_path / "video.mp4", 10)
    writer.write(stripes())

    def full(packet: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_encode", full)
    with pytest.raises(VisionTasksError, match=r"video.mp4: cannot write the video: no space is left there; free some"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
    writer.close()
    assert all(thread.name != "behind" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_what_is_no_picture(picture: np.ndarray, tmp_path: Path) -> None:
    with (
        VideoWriter(tmp_path / "video.mp4", 10) as writer,
        pytest.raises(VisionTasksError, match=r"pictures are \(height, width, 3\) uint8 RGB, not"),
    ):
        writer.write(picture)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_rates_that_cannot_be(rate: float, tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="frames per second, not"):
        VideoWriter(tmp_path / "video.mp4", rate)


def test_rates_of_broken_headers_are_brought_to_the_ends(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 90_000) as writer:
        for time in (0.0, 0.04, None):
            writer.write(stripes(), time)
    assert read(path)[1] == pytest.approx([0, 0.04, 0.041])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [1000, 0.0001])
def test_rates_at_the_ends(codec: str, rate: float, tmp_path: Path) -> None:
    path = tmp_path / f"video{default_ending(codec)}"
    with VideoWriter(path, rate, codec=codec) as writer:
        for _ in range(3):
            writer.write(stripes())
    assert read(path)[1] == pytest.approx(np.arange(3) / rate)


def test_what_else_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with pytest.raises(VisionTasksError, match="quality lies between 0 and 100"):
        VideoWriter(path, 10, quality=101)
    with pytest.raises(VisionTasksError, match=r"size is \(height, width\)"):
        VideoWriter(path, 10, size=(0, 5))
    with pytest.raises(VisionTasksError, match="would overwrite the video"):
        VideoWriter(path, 10, audio_from=tmp_path / ".." / tmp_path.name / "video.mp4")
    with VideoWriter(path, 10) as writer, pytest.raises(VisionTasksError, match="time is a number of seconds"):
        writer.write(stripes(), float("nan"))
    path.write_text("a file")
    with pytest.raises(VisionTasksError, match="as a file has that name"), VideoWriter(path / "a.mp4", 10) as writer:
        writer.write(stripes())


def test_sizes_that_the_encoder_does_not_take(tmp_path: Path) -> None:
    with (
        pytest.raises(VisionTasksError, match="libx264 does not begin a video of 17000×2 pixels"),
        VideoWriter(tmp_path / "video.mp4", 10) as writer,
    ):
        writer.write(np.zeros((2, 17000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_endings_and_codecs() -> None:
    assert [default_ending(codec) for codec in ("h264", "vp9", "av1", "mpeg4")] == [".mp4", ".webm", ".mp4", ".mp4"]
    assert container_of(Path("a/B.MKV"), "vp9") == "matroska"
    with pytest.raises(VisionTasksError, match=r"a\.webm: a \.webm file cannot hold h264; name it \.mp4 .*vp9"):
        container_of(Path("a.webm"), "h264")
    with pytest.raises(VisionTasksError, match=r"a\.avi: videos are written to files ending in \.mp4, .*, not '\.avi'"):
        container_of(Path("a.avi"), "h264")
    with pytest.raises(VisionTasksError, match=r"no video codec 'h265'; available here: .*mpeg4"):
        find_codec("h265")
    with pytest.raises(VisionTasksError, match="no video codec 'h265'"):
        default_ending("h265")
    assert {ending for codec in VIDEO_CODECS.values() for ending in codec.endings} == set(CONTAINERS)


def test_a_codec_that_is_not_there_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4", "libvpx-vp9"})
    assert available_codecs() == ["vp9", "mpeg4"]
    with pytest.raises(VisionTasksError, match=r"needs the encoder libx264, .* lacks; available here: vp9, mpeg4"):
        VideoWriter("video.mp4", 10)
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(VisionTasksError, match="no encoder for video"):
        find_codec("h264")


def test_hardware_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_tasks.inference.video import codecs as video_codecs

    monkeypatch.setattr(av, "codecs_available", {"mpeg4", "h264_nvenc"})
    monkeypatch.setattr(video_codecs, "_works", lambda encoder: False)
    with pytest.raises(VisionTasksError, match=r"'h264_nvenc' needs hardware or a driver.*available here: mpeg4"):
        find_codec("h264_nvenc")
    with pytest.raises(VisionTasksError, match=r"no video codec 'h265'; available here: mpeg4$"):
        default_ending("h265")
    monkeypatch.setattr(video_codecs, "_works", lambda encoder: True)
    assert find_codec("h264_nvenc").encoder == "h264_nvenc"


def test_quality_means_the_same_for_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    picture = cv2.add(picture, rng.integers(0, 30, picture.shape, dtype=np.uint8))
    for codec in CODECS:
        sizes, errors = [], []
        for quality in (20, 70, 100):
            path = tmp_path / f"{codec}{quality}{default_ending(codec)}"
            with VideoWriter(path, 10, codec=codec, quality=quality) as writer:
                for number in range(3):
                    writer.write(np.roll(picture, number * 5, 1))
            sizes.append(path.stat().st_size)
            errors.append(np.abs(read(path)[0][0].astype(int) - picture).mean())
        assert sizes == sorted(sizes), codec
        assert errors == sorted(errors, reverse=True), codec
        assert errors[1] < 8, codec
