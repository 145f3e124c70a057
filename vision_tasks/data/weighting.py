"""How often a pass of training takes each image, and how much each category weighs, judged from the data."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np

from vision_tasks.data.joint import JointRecords
from vision_tasks.data.records import Records
from vision_tasks.data.regular_files import read_regular
from vision_tasks.errors import VisionTasksError

# Beside the seeds of order and of augmentation, which are made of the same numbers.
_DRAW = 0x5241_5445
_ORDER = 0x5241_5446


class Rates:
    """Passes over M images in which image i comes `rates[i]` times: exactly so on the average over many passes.

    In each pass it comes floor or ceil of that often. All passes are equally long. Images are drawn systematically
    (one draw for the whole pass, at even steps along the summed rates, in an order that changes from pass to pass), so
    that no chance decides how many images there are, nor how often a rate of 1 is taken: once.

    Args:
        rates: (M,) at least 0; their sum, rounded, is the length of a pass.

    Raises:
        VisionTasksError: a rate is negative or not finite, or all are so small that no image is left.
    """

    def __init__(self, rates: np.ndarray) -> None:
        rates = np.asarray(rates, np.float64)
        if not (np.isfinite(rates).all() and (rates >= 0).all()):
            raise VisionTasksError("data.sampling: how often images are taken must be numbers from 0 on")
        self.length = round(float(rates.sum()))
        if self.length < 1:
            raise VisionTasksError("data.sampling: an epoch would have no image: all weights are 0, or nearly so")
        self.rates = rates * (self.length / rates.sum())
        self.most = math.ceil(float(self.rates.max()) - 1e-9) + 1

    @property
    def num_images(self) -> int:
        """M."""
        return len(self.rates)

    def __len__(self) -> int:
        """Images in a pass."""
        return self.length

    def of_pass(self, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The images of one pass.

        Args:
            seed: decides all. number: of the pass, from 0.

        Returns:
            rows (K,) int64 of the images in order, and rounds (K,) int64: a row and its round never come twice, in no
            pass, so that they may decide the augmentation.
        """
        random = np.random.default_rng((seed, number, _DRAW))
        along = random.permutation(len(self.rates))
        ends = np.cumsum(self.rates[along])
        ends[-1] = self.length  # rounding must not lose the last
        # Image i is taken as often as one of u, u + 1, u + 2, ... falls into its piece of the line.
        counts = np.diff(np.ceil(ends - random.random()).clip(0, self.length), prepend=0).astype(np.int64)
        rows = np.repeat(along, counts)
        turn = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = np.random.default_rng((seed, number, _ORDER)).permutation(len(rows))
        return rows[order], (number * self.most + turn)[order]


def repeat_factor_rates(records: Records, threshold: float = 0.001) -> np.ndarray:
    """(M,) times that an image is repeated: max over its categories c of max(1, sqrt(threshold / f_c)).

    f_c is the share of images with c, over all images. Gupta, Dollár and Girshick, "LVIS" (2019), section 5 (they take
    0.001), as in Detectron2's `RepeatFactorTrainingSampler`; an image without objects comes once.
    """
    rows, labels = _pairs(records)
    share = np.bincount(labels, minlength=len(records.categories)) / max(len(records), 1)
    factor = np.maximum(1, np.sqrt(threshold / np.maximum(share, 1e-12)))
    rates = np.ones(len(records))
    np.maximum.at(rates, rows, factor[labels])
    return rates


def class_balanced_rates(records: Records) -> np.ndarray:
    """(M,) times that an image is taken if each draw takes a category first, then one of its images; M in all.

    An image of many categories is taken for each of them. Images without objects keep their one time: drawing them as
    one more category would repeat the few there may be without end.

    Raises:
        VisionTasksError: there are no objects.
    """
    rows, labels = _pairs(records)
    if not len(rows):
        raise VisionTasksError("data.sampling=class_balanced needs objects, but none is annotated.")
    images = np.bincount(labels, minlength=len(records.categories))
    rates = np.bincount(rows, weights=1 / images[labels], minlength=len(records)) / np.count_nonzero(images)
    empty = np.ones(len(records), bool)
    empty[rows] = False
    return np.where(empty, 1.0, rates * np.count_nonzero(~empty))


