"""A JSON file of an object with two long lists, written part by part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.files import RecordFile


class JsonObject:
    """{"annotations": [...], "images": [...], ...}: annotations are written as they come; images go to a second hidden
    file, which is added at the end. Neither is held in memory.

    Attributes:
        images, annotations: how many were written.
    """

    def __init__(self, path: Path) -> None:
        """Begin the file.

        Raises:
            VisionTasksError: it cannot be made.
        """
        self.images = self.annotations = 0
        self._file = RecordFile(path)
        self._images = RecordFile(path.with_name(f"{path.name}.images"))
        self._file.write('{"annotations": [')

    def add(self, image: dict[str, Any], annotations: list[dict[str, Any]]) -> None:
        """Append an image and its annotations.

        Raises:
            VisionTasksError: no room.
        """
        self._file.write("".join(_entry(row, self.annotations + i) for i, row in enumerate(annotations)))
        # Where this does not fit, annotations without an image remain: readers take them, and the run ends here.
        self._images.write(_entry(image, self.images))
        self.images += 1
        self.annotations += len(annotations)

    def finish(self, rest: dict[str, Any]) -> None:
        """Add the images and what else the object has, and give the file its name.

        Raises:
            VisionTasksError: no room. What was written stays in the hidden files, which the message names.
        """
        rows_end = self._file.size
        try:
            self._file.write('\n], "images": [')
            self._file.append(self._images)
            self._file.write("\n], " + json.dumps(rest, ensure_ascii=False)[1:] + "\n")
        except VisionTasksError as error:
            self._file.cut(rows_end)
            self._file.rest()
            self._images.rest()
            raise VisionTasksError(
                f"{error} What was found until then is in {self._file.part.name} (annotations) and "
                f"{self._images.part.name} (images)."
            ) from error
        self._file.finish()
        self._images.discard()

    def discard(self) -> None:
        """Remove the file."""
        self._file.discard()
        self._images.discard()


def _entry(value: dict[str, Any], before: int) -> str:
    """An entry of a list that has this many already."""
    return (",\n" if before else "\n") + json.dumps(value, ensure_ascii=False)
