"""predictions.csv: one row an object."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from vision_tasks.inference.outputs.base import Table
from vision_tasks.inference.outputs.files import RecordFile

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result

COLUMNS = (
    "file", "frame", "time", "image_width", "image_height", "category", "category_id", "score", "x", "y", "width",
    "height", "area", "track_id",
)  # fmt: skip


class Csv(Table):
    """Columns as `COLUMNS`; x, y, width, height and area in pixels, time in seconds. A cell is empty where there is no
    such thing. A model that only draws maps gives a row a region. An image without objects has no row."""

    name = "predictions.csv"

    def record(self, result: Result) -> list[list[Any]] | None:
        """The rows of a frame."""
        frame, found = result.frame, result.prediction
        height, width = found.size
        when = ["", ""] if frame.time is None else [frame.index, round(frame.time, 6)]
        start = [plain_cell(frame.source), *when, width, height]
        categories = result.map_categories if found.boxes is None else found.categories
        name_of = dict(zip(categories.ids, map(plain_cell, categories.names), strict=True))
        rows = result.regions if found.boxes is None else result.objects
        areas = [row["area"] for row in rows] if found.boxes is None else result.areas
        return [
            [
                *start, name_of[row["category_id"]], row["category_id"], _rounded(row.get("score", ""), 6),
                *(_rounded(side, 3) for side in row["bbox"]), _rounded(area, 3), row.get("track_id", ""),
            ]
            for row, area in zip(rows, areas, strict=True)
        ] or None  # fmt: skip

    def open(self) -> None:
        """Begin the file with its header."""
        self._file = RecordFile(self.out / self.name)
        self._file.write(_lines([COLUMNS]))
        self.written = [self.name]

    def write(self, record: Any) -> None:
        """Append rows."""
        self._file.write(_lines(record))

    def finish(self) -> None:
        """Give the file its name."""
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        self._file.discard()


def plain_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: one that begins like it gets an apostrophe.

    Which beginnings these are: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")) else text


def _rounded(value: Any, places: int) -> Any:
    return round(value, places) if isinstance(value, float) else value


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
