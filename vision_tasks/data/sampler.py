"""Which images make up which batch, in which order, on which rank: a function of the seed and the epoch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch.utils.data import Sampler

from vision_tasks.errors import VisionTasksError


class Request(NamedTuple):
    """One image asked of a `DetectionDataset`.

    Attributes:
        index: row of the image in the records. epoch: which pass over the data, decides the augmentation; of several
            data sets in one, how often this image came before.
        min_size: shortest side that the model shall resize this batch to, or None for the model's own.
        plain: whether the image comes alone, without mosaic and mixup, as in a run's last epochs.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a request
    epoch: int = 0
    min_size: int | None = None
    plain: bool = False


class Passes(Protocol):
    """Which images a pass of training takes, if not each once (`mixture.Mixture`, `weighting.Rates`)."""

    @property
    def num_images(self) -> int:
        """Images that it chooses from."""

    def __len__(self) -> int:
        """Images in a pass, the same in all."""

    def of_pass(self, seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Image rows and rounds, (K,) int64 each, of pass `number`; a row and its round never come twice."""


def aspect_ratio_groups(widths: np.ndarray, heights: np.ndarray, k: int = 0) -> np.ndarray:
    """Group of each image by width / height, so that images padded to one canvas fill it; torchvision's grouping.

    Args:
        widths, heights: (M,) pixels, 0 where unknown (taken as square). k: 2k + 1 borders, evenly spaced on a log
            scale from 1/2 to 2; k = 0 has the one border 1, which parts upright images from the others.

    Returns:
        (M,) int64, 0..2k + 1.
    """
    known = (widths > 0) & (heights > 0)
    ratio = np.where(known, widths, 1) / np.where(known, heights, 1)
    borders = 2.0 ** np.linspace(-1, 1, 2 * k + 1) if k > 0 else np.ones(1)
    groups: np.ndarray = np.searchsorted(borders, ratio, side="right")
    return groups


def form_batches(order: np.ndarray, batch_size: int, groups: np.ndarray | None = None) -> list[np.ndarray]:
    """Cut an order of images into batches of one group each; only the very last batch formed may be smaller.

    What is left of the groups when no full batch remains is put together into mixed batches, so there are always
    ceil(M / batch_size) batches. They come in the order in which, going through `order`, each becomes complete.

    Args:
        order: (M,) image rows. groups: (M,) group of each row of the data, or None for a single group.

    Returns:
        Arrays of at most `batch_size` rows; every row occurs once.
    """
    place = np.arange(len(order))
    if groups is not None and len(order):
        group = groups[order]
        by_group = np.argsort(group, kind="stable")
        sizes = np.bincount(group)
        rank_in_group = place - np.repeat(np.cumsum(sizes) - sizes, sizes)
        full = rank_in_group < np.repeat(sizes // batch_size * batch_size, sizes)
        place = np.concatenate([by_group[full], np.sort(by_group[~full])])
    batches = [place[i : i + batch_size] for i in range(0, len(place), batch_size)]
    batches.sort(key=lambda batch: int(batch.max()))
    return [order[batch] for batch in batches]


class BatchSampler(Sampler[list[Request]]):
    """Whole batches of `Request`s for a DataLoader's `batch_sampler`.

    Batches are formed once from the global order and dealt whole to the ranks, none padded, none doubled, because
    batch-mates decide the padding and with it the result: step s of R ranks takes the very batches that one rank takes
    in its steps s·R .. s·R + R - 1 (with accumulated gradients: until Lightning closes the pass with a shorter sum).

    **Training** (`train=True`). The batches of pass 0, 1, 2, ... over the shuffled data form one endless stream. An
    epoch is N // R steps, for all ranks and in every epoch, and takes the stream up where the epoch before left it. So
    when N does not divide by R, the N % R batches left over are the first of the next epoch: every image is seen once
    per pass, and R > 1 ranks merely finish each pass a little later. With one rank an epoch is a pass.

    **Evaluation** (`train=False`). Images come in their order, rank r takes batches r, r + R, ...; ranks may get
    unequal numbers of batches, also none, and each image comes exactly once.

    Args:
        num_images: M images in the data. batch_size: images per batch and rank. train: see above.
        seed: decides, with the pass, the order and the sizes. groups: (M,) from `aspect_ratio_groups`.
        min_sizes: shortest sides in pixels to choose from, one per batch (multi-scale training).
        passes: training only: which images a pass takes, if that is not each once.
        rank, world_size: this process among R.
        position: training only: tells, whenever an iteration starts, how many batches of the stream are done, over all
            ranks, and so where to go on; by default those of all epochs before the one set.

    Attributes:
        plain_from: the first batch of the training stream whose requests are plain (as are all after it); set later,
            as it takes the length of an epoch to know.

    Raises:
        VisionTasksError: if there are no images, or in training fewer batches than ranks.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        *,
        train: bool,
        seed: int = 0,
        groups: np.ndarray | None = None,
        min_sizes: Sequence[int] = (),
        passes: Passes | None = None,
        rank: int = 0,
        world_size: int = 1,
        position: Callable[[], int] | None = None,
    ) -> None:
        if batch_size < 1:
            raise VisionTasksError(f"batch_size is {batch_size}, but must be at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is not one of world_size {world_size}")
        if groups is not None and len(groups) != num_images:
            raise ValueError(f"groups has {len(groups)} entries for {num_images} images")
        self.num_images, self.batch_size, self.train, self.seed = num_images, batch_size, train, seed
        if passes is not None and passes.num_images != num_images:
            raise ValueError(f"the passes are over {passes.num_images} images, not over {num_images}")
        self.groups, self.min_sizes = groups, tuple(min_sizes)
        self.passes = passes if train else None
        self.rank, self.world_size = rank, world_size
        self.position = position
        self.plain_from: float = math.inf
        self.epoch = 0
        self.batches_per_pass = -(-(num_images if self.passes is None else len(self.passes)) // batch_size)
        if train and self.batches_per_pass < world_size:
            raise VisionTasksError(
                f"{num_images} training images make {self.batches_per_pass} batches of {batch_size}, too few for "
                f"{world_size} processes: use a smaller batch size, fewer devices, or more images"
            )

    @property
    def sampler(self) -> BatchSampler:
        """Itself: Lightning looks for `set_epoch` on `dataloader.batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration gives, if no `position` says where to go on."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Batches of this rank in an epoch."""
        if self.train:
            return self.batches_per_pass // self.world_size
        # A rank without any takes an empty one: Lightning would skip its evaluation, and with it the gathering that the
        # other ranks wait in.
        return max(1, len(range(self.rank, self.batches_per_pass, self.world_size)))

    def __iter__(self) -> Iterator[list[Request]]:
        start = 0
        if self.train:
            start = self.epoch * len(self) * self.world_size if self.position is None else self.position()
        batches: list[np.ndarray] = []
        sizes: list[int | None] = []
        formed = -1
        for step in range(len(self)):
            if not self.train and self.rank >= self.batches_per_pass:
                yield []
                return
            place = start + step * self.world_size + self.rank
            epoch, number = divmod(place, self.batches_per_pass)
            if formed != epoch:
                batches, sizes = self.batches_of_pass(epoch)
                formed = epoch
            plain = self.train and place >= self.plain_from
            yield [Request(row, turn, sizes[number], plain) for row, turn in batches[number].tolist()]

    def batches_of_pass(self, number: int) -> tuple[list[np.ndarray], list[int | None]]:
        """All batches of one pass over the data, for all ranks: (n, 2) image rows and epochs, and shortest sides."""
        random = np.random.default_rng((self.seed, number))
        if self.passes is not None:
            rows, epochs = self.passes.of_pass(self.seed, number)
        else:
            rows = random.permutation(self.num_images) if self.train else np.arange(self.num_images)
            epochs = np.full(len(rows), number)
        requests = np.stack([rows, epochs], axis=1)
        groups = None if self.groups is None else self.groups[rows]
        batches = [requests[places] for places in form_batches(np.arange(len(rows)), self.batch_size, groups)]
        if not self.min_sizes:
            return batches, [None] * len(batches)
        return batches, random.choice(self.min_sizes, size=len(batches)).tolist()
