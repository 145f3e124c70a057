"""What every form of output is: takes results one by one, holds none of them, and ends in files that are whole."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.inference.outputs.files import RecordFile

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class Output(ABC):
    """One form of what is written into a folder.

    Attributes:
        written: what was written so far, in words, such as "predictions.jsonl".
    """

    written: list[str]

    @abstractmethod
    def add(self, result: Result) -> None:
        """Write one frame's result.

        Raises:
            VisionTasksError: no room, or the result cannot be said in this form.
        """

    @abstractmethod
    def close(self, stopped: bool = False) -> None:
        """Finish the files. `stopped`: whether the run ended before its end."""


class Table(ABC):
    """A form that is one file (or a few) with a record of each frame, in order. `Whole` writes it at once; of several
    processes each writes its own records (`Part`), which `merge` hands to the same table later.

    Attributes:
        out: folder of the results. written: as of `Output`, after `open`.
    """

    name: str
    """Of its file; those of its parts begin with it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: list[str] = []

    @abstractmethod
    def record(self, result: Result) -> Any:
        """What is to be written of one frame, in JSON's types; None for nothing."""

    def late(self) -> list[tuple[tuple[int, ...], Any]]:
        """Records that are known after the last frame only, with their order."""
        return []

    def state(self) -> Any:
        """What the file has beside its records, known after the last of them; None for nothing."""
        return None

    def restore(self, state: Any) -> None:  # noqa: B027 - most have none
        """Take over the state of another process's table."""

    @abstractmethod
    def open(self) -> None:
        """Begin the files."""

    @abstractmethod
    def write(self, record: Any) -> None:
        """Append a record."""

    @abstractmethod
    def finish(self) -> None:
        """End the files and give them their names."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what `open` and `write` made; the files that were there before stay."""


class Whole(Output):
    """A table written by one process."""

    def __init__(self, table: Table) -> None:
        self.table = table
        table.open()

    @property
    def written(self) -> list[str]:  # type: ignore[override]
        """What was written so far."""
        return self.table.written

    def add(self, result: Result) -> None:
        """Append the frame's record."""
        record = self.table.record(result)
        if record is not None:
            self.table.write(record)

    def close(self, stopped: bool = False) -> None:
        """Write what is known at the end, and finish the table."""
        for _, record in self.table.late():
            self.table.write(record)
        self.table.finish()

    def discard(self) -> None:
        """Remove what was written."""
        self.table.discard()


class Part(Output):
    """What one of several processes has for a table: NAME.partR, a line `[order, record]` of each frame, then a line
    with an object that says how it ended."""

    def __init__(self, table: Table, rank: int) -> None:
        self.table = table
        path = part_path(table.out, table.name, rank)
        # Of an earlier run: if this one ends early, nobody is to take it for this one's.
        path.unlink(missing_ok=True)
        self._file = RecordFile(path)
        self.written = [path.name]

    def add(self, result: Result) -> None:
        """Append the frame's record to this process's file."""
        record = self.table.record(result)
        if record is not None:
            self._file.write(line_of([result.order, record]))

    def close(self, stopped: bool = False) -> None:
        """Say how it ended, and finish the file."""
        for order, record in self.table.late():
            self._file.write(line_of([order, record]))
        self._file.write(line_of({"stopped": stopped, "state": self.table.state()}))
        self._file.finish()

    def discard(self) -> None:
        """Remove what was written."""
        self._file.discard()


def part_path(out: Path, name: str, rank: int) -> Path:
    """Where the process of this rank writes its records of a table."""
    return out / f"{name}.part{rank}"


def line_of(value: Any) -> str:
    """JSON in one line, with its end."""
    return json.dumps(value, ensure_ascii=False) + "\n"
