"""Sources of pictures that are no video: files, members of zip files, and what a program has in memory."""

from __future__ import annotations

import contextlib
import copy
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vision_tasks.data.image_errors import ImageError, ImageTooLargeError, ImageTruncatedError
from vision_tasks.data.images import read_image
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame
from vision_tasks.inference.pixels import check_unit, to_tensor
from vision_tasks.inference.sources.names import Names, numbered
from vision_tasks.inference.sources.problems import TellingSource

MEMBER_LIMIT = 2 << 30
"""Bytes of an unpacked member of a zip file; larger ones are refused before they are unpacked."""


class Picture(NamedTuple):
    """One of a source: what it is called, where it came from, and a path, a member of a zip file, or pixels."""

    name: str
    source: str
    content: Any


class ImageSource(TellingSource):
    """Pictures one by one; those that cannot be read are told of and left out."""

    kind = "images"

    def __init__(
        self,
        name: str,
        pictures: Sequence[Picture],
        channels: int = 3,
        on_problem: Callable[[str], None] | None = None,
        archive: Path | None = None,
    ) -> None:
        """Args: archive: the zip file that the pictures are members of."""
        super().__init__(name, on_problem)
        self.length = len(pictures)
        self._numbers = range(len(pictures))
        self._pictures, self._channels, self._archive = pictures, channels, archive

    def __iter__(self) -> Iterator[Frame]:
        if self._archive is None:
            yield from self._frames(None)
            return
        with open_zip(self._archive) as archive:
            yield from self._frames(archive)

    @property
    def folders(self) -> set[Path]:
        """Of its picture files, or of its archive."""
        files = [self._archive] if self._archive is not None else [p.content for p in self._pictures]
        return {file.parent for file in files if isinstance(file, Path)}

    def part(self, rank: int, ranks: int) -> ImageSource | None:
        """Every `ranks`-th picture from `rank` on."""
        part = copy.copy(self)
        part._numbers = self._numbers[rank::ranks]
        part.length = len(part._numbers)
        part.problems = []
        part.known(self.problems if rank == 0 else ())
        return part if part.length else None

    def _frames(self, archive: zipfile.ZipFile | None) -> Iterator[Frame]:
        for number in self._numbers:
            picture = self._pictures[number]
            try:
                if archive is not None:
                    data = member_bytes(archive, picture.content, picture.source)
                    image = read_image(picture.source, channels=self._channels, data=data)
                elif isinstance(picture.content, Path):
                    image = read_image(picture.content, channels=self._channels)
                else:
                    image = pixels_of(picture.content, self._channels)
            except ImageError as error:
                self.tell(str(error))
                continue
            yield Frame(image, picture.source, picture.name, number)


class IterableSource(TellingSource):
    """Whatever an iterable yields: paths, arrays, PIL images, tensors, frames; read once, one by one."""

    kind = "images"

    def __init__(
        self,
        items: Iterable[Any],
        name: str,
        names: Names,
        channels: int = 3,
        on_problem: Callable[[str], None] | None = None,
    ) -> None:
        """Args: name: of the series, for what has no name of its own. names: those of the run."""
        super().__init__(name, on_problem)
        self.length = len(items) if isinstance(items, Sized) else None
        self._items, self._names, self._channels = items, names, channels

    def __iter__(self) -> Iterator[Frame]:
        for index, item in enumerate(self._items):
            try:
                yield self._frame(index, item)
            except ImageError as error:
                self.tell(str(error))

    def _frame(self, index: int, item: Any) -> Frame:
        if isinstance(item, Frame):
            return item
        if isinstance(item, (str, Path)):
            path = Path(item)
            return Frame(read_image(path, channels=self._channels), str(path), self._names.single(path.stem), index)
        try:
            image = pixels_of(item, self._channels)
        except ImageError:
            raise
        except VisionTasksError as error:
            raise VisionTasksError(f"Picture {index} (from 0) of what was given: {error}") from error
        return Frame(image, f"{self.name} {index}", numbered(self.name, index), index)


def is_picture(value: Any) -> bool:
    """Whether this is one picture in memory."""
    if isinstance(value, Image.Image):
        return True
    return isinstance(value, (np.ndarray, Tensor)) and value.ndim in (2, 3)


def pixels_of(image: Any, channels: int) -> np.ndarray:
    """A PIL image, an (H, W) or (H, W, C) array or a (C, H, W) tensor as (H, W, C) uint8 or uint16.

    Floats in 0..1 become uint8 where they are multiples of 1/255, else uint16, the nearest 1/65535.

    Raises:
        VisionTasksError: another form.
    """
    if isinstance(image, Tensor) and image.ndim == 2:
        image = image[None]
    tensor = to_tensor(image, channels).detach().cpu()
    if tensor.is_floating_point():
        tensor = _whole(tensor.float())
    elif tensor.dtype not in (torch.uint8, torch.uint16):
        raise VisionTasksError(f"A tensor must be uint8, uint16 or float in 0..1, not {tensor.dtype}.")
    return np.ascontiguousarray(tensor.permute(1, 2, 0).numpy())


def _whole(tensor: Tensor) -> Tensor:
    check_unit(tensor)
    coarse = tensor * 255
    if bool(((coarse - coarse.round()).abs() < 1e-3).all()):
        return coarse.round().to(torch.uint8)
    return (tensor * 65535).round().to(torch.int32).to(torch.uint16)


_UNPACKING = (
    OSError, EOFError, RuntimeError, ValueError, NotImplementedError, zlib.error, lzma.LZMAError, zipfile.BadZipFile
)  # fmt: skip


def open_zip(path: Path) -> zipfile.ZipFile:
    """Raises: VisionTasksError: it is no zip file, or damaged."""
    try:
        return zipfile.ZipFile(path)
    except _UNPACKING as error:
        raise VisionTasksError(f"{path}: not a zip file that can be read ({error}). Pack it again.") from error


def is_encrypted(member: zipfile.ZipInfo) -> bool:
    return bool(member.flag_bits & 1)


def member_path(member: zipfile.ZipInfo) -> PurePosixPath:
    """Its path in the archive, also of archives made on Windows, and without steps out of it."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    return PurePosixPath(*(part for part in parts if part not in ("..", "/")))


@contextlib.contextmanager
def member_stream(path: Path, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """A member to be read without unpacking it to a file. Going back unpacks from its beginning again."""
    with open_zip(path) as archive, archive.open(member) as file:
        yield file


def check_member(member: zipfile.ZipInfo, source: str, whole: bool = True) -> None:
    """Raises: ImageError: it is encrypted, or would be too large unpacked, if it is to be unpacked as a whole."""
    if is_encrypted(member):
        raise ImageTruncatedError(f"{source}: encrypted. Unpack the archive with its password, and name the folder.")
    if whole and member.file_size > MEMBER_LIMIT:
        raise ImageTooLargeError(
            f"{source}: {member.file_size:,} bytes unpacked are more than the limit of {MEMBER_LIMIT:,}. Unpack it."
        )


def member_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: str) -> np.ndarray:
    """A member, unpacked in memory; never more than the size that its header states.

    Raises:
        ImageError: it is encrypted, too large, damaged, or packed in an unknown way.
    """
    check_member(member, source)
    try:
        data = archive.read(member)
    except _UNPACKING as error:
        raise ImageTruncatedError(f"{source}: cannot be unpacked ({error}). Pack it again.") from error
    if not data:
        raise ImageTruncatedError(f"{source}: the file is empty. Pack it again.")
    return np.frombuffer(data, np.uint8)
