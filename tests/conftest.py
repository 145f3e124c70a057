"""What all tests share: where the real data are, and a quick garbage collector."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Modules and collected tests stay to the end: looking for garbage among them takes as long as many tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 10, 10)
        gc.enable()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets and weights; tests that want it skip where it is not set."""
    folder = os.environ.get("VISION_TASKS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VISION_TASKS_DATA does not name the folder of real data")
    return Path(folder)
