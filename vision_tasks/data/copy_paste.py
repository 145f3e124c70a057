"""Copy-paste: objects of one image pasted into another along their masks.

Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation" (2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator

from vision_tasks.data.canvas import joined, laid_over
from vision_tasks.data.dataset import DetectionDataset, Sample
from vision_tasks.data.geometry import keep_rows
from vision_tasks.data.occlusion import covered
from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Masks


@dataclass(frozen=True)
class CopyPaste:
    """Some objects of another image in front of those of the sample.

    The other image is scaled, mirrored and placed as `canvas.laid_over` does it, and a random number of its objects,
    one at least, is drawn and pasted along their masks, without blending (section 3 of the paper found none to help).
    Crowds and objects without a mask are not pasted. What they cover is no longer seen: `occlusion.covered`. The
    semantic map of the other image goes along with its objects' pixels; if it has none, they become -1.

    Args:
        probability: of pasting; else the sample stays as it is.
        scale: smallest and largest factor of what is pasted, against a letterbox of the sample's size; the paper's.
    """

    probability: float
    scale: tuple[float, float] = (0.1, 2.0)

    def __call__(self, sample: Sample, random: Generator, dataset: DetectionDataset) -> Sample:
        """The sample with what was pasted; it keeps the size, the image id and the request."""
        if random.random() >= self.probability or sample.image is None:
            return sample
        if sample.target.masks is None:  # nobody drew outlines in this data set
            return sample
        over = laid_over(sample, random, dataset, self.scale)
        unreadable = [*sample.unreadable, *over.unreadable]
        pasteable = _pasteable(over.target.masks, over.target.is_crowd)
        if not len(pasteable):
            return replace(sample, unreadable=unreadable)
        count = int(random.integers(1, len(pasteable) + 1))
        chosen = np.sort(random.choice(pasteable, size=count, replace=False))
        pasted = keep_rows(over.target, torch.from_numpy(chosen))
        assert pasted.masks is not None
        cover = mask_ops.render(pasted.masks).any(dim=0).numpy()
        image = np.where(cover[..., None], over.layer, over.image)
        semantic = over.target.semantic

        def front(maps: list[torch.Tensor]) -> torch.Tensor:
            lower, upper = maps
            return torch.where(torch.from_numpy(cover), upper, lower)

        below = covered(sample.target, cover)
        if below.semantic is not None and semantic is None:
            pasted = replace(pasted, semantic=torch.full_like(below.semantic, -1))
        return replace(sample, image=image, target=joined([below, pasted], front), unreadable=unreadable)


def _pasteable(masks: Masks | None, is_crowd: torch.Tensor | None) -> np.ndarray:
    """Rows of the objects, no crowds, whose mask has a pixel."""
    if masks is None or not len(masks):
        return np.zeros(0, dtype=np.int64)
    seen = mask_ops.area(mask_ops.to_rles(masks)) > 0
    return torch.nonzero(seen if is_crowd is None else seen & ~is_crowd).flatten().numpy()
