"""Published files: fetched once, resumed, checked. The publisher is a server on this machine."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights import download

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"net-{DIGITS}.pth"


class Publisher(ThreadingHTTPServer):
    """Serves `content` under every name, and notes the ranges asked for (None: all of it).

    Attributes:
        breaks: bytes after which each of the next answers breaks off. ranges: whether it knows ranges at all.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.breaks, self.ranges = CONTENT, [], True
        self.kind, self.code = "application/octet-stream", 200
        self.asked: list[str | None] = []

    def url(self, name: str = NAME) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/models/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        publisher = self.server
        wanted = self.headers.get("Range")
        publisher.asked.append(wanted)
        body, start = publisher.content, 0
        if publisher.code != 200:
            self.send_error(publisher.code)
            return
        if wanted and publisher.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", publisher.kind)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + publisher.breaks.pop(0) if publisher.breaks else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


def test_a_file_is_fetched_once(publisher: Publisher, tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    path = download.fetch(publisher.url(), cache)
    assert path == cache / NAME
    assert path.read_bytes() == CONTENT
    assert download.fetch(publisher.url() + "?raw=true", cache) == path
    assert publisher.asked == [None]
    assert list(cache.iterdir()) == [path]


def test_where_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("VISION_TASKS_CACHE", raising=False)
    assert download.cache_folder() == tmp_path / "hub" / "checkpoints"
    monkeypatch.setenv("VISION_TASKS_CACHE", "~/weights")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "weights"


def test_what_came_before_is_not_fetched_again(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:1000])
    assert download.fetch(publisher.url(), tmp_path).read_bytes() == CONTENT
    assert publisher.asked == ["bytes=1000-"]


def test_a_whole_part_is_taken(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT)
    assert download.fetch(publisher.url(), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 1000, CONTENT + b"more"], ids=["another file's", "too long"])
def test_a_part_that_does_not_fit_is_dropped(part: bytes, publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(part)
    assert download.fetch(publisher.url(), tmp_path).read_bytes() == CONTENT
    assert publisher.asked == [f"bytes={len(part)}-", None]


def test_a_server_without_ranges_sends_all_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges = False
    (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
    assert download.fetch(publisher.url(), tmp_path).read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks = [300_000] * 3
    assert download.fetch(publisher.url(), tmp_path).read_bytes() == CONTENT
    assert publisher.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_it_gives_up_and_keeps_what_came(publisher: Publisher, tmp_path: Path) -> None:
    publisher.breaks = [500, *[0] * 9]
    with pytest.raises(VisionTasksError, match=r"Could not download http.*500 of 1048576 bytes.*continued next time"):
        download.fetch(publisher.url(), tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:500]
    publisher.breaks = []
    assert download.fetch(publisher.url(), tmp_path).read_bytes() == CONTENT
    assert publisher.asked[-1] == "bytes=500-"
    assert not (tmp_path / f"{NAME}.part").exists()


def test_ctrl_c_keeps_what_came(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(have: int, total: int | None) -> None:
        assert total == len(CONTENT)
        if have:
            raise KeyboardInterrupt

    monkeypatch.setattr(download, "_CHUNK", 10_000)
    monkeypatch.setattr(download, "_progress", lambda name: contextlib.nullcontext(stop))
    with pytest.raises(KeyboardInterrupt):
        download.fetch(publisher.url(), tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[:10_000]
    assert "goes on from there" in caplog.text


def test_a_damaged_download_is_refused_and_not_kept(publisher: Publisher, tmp_path: Path) -> None:
    publisher.content = b"something else"
    with pytest.raises(VisionTasksError, match=f"damaged: its SHA-256 does not begin with {DIGITS}"):
        download.fetch(publisher.url(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_in_the_cache_is_named(publisher: Publisher, tmp_path: Path) -> None:
    download.fetch(publisher.url(), tmp_path).write_bytes(b"damaged since")
    with pytest.raises(VisionTasksError, match=rf"{NAME} is not what its publisher offers.*Delete it"):
        download.fetch(publisher.url(), tmp_path)


def test_a_file_without_a_hash_is_taken_and_said(
    publisher: Publisher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert download.fetch(publisher.url("yolox_s.pth"), tmp_path).read_bytes() == CONTENT
    assert "publisher of yolox_s.pth states no hash" in caplog.text
    with pytest.raises(VisionTasksError, match="does not begin with 0123"):
        download.fetch(publisher.url("yolox_m.pth"), tmp_path, digits="0123")


@pytest.mark.parametrize("code", [404, 503])
def test_an_answer_that_is_no_file(code: int, publisher: Publisher, tmp_path: Path) -> None:
    publisher.code = code
    with pytest.raises(VisionTasksError, match=rf"Could not download .*the server answers {code}.*put it at .*{NAME}"):
        download.fetch(publisher.url(), tmp_path)
    publisher.code, publisher.kind = 200, "text/html; charset=utf-8"
    with pytest.raises(VisionTasksError, match="the answer is a web page, not a file"):
        download.fetch(publisher.url(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_says_where_to_put_the_file(publisher: Publisher, tmp_path: Path) -> None:
    url = publisher.url()
    publisher.shutdown()  # else its thread keeps the port open for a moment
    publisher.server_close()  # nobody listens on its port any more
    with pytest.raises(VisionTasksError, match=rf"Could not download {url} .*refused.*offline.*put it at .*{NAME}"):
        download.fetch(url, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))  # type: ignore[attr-defined]
        with pytest.raises(
            VisionTasksError, match=r"no room .*1\.0 MB are to come, 0\.0 MB are free.*VISION_TASKS_CACHE"
        ):
            download.fetch(publisher.url(), tmp_path)

    def full(_have: int, _total: int | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_progress", lambda name: contextlib.nullcontext(full))
    with pytest.raises(VisionTasksError, match=r"no room .*No space left on device"):
        download.fetch(publisher.url(), tmp_path)


def test_a_cache_that_cannot_be_made_is_no_crash(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VisionTasksError, match="Could not download"):
        download.fetch(publisher.url(), tmp_path / "file" / "cache")


def test_several_at_once_download_once(publisher: Publisher, tmp_path: Path) -> None:
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(download.fetch(publisher.url(), tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p.read_bytes() == CONTENT for p in paths] == [True] * 4
    assert publisher.asked == [None]
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_progress_without_a_terminal_is_a_line_now_and_then(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(download, "_CHUNK", len(CONTENT) // 2)
    monkeypatch.setattr(download, "_LINE_EVERY", 0)
    with caplog.at_level(logging.INFO, logger="vision_tasks"):
        download.fetch(publisher.url(), tmp_path)
    assert f"net-{DIGITS}.pth: 0.5 MB of 1.0 MB, about " in caplog.text
    assert "MB/s)" in caplog.text


def test_progress_on_a_terminal(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(download, "_CHUNK", len(CONTENT) // 4)
    monkeypatch.setenv("TERM", "xterm")
    download.fetch(publisher.url(), tmp_path)
    shown = capsys.readouterr().err
    assert NAME in shown
    assert "1.0/1.0 MB" in shown or "/1.0 MB" in shown


def test_the_request_names_us_and_wants_no_compression(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[urllib.request.Request] = []
    real = urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", lambda r, timeout: seen.append(r) or real(r, timeout=timeout))
    download.fetch(publisher.url(), tmp_path)
    assert seen[0].get_header("User-agent") == "vision_tasks"
    assert seen[0].get_header("Accept-encoding") == "identity"
