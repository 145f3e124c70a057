"""predictions.jsonl: one line a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision_tasks.inference.outputs.base import Table, line_of
from vision_tasks.inference.outputs.files import RecordFile

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class JsonLines(Table):
    """A line is an object with `file`, of videos and streams `frame` (from 0) and `time` (seconds), `width` and
    `height`; `objects` with `category`, `category_id`, `score`, `bbox` (x, y, width, height), `segmentation` (RLE) and
    `track_id`; `pixels`, shares by category of a map or of panoptic segments, the largest first; and `segments`."""

    name = "predictions.jsonl"

    def record(self, result: Result) -> dict[str, Any]:
        """The line's object."""
        frame, found = result.frame, result.prediction
        line: dict[str, Any] = {"file": frame.source}
        if frame.time is not None:
            line |= {"frame": frame.index, "time": round(frame.time, 6)}
        line |= {"width": found.size[1], "height": found.size[0]}
        if found.boxes is not None:
            name_of = dict(zip(found.categories.ids, found.categories.names, strict=True))
            line["objects"] = [{"category": name_of[row["category_id"]]} | row for row in result.objects]
        if found.semantic is not None or found.panoptic is not None:
            line["pixels"] = result.pixels
        if found.panoptic is not None:
            line["segments"] = result.segments
        return line

    def open(self) -> None:
        """Begin the file."""
        self._file = RecordFile(self.out / self.name)
        self.written = [self.name]

    def write(self, record: Any) -> None:
        """Append a line."""
        self._file.write(line_of(record))

    def finish(self) -> None:
        """Give the file its name."""
        self._file.finish()

    def discard(self) -> None:
        """Remove the file."""
        self._file.discard()
