"""`vision-tasks data browse`: images with their annotations on a page."""

from __future__ import annotations

import shlex
from pathlib import Path

from vision_tasks.cli.console import console, say
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.errors import VisionTasksError


def run(data: Path, out: Path, count: int, category: str, split: str, seed: int) -> None:
    from vision_tasks.data.formats.registry import read_data
    from vision_tasks.data.operations.target import writing_to
    from vision_tasks.visualize.browse import write_browser

    if out.suffix.lower() not in (".html", ".htm"):
        raise VisionTasksError(f"--out {out}: name a page, such as browse.html")
    with work_bar(console()):
        splits = read_data(data)
        if split:
            if split not in splits:
                raise VisionTasksError(f"{data} has no split {split!r}; it has {', '.join(splits)}.")
            splits = {split: splits[split]}
        with writing_to(out):
            found = write_browser(splits, out, count, category, seed, f"Images of {data.name}")
    of = "" if found.candidates is None else f" of {found.candidates:,}"
    say(f"{found.shown:,}{of} images{f' with {category}' if category else ''}: {out}")
    if found.broken:
        say(f"{found.broken:,} of them cannot be drawn; the page says why.")
        say(f"Next:\n  vision-tasks doctor {shlex.quote(str(data))}")
