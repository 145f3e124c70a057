"""PNG files whose values mean something: category ids, or numbers of objects."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.files import write_file

if TYPE_CHECKING:
    from vision_tasks.structures import Categories


def mask_type(categories: Categories) -> Any:
    """numpy's type for masks of these ids: 8 bits if they fit, else 16; its largest value means undecided.

    Raises:
        VisionTasksError: an id that fits neither.
    """
    import numpy as np

    low, high = min(categories.ids), max(categories.ids)
    if low < 0 or high > 65534:
        raise VisionTasksError(
            f"Masks hold category ids of 0..65534, but this model's go from {low} to {high}. Use --format none, or "
            "train on categories with other ids."
        )
    return np.uint8 if high < 255 else np.uint16


def palette_of(categories: Categories) -> list[int] | None:
    """Red, green and blue of each of 256 values, one after another: black where no category is, pale for undecided
    pixels. None if the ids do not fit 8 bits."""
    import numpy as np

    if mask_type(categories) != np.uint8:
        return None
    colors = {255: (224, 224, 192)} | dict(zip(categories.ids, categories.colors, strict=True))
    return [part for value in range(256) for part in colors.get(value, (0, 0, 0))]


def write_mask(path: Path, values: Any, palette: list[int] | None = None) -> None:
    """A PNG of 8 or 16 bits, grey or, of 8 bits, with a palette. Whole or not at all.

    Raises:
        VisionTasksError: no room, or nothing may be written there.
    """
    from PIL import Image

    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=3)
    write_file(path, content.getvalue())
