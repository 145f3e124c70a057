"""Sizes of image files without decoding them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from PIL import Image

from vision_tasks.data.band_images import read_array, tiff_bands
from vision_tasks.data.decoding import PIXEL_LIMIT, exif_orientation, file_bytes, quiet_reading
from vision_tasks.data.image_errors import ImageEmptyError, ImageFormatError, ImageMissingError, ImageTooLargeError
from vision_tasks.data.regular_files import open_regular
from vision_tasks.structures import Size

T = TypeVar("T")
R = TypeVar("R")
_CHUNK = 512
_THREADS = 8
"""Waiting for a disk is most of the work: more threads than cores."""


def upright_size(path: Path) -> Size:
    """(height, width) that `images.read_image` gives an image where the annotations state none: turned as EXIF says.

    Raises:
        ImageError: missing, empty, no image, or too large; names the file.
    """
    return upright_header(path)[0]


def upright_header(path: Path) -> tuple[Size, int | None]:
    """`upright_size`, and the EXIF orientation 2..8, None for upright.

    Raises:
        ImageError: missing, empty, no image, or too large; names the file.
    """
    if path.suffix.lower() == ".npy":
        pixels = read_array(file_bytes(path), path, PIXEL_LIMIT)
        return (pixels.shape[0], pixels.shape[1]), None
    try:
        with open_regular(path) as stream:
            if not stream.read(1):
                raise ImageEmptyError(f"{path}: the file is empty. Copy it again.")
            stream.seek(0)
            try:
                with quiet_reading(), Image.open(stream) as header:
                    size = header.height, header.width
                orientation = exif_orientation(header) if _may_be_turned(header) else None
            except Exception as error:  # PIL raises whatever a broken header leads to
                stream.seek(0)
                tags = tiff_bands(file_bytes(path)) if stream.read(2) in (b"II", b"MM") else None
                if tags is None:
                    raise ImageFormatError(
                        f"{path}: not an image, or of an unknown format. Remove or convert it."
                    ) from error
                return (int(tags[257]), int(tags[256])), None
    except OSError as error:
        reason = "is a folder" if path.is_dir() else error.strerror or str(error)
        raise ImageMissingError(f"{path}: cannot be read ({reason}). Check the path.") from error
    if size[0] * size[1] > PIXEL_LIMIT:
        raise ImageTooLargeError(
            f"{path}: {size[1]} × {size[0]} pixels are more than the limit of {PIXEL_LIMIT:,}. "
            "Scale it down or tile it."
        )
    return ((size[1], size[0]) if orientation in (5, 6, 7, 8) else size), orientation


def _may_be_turned(header: Image.Image) -> bool:
    return "exif" in header.info or header.format not in ("JPEG", "PNG", "WEBP")


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`map` in threads, in order, a few hundred ahead at the most."""
    rest = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(rest, _CHUNK)):
            yield from pool.map(function, chunk)
