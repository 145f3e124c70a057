"""Every form of output by name, and all that a run writes as one thing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.base import Output, Part, Table, Whole
from vision_tasks.inference.outputs.coco import Coco
from vision_tasks.inference.outputs.crops import Crops, Cutouts
from vision_tasks.inference.outputs.csv_rows import Csv
from vision_tasks.inference.outputs.files import make_folder
from vision_tasks.inference.outputs.instances import Instances, MaskFiles
from vision_tasks.inference.outputs.json_lines import JsonLines
from vision_tasks.inference.outputs.label_png import mask_type
from vision_tasks.inference.outputs.labelme import Labelme
from vision_tasks.inference.outputs.maps import Maps
from vision_tasks.inference.outputs.mot import Mot
from vision_tasks.inference.outputs.panoptic import PanopticFiles
from vision_tasks.inference.outputs.possible import Gives, check_possible
from vision_tasks.inference.outputs.result import Result
from vision_tasks.inference.outputs.sheet import Sheet
from vision_tasks.inference.outputs.yolo import Yolo, YoloWithConfidence

if TYPE_CHECKING:
    import numpy as np

    from vision_tasks.inference.frames import Frame
    from vision_tasks.structures import Categories, Prediction

OUTPUTS: dict[str, Callable[[Path], Output | Table]] = {
    "jsonl": JsonLines,
    "coco": Coco,
    "csv": Csv,
    "yolo": Yolo,
    "yolo-conf": YoloWithConfidence,
    "labelme": Labelme,
    "mot": Mot,
    "masks": MaskFiles,
    "maps": Maps,
    "instances": Instances,
    "panoptic": PanopticFiles,
    "crops": Crops,
    "cutouts": Cutouts,
    "sheet": Sheet,
}
"""Form by name: makes an `Output`, or a `Table`, from the folder of results."""


class Outputs:
    """All that one run writes.

    Attributes:
        frames: how many were added. objects: how many were found on them.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._outputs = list(outputs)
        self._open = True
        self._whole = False  # whether a frame was written in every form
        self._last: tuple[int, ...] | None = None
        self.frames = self.objects = 0

    @property
    def written(self) -> list[str]:
        """What was written so far, in words; the files have their names after `close`."""
        return list(dict.fromkeys(word for output in self._outputs for word in output.written))

    def add(
        self,
        frame: Frame,
        prediction: Prediction,
        *,
        order: int | tuple[int, ...] | None = None,
        drawn: np.ndarray | None = None,
    ) -> None:
        """Write one frame's result in every form. Nothing of it is held.

        Args:
            frame: where it comes from. prediction: on the frame's own grid, on any device.
            order: its place in the whole run, ascending from frame to frame, the same however many processes there are:
                a number from 0 (those of images that could not be read are left out), or several, such as the source's
                and the frame's. Default: how many were added before. Several processes must give it.
            drawn: (H, W, 3) uint8, the frame with what was found drawn on it, if that was made anyway.

        Raises:
            VisionTasksError: no room on the disk, or a result that a form has no words for.
        """
        place = self.frames if order is None else order
        place = place if isinstance(place, tuple) else (place,)
        if self._last is not None and place <= self._last:
            raise ValueError(f"Outputs.add: order {place} comes after {self._last}; it must ascend")
        self._last = place
        result = Result(frame, prediction, place, drawn)
        self.frames += 1
        self.objects += len(prediction)
        for output in self._outputs:
            output.add(result)
        self._whole = True

    def close(self, stopped: bool = False) -> None:
        """Finish all files, also if one of them cannot be; does nothing the second time.

        A run that was stopped before a first frame was written leaves no tables, and those of an earlier run stay.

        Args:
            stopped: whether the run ended before its end.

        Raises:
            VisionTasksError: a file could not be finished.
        """
        if not self._open:
            return
        self._open = False
        if stopped and not self._whole:
            for output in self._outputs:
                if isinstance(output, Whole):
                    output.discard()
            self._outputs = [output for output in self._outputs if not isinstance(output, Whole)]
        failure: Exception | None = None
        for output in self._outputs:
            try:
                output.close(stopped)
            except (VisionTasksError, OSError) as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(stopped=kind is not None)
        if kind is KeyboardInterrupt and self.written:
            sys.stderr.write(f"stopped; {', '.join(self.written)} hold what was done\n")


def check_forms(forms: Sequence[str]) -> list[str]:
    """The forms asked for, each file once; none for "none".

    Raises:
        VisionTasksError: a form that is not known, or "none" beside others.
    """
    wanted = list(dict.fromkeys(forms))
    if wanted == ["none"]:
        return []
    unknown = [form for form in wanted if form not in OUTPUTS]
    if unknown:
        raise VisionTasksError(
            f"There is no output form {', '.join(map(repr, unknown))}. Choose of {', '.join(OUTPUTS)}, or none alone."
        )
    twice = {"masks": {"maps", "instances"}, "yolo-conf": {"yolo"}}
    for form, within in twice.items():
        if form in wanted:
            wanted = [other for other in wanted if other not in within]
    return wanted


def open_outputs(
    forms: Sequence[str],
    out: Path,
    maps: Categories | None = None,
    part: tuple[int, int] = (0, 1),
    *,
    gives: Gives | None = None,
    always: Sequence[str] = (),
) -> Outputs:
    """Begin the files of a run.

    Files that are there already are replaced by those of the same name when they are finished; others stay.

    Args:
        forms: names of `OUTPUTS`; empty or "none" alone for nothing.
        out: folder of the results; it is made.
        maps: categories of the model's semantic maps, to refuse those that no mask can hold before the run.
        part: (rank, ranks): this process's number from 0, and how many share the run. With several, tables are
            written as NAME.partR, and `merge.merge_parts` joins them when all are done. Files of single frames have
            their own names at once.
        gives: what the run gives, to refuse forms of which nothing would come; default: nothing is refused.
        always: forms that are written too, as far as there is something to write, if there are others.

    Raises:
        VisionTasksError: an unknown form, or one that the model cannot fill; category ids that no mask can hold; a
            folder that cannot be written.
    """
    wanted = check_forms(forms)
    if gives is not None:
        check_possible(wanted, gives, OUTPUTS)
    wanted = check_forms([*wanted, *always]) if wanted else []
    if maps is not None and {"maps", "masks"} & set(wanted):
        mask_type(maps)
    if wanted:
        make_folder(out)
    rank, ranks = part
    opened: list[Output] = []
    try:
        for form in wanted:
            made = OUTPUTS[form](out)
            if isinstance(made, Table):
                made = Whole(made) if ranks == 1 else Part(made, rank)
            opened.append(made)
    except BaseException:
        for output in opened:
            if isinstance(output, Whole | Part):
                output.discard()
        raise
    return Outputs(opened)
