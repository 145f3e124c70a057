"""A window that shows pictures as they come, where OpenCV has one."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from importlib import metadata

import cv2
import numpy as np

from vision_tasks.errors import VisionTasksError

_QUIT = (ord("q"), ord("Q"), 27)  # 27 is Esc


class Window:
    """Shows one picture after another; it opens with the first. All calls must come from one thread.

    Args:
        title: of the window.

    Raises:
        VisionTasksError: OpenCV was built without windows, or there is no display.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._open = False
        self._ended = False
        _check_windows()
        _check_display()

    def show(self, picture: np.ndarray) -> bool:
        """Show a picture, (H, W, 3) uint8 RGB or (H, W) grey; the window has the first one's size, or the user's.

        Returns:
            False when the user has pressed q or Esc or has closed the window; then always, and nothing is shown.

        Raises:
            VisionTasksError: the window cannot be opened.
        """
        if self._ended:
            return False
        try:
            if not self._open:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
                cv2.resizeWindow(self._title, picture.shape[1], picture.shape[0])
                self._open = True
            cv2.imshow(self._title, picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            key = cv2.waitKey(1)
            seen = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error as error:
            raise VisionTasksError(f"no window can be opened for --show: {str(error).strip()}") from error
        if not seen or (key != -1 and key & 0xFF in _QUIT):
            self.close()
        return not self._ended

    def close(self) -> None:
        """Close the window. Calling again does nothing."""
        self._ended = True
        if self._open:
            self._open = False
            with contextlib.suppress(cv2.error):  # the user may have been first
                cv2.destroyWindow(self._title)
                cv2.waitKey(1)  # or some systems leave it standing

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _check_windows() -> None:
    for line in cv2.getBuildInformation().splitlines():
        name, _, value = line.strip().partition(":")
        if name == "GUI" and value.strip().upper() in ("NONE", "NO"):
            raise VisionTasksError(f"--show needs a build of OpenCV that has windows; {_remedy()}")


def _remedy() -> str:
    """How to change the build: all builds write the same folder, so the others must go first."""
    installed = {str(found.metadata["Name"]).lower() for found in metadata.distributions() if found.metadata["Name"]}
    headless = sorted(name for name in installed if name.startswith("opencv") and name.endswith("headless"))
    if not headless:
        return "this one was built without (see GUI in cv2.getBuildInformation())"
    wanted = [name.removesuffix("-headless") for name in headless]
    return f"this one is headless: pip uninstall {' '.join(headless)}, then pip install {' '.join(wanted)}"


def _check_display() -> None:
    """On Linux OpenCV itself would end the whole process where the display does not answer."""
    if not sys.platform.startswith("linux") or os.environ.get("WAYLAND_DISPLAY"):
        return
    display = os.environ.get("DISPLAY", "")
    if not display:
        state = "neither DISPLAY nor WAYLAND_DISPLAY is set"
    elif not _answers(display):
        state = f"DISPLAY={display} does not answer"
    else:
        return
    raise VisionTasksError(
        f"--show needs a display, and {state}: leave --show out and look at the files in --out, or log in with a "
        "display (ssh -Y)"
    )


def _answers(display: str) -> bool:
    """Whether an X server listens at HOST:NUMBER.SCREEN, as X(7) has it; no host is this one."""
    found = re.fullmatch(r"(.*):(\d+)(\.\d+)?", display)
    if found is None:
        return False
    host, number = found[1], int(found[2])
    if host in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"
        return any(_connects(socket.AF_UNIX, address) for address in (path, "\0" + path))  # the second is Linux's own
    return _connects(socket.AF_INET, (host, 6000 + number)) or _connects(socket.AF_INET6, (host, 6000 + number))


def _connects(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.settimeout(5)
            tried.connect(address)
    except OSError:
        return False
    return True
