"""How often, and how, networks look at one image."""

from __future__ import annotations

from dataclasses import dataclass

from vision_tasks.inference.looks.merging import Fusing, Merging
from vision_tasks.inference.looks.sliding import Tiling
from vision_tasks.structures import Size


@dataclass(frozen=True)
class Looks:
    """How often, and how, networks look at one image.

    Attributes:
        flip: once more at the mirror image. scales: factors of the size the model would take it at; () is (1,).
        tiling: None looks at all of the image at once. Of maps these are network pixels, of objects original ones.
        batch_size: tiles of one forward pass.
        whole: objects are looked for in all of the image, too, beside the tiles.
        merge, merge_threshold: of objects from several tiles, see `inference.merging.merge`. The threshold is by
            default the model's own, of its suppression; 0.5, SAHI's, for "nms" and "nmm", which compare otherwise.
        fuse, fuse_threshold: of objects from several looks or models, see `inference.merging.fuse`. The threshold is
            by default the model's own.
        agnostic: objects of different categories are merged, too.
    """

    flip: bool = False
    scales: tuple[float, ...] = ()
    tiling: Tiling | None = None
    batch_size: int = 1
    whole: bool = True
    merge: Merging = "join"
    merge_threshold: float | None = None
    fuse: Fusing = "wbf"
    fuse_threshold: float | None = None
    agnostic: bool = False

    @property
    def factors(self) -> tuple[float, ...]:
        """The scales, at least one."""
        return self.scales or (1.0,)

    @property
    def once(self) -> bool:
        """Whether there is one look at each place."""
        return not self.flip and self.factors == (1,)

    def plain_at(self, size: Size) -> bool:
        """Whether this is but one look at all of an image, (height, width) in the pixels that tiles are counted in."""
        small = self.tiling is None or (size[0] <= self.tiling.tile[0] and size[1] <= self.tiling.tile[1])
        return small and self.once
