"""MOTChallenge's text files: truth, detections and results of tracking, one object a line.

A line is `frame,id,x,y,w,h,conf,class,visibility`. Frames, x and y count from 1: the upper left corner of the image is
(1, 1) there and (0, 0) in this program. Detections have 7 columns and id -1; results 10, the last three -1. In truth
`conf` is 1, or 0 where the row is not to be judged (https://motchallenge.net/instructions/).
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from vision_tasks.data.regular_files import read_regular_text
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Prediction

CLASSES: dict[int, str] = {
    1: "pedestrian", 2: "person on vehicle", 3: "car", 4: "bicycle", 5: "motorbike", 6: "non-motorised vehicle",
    7: "static person", 8: "distractor", 9: "occluder", 10: "occluder on the ground", 11: "occluder full",
    12: "reflection", 13: "crowd",
}  # fmt: skip
"""Of the truth of MOT16, MOT17 and MOT20."""

_COLUMNS = 9
_FEWEST = 6


@dataclass(frozen=True, eq=False)
class MotRows:
    """The N rows of one file, by frame, in the file's order within each.

    Attributes:
        frames: (N,) int64, from 0: the file's number less one, as `Frame.index`.
        ids: (N,) int64 of tracks; -1 of detections that belong to none.
        xywh: (N, 4) float64 as in the file: left and top edge, which count from 1, width and height in pixels.
        scores: (N,) float64, 1 if the file has none. In truth 0 marks what is not to be judged.
        classes: (N,) int64 as `CLASSES`; -1 where the file does not say.
        visibility: (N,) float64 share of the object that is seen; -1 where the file does not say.
        length: frames of the sequence, also those without a row, if something said so.
        name: of the file, for messages.
    """

    frames: NDArray[np.int64]
    ids: NDArray[np.int64]
    xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    visibility: NDArray[np.float64]
    length: int | None = None
    name: str = ""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) corners in continuous pixels that count from 0."""
        corners = self.xywh.copy()
        corners[:, :2] -= 1
        corners[:, 2:] += corners[:, :2]
        return corners

    def by_frame(self) -> Iterator[tuple[int, slice]]:
        """Every frame that has rows, and where these are."""
        edges = [*np.flatnonzero(np.diff(self.frames, prepend=-1)).tolist(), len(self)]
        for start, end in pairwise(edges):
            yield int(self.frames[start]), slice(start, end)


def read_mot(path: Path | str, length: int | None = None) -> MotRows:
    """Read a truth, detection or result file; commas or white space between the columns, 6 to 10 of these.

    Args:
        path: the file. length: frames of the sequence, if known.

    Raises:
        VisionTasksError: a line that cannot be read or makes no sense, by its number; no such file.
    """
    path = Path(path)
    try:
        text = read_regular_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise VisionTasksError(f"{path} cannot be read as text: {error}. Give a MOTChallenge file.") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    table = np.zeros((0, _FEWEST))
    if first:
        try:
            table = np.loadtxt(io.StringIO(text), delimiter="," if "," in first else None, comments=None, ndmin=2)
        except ValueError:
            # Lines of different lengths, a comma at the end, or nonsense: the slow way tells which.
            table = _read_slowly(path, text)
        if not _FEWEST <= table.shape[1] <= 10 or not _sound(table).all():
            table = _read_slowly(path, text)
    return _rows(table, length, path.name)


