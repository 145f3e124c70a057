"""In which order the images of several data sets come: each by its own ratio, a function of the seed and the pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision_tasks.errors import VisionTasksError

# Beside the seeds of order and of augmentation, which are made of the same numbers.
_SHUFFLE = 0x4A4F494E


class Mixture:
    """Passes over several data sets ("parts") that lie one after another in one row of images.

    A pass takes `ratio` × M of the M images of a part, rounded, at least one: with 1 each image once, with 0.25 every
    fourth pass, with 3 three times. All passes are equally long. Over any number of passes two images of a part are
    taken equally often, to within one.

    Within a pass the parts are spread evenly: any stretch of it holds them as the whole does, to within an image or
    two of each part.

    Args:
        sizes: images of each part. ratios: one per part.

    Raises:
        VisionTasksError: a ratio is not positive, or a part has no images.
    """

    def __init__(self, sizes: Sequence[int], ratios: Sequence[float]) -> None:
        if len(sizes) != len(ratios) or not sizes:
            raise ValueError(f"{len(sizes)} parts need as many ratios, not {len(ratios)}")
        for number, (size, ratio) in enumerate(zip(sizes, ratios, strict=True)):
            if not 0 < ratio < np.inf:
                raise VisionTasksError(f"data.train[{number}].ratio is {ratio}, but must be above 0")
            if size < 1:
                raise VisionTasksError(f"data.train[{number}] has no images; leave it out or correct its paths")
        self.sizes, self.ratios = tuple(sizes), tuple(ratios)
        self.counts = tuple(max(1, round(size * ratio)) for size, ratio in zip(sizes, ratios, strict=True))

    @property
    def num_images(self) -> int:
        """Images of all parts."""
        return sum(self.sizes)

    def __len__(self) -> int:
        """Images in a pass."""
        return sum(self.counts)

    def of_pass(self, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The images of one pass.

        Args:
            seed: decides all. number: of the pass, from 0.

        Returns:
            rows (K,) int64 of the images in order, and rounds (K,) int64: how often the image came before, over all
            passes. A row and its round never come twice, so that they may decide the augmentation.
        """
        spread = np.random.default_rng((seed, number))
        rows, rounds, places = [], [], []
        start = 0
        for part, (size, count) in enumerate(zip(self.sizes, self.counts, strict=True)):
            # A part's images form an endless stream of shuffled rounds, of which each pass takes the next piece.
            turn, within = np.divmod(number * count + np.arange(count, dtype=np.int64), size)
            orders = [
                np.random.default_rng((seed, part, r, _SHUFFLE)).permutation(size)
                for r in range(int(turn[0]), int(turn[-1]) + 1)
            ]
            rows.append(start + np.stack(orders)[turn - turn[0], within])
            rounds.append(turn)
            places.append((np.arange(count) + spread.random(count)) / count)
            start += size
        order = np.argsort(np.concatenate(places), kind="stable")
        return np.concatenate(rows)[order], np.concatenate(rounds)[order]
