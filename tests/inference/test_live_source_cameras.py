"""Cameras: made-up ones that break in every way, and OpenCV's."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.inference.source_clips import number_of, picture
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.sources import live as live_source
from vision_tasks.inference.sources.live import LiveSource, StreamEndedError, Taken
from vision_tasks.inference.sources.opening import open_sources

Answer = Callable[[BaseHTTPRequestHandler], None]


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
