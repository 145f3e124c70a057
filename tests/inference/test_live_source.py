"""Cameras and streams: a server of our own on this machine, which breaks off and comes back, and made-up cameras."""

from __future__ import annotations

import contextlib
import io
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.inference.rtsp_camera import rtp_packets, rtsp_camera
from tests.inference.source_clips import make_clip, number_of, picture
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference import live_source
from vision_tasks.inference.live_source import LiveSource, StreamEndedError, Taken, stream
from vision_tasks.inference.sources import open_sources
from vision_tasks.inference.video_source import VideoSource

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """Gives each connection the next of the answers, the last one again and again; its address, and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            with contextlib.suppress(OSError):
                answers[min(len(asked), len(answers)) - 1](self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}", asked
        finally:
            running.shutdown()
            thread.join()


def sends(data: bytes, kind: str = "video/mp2t") -> Answer:
    """Sends the bytes, of no stated length, and breaks off."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.end_headers()
        for at in range(0, len(data), 4096):
            handler.wfile.write(data[at : at + 4096])

    return answer


def refuses(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(503)


def transport_stream(folder: Path, frames: int) -> bytes:
    make_clip(folder / "live.ts", frames, codec="mpeg2video", rate=25, key_every=1)
    return (folder / "live.ts").read_bytes()


def motion_jpeg(frames: int) -> bytes:
    parts = []
    for index in range(frames):
        file = io.BytesIO()
        Image.fromarray(picture(index, (48, 64))).save(file, "JPEG", quality=95)
        head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {file.tell()}\r\n\r\n"
        parts.append(head.encode() + file.getvalue() + b"\r\n")
    return b"".join(parts)


def live(address: str, told: list[str], **options: Any) -> LiveSource:
    """All frames, without long waits."""
    given = {"tries": 2, "wait": 0.01, "newest": False, **options}
    return LiveSource(partial(stream, address, 3), "cam", "cam", on_problem=told.append, **given)


def test_a_stream_that_breaks_off_and_comes_back(tmp_path: Path) -> None:
    told: list[str] = []
    answers = (sends(transport_stream(tmp_path, 12)), refuses, sends(transport_stream(tmp_path, 7)), refuses)
    with server(*answers) as (address, asked):
        source = live(f"{address}/live", told, tries=4)
        frames = list(source)
    # The last frame of a transport stream is complete only when the next one begins.
    first = [number_of(f.image) for f in frames]
    again = first.index(0, 1)
    assert first[:again] == list(range(again))
    assert first[again:] == list(range(len(first) - again))
    assert (11 <= again <= 12, 6 <= len(first) - again <= 7) == (True, True)
    assert [f.index for f in frames] == list(range(len(frames))), "numbers go on"
    times = [f.time for f in frames]
    assert times[0] == 0
    assert all(a < b for a, b in itertools.pairwise(times))
    assert times[1:5] == pytest.approx([0.04, 0.08, 0.12, 0.16], abs=1e-6), "by the sender's clock"
    assert source.dropped == 0
    assert len(asked) == 5
    assert told[0].startswith("cam: ")
    assert told[0].endswith(". Connecting again in 0.01 s (try 1 of 4).")
    assert any("Service Unavailable" in t or "5XX" in t for t in told)
    assert told[-1].endswith("Given up after 4 tries.")
    assert set(source.problems) <= set(told)


def test_motion_jpeg(tmp_path: Path) -> None:
    told: list[str] = []
    answers = (sends(motion_jpeg(9), "multipart/x-mixed-replace; boundary=next"), refuses)
    with server(*answers) as (address, _):
        frames = list(live(f"{address}/mjpeg?token=abc", told))
    assert [number_of(f.image) for f in frames] == list(range(len(frames)))
    assert 8 <= len(frames) <= 9
    assert not any("abc" in t for t in told)


def test_rtsp_breaks_off_and_comes_back(tmp_path: Path) -> None:
    told: list[str] = []
    with rtsp_camera(rtp_packets(tmp_path, 9), rtp_packets(tmp_path, 6)) as (host, asked):
        source = live(f"rtsp://me:secret@{host}/ch1", told, tries=2)
        frames = list(source)
    seen = [number_of(f.image) for f in frames]
    again = seen.index(0, 1)
    assert seen == [*range(again), *range(len(seen) - again)]
    assert again >= 8
    assert len(seen) - again >= 5
    assert [f.time for f in frames[:3]] == pytest.approx([0, 0.04, 0.08], abs=0.001)
    assert asked.count("PLAY") == 2
    assert asked.count("DESCRIBE") == 3
    assert told[0].endswith("Connecting again in 0.01 s (try 1 of 2).")
    assert "Given up after 2 tries" in told[-1]
    assert not any("secret" in t for t in told)


def test_a_stream_that_is_not_there() -> None:
    told: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens here
        address = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}/live"
        source = LiveSource(partial(stream, address, 3), "cam", "cam", wait=0.001, on_problem=told.append)
        with pytest.raises(VisionTasksError, match=r"refused.*Given up after 3 tries\. Check the address"):
            list(source)
    assert [t.rpartition(" in ")[2] for t in told] == [
        "0.001 s (try 1 of 3).", "0.002 s (try 2 of 3).", "0.004 s (try 3 of 3).",
    ]  # fmt: skip
    assert not any("secret" in t for t in told)


