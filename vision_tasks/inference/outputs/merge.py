"""What several processes wrote of one run becomes the files that one process would have written."""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.base import Table, part_path
from vision_tasks.inference.outputs.files import refuse
from vision_tasks.inference.outputs.registry import OUTPUTS

log = logging.getLogger("vision_tasks")


def merge_parts(out: Path, ranks: int, forms: Sequence[str] | None = None) -> list[str]:
    """Join the parts of all tables, frames in the run's order, none twice; then remove the parts.

    Parts are read side by side, a line each, so memory does not grow with the run. What is interrupted can be done
    again.

    Args:
        out: folder of the results. ranks: how many processes there were, all of them done.
        forms: those that the run wrote; default every form of which there is a part.

    Returns:
        What was written, in words.

    Raises:
        VisionTasksError: a process left no part, or not all of it; no room on the disk.
    """
    written: list[str] = []
    for form in OUTPUTS if forms is None else forms:
        table = OUTPUTS[form](out)
        if not isinstance(table, Table):
            continue
        paths = [part_path(out, table.name, rank) for rank in range(ranks)]
        missing = [rank for rank, path in enumerate(paths) if not path.exists()]
        if forms is None and len(missing) == ranks:
            continue
        if missing:
            raise VisionTasksError(
                f"{out}: of {table.name} the part of process {', '.join(map(str, missing))} is missing (of {ranks}). "
                "It ended early: see its messages. Start the run again."
            )
        written += _merge(table, paths)
    return list(dict.fromkeys(written))


def _merge(table: Table, paths: list[Path]) -> list[str]:
    parts = [_Lines(path) for path in paths]
    table.open()
    last = None
    try:
        for order, record in heapq.merge(*parts, key=lambda line: line[0]):
            # A launcher that deals out images may give some to two processes, for equal numbers.
            if order != last:
                table.write(record)
            last = order
    except BaseException:
        table.discard()
        raise
    for part in parts:
        table.restore(part.end["state"])
    table.finish()
    stopped = [rank for rank, part in enumerate(parts) if part.end["stopped"]]
    if stopped:
        log.warning(
            "%s: process %s was stopped; the file holds what was done",
            table.out / table.name, ", ".join(map(str, stopped)),
        )  # fmt: skip
    for path in paths:
        path.unlink()
    return table.written


class _Lines:
    """The records of one part, in order.

    Attributes:
        end: what its last line says, when all were read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end: dict[str, Any] = {}

    def __iter__(self) -> Iterator[tuple[list[int], Any]]:
        try:
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    value = json.loads(line)
                    if isinstance(value, dict):
                        self.end = value
                        return
                    yield value[0], value[1]
        except OSError as error:
            refuse(self.path, error)
        except ValueError as error:
            raise VisionTasksError(f"{self.path} is damaged: {error}. Start the run again.") from error
        raise VisionTasksError(f"{self.path} is not whole: its end is missing. Start the run again.")
