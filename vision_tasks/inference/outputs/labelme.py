"""labelme/: one JSON file a frame, to be opened and corrected with labelme and its like."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.inference.outputs.base import Output
from vision_tasks.inference.outputs.crops import shown
from vision_tasks.inference.outputs.files import make_folder, write_file

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class Labelme(Output):
    """labelme/NAME.json with a shape an object: its box as a rectangle, or its mask's parts as polygons that share a
    group. A frame that is no file of its own, as of a video, is written beside it as NAME.jpg (PNG of 16 bits)."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "labelme"
        self.written: list[str] = []

    def add(self, result: Result) -> None:
        """Write the frame's file, and its picture if it has none."""
        from vision_tasks.inference.connectors import to_labelme

        if result.prediction.boxes is None:
            return
        make_folder(self.folder)
        content = to_labelme(result.prediction, self._picture(result), rles=result.rles)
        write_file(self.folder / f"{result.stem}.json", json.dumps(content, ensure_ascii=False) + "\n")
        self.written = ["labelme/*.json"]

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""

    def _picture(self, result: Result) -> str:
        """Where the frame's picture is, seen from the folder."""
        from vision_tasks.visualize.picture import write_picture

        frame = result.frame
        if frame.time is None and Path(frame.source).is_file():
            try:
                return Path(os.path.relpath(frame.source, self.folder)).as_posix()
            except ValueError:  # another drive
                return str(Path(frame.source).resolve())
        image = shown(frame.image)
        name = f"{result.stem}.{'jpg' if image.dtype.itemsize == 1 else 'png'}"
        write_picture(self.folder / name, image)
        return name
