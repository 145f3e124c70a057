"""What `Predictor` does with an image that is looked at more than once: objects, the map, and both merged."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from torch import Tensor

from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.batching import Batching
from vision_tasks.inference.looks.ensemble import Ensemble
from vision_tasks.inference.looks.looks import Looks
from vision_tasks.inference.looks.merging import FUSINGS, MERGINGS
from vision_tasks.inference.looks.objects import predict_objects
from vision_tasks.inference.looks.semantic import predict_map, tile_stride
from vision_tasks.models.vision_model import with_panoptic
from vision_tasks.structures import Prediction, Size

log = logging.getLogger("vision_tasks")


class Looking:
    """Models and how they look at images.

    Args:
        ensemble: on the device where images will be. looks: how often. tiles: how many tiles at once.

    Raises:
        VisionTasksError: looks that make no sense, or tiles that do not fit a model that draws maps.
    """

    def __init__(self, ensemble: Ensemble, looks: Looks, tiles: Batching) -> None:
        self._ensemble, self._looks, self._tiles = ensemble, looks, tiles
        self._model = ensemble.models[0]
        self._told = False
        if any(not 0 < scale <= 16 for scale in looks.scales):
            raise VisionTasksError(f"scales must be factors above 0 and up to 16, not {looks.scales}.")
        for name, value, known in (("merge", looks.merge, MERGINGS), ("fuse", looks.fuse, FUSINGS)):
            if value not in known:
                raise VisionTasksError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
        if looks.tiling is not None and self._model.head_of("semantic") is not None:
            for model in ensemble.models:
                looks.tiling.check_stride(tile_stride(model.preprocess))

    def plain(self, size: Size) -> bool:
        """Whether an image of (height, width) gets but one look, by one model, at all of it."""
        self._tell(size)
        return len(self._ensemble) == 1 and self._plain_objects(size) and self._plain_map(size)

    def __call__(self, image: Tensor, threshold: float, once: Callable[[Tensor], Prediction]) -> Prediction:
        """Everything that there is to say about one image (C, H, W), in its own pixels.

        Args:
            threshold: objects that score less are not wanted. once: one look at all of the image.
        """
        size: Size = (image.shape[-2], image.shape[-1])
        many, model = len(self._ensemble) > 1, self._model
        objects, semantic = model.head_of("objects"), model.head_of("semantic")
        if objects is None:
            assert semantic is not None
            found = Prediction(size, semantic.categories, semantic_categories=semantic.categories)
        elif self._plain_objects(size) and not many:
            found = once(image)
        else:
            found = predict_objects(self._ensemble, image, self._looks, threshold, self._tiles)
        if semantic is None:
            return found
        if found.semantic is None or many or not self._plain_map(size):
            drawn = predict_map(self._ensemble, image, self._looks)
            found = dataclasses.replace(found, semantic=drawn, semantic_categories=semantic.categories)
        return found if model.panoptic is None else with_panoptic(found, model.panoptic)

    def _plain_objects(self, size: Size) -> bool:
        return self._model.head_of("objects") is None or self._looks.plain_at(size)

    def _plain_map(self, size: Size) -> bool:
        if self._model.head_of("semantic") is None:
            return True
        return all(self._looks.plain_at(model.preprocess.network_size(size)) for model in self._ensemble.models)

    def _tell(self, size: Size) -> None:
        """Says, once, that an image larger than a tile, (height, width), is shrunk before it could be cut into any."""
        if self._told or self._looks.tiling is None or self._model.head_of("semantic") is None:
            return
        seen = self._model.preprocess.network_size(size)
        tile, largest = self._looks.tiling.tile, max(self._looks.factors)
        fits = all(round(side * largest) <= limit for side, limit in zip(seen, tile, strict=True))
        if not fits or all(side <= limit for side, limit in zip(size, tile, strict=True)):
            return
        self._told = True
        factor = min(16.0, max(side / small for side, small in zip(size, seen, strict=True)))
        log.warning(
            "The model sees this %d×%d image at %d×%d, which fits into one tile of %d×%d network pixels: tiles "
            "change nothing in the map. For the full resolution use scales=(%.3g,) (--scales %.3g), or a model trained "
            "with min_size=null.",
            size[1], size[0], round(seen[1] * largest), round(seen[0] * largest), tile[1], tile[0], factor, factor,
        )  # fmt: skip
