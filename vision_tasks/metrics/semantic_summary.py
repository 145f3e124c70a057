"""From counts of pixels to the numbers that semantic segmentation is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vision_tasks.metrics.boundary import COLUMNS
from vision_tasks.structures import Categories


@dataclass(frozen=True, eq=False)
class SemanticSummary:
    """What counts of pixels over all images say.

    A category counts if it has a pixel in truth or prediction; one that is absent from both does not, in no mean, and
    its row says -1. In a category that counts, a share of nothing (the precision of a category that was never
    predicted) is 0, as in torchmetrics. Mean accuracy alone is over the categories of the truth, as Long et al. (2015)
    define it. Where nothing counts, a number is -1.

    Attributes:
        confusion: (K, K + 1) int64 pixels with truth k (row) and prediction j; the last column is "nothing predicted".
            Of a map with several labels a pixel: (L, 2, 2), of each label on its own: truth no or yes, prediction no
            or yes.
        boundary: (K, 7) int64 as `boundary.COLUMNS`, or None.
    """

    categories: Categories
    confusion: np.ndarray
    boundary: np.ndarray | None = None
    main = "mIoU"

    @cached_property
    def numbers(self) -> dict[str, float]:
        """mIoU, pixel_accuracy, mean_accuracy, fwIoU, Dice, precision, recall; boundary_IoU and boundary_F if asked.

        `fwIoU` is IoU weighted by the truth's pixels; `Dice`, equal to F1, `precision` and `recall` are means over
        categories. Of a map with several labels `pixel_accuracy` is the share of right decisions, yes or no.
        """
        ratios, truth = self._ratios, self._pixels[:, 1]
        if self.confusion.ndim == 3:
            right, decided = self.confusion[:, 0, 0].sum() + self.confusion[:, 1, 1].sum(), self.confusion.sum()
        else:
            right, decided = self._pixels[:, 0].sum(), truth.sum()
        numbers = {
            "mIoU": _mean(ratios["IoU"]),
            "pixel_accuracy": float(right / decided) if decided else -1.0,
            "mean_accuracy": _mean(ratios["recall"][truth > 0]),
            "fwIoU": float((truth * ratios["IoU"])[truth > 0].sum() / truth.sum()) if truth.any() else -1.0,
        }
        return numbers | {name: _mean(ratios[name]) for name in ratios if name != "IoU"}

    @cached_property
    def per_category(self) -> list[dict[str, Any]]:
        """One row per category: name, id, truth and predicted in pixels, IoU, Dice, precision, recall, and so on."""
        return [
            {"name": name, "id": id_, "truth": int(pixels[1]), "predicted": int(pixels[2])}
            | {key: -1.0 if np.isnan(values[k]) else float(values[k]) for key, values in self._ratios.items()}
            for k, (name, id_, pixels) in enumerate(
                zip(self.categories.names, self.categories.ids, self._pixels, strict=True)
            )
        ]

    @cached_property
    def _pixels(self) -> np.ndarray:
        """(K, 3) int64 pixels of each category: right, in truth, predicted."""
        c = self.confusion
        if c.ndim == 3:
            return np.stack([c[:, 1, 1], c[:, 1].sum(axis=1), c[:, :, 1].sum(axis=1)], axis=1)
        return np.stack([np.diagonal(c), c.sum(axis=1), c[:, :-1].sum(axis=0)], axis=1)

    @cached_property
    def _ratios(self) -> dict[str, np.ndarray]:
        """(K,) float64 each, NaN for categories that do not count."""
        both, truth, predicted = self._pixels.T
        union = truth + predicted - both
        ratios = {
            "IoU": _share(both, union, union),
            "Dice": _share(2 * both, truth + predicted, union),
            "precision": _share(both, predicted, union),
            "recall": _share(both, truth, union),
        }
        if self.boundary is not None:
            c = dict(zip(COLUMNS, self.boundary.T, strict=True))
            bands = c["band_truth"] + c["band_predicted"] - c["band_both"]
            ratios["boundary_IoU"] = _share(c["band_both"], bands, bands)
            # 2PR / (P + R) of P = predicted_right / predicted and R = truth_found / truth, without their zeros.
            right, found = c["predicted_right"] * c["truth"], c["truth_found"] * c["predicted"]
            ratios["boundary_F"] = _share(
                2 * c["predicted_right"] * c["truth_found"], right + found, c["truth"] + c["predicted"]
            )
        return ratios


def _share(part: np.ndarray, whole: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """part / whole, 0 where there is no whole, NaN where the category does not count."""
    share = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return np.where(counts > 0, share, np.nan)


def _mean(values: np.ndarray) -> float:
    judged = values[~np.isnan(values)]
    return float(judged.mean()) if len(judged) else -1.0
