"""Files that are no patch are refused, and never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from vision_tasks.data.patch import read_patch, write_patch
from vision_tasks.errors import VisionTasksError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, column 2 is no valid JSON"),
        ("[]", "is no patch"),
        ('{"images": []}', "is no patch"),
        ('{"vision_tasks_patch": 2, "splits": {}}', "is no patch"),
        ('{"vision_tasks_patch": 1, "splits": {"train": {"edits": 1}}}', 'list of "edits"'),
        ('{"vision_tasks_patch": 1, "splits": {"train": {"edits": []}}}', "fingerprint"),
        (
            '{"vision_tasks_patch": 1, "splits": {"val": {"fingerprint": "", "edits": [{"op": "clip"}]}}}',
            "split val, edit 1: there is no operation 'clip'",
        ),
        ("[" * 100_000, "is no JSON text"),
    ],
)
def test_files_that_are_no_patch(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "patch.json"
    path.write_text(text)
    with pytest.raises(VisionTasksError, match=said):
        read_patch(path)
    with pytest.raises(VisionTasksError, match=r"gone.json: cannot be read \(No such file"):
        read_patch(tmp_path / "gone.json")
    if '"vision_tasks_patch"' not in text:
        with pytest.raises(VisionTasksError, match="not overwritten"):
            write_patch(path, {})
        assert path.read_text() == text
