"""From records to decoded, augmented samples, and from samples to the batch that a model's `preprocess` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vision_tasks.data import packing
from vision_tasks.data.images import ImageError, read_image
from vision_tasks.data.joint import JointRecords
from vision_tasks.data.records import Records
from vision_tasks.data.sampler import Request
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size, Target

# More unreadable images than this in a row are no accident but a wrong folder.
_MAX_UNREADABLE_RUN = 100


@dataclass
class Unreadable:
    """An image that could not be read: its id in the data set, and what the reader said."""

    image_id: int
    reason: str


@dataclass
class Sample:
    """One decoded image with its truth.

    Attributes:
        image: (H, W, C) uint8 or uint16, three channels are RGB; None if it could not be read and was not replaced.
        target: truth on this image's grid. request: what the data set was asked for.
        unreadable: images that could not be read while this sample was made.
    """

    image: np.ndarray | None
    target: Target
    request: Request
    unreadable: list[Unreadable] = field(default_factory=list)
    size: Size | None = None


Transform = Callable[[Sample, np.random.Generator], Sample]


@dataclass(frozen=True)
class InOrder:
    """Several transforms, one after the other, as one."""

    steps: tuple[Transform, ...]

    def __call__(self, sample: Sample, random: np.random.Generator) -> Sample:
        for step in self.steps:
            sample = step(sample, random)
        return sample


Combination = Callable[[Sample, np.random.Generator, "DetectionDataset"], Sample]
"""Makes one sample of this one and of others that it reads from the data set."""


class DetectionDataset(Dataset[Sample]):
    """Map-style data set of `Sample`s; works in any process, as its answer depends on the request alone.

    The random generator given to the transforms is seeded by (seed, epoch, index), never by the worker.

    In training an image that cannot be read is replaced by the next one that can, of the same data set if several are
    joined, augmented as the one asked for would have been; in evaluation the sample comes without an image, so that it
    can be left out. Either way `Sample.unreadable` says so, and the process that trains can count it.

    Args:
        records: the images and their annotations. transforms: augmentation, or None.
        seed: of the augmentation. train: whether an unreadable image is replaced.
        combinations: mosaic and mixup, applied in order and before the transforms, unless the request is plain.
        channels: how many the images shall have (`read_image`).
    """

    def __init__(
        self,
        records: Records,
        transforms: Transform | None = None,
        seed: int = 0,
        *,
        train: bool = True,
        combinations: Sequence[Combination] = (),
        channels: int = 3,
    ) -> None:
        self.records, self.transforms, self.seed, self.train = records, transforms, seed, train
        self.combinations, self.channels = tuple(combinations), channels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, request: Request | int) -> Sample:
        """The sample asked for; a plain index means epoch 0.

        Raises:
            IndexError: if there is no such row.
            VisionTasksError: in training, if a hundred images in a row, or all there are, cannot be read.
        """
        request = request if isinstance(request, Request) else Request(request)
        if not 0 <= request.index < len(self):
            raise IndexError(f"there is no image {request.index}: the data set has {len(self)}")
        sample = self._read(request)
        if sample.image is None:
            return sample
        random = np.random.default_rng((self.seed, request.epoch, request.index))
        for combination in () if request.plain else self.combinations:
            sample = combination(sample, random, self)
        return sample if self.transforms is None else self.transforms(sample, random)

    def read(self, row: int) -> Sample:
        """An image as it is in the file, with its truth; in training the next one if it cannot be read."""
        return self._read(Request(row))

    def rows_like(self, row: int) -> range:
        """The rows of images that are annotated as this one is: all, or of several data sets those of the same."""
        return self.records.rows_like(row) if isinstance(self.records, JointRecords) else range(len(self))

    def has_annotations(self, row: int) -> bool:
        """Whether the file states objects, sound or not, or a semantic map for the image; nothing is read for it."""
        source = self.records.semantic
        stated = bool(self.records.first[row + 1] > self.records.first[row])
        return stated or (source is not None and source.has(row))

    def _read(self, request: Request) -> Sample:
        unreadable: list[Unreadable] = []
        like = self.rows_like(request.index)
        tries = min(len(like), _MAX_UNREADABLE_RUN) if self.train else 1
        for row in ((np.arange(tries) + request.index - like.start) % len(like) + like.start).tolist():
            try:
                image = read_image(
                    self.records.image_path(row), self._expected_size(row), self.channels,
                    data=self.records.image_data(row),
                )  # fmt: skip
                height, width = image.shape[:2]  # where the file states no size: masks need one
                target = self._target(row, self.records.size(row) or (height, width))
            except ImageError as error:
                unreadable.append(Unreadable(int(self.records.image_ids[row]), str(error)))
                continue
            return Sample(image, target, request, unreadable)
        if self.train:
            raise VisionTasksError(
                f"{tries} images in a row cannot be read; is the image folder right? The first, image id "
                f"{unreadable[0].image_id}: {unreadable[0].reason}"
            )
        return Sample(None, self.records.target(request.index), request, unreadable)

    def _target(self, row: int, size: Size) -> Target:
        """The truth of an image, with its semantic map.

        Raises:
            ImageError: the map cannot be read, or is of another size.
        """
        target = self.records.target(row, size)
        source = self.records.semantic
        semantic = None if source is None else source.read(row, size)
        return target if semantic is None else replace(target, semantic=torch.from_numpy(semantic))

    def _expected_size(self, row: int) -> tuple[int, int] | None:
        height, width = int(self.records.heights[row]), int(self.records.widths[row])
        return (height, width) if height > 0 and width > 0 else None


@dataclass
class RawBatch:
    """Decoded, augmented, unnormalised images of unequal sizes; the model's `preprocess` resizes and pads them.

    Attributes:
        images: B tensors (C, H, W) uint8 or uint16, three are RGB. B is zero if no image could be read (evaluation).
        targets: B truths, each on its image's grid.
        min_size: shortest side to resize this batch to, or None for the model's own.
        unreadable: images that could not be read: replaced in training, missing here in evaluation.
        plain: whether this batch is of the last epochs, which are without mosaic and mixup.
        size: (height, width) to stretch every image of this batch to, or None for the model's own rule.
    """

    images: list[Tensor]
    targets: list[Target]
    min_size: int | None = None
    unreadable: list[Unreadable] = field(default_factory=list)
    plain: bool = False
    size: Size | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_ids(self) -> list[int]:
        """Ids of the images in the data set."""
        return [target.image_id for target in self.targets]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> RawBatch:
        """Copy with images and targets on a device."""
        images = [image.to(device, non_blocking=non_blocking) for image in self.images]
        return replace(self, images=images, targets=[t.to(device, non_blocking) for t in self.targets])

    def __getstate__(self) -> dict[str, Any]:
        """What travels between processes: pixels in one block (`packing`), small tensors as bytes."""
        maps = [target.semantic for target in self.targets if target.semantic is not None]
        if any(tensor.device.type != "cpu" for tensor in (*self.images, *maps)):
            return dict(vars(self))
        targets = [
            {name: v.numpy() if isinstance(v, Tensor) else v for name, v in vars(target).items()}
            | {"semantic": target.semantic is not None}
            for target in self.targets
        ]
        return vars(self) | {"images": packing.pack(self.images), "targets": targets, "maps": packing.pack(maps)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "maps" in state:
            maps = iter(state.pop("maps").tensors())
            state["images"] = state["images"].tensors()
            state["targets"] = [
                Target(**{n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in fields.items()}
                       | {"semantic": next(maps) if fields["semantic"] else None})
                for fields in state["targets"]
            ]  # fmt: skip
        vars(self).update(state)

    def pin_memory(self) -> RawBatch:
        """Copy whose images lie in page-locked memory, so that `to(..., non_blocking=True)` overlaps with computing."""
        targets = [t if t.semantic is None else replace(t, semantic=t.semantic.pin_memory()) for t in self.targets]
        return replace(self, images=[image.pin_memory() for image in self.images], targets=targets)


def collate(samples: Sequence[Sample]) -> RawBatch:
    """Join the samples of one batch; those without an image leave only their entry in `unreadable`.

    Raises:
        ValueError: some samples are crops of one size, and others are not.
    """
    read = [(s.image, s.target) for s in samples if s.image is not None]
    sizes = {s.size for s in samples if s.image is not None}
    if len(sizes) > 1:
        raise ValueError(f"the samples of one batch must be resized alike, not to {sizes}")
    return RawBatch(
        images=packing.channels_first([image for image, _ in read]),
        targets=[target for _, target in read],
        min_size=samples[0].request.min_size if samples else None,
        unreadable=[entry for s in samples for entry in s.unreadable],
        plain=bool(samples) and samples[0].request.plain,
        size=next(iter(sizes), None),
    )
