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
        import numpy as np

        frame, found = result.frame, result.prediction
        height, width = found.size
        when = ["", ""] if frame.time is None else [frame.index, round(frame.time, 6)]
        start = [plain_cell(frame.source), *when, width, height]
        categories = result.map_categories if found.boxes is None else found.categories
        rows = result.regions if found.boxes is None else result.objects
        if not rows:
            return None
        areas = [row["area"] for row in rows] if found.boxes is None else result.areas
        name_of = {i: plain_cell(categories.names[categories.label_of_id[i]]) for i in {r["category_id"] for r in rows}}
        pixels = np.round([[*row["bbox"], area] for row, area in zip(rows, areas, strict=True)], 3).tolist()
        return [
            [
                *start, name_of[row["category_id"]], row["category_id"],
                round(row["score"], 6) if "score" in row else "", *sides, row.get("track_id", ""),
            ]
            for row, sides in zip(rows, pixels, strict=True)
        ]  # fmt: skip

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


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
