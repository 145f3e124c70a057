"""The window, with an OpenCV that only notes what it is asked for: no display is there where tests run."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.video import window
from vision_tasks.inference.video.window import Window

GUI = "  GUI:                           QT5\n    QT:                          YES (ver 5.15.16 )\n  Media I/O:"
HEADLESS = "  GUI:                           NONE\n  Media I/O:"


class FakeOpenCV:
    """As much of cv2 as a window uses."""

    error = cv2.error
    WINDOW_NORMAL, WINDOW_KEEPRATIO, WND_PROP_VISIBLE, COLOR_RGB2BGR = (
        cv2.WINDOW_NORMAL,
        cv2.WINDOW_KEEPRATIO,
        cv2.WND_PROP_VISIBLE,
        cv2.COLOR_RGB2BGR,
    )
    cvtColor = staticmethod(cv2.cvtColor)

    def __init__(self, information: str = GUI) -> None:
        self.information = information
        self.shown: list[np.ndarray] = []
        self.windows: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.key = -1
        self.visible = 1.0
        self.fails = False

    def getBuildInformation(self) -> str:
        return self.information

    def namedWindow(self, title: str, flags: int) -> None:
        if self.fails:
            raise cv2.error("could not connect")
        self.windows.append(title)

    def resizeWindow(self, title: str, width: int, height: int) -> None:
        self.sizes.append((width, height))

    def imshow(self, title: str, picture: np.ndarray) -> None:
        assert title in self.windows
        self.shown.append(picture)

    def waitKey(self, delay: int) -> int:
        assert delay > 0, "0 would wait for a key"
        return self.key

    def getWindowProperty(self, title: str, prop: int) -> float:
        assert prop == cv2.WND_PROP_VISIBLE
        return self.visible

    def destroyWindow(self, title: str) -> None:
        if self.visible < 1:
            raise cv2.error("no such window")
        self.windows.remove(title)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeOpenCV:
    made = FakeOpenCV()
    monkeypatch.setattr(window, "cv2", made)
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    return made


PICTURE = np.zeros((40, 60, 3), np.uint8)
PICTURE[:] = (255, 10, 0)


def test_pictures_are_shown_as_bgr_in_one_window(fake: FakeOpenCV) -> None:
    with Window("a title") as shown:
        assert shown.show(PICTURE) is True
        assert shown.show(PICTURE[:20]) is True
        assert shown.show(PICTURE[..., 0]) is True
        assert fake.windows == ["a title"]
    assert fake.windows == []
    assert fake.sizes == [(60, 40)]
    assert fake.shown[0][0, 0].tolist() == [0, 10, 255]
    assert fake.shown[1].shape == (20, 60, 3)
    assert fake.shown[2].shape == (40, 60)


@pytest.mark.parametrize("key", [ord("q"), ord("Q"), 27, ord("q") | 0x100000])  # GTK adds the state of Num Lock
def test_q_and_escape_end_it_for_good(fake: FakeOpenCV, key: int) -> None:
    shown = Window("a title")
    assert shown.show(PICTURE)
    fake.key = key
    assert not shown.show(PICTURE)
    fake.key = -1
    assert not shown.show(PICTURE)
    assert len(fake.shown) == 2
    assert fake.windows == []
    shown.close()


def test_other_keys_do_not_end_it(fake: FakeOpenCV) -> None:
    shown = Window("a title")
    for fake.key in (-1, ord(" "), 13, 255):
        assert shown.show(PICTURE)


def test_closing_the_window_ends_it(fake: FakeOpenCV) -> None:
    shown = Window("a title")
    assert shown.show(PICTURE)
    fake.visible = 0.0
    assert not shown.show(PICTURE)
    assert not shown.show(PICTURE)
    assert len(fake.shown) == 2


def test_a_window_that_does_not_open(fake: FakeOpenCV) -> None:
    fake.fails = True
    with pytest.raises(VisionTasksError, match="no window can be opened for --show: could not connect"):
        Window("a title").show(PICTURE)


def test_a_headless_build_names_what_to_install(fake: FakeOpenCV, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.information = HEADLESS
    names = [{"Name": "opencv-python-headless"}, {"Name": "numpy"}, {"Name": None}]
    monkeypatch.setattr(window.metadata, "distributions", lambda: [SimpleNamespace(metadata=name) for name in names])
    with pytest.raises(VisionTasksError) as error:
        Window("a title")
    assert "pip uninstall opencv-python-headless, then pip install opencv-python" in str(error.value)
    monkeypatch.setattr(window.metadata, "distributions", list)
    with pytest.raises(VisionTasksError, match="this one was built without"):
        Window("a title")


def test_the_opencv_that_is_installed_is_read_right() -> None:
    """The real build information: opencv-python-headless says NONE."""
    headless = any(line.split() == ["GUI:", "NONE"] for line in cv2.getBuildInformation().splitlines())
    if headless:
        with pytest.raises(VisionTasksError, match="needs a build of OpenCV that has windows"):
            window._check_windows()
    else:
        window._check_windows()


@pytest.mark.parametrize("display", ["", ":4711", "nonsense", "127.0.0.1:9"])
def test_no_display(fake: FakeOpenCV, monkeypatch: pytest.MonkeyPatch, display: str) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.setenv("DISPLAY", display)
    wanted = f"DISPLAY={display} does not answer" if display else "neither DISPLAY nor WAYLAND_DISPLAY is set"
    with pytest.raises(VisionTasksError, match=f"--show needs a display, and {wanted}"):
        Window("a title")


def test_a_display_that_answers(fake: FakeOpenCV, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("DISPLAY", f"127.0.0.1:{server.getsockname()[1] - 6000}.0")
        assert Window("a title").show(PICTURE)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(Path(folder) / "X0"))
        local.listen()
        assert window._connects(socket.AF_UNIX, str(Path(folder) / "X0"))


def test_elsewhere_no_display_is_asked_for(fake: FakeOpenCV, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(window.sys, "platform", "darwin")
    assert Window("a title").show(PICTURE)