def file_rates(records: Records, path: Path) -> np.ndarray:
    """(M,) times that an image is taken, as the weights of a file say; M in all.

    Args:
        path: JSON object {file name: weight}; names as in the annotations, or the last part alone where that is
            unique. Images that it does not name weigh 1.

    Raises:
        VisionTasksError: the file is no such object, has a weight that is no number from 0 on, or a name that no image
            has.
    """
    try:
        given = json.loads(read_regular(path).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise VisionTasksError(f"{path}: the weights of images cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise VisionTasksError(f'{path}: must hold {{"file name": weight, ...}}, not a {type(given).__name__}.')
    names = [records.file_name(row) for row in range(len(records))]
    places: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        for key in {name, name.rsplit("/", 1)[-1]}:
            places.setdefault(key, []).append(row)
    exact: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        exact.setdefault(name, []).append(row)
    weights = np.ones(len(names))
    for name, weight in given.items():
        rows = exact.get(name) or places.get(name, [])
        if len(rows) != 1:
            what = "names no image of the training data" if not rows else f"names {len(rows)} images"
            hint = "Write file names as the annotations have them."
            if name in exact:
                hint = "Give the images names of their own, or whole data sets a ratio."
            raise VisionTasksError(f"{path}: {name!r} {what}. {hint}")
        if not _is_weight(weight):
            raise VisionTasksError(
                f"{path}: the weight of {name!r} is {json.dumps(weight)[:40]}, but must be a number from 0 on."
            )
        weights[rows[0]] = weight
    if not weights.any():
        raise VisionTasksError(f"{path}: all weights are 0.")
    weights /= weights.max()  # the sum of huge ones is beyond what a number can hold
    return np.asarray(weights * (len(names) / weights.sum()))


def _is_weight(value: object) -> bool:
    # Whole numbers of JSON may have any number of digits.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def part_rates(records: Records) -> np.ndarray:
    """(M,) `ratio` of the part that each image is from; ones for a single data set."""
    if not isinstance(records, JointRecords):
        return np.ones(len(records))
    return np.repeat(records.ratios, [len(part) for part in records.parts])


def class_weights(counts: np.ndarray, rule: str) -> np.ndarray:
    """What each category weighs in a loss, so that rare ones are not drowned.

    Args:
        counts: (K,) objects, or pixels. rule: "inverse": 1 / n. "sqrt": 1 / sqrt(n). "effective":
            (1 - β) / (1 - β^n) with β = 0.999 (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples",
            2019, eq. 4).

    Returns:
        (K,) float64, scaled so that the mean over all objects (or pixels) is 1, and with it the size of the loss;
        1 for categories without any.
    """
    n = np.asarray(counts, np.float64)
    seen = n > 0
    weights = np.ones(len(n))
    if not seen.any():
        return weights
    if rule == "inverse":
        weights[seen] = 1 / n[seen]
    elif rule == "sqrt":
        weights[seen] = 1 / np.sqrt(n[seen])
    elif rule == "effective":
        weights[seen] = 0.001 / -np.expm1(n[seen] * math.log(0.999))
    else:
        raise ValueError(f"there is no rule {rule!r}: inverse, sqrt or effective")
    weights[seen] *= n.sum() / (n[seen] * weights[seen]).sum()
    return weights


def _pairs(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Image rows and labels, (P,) each: every category of every image once, crowds and unusable objects left out."""
    counted = records.usable & ~records.is_crowd
    rows = np.repeat(np.arange(len(records)), np.diff(records.first))[counted]
    k = max(len(records.categories), 1)
    pairs = np.unique(rows.astype(np.int64) * k + records.labels[counted])
    return pairs // k, pairs % k
