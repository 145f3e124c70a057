"""What several tests share: where the real data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets and weights; tests that want it skip where it is not set."""
    folder = os.environ.get("VISION_TASKS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VISION_TASKS_DATA does not name the folder of real data")
    return Path(folder)