def test_a_stream_that_falls_silent(tmp_path: Path) -> None:
    data, hang = transport_stream(tmp_path, 8), threading.Event()

    def stalls(handler: BaseHTTPRequestHandler) -> None:
        sends(data)(handler)
        handler.wfile.flush()
        hang.wait(20)

    told: list[str] = []
    with server(stalls, refuses) as (address, _):
        opener = partial(stream, f"{address}/live", 3, 0.4)
        source = LiveSource(opener, "cam", "cam", tries=1, wait=0.01, newest=False, on_problem=told.append)
        frames = list(source)
        hang.set()
    assert len(frames) >= 6
    assert told[0] == "cam: nothing came in time. Connecting again in 0.01 s (try 1 of 1)."
    assert told[-1].endswith("Given up after 1 try.")


def test_addresses_of_files_end(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 6, index_first=True)
    data = (tmp_path / "a.mp4").read_bytes()

    def whole(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    with server(whole) as (address, _):
        (source,) = open_sources(f"{address}/films/a.mp4?x=1")
        assert isinstance(source, VideoSource)
        assert [(number_of(f.image), f.name) for f in source] == [(k, f"127.0.0.1_a_00000{k}") for k in range(6)]
        assert source.problems == []
    with server(lambda handler: handler.send_error(404)) as (address, _), pytest.raises(VisionTasksError, match="404"):
        open_sources(f"{address}/gone.mp4")


def test_files_by_http_go_on_after_a_broken_connection(tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", 40, index_first=True)
    data = (tmp_path / "a.mp4").read_bytes()
    starts: list[int] = []

    def half(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range", "bytes=0-")
        start = int(wanted.removeprefix("bytes=").partition("-")[0])
        starts.append(start)
        handler.send_response(206)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        handler.wfile.write(data[start : len(data) // 2 if start < len(data) // 2 else None])

    with server(half) as (address, _):
        (source,) = open_sources(f"{address}/a.mp4")
        assert [number_of(f.image) for f in source] == [k % 25 for k in range(40)]
    assert source.problems == []
    assert len(data) // 2 in starts


class MadeUp:
    """A camera: each connection gives frames until its number of them is reached, then breaks in its own way."""

    def __init__(self, *ends: tuple[int, BaseException | None], pause: float = 0.0) -> None:
        self.ends, self.pause, self.connected, self.closed, self.made = list(ends), pause, 0, 0, 0

    @contextlib.contextmanager
    def __call__(self) -> Iterator[Iterator[Taken]]:
        count, error = self.ends[min(self.connected, len(self.ends) - 1)]
        self.connected += 1
        if count < 0:
            raise OSError("no camera")

        def pictures() -> Iterator[Taken]:
            for _ in range(count):
                index, self.made = self.made, self.made + 1
                time.sleep(self.pause)
                yield partial(picture, index, (24, 32)), None
            if error is not None:
                raise error

        try:
            yield pictures()
        finally:
            self.closed += 1


def test_every_kind_of_break_is_one_outage_and_patience_is_bounded() -> None:
    told: list[str] = []
    camera = MadeUp((3, None), (-1, None), (30, OSError("cable")), (1, ValueError("odd")), (-1, None))
    source = LiveSource(camera, "cam", "cam", on_problem=told.append, tries=3, wait=0.001, newest=False)
    assert [f.index for f in source] == list(range(34))
    assert camera.connected == 6
    assert camera.closed == 3, "what was opened is closed"
    assert [t.split(". ")[0] for t in told] == [
        "cam: the stream ended", "cam: no camera", "cam: cable", "cam: odd", "cam: no camera", "cam: no camera",
    ]  # fmt: skip
    assert [t[-12:] for t in told[:-1]] == [f"try {k} of 3)." for k in (1, 2, 1, 2, 3)], (
        "25 frames are a good connection"
    )
    assert len(source.problems) == 3


def test_a_stream_of_known_length_ends() -> None:
    told: list[str] = []
    camera = MadeUp((5, StreamEndedError()))
    assert len(list(LiveSource(camera, "cam", "cam", on_problem=told.append, newest=False))) == 5
    assert (camera.connected, told) == (1, [])


def test_slow_takers_get_the_newest() -> None:
    camera = MadeUp((60, StreamEndedError()), pause=0.004)
    source = LiveSource(camera, "cam", "cam")
    indices = []
    for frame in source:
        indices.append(frame.index)
        assert number_of(frame.image) == frame.index % 25
        time.sleep(0.03)
    assert indices == sorted(set(indices))
    assert len(indices) < 40
    assert source.dropped >= 20
    assert indices[-1] == 59, "the last is not lost"


def test_leaving_closes_the_camera_and_ends_the_thread() -> None:
    camera = MadeUp((10**9, None), pause=0.001)
    source = LiveSource(camera, "cam", "leaving", every=3)
    frames = iter(source)
    first = [next(frames) for _ in range(4)]
    assert all(f.index % 3 == 0 for f in first)
    frames.close()  # type: ignore[attr-defined]
    assert camera.closed == 1
    assert not [t for t in threading.enumerate() if t.name == "receive leaving"]


def test_leaving_while_waiting_for_a_camera() -> None:
    camera = MadeUp((2, None), (-1, None))
    source = LiveSource(camera, "cam", "waiting", wait=60.0, newest=False)
    frames = iter(source)
    assert next(frames).index == 0
    frames.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name == "receive waiting"]


class FakeCapture:
    """What OpenCV gives for a camera that breaks after two frames, and then is gone."""

    opened: list[int] = []  # noqa: RUF012
    released = 0

    def __init__(self, number: int) -> None:
        self.opened.append(number)
        self.left = 2

    def isOpened(self) -> bool:
        return len(self.opened) <= 1

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        image = np.zeros((24, 32, 3), np.uint8)
        image[..., 0] = 200  # blue comes first
        return (True, image) if self.left >= 0 else (False, None)

    def release(self) -> None:
        type(self).released += 1


@pytest.mark.parametrize("spec", [3, "3", "/dev/video3"])
def test_cameras_by_opencv(spec: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "opened", [])
    monkeypatch.setattr(FakeCapture, "released", 0)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(live_source, "LONGEST_WAIT", 0.001)
    told: list[str] = []
    (source,) = open_sources(spec, on_problem=told.append)
    assert (source.kind, source.name, source.length, source.rate) == ("live", "camera3", None, None)
    frames = list(source)
    assert frames[-1].image[0, 0].tolist() == [0, 0, 200], "RGB"
    assert frames[-1].name == "camera3_000001"
    assert frames[-1].source == "camera 3"
    assert set(FakeCapture.opened) == {3}
    assert len(FakeCapture.opened) == FakeCapture.released == 9
    assert told[0].startswith("camera 3: the stream ended.")
    (source,) = open_sources(spec, on_problem=told.append)
    with pytest.raises(VisionTasksError, match="camera 3: there is none, or another program uses it"):
        list(source)


def test_a_folder_called_like_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "0" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert [s.kind for s in open_sources(["0"])] == ["images"]
