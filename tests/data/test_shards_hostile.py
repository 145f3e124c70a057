"""Shards whose index lies, and servers that send without end."""

import http.server
import json
import os
import shutil
import threading

import numpy as np
import pytest

from vision_tasks.data import shards as shard_module
from vision_tasks.data.image_errors import ImageTruncatedError
from vision_tasks.data.shards import ANNOTATIONS, INDEX, MARK, PLACES, fetch, open_shards
from vision_tasks.errors import VisionTasksError


def _made(folder, name="a.tar", place=(1, 0, 0, 5), size=100):
    folder.mkdir(exist_ok=True)
    (folder / INDEX).write_text(json.dumps({MARK: 1, "shards": [{"name": name, "bytes": size}]}))
    np.save(folder / PLACES, np.array([place], np.int64))
    (folder / ANNOTATIONS).write_text("{}")
    return folder


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-o", ".hidden", "a{1,2}.tar", "[1-99].tar", "a/b.tar", "a b", "x\n", "é"]
)
def test_names_that_mean_something_else_are_refused(name, tmp_path):
    with pytest.raises(VisionTasksError, match=r"names a shard .* which is refused"):
        open_shards(_made(tmp_path / "s", name))


@pytest.mark.parametrize("place", [(1, 0, 2**63 - 1, 5), (1, 0, 2**63 - 6, 5), (1, 0, 0, 2**31), (1, 0, 96, 5)])
def test_places_beyond_the_shard_name_it(place, tmp_path):
    (_made(tmp_path / "s", place=place) / "a.tar").write_bytes(b"x" * 100)
    with pytest.raises(ImageTruncatedError, match=r"s/a\.tar: cut off at byte 100"):
        open_shards(tmp_path / "s").read(0)


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing"])
def test_what_is_no_file_is_named(kind, tmp_path):
    place = _made(tmp_path / "s") / "a.tar"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    with pytest.raises(VisionTasksError, match=r"s/a\.tar: the shard cannot be read"):
        open_shards(tmp_path / "s").read(0)


class _Endless(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(10_000):  # 640 MB, if somebody takes them
                self.wfile.write(b"x" * 65536)
                self.server.sent += 65536
        except OSError:
            self.server.ended.set()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    server.sent, server.ended = 0, threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("limit", ["size", "most"])
def test_no_more_is_taken_than_is_to_come(limit, server, tmp_path):
    pytest.importorskip("webdataset")
    if shutil.which("curl") is None:
        pytest.skip("without curl")
    address = f"http://127.0.0.1:{server.server_port}/a.tar"
    with pytest.raises(VisionTasksError, match=r"a\.tar: (1,001 bytes came|more than 1,000 bytes come)"):
        fetch(address, tmp_path / "a.tar", **{limit: 1000})
    assert list(tmp_path.iterdir()) == []
    assert server.ended.wait(20)
    assert server.sent < 50_000_000


def test_urls_that_mean_many_are_not_fetched(tmp_path):
    pytest.importorskip("webdataset")
    for url in ("http://h/[1-9].tar", "http://h/{a,b}", "http://h/a b", "http://h/a\nb", 'http://h/"'):
        with pytest.raises(VisionTasksError, match="is not fetched"):
            fetch(url, tmp_path / "x")


def test_the_index_of_a_url_is_limited(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setenv("VISION_TASKS_CACHE", str(tmp_path))
    monkeypatch.setattr(shard_module, "fetch", lambda url, path, size=None, most=0: asked.update({path.name: most}))
    shard_module.described("http://h/s")
    assert set(asked) == {INDEX, PLACES, ANNOTATIONS}
    assert max(asked.values()) <= 1 << 34
