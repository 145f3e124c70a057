"""Cameras and streams: a server of our own on this machine, which breaks off and comes back, and made-up cameras."""

from __future__ import annotations

import contextlib
import io
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.inference.rtsp_camera import rtp_packets, rtsp_camera
from tests.inference.source_clips import make_clip, number_of, picture
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.sources.live import LiveSource, stream
from vision_tasks.inference.sources.opening import open_sources
from vision_tasks.inference.sources.video import VideoSource

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
