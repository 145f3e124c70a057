"""`vision-tasks train`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.cli.console import console, say

if TYPE_CHECKING:
    from vision_tasks.config import Config


def recipe(options: list[str]) -> Config:
    """The config of `[RECIPE.yaml] [KEY=VALUE ...]`."""
    from vision_tasks.config import load_config
    from vision_tasks.errors import VisionTasksError

    files = [o for o in options if "=" not in o]
    if len(files) > 1:
        raise VisionTasksError(
            f"Give one recipe, not {len(files)}: {', '.join(files)}. Options have the form key=value."
        )
    return load_config(files[0] if files else None, [o for o in options if "=" in o])


def run(options: list[str], resume: Path | None) -> None:
    """Train, draw curves and samples, say what to do next."""
    from vision_tasks.errors import VisionTasksError

    if resume is not None and not resume.is_file():
        hint = f" Give {resume / 'last.ckpt'}." if (resume / "last.ckpt").is_file() else " Give a run's last.ckpt."
        raise VisionTasksError(f"There is no checkpoint {resume} to resume from.{hint}")
    if resume is not None and all("=" in o for o in options) and (resume.parent / "config.yaml").is_file():
        options = [str(resume.parent / "config.yaml"), *options]  # as it was, but for what is said now
    config = recipe(options)
    if config.data.path is None and config.data.train is None:
        raise VisionTasksError("What shall be trained on? Give data=FOLDER, or a recipe that names it.")

    from vision_tasks.training.report import next_commands, report
    from vision_tasks.training.run import fit

    done = fit(config, resume, console())
    if done.interrupted:
        say(f"Stopped. Go on with:\n  vision-tasks train --resume {shlex.quote(str(done.last))}")
        sys.exit(143 if done.terminated else 130)  # as a shell says of one whom this signal ended
    page = report(done, config)
    if page is None:  # not the first of several processes
        return
    say(f"Run folder: {done.folder}")
    if done.score is not None:
        say(f"Best {done.score[0]} {done.best_score:.3f}. Curves and samples: {page}")
    say("Next:")
    for command in next_commands(done):
        say(f"  {command}")
