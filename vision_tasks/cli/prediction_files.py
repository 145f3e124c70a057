"""What `vision-tasks predict` wrote before `vision_tasks.inference.outputs`, which it now passes on to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.inference.outputs.files import folder_names as folder_names

if TYPE_CHECKING:
    from vision_tasks.structures import Prediction

FORMS = ("jsonl", "coco", "none")


class PredictionFiles:
    """`open_outputs`, by a number and a path in place of a frame."""

    def __init__(self, out: Path, form: str) -> None:
        from vision_tasks.inference.outputs.registry import Outputs

        self._out, self._forms = out, [] if form == "none" else [form, "maps", "panoptic"]
        self._outputs = Outputs([])

    @property
    def objects(self) -> int:
        """How many were written so far."""
        return self._outputs.objects

    @property
    def written(self) -> list[str]:
        """What was written so far, in words."""
        return self._outputs.written

    def __enter__(self) -> PredictionFiles:
        from vision_tasks.inference.outputs.registry import open_outputs

        self._outputs = open_outputs(self._forms, self._out)
        return self

    def add(self, number: int, path: Path, name: str, prediction: Prediction) -> None:
        """Write one image's prediction."""
        import numpy as np

        from vision_tasks.inference.frames import Frame

        frame = Frame(np.zeros((0, 0, 3), np.uint8), str(path), name)
        self._outputs.add(frame, prediction, order=number - 1)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._outputs.__exit__(kind, None, None)


def pixel_shares(prediction: Prediction) -> dict[str, float]:
    """Share of the image's pixels by category name."""
    import numpy as np

    from vision_tasks.inference.frames import Frame
    from vision_tasks.inference.outputs.result import Result

    return Result(Frame(np.zeros((0, 0, 3), np.uint8), "", ""), prediction).pixels
