"""What the command line says, and how it ends."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# What steers a terminal, or turns the order of letters; halves of letters, which cannot be written.
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_COLORS = re.compile(r"(\x1b\[[0-9;]{1,8}m)")


def printable(text: str) -> str:
    """Text without what steers a terminal: names of categories and files may hold anything. Lines stay lines."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def console() -> Console:
    """For progress and remarks: standard error, coloured only on a terminal."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = printable(self.format(record))
        if record.levelno >= logging.WARNING:
            mark = "\033[33mwarning:\033[0m" if sys.stderr.isatty() else "warning:"
            text = f"{mark} {text}"
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def set_up_logging() -> None:
    """Show what the package says, from information on."""
    logger = logging.getLogger("vision_tasks")
    if not any(isinstance(h, _Handler) for h in logger.handlers):
        logger.addHandler(_Handler())
    # Of several processes only the first one speaks, unless something is wrong.
    logger.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.ERROR)
    logger.propagate = False


def say(text: str = "", *, colored: bool = False) -> None:
    """A result, on standard output, without what steers a terminal.

    Args:
        colored: keep colours: whoever says so has made names from data `printable` before.
    """
    parts = _COLORS.split(text) if colored else [text]
    print("".join(p if n % 2 else printable(p) for n, p in enumerate(parts)), flush=True)  # noqa: T201


def complain(text: str) -> None:
    """Why nothing more is done, on standard error."""
    print(f"error: {printable(text)}", file=sys.stderr, flush=True)  # noqa: T201


def table(rows: list[dict[str, object]], columns: list[str]) -> str:
    """Rows as aligned text: words to the left, numbers to the right, a dash for nothing.

    Numbers of a column have three places if all lie in -1..1, as scores do, else two.
    """
    places = {c: 2 if any(isinstance(v := row.get(c), float) and abs(v) > 1 for row in rows) else 3 for c in columns}
    cells = [columns, *([_cell(row.get(c), places[c]) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(not isinstance(row.get(c), str) for row in rows) for c in columns]
    lines = [
        "  ".join(
            cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join(lines)


def _cell(value: object, places: int) -> str:
    if value is None or (isinstance(value, float) and (value != value or value == -1)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{places}f}"
    return re.sub(r"[\t\n]", "\N{REPLACEMENT CHARACTER}", printable(str(value)))  # a cell is one line
