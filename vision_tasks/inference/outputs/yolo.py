"""yolo/: one text file a frame in the form that YOLO programs read, and data.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.inference.outputs.base import Output
from vision_tasks.inference.outputs.files import make_folder, write_file
from vision_tasks.inference.outputs.outlines import outlines_of

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.inference.outputs.result import Result
    from vision_tasks.structures import Categories, Rle


class Yolo(Output):
    """yolo/labels/NAME.txt with a line an object: the label from 0, then the box's centre x, y, width and height; or,
    of models with masks, the outline x, y, x, y, ... All are shares of the image's width and height, cut to it. An
    empty file is an image without objects. yolo/data.yaml names the labels.

    Of a mask only the largest part is kept, without its holes, to a third of a pixel; the form has no words for more.
    An object whose mask is empty is the outline of its box.
    """

    confidence = False
    """Whether lines end in the score, and the track's number if there is one."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "yolo"
        self.written: list[str] = []

    def add(self, result: Result) -> None:
        """Write the frame's labels.

        Raises:
            VisionTasksError: a score or box that is not finite; no room.
        """
        if result.prediction.boxes is None:
            return
        if not self.written:
            make_folder(self.folder / "labels")
            write_file(self.folder / "data.yaml", _description(result.prediction.categories))
            self.written = ["yolo/labels/*.txt", "yolo/data.yaml"]
        write_file(self.folder / "labels" / f"{result.stem}.txt", self._lines(result))

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""

    def _lines(self, result: Result) -> str:
        import numpy as np

        found = result.prediction
        assert found.labels is not None
        height, width = found.size
        size = np.array([width, height], np.float64)
        boxes = np.array([row["bbox"] for row in result.objects], np.float64).reshape(-1, 2, 2)
        boxes[:, 1] += boxes[:, 0]
        corners = np.clip(boxes / size, 0, 1)
        if result.rles is None:
            numbers = list(np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], 1))
        else:
            numbers = [(outline / size).ravel() for outline in map(_outline, result.rles, corners * size)]
        lines = []
        for row, label, values in zip(result.objects, found.labels.tolist(), numbers, strict=True):
            words = [str(label), *(f"{value:.6f}" for value in values.tolist())]
            if self.confidence:
                words += [f"{row['score']:.6f}", *([str(row["track_id"])] if "track_id" in row else [])]
            lines.append(" ".join(words) + "\n")
        return "".join(lines)


class YoloWithConfidence(Yolo):
    """As `Yolo`, with the score at the end of each line, and after it the track's number if there is one: what YOLO
    programs write, but do not train on."""

    confidence = True


def _outline(rle: Rle, corners: np.ndarray) -> np.ndarray:
    """(P, 2) x, y of the mask's largest part, or of the box (2, 2) of an empty one."""
    outlines = outlines_of(rle)
    # Left, right, right, left; top, top, bottom, bottom.
    return outlines[0] if outlines else corners[[[0, 0], [1, 0], [1, 1], [0, 1]], [[0, 1]]]


def _description(categories: Categories) -> str:
    """data.yaml. JSON's texts are YAML's."""
    head = "# Labels as predicted. Put the images, by the same names, into images/.\n"
    head += "path: .\ntrain: images\nval: images\nnames:" + ("\n" if categories.names else " {}\n")
    texts = (json.dumps(name, ensure_ascii=False) for name in categories.names)
    return head + "".join(f"  {label}: {text}\n" for label, text in enumerate(texts))
