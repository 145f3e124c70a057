"""masks/: semantic maps as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.inference.outputs.base import Output
from vision_tasks.inference.outputs.files import folder_names, make_folder
from vision_tasks.inference.outputs.label_png import mask_type, palette_of, write_mask

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class Maps(Output):
    """masks/NAME.png, whose values are original category ids: of 8 bits as places in a palette of the categories'
    colours, else grey of 16 bits; the largest value where nothing is decided. If every category is decided on its own,
    masks/CATEGORY/NAME.png, 255 where it is. Nothing of a model without maps."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: list[str] = []

    def add(self, result: Result) -> None:
        """Write the frame's map, if it has one."""
        import numpy as np

        if result.prediction.semantic is None:
            return
        categories = result.map_categories
        labels = result.prediction.semantic.numpy()
        make_folder(self.out / "masks")
        if labels.ndim == 2:
            dtype = mask_type(categories)
            # The last entry is that of label -1.
            values = np.array([*categories.ids, np.iinfo(dtype).max]).astype(dtype)
            write_mask(self.out / "masks" / f"{result.stem}.png", values[labels], palette_of(categories))
            self.written = ["masks/*.png (values are category ids)"]
            return
        for layer, folder in zip(labels, folder_names(categories), strict=True):
            make_folder(self.out / "masks" / folder)
            write_mask(self.out / "masks" / folder / f"{result.stem}.png", layer.astype(np.uint8) * np.uint8(255))
        self.written = ["masks/CATEGORY/*.png (255 where it is)"]

    def close(self, stopped: bool = False) -> None:
        """Nothing is left to do: each file is whole."""
