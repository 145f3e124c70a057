"""Records from images and objects that come one after another, as files of one image each give them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.assemble import Columns, assemble
from vision_tasks.data.formats.shapes import RLE_MARK, rle_size
from vision_tasks.data.problems import Problems
from vision_tasks.data.records import Records
from vision_tasks.structures import Categories

_PIECE = 4096
Box = tuple[float, float, float, float]


class RecordsBuilder:
    """Collects images with their objects and judges them as `read_coco` does; ids are counted from 1 if not given.

    Args:
        source: what was read, for messages. root: folder that file names start from.
        categories: what labels mean. extras: keep what else is said.

    Attributes:
        problems: grows by what the reader and the builder find.
    """

    def __init__(self, source: Path, root: Path, categories: Categories, extras: bool = False) -> None:
        self.source, self.root, self.categories = source, root, categories
        self.problems = Problems()
        self.extras = Extras() if extras else None
        self._columns = Columns()
        self._shapes: list[bytes] = []
        self._shape_bytes = 0
        self._images: list[tuple[int, int, int, bytes]] = []
        self._objects: list[tuple[int, int, int, Box, float, bool, int]] = []
        self.num_images = self.num_objects = 0
        self._last_id = 0
        self._flush()

    def add_image(
        self, file_name: str, height: int = 0, width: int = 0, image_id: int | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """Add an image; the objects added next are its.

        Args:
            file_name: relative to `root`, with forward slashes. height, width: 0 if the file does not state them.

        Returns:
            Its id.
        """
        self._last_id = self.num_images + 1 if image_id is None else image_id
        name = file_name.replace("\\", "/").encode("utf-8", "replace")
        self._images.append((self._last_id, height, width, name))
        if self.extras is not None and extras:
            self.extras.images[self.num_images] = dict(extras)
        self.num_images += 1
        return self._last_id

    def add_object(
        self, label: int, box: Box, *, shape: bytes = b"", area: float | None = None, is_crowd: bool = False,
        annotation_id: int | None = None, extras: Mapping[str, Any] | None = None,
    ) -> int:  # fmt: skip
        """Add an object of the last image.

        Args:
            label: into `categories`. box: x, y, width, height in continuous pixels, NaN if unreadable; as written,
                however odd: judging is `assemble`'s. shape: entry of `formats.shapes`, b"" for none.
            area: of the object; that of the box if None.

        Returns:
            Its id.
        """
        number = self.num_objects + 1 if annotation_id is None else annotation_id
        # A box without sense has no area either; `assemble` says so once, about the box.
        own = max(0.0, box[2]) * max(0.0, box[3]) if area is None else area  # NaN becomes 0, too
        self._objects.append((number, self._last_id, label, box, own, is_crowd, self._shape_bytes if shape else -1))
        if shape:
            if shape.startswith(RLE_MARK):
                self._columns.rle_sizes.extend((self.num_objects, *rle_size(shape)))
            self._shapes.append(shape)
            self._shape_bytes += len(shape)
        if self.extras is not None and extras:
            self.extras.annotations[self.num_objects] = dict(extras)
        self.num_objects += 1
        if len(self._objects) >= _PIECE:
            self._flush()
        return number

    def finish(self) -> Records:
        """The records.

        Raises:
            VisionTasksError: there is no usable image.
        """
        self._flush()
        labels = np.arange(len(self.categories))
        self._columns.annotations = self.num_objects
        arrays = assemble(self._columns, labels, labels, self.problems, self.source)
        shape_bytes = np.frombuffer(b"".join(self._shapes), np.uint8)
        extras = self.extras
        if extras is not None:  # images and objects may have been left out
            extras = extras.subset(self._columns.kept_images, self._columns.kept_annotations)
        return Records(
            **arrays, shape_bytes=shape_bytes, categories=self.categories, problems=self.problems,
            root=self.root, source=self.source, extras=extras,
        )  # fmt: skip

    def _flush(self) -> None:
        columns = self._columns
        ids, heights, widths, names = zip(*self._images, strict=True) if self._images else ((), (), (), ())
        columns.image_ids.append(np.array(ids, np.int64))
        columns.heights.append(np.array(heights, np.int32))
        columns.widths.append(np.array(widths, np.int32))
        columns.names.append(b"".join(names))
        columns.name_lengths.append(np.array([len(n) for n in names], np.int64))
        self._images = []
        numbers, owners, labels, boxes, areas, crowd, starts = (
            zip(*self._objects, strict=True) if self._objects else ((),) * 7
        )
        columns.annotation_ids.append(np.array(numbers, np.int64))
        columns.owners.append(np.array(owners, np.int64))
        columns.category_ids.append(np.array(labels, np.int64))
        columns.boxes.append(np.array(boxes, np.float64).reshape(-1, 4))
        columns.areas.append(np.array(areas, np.float64))
        columns.is_crowd.append(np.array(crowd, bool))
        columns.shape_starts.append(np.array(starts, np.int64))
        self._objects = []
