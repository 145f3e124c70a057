"""panoptic/ and panoptic.json: COCO's panoptic form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.inference.outputs.base import Table
from vision_tasks.inference.outputs.coco import image_entry, numbered, videos_entry
from vision_tasks.inference.outputs.files import make_folder
from vision_tasks.inference.outputs.json_object import JsonObject

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class PanopticFiles(Table):
    """panoptic/NAME.png, whose colours are the segments' ids (red + 256 green + 65536 blue; 0 is undecided), and
    panoptic.json with `segments_info` of each. Nothing of a model that does not merge."""

    name = "panoptic.json"

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._categories: list[dict[str, Any]] = []
        self._videos: dict[str, int] = {}
        self._file: JsonObject | None = None

    def record(self, result: Result) -> dict[str, Any] | None:
        """Write the picture; the frame's image entry and its annotation, without ids."""
        import numpy as np

        from vision_tasks.visualize.picture import write_picture

        panoptic = result.prediction.panoptic
        if panoptic is None:
            return None
        make_folder(self.out / "panoptic")
        ids = panoptic.ids.numpy()
        colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
        write_picture(self.out / "panoptic" / f"{result.stem}.png", colors)
        self._categories = panoptic.categories.to_list()
        annotation = {"file_name": f"{result.stem}.png", "segments_info": result.segments}
        return {"image": image_entry(result), "annotation": annotation}

    def state(self) -> Any:
        """The categories."""
        return self._categories or None

    def restore(self, state: Any) -> None:
        """Take over the categories."""
        self._categories = state or self._categories

    def open(self) -> None:
        """Nothing: models that do not merge leave no file."""

    def write(self, record: Any) -> None:
        """Append an image and its annotation."""
        if self._file is None:
            self._file = JsonObject(self.out / self.name)
            self.written = ["panoptic/*.png", self.name]
        image = numbered(record["image"], self._file.images + 1, self._videos)
        self._file.add(image, [{"image_id": image["id"], **record["annotation"]}])

    def finish(self) -> None:
        """Add the categories, and give the file its name."""
        if self._file is not None:
            self._file.finish({"categories": self._categories} | videos_entry(self._videos))

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.discard()
