"""predictions.json: COCO's form, with images, annotations that have scores, and categories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.inference.outputs.base import Table
from vision_tasks.inference.outputs.json_object import JsonObject

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class Coco(Table):
    """A frame of a video is an image of its own, with `video_id`, `frame_id` (from 0) and `time` (seconds) as COCO's
    video data sets have them; `videos` names the files. A model that only draws maps gives one region a category, as
    COCO's stuff files do."""

    name = "predictions.json"

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._categories: list[dict[str, Any]] = []
        self._videos: dict[str, int] = {}

    def record(self, result: Result) -> dict[str, Any]:
        """The frame's image entry and its annotations, without ids."""
        self._categories = result.categories.to_list()
        if result.prediction.boxes is None:
            rows = result.regions
        else:
            rows = [row | {"area": area} for row, area in zip(result.objects, result.areas, strict=True)]
        return {"image": image_entry(result), "annotations": rows}

    def state(self) -> Any:
        """The categories."""
        return self._categories

    def restore(self, state: Any) -> None:
        """Take over the categories."""
        self._categories = state or self._categories

    def open(self) -> None:
        """Begin the file."""
        self._file = JsonObject(self.out / self.name)
        self.written = [self.name]

    def write(self, record: Any) -> None:
        """Append an image and its annotations."""
        image = numbered(record["image"], self._file.images + 1, self._videos)
        rows = [
            {"id": number, "image_id": image["id"], **row, "iscrowd": 0}
            for number, row in enumerate(record["annotations"], self._file.annotations + 1)
        ]
        self._file.add(image, rows)

    def finish(self) -> None:
        """Add the categories, and give the file its name."""
        self._file.finish({"categories": self._categories} | videos_entry(self._videos))

    def discard(self) -> None:
        """Remove the file."""
        self._file.discard()


def image_entry(result: Result) -> dict[str, Any]:
    """What COCO says of an image, without its id; `video` is to become `video_id`."""
    frame, (height, width) = result.frame, result.prediction.size
    if frame.time is None:
        return {"file_name": frame.source, "width": width, "height": height}
    entry: dict[str, Any] = {"file_name": f"{frame.name}.jpg", "width": width, "height": height}
    return entry | {"video": frame.source, "frame_id": frame.index, "time": round(frame.time, 6)}


def numbered(image: dict[str, Any], number: int, videos: dict[str, int]) -> dict[str, Any]:
    """The entry with its id, and that of its video, which is new if it is not in `videos`."""
    image = {"id": number, **image}
    if "video" in image:
        image["video_id"] = videos.setdefault(image.pop("video"), len(videos) + 1)
    return image


def videos_entry(videos: dict[str, int]) -> dict[str, Any]:
    """The list of videos, if there are any."""
    return {"videos": [{"id": number, "name": name} for name, number in videos.items()]} if videos else {}
