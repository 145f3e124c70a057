"""Published files: fetched once, checked always. Nothing is downloaded here: the publisher is a local file."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights import download

CONTENT = b"some weights"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "publisher" / f"net-{DIGITS}.pth"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path.as_uri()


def test_a_file_is_fetched_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    path = download.fetch(url, cache)
    assert path == cache / f"net-{DIGITS}.pth"
    assert path.read_bytes() == CONTENT
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("fetched twice"))
    assert download.fetch(url, cache) == path


def test_torchs_cache_is_the_default(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert download.fetch(url).parent == tmp_path / "hub" / "checkpoints"


def test_a_wrong_download_is_refused_and_not_kept(url: str, tmp_path: Path) -> None:
    (tmp_path / "publisher" / f"net-{DIGITS}.pth").write_bytes(b"something else")
    with pytest.raises(VisionTasksError, match=r"download of file://.* is damaged"):
        download.fetch(url, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_damaged_file_in_the_cache_is_named(url: str, tmp_path: Path) -> None:
    path = download.fetch(url, tmp_path / "cache")
    path.write_bytes(b"damaged since")
    with pytest.raises(VisionTasksError, match=rf"cache/net-{DIGITS}\.pth is not what its publisher offers.*Delete it"):
        download.fetch(url, tmp_path / "cache")


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        TimeoutError("timed out"),
        ConnectionResetError(104, "reset"),
        http.client.IncompleteRead(b"x"),
    ],
)
def test_offline_says_where_to_put_the_file(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(
        VisionTasksError, match=r"Could not download https://x/net-0123\.pth.*offline.*cache/net-0123\.pth"
    ):
        download.fetch("https://x/net-0123.pth", tmp_path / "cache")


def test_a_cache_that_cannot_be_made_is_no_crash(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VisionTasksError, match="Could not download"):
        download.fetch(url, tmp_path / "file" / "cache")


def test_a_missing_local_publisher(tmp_path: Path) -> None:
    with pytest.raises(VisionTasksError, match="Could not download"):
        download.fetch((tmp_path / "none-00.pth").as_uri(), tmp_path / "cache")
