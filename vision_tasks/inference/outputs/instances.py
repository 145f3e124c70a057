"""instances/: masks of objects as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.base import Output
from vision_tasks.inference.outputs.files import make_folder
from vision_tasks.inference.outputs.label_png import write_mask
from vision_tasks.inference.outputs.maps import Maps
from vision_tasks.inference.outputs.outlines import window_of

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.inference.outputs.result import Result


class Instances(Output):
    """instances/NAME.png, whose values are the objects' places in their list, from 1 as in predictions.jsonl; 0 where
    there is none. Of 8 bits with a palette up to 255 objects, else grey of 16. Where masks overlap, the object with
    the better score is seen. Nothing of a model without masks."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: list[str] = []

    def add(self, result: Result) -> None:
        """Write the frame's objects, if they have masks."""
        from vision_tasks.categories import category_color

        if result.rles is None:
            return
        numbers = instance_numbers(result)
        palette = None
        if numbers.dtype.itemsize == 1:
            palette = [0, 0, 0, *(part for value in range(255) for part in category_color(value))]
        make_folder(self.out / "instances")
        write_mask(self.out / "instances" / f"{result.stem}.png", numbers, palette)
        self.written = ["instances/*.png (values are objects' places in their list, from 1)"]

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""


class MaskFiles(Output):
    """Both `Maps` and `Instances`."""

    def __init__(self, out: Path) -> None:
        self._parts = (Maps(out), Instances(out))

    @property
    def written(self) -> list[str]:  # type: ignore[override]
        """What was written so far."""
        return [word for part in self._parts for word in part.written]

    def add(self, result: Result) -> None:
        """Write the frame's map and objects, as far as it has them."""
        for part in self._parts:
            part.add(result)

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""


def instance_numbers(result: Result) -> np.ndarray:
    """(H, W) uint8 or uint16: 1 + the place of the best object there, or 0.

    Raises:
        VisionTasksError: more than 65,535 objects.
    """
    import numpy as np

    rles = result.rles or []
    if len(rles) > 65_535:
        raise VisionTasksError(
            f"{result.frame.source}: {len(rles)} objects, and a PNG tells 65535 apart. Raise the threshold."
        )
    numbers = np.zeros(result.prediction.size, np.uint8 if len(rles) <= 255 else np.uint16)
    scores = result.prediction.scores
    places = list(range(len(rles))) if scores is None else scores.argsort(stable=True, descending=True).tolist()
    # The best is painted last.
    for i in reversed(places):
        (x1, y1, x2, y2), bitmap = window_of(rles[i])
        numbers[y1:y2, x1:x2][bitmap] = i + 1
    return numbers
