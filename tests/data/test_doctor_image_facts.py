"""Looking at image files in several processes, and in archives: the same facts, clean ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vision_tasks.data.doctor import image_facts
from vision_tasks.data.doctor.image_facts import STATES, Member, facts_of, look
from vision_tasks.errors import VisionTasksError


@dataclass(frozen=True)
class Held:
    """An archive in memory."""

    contents: tuple[bytes, ...]

    def read(self, row: int) -> np.ndarray:
        return np.frombuffer(self.contents[row], np.uint8)

    def subset(self, rows: np.ndarray) -> Held:
        return Held(tuple(self.contents[i] for i in rows))


def test_files_in_archives_have_the_same_facts(real_data: Path) -> None:
    paths = sorted(real_data.glob("voc_quirks/JPEGImages/*.jpg")) * 8
    archive = Held(tuple(p.read_bytes() for p in paths))
    members = [Member(p, archive.subset(np.array([i]))) for i, p in enumerate(paths)]
    ours, theirs = facts_of(members, 2), facts_of(paths, 1)
    np.testing.assert_array_equal(ours.table, theirs.table)
    assert ours.errors == theirs.errors
    assert len(ours.errors) == 8


def test_what_must_not_be_looked_for_is_missing() -> None:
    facts, text = look(None)
    assert STATES[facts["state"]] == "image_missing"
    assert "refused" in text
    assert len(facts_of([]).table) == 0


def test_looking_loads_no_torch() -> None:
    """Processes that are spawned would take seconds to begin."""
    code = "import sys, vision_tasks.data.doctor.image_facts; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing(real_data: Path) -> None:
    paths = [*sorted(real_data.glob("bloodcells_coco/train/*.jpg")), None, *sorted(real_data.glob("voc_quirks/*/*"))]
    alone, four = facts_of(paths, 1), facts_of(paths, 4)
    np.testing.assert_array_equal(alone.table, four.table)
    assert alone.errors == four.errors
    assert len(alone.errors) > 10


def _end(paths: list[Path], pixel_limit: int) -> None:
    os._exit(1)


def test_a_process_that_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_facts, "_looked", _end)
    with pytest.raises(VisionTasksError, match=r"a process that looked at images ended.*0\.jpg"):
        facts_of([tmp_path / f"{i}.jpg" for i in range(100)], 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sends signals to a group")
def test_interrupting_ends_all_processes(real_data: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom vision_tasks.data.doctor.image_facts import facts_of\n"
        f"paths = sorted(Path({str(real_data)!r}).glob('camvid/*/*.png')) * 50\nprint('begins', flush=True)\n"
        "try:\n    facts_of(paths, 2)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    time.sleep(1.5)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (out, errors) == ("interrupted\n", "")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