def _sound(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether the numbers of each row can be."""
    whole = table[:, :2]
    return np.asarray(
        np.isfinite(table).all(1)
        & (np.abs(whole) < 2**53).all(1)
        & (whole == np.floor(whole)).all(1)
        & (table[:, 0] >= 1)
        & (table[:, 4:6] >= 0).all(1)
    )


def _read_slowly(path: Path, text: str) -> NDArray[np.float64]:
    """Line by line, for files whose lines differ, and to say which line is wrong."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line:
            continue
        cells = line.rstrip(",").split(",") if "," in line else line.split()
        if not _FEWEST <= len(cells) <= 10:
            _refuse(path, number, line, f"it has {len(cells)} columns, and 6 to 10 are possible")
        try:
            row = [float(cell) for cell in cells]
        except ValueError as error:
            _refuse(path, number, line, str(error))
        if not _sound(np.asarray([row]))[0]:
            _refuse(path, number, line, _reason(row))
        rows.append(row + [-1.0] * (10 - len(row)) if len(row) > _FEWEST else [*row, 1.0, -1.0, -1.0, -1.0])
    return np.asarray(rows, np.float64).reshape(-1, 10)


def _reason(row: list[float]) -> str:
    if not all(map(math.isfinite, row)):
        return "a number is not finite"
    if row[0] < 1 or row[0] != math.floor(row[0]):
        return f"frame {row[0]:g} must be a whole number from 1 on"
    if row[4] < 0 or row[5] < 0:
        return f"width {row[4]:g} and height {row[5]:g} must not be negative"
    return f"id {row[1]:g} must be a whole number"


def _refuse(path: Path, number: int, line: str, reason: str) -> NoReturn:
    shown = line if len(line) <= 80 else line[:79] + "…"
    raise VisionTasksError(
        f"{path}, line {number}: {reason}: {shown!r}. A line is frame,id,x,y,w,h,conf,class,visibility "
        "(MOTChallenge's form; the last three may be missing)."
    )


def _rows(table: NDArray[np.float64], length: int | None, name: str) -> MotRows:
    count, given = table.shape
    full = np.full((count, _COLUMNS), -1.0)
    full[:, 6] = 1
    full[:, : min(given, _COLUMNS)] = table[:, :_COLUMNS]
    full = full[np.argsort(full[:, 0], kind="stable")]
    whole = full[:, [0, 1, 7]].astype(np.int64)
    return MotRows(
        frames=whole[:, 0] - 1,
        ids=whole[:, 1],
        xywh=np.ascontiguousarray(full[:, 2:6]),
        scores=full[:, 6].copy(),
        classes=whole[:, 2],
        visibility=full[:, 8].copy(),
        length=length,
        name=name,
    )


def mot_rows(predictions: Iterable[Prediction] | Mapping[int, Prediction], name: str = "") -> MotRows:
    """Tracked predictions as rows, for the metrics.

    Args:
        predictions: of the frames 0, 1, 2, ... in order; or by frame. Classes are the categories' ids.
    """
    numbered = predictions.items() if isinstance(predictions, Mapping) else enumerate(predictions)
    parts = []
    length = 0
    for index, prediction in numbered:
        length = max(length, index + 1)
        if prediction.boxes is not None and len(prediction):
            parts.append(_columns(index, prediction, classes=True))
    return _rows(np.concatenate(parts) if parts else np.zeros((0, _COLUMNS)), length, name)


def _columns(index: int, prediction: Prediction, classes: bool) -> NDArray[np.float64]:
    """(N, 9) as a file has them."""
    assert prediction.boxes is not None
    boxes = prediction.boxes.detach().cpu().to(torch.float64).numpy()
    table = np.full((len(boxes), _COLUMNS), -1.0)
    table[:, 0] = index + 1
    if prediction.track_ids is not None:
        table[:, 1] = prediction.track_ids.cpu().numpy()
    table[:, 2:4] = boxes[:, :2] + 1
    table[:, 4:6] = boxes[:, 2:] - boxes[:, :2]
    table[:, 6] = 1 if prediction.scores is None else prediction.scores.detach().cpu().numpy()
    if classes and prediction.labels is not None:
        ids = np.asarray(prediction.categories.ids, np.int64)
        table[:, 7] = ids[prediction.labels.cpu().numpy()]
    return table


def mot_line(row: Iterable[float]) -> str:
    """One row of 9 numbers, as `_columns` makes them, as a result file's line of 10 columns, with its end."""
    frame, track, x, y, w, h, score, category, _ = row
    return f"{int(frame)},{int(track)},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{score:.4f},{int(category)},-1,-1\n"


def mot_lines(index: int, prediction: Prediction, classes: bool = False) -> str:
    """The lines of one frame, empty without objects.

    Args:
        index: of the frame, from 0; the file's number is one more.
        prediction: with `track_ids`; without them every id is -1, as in files of detections.
        classes: whether the 8th column is the category's id. Results of MOTChallenge have -1 there, and its own
            program refuses others than 1.
    """
    if prediction.boxes is None or not len(prediction):
        return ""
    return "".join(map(mot_line, _columns(index, prediction, classes).tolist()))


class MotWriter:
    """Writes the result file of one sequence, frame by frame; holds none of them.

    The file appears under its name when the writer is closed; before that it is a hidden file beside it.
    """

    def __init__(self, path: Path | str, classes: bool = False) -> None:
        """Begin a file.

        Args:
            path: the file to be. classes: as of `mot_lines`.

        Raises:
            VisionTasksError: its folder cannot be written.
        """
        self.path = Path(path)
        self._classes = classes
        self._temporary = self.path.with_name(f".{self.path.name}.part")
        try:
            self._file = self._temporary.open("w", encoding="ascii", newline="\n")
        except OSError as error:
            raise VisionTasksError(f"{path} cannot be written: {error}. Choose another folder.") from error

    def add(self, index: int, prediction: Prediction) -> None:
        """Append the objects of the frame with this index, from 0."""
        self._file.write(mot_lines(index, prediction, self._classes))

    def close(self) -> None:
        """Finish the file; does nothing the second time."""
        if not self._file.closed:
            self._file.close()
            os.replace(self._temporary, self.path)

    def __enter__(self) -> MotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
