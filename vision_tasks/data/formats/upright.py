"""Annotations made on an image as stored, brought to how it is shown: formats without a stated size mean the latter."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from vision_tasks.data.decoding import TURNS, exif_orientation, quiet_reading
from vision_tasks.data.image_headers import in_threads
from vision_tasks.data.records import Records
from vision_tasks.structures import Size


def stored_turns(records: Records) -> Iterator[int | None]:
    """EXIF orientation 2..8 of each image whose annotations lie on the pixels as stored; None where they are upright.

    That is told by the stated size, by the rule of `images.read_image`. Files that cannot be read count as upright.
    """
    return in_threads(lambda row: _stored_turn(records, row), range(len(records)))


def _stored_turn(records: Records, row: int) -> int | None:
    stated = records.size(row)
    if stated is None or stated[0] == stated[1]:  # then readers turn it
        return None
    try:
        data = records.image_data(row)
        path = records.image_path(row)
        if data is None and not path.is_file():
            return None
        with path.open("rb") if data is None else io.BytesIO(data.tobytes()) as stream:
            with quiet_reading():
                header = Image.open(stream)
            return exif_orientation(header) if (header.height, header.width) == stated else None
    except Exception:  # what is wrong with the file is for others to say
        return None


def turned_points(points: np.ndarray, orientation: int, size: Size) -> tuple[np.ndarray, Size]:
    """Points of a stored image where they are in the upright one.

    Args:
        points: (P, 2) x, y in continuous pixels. orientation: EXIF's, 2..8. size: (height, width) as stored.

    Returns:
        (P, 2) float64, and the upright (height, width).
    """
    mirror, quarters = TURNS[orientation]
    x, y = points.astype(np.float64).T
    height, width = size
    if mirror:
        x = width - x
    for _ in range(quarters):  # each anticlockwise, as np.rot90 turns pixels
        x, y, height, width = y, width - x, width, height
    return np.stack([x, y], 1), (height, width)
