"""What the command line changes in its process is put back, for other tests' caplog."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from vision_tasks.cli import console


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    yield
    logger = logging.getLogger("vision_tasks")
    logger.handlers = [h for h in logger.handlers if not isinstance(h, console._Handler)]
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
