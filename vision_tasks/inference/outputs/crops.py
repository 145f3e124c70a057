"""crops/ and cutouts/: the objects as pictures of their own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.base import Output
from vision_tasks.inference.outputs.files import folder_names, make_folder, write_file
from vision_tasks.inference.outputs.outlines import window_of

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.inference.outputs.result import Result


class Crops(Output):
    """crops/CATEGORY/NAME-N.jpg: each object's box, grown to whole pixels and cut to the image; N is its place in the
    list, from 1 as in predictions.jsonl. Images of 16 bits give PNG of 16. A box outside its image gives none."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "crops"
        self.written: list[str] = []

    def add(self, result: Result) -> None:
        """Write the frame's objects."""
        image = shown(result.frame.image)
        ending = "jpg" if image.dtype.itemsize == 1 else "png"
        height, width = image.shape[:2]
        for number, (row, folder) in enumerate(zip(result.objects, _folders(result), strict=True), start=1):
            x, y, w, h = row["bbox"]
            x1, y1 = max(0, math.floor(x)), max(0, math.floor(y))
            x2, y2 = min(width, math.ceil(x + w)), min(height, math.ceil(y + h))
            if x1 < x2 and y1 < y2:
                self._write(folder, f"{result.stem}-{number}.{ending}", image[y1:y2, x1:x2])
                self.written = [f"crops/CATEGORY/*.{ending}"]

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""

    def _write(self, folder: str, name: str, picture: np.ndarray) -> None:
        from vision_tasks.visualize.picture import write_picture

        make_folder(self.folder / folder)
        write_picture(self.folder / folder / name, picture)


class Cutouts(Output):
    """cutouts/CATEGORY/NAME-N.png: each object's own pixels, everything else transparent. A mask without a pixel gives
    none."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "cutouts"
        self.written: list[str] = []

    def add(self, result: Result) -> None:
        """Write the frame's objects.

        Raises:
            VisionTasksError: objects without masks.
        """
        import cv2
        import numpy as np

        if result.rles is None:
            if len(result.prediction):
                raise VisionTasksError("cutouts need masks, and this model finds boxes only. Use crops.")
            return
        image = shown(result.frame.image)
        image = image[..., [0, 0, 0]] if image.shape[2] == 1 else image
        most = np.iinfo(image.dtype).max
        for number, (rle, folder) in enumerate(zip(result.rles, _folders(result), strict=True), start=1):
            (x1, y1, x2, y2), bitmap = window_of(rle)
            if not bitmap.any():
                continue
            seen = bitmap[..., None].astype(image.dtype)
            # OpenCV's order is blue, green, red, alpha.
            pixels = np.concatenate([image[y1:y2, x1:x2, ::-1] * seen, seen * most], axis=2)
            make_folder(self.folder / folder)
            write_file(self.folder / folder / f"{result.stem}-{number}.png", cv2.imencode(".png", pixels)[1].tobytes())
            self.written = ["cutouts/CATEGORY/*.png"]

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""


def shown(image: np.ndarray) -> np.ndarray:
    """(H, W, C) as (H, W, 1 or 3), which picture files hold."""
    from vision_tasks.data.images import displayed

    return image if image.shape[2] in (1, 3) else displayed(image)


def _folders(result: Result) -> list[str]:
    """N names of the objects' folders."""
    found = result.prediction
    if found.labels is None:
        return []
    names = folder_names(found.categories)
    return [names[label] for label in found.labels.tolist()]
