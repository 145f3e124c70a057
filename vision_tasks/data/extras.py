"""What annotation files say beyond what training needs: kept while data are converted, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Extras:
    """Other keys of a data set, its images, annotations and categories, as JSON values; sparse: no entry, no keys.

    Keys that mean the same have one name in all formats: `difficult`, `truncated`, `occluded` (0 or 1), `pose`,
    `group_id`, `description`, `flags`, `keypoints`, `neg_category_ids`, `not_exhaustive_category_ids`; `frequency`,
    `synset`, `supercategory` of categories; `license`, `date_captured` of images. Others keep their format's name.

    Attributes:
        data_set: such as COCO's `info` and `licenses`. images: by image row. annotations: by annotation index (0..N-1).
        categories: by label.
    """

    data_set: dict[str, Any] = field(default_factory=dict)
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    categories: dict[int, dict[str, Any]] = field(default_factory=dict)

    def of_annotation(self, index: int) -> Mapping[str, Any]:
        """Other keys of annotation number `index`."""
        return self.annotations.get(index, {})

    def of_image(self, row: int) -> Mapping[str, Any]:
        """Other keys of an image."""
        return self.images.get(row, {})

    def subset(self, rows: np.ndarray, annotations: np.ndarray) -> Extras:
        """Of these image rows and annotation indices alone, renumbered in this order."""
        return Extras(
            self.data_set,
            {new: self.images[old] for new, old in enumerate(rows.tolist()) if old in self.images},
            {new: self.annotations[old] for new, old in enumerate(annotations.tolist()) if old in self.annotations},
            self.categories,
        )
