"""Reading images whose pixels are numbers or colours with a meaning: as stored, nothing converted."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vision_tasks.data.decoding import PIXEL_LIMIT, check_png, file_bytes, open_header, quiet_reading
from vision_tasks.data.image_errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageSizeError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from vision_tasks.data.regular_files import open_regular
from vision_tasks.structures import Size

Reading = Literal["auto", "index", "color"]
"""How pixels become values. index: the number stored, of a palette image the place in the palette. color: red, green
and blue together. auto: colour where a file has three channels or more, else index."""

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_STEP = {1: 255, 2: 85, 4: 17}
"""Pillow spreads grey values of few bits over 0..255; by this they are brought back."""


def color_value(color: Sequence[int]) -> int:
    """A colour as one number, as panoptic files count: red + 256 green + 65536 blue."""
    red, green, blue = (int(c) for c in color)
    return red + 256 * green + 65536 * blue


def read_values(
    path: Path, size: Size | None = None, reading: Reading = "auto", pixel_limit: int = PIXEL_LIMIT
) -> tuple[np.ndarray, bool]:
    """Decodes one mask file.

    Args:
        path: PNG, TIFF, BMP or anything else without loss. size: (height, width) it must have, None for any.
        reading: see `Reading`. pixel_limit: more pixels than this are refused before memory is taken.

    Returns:
        (H, W) uint8, uint16 or int32 values, and whether they are colours (`color_value`).

    Raises:
        ImageError: missing, damaged, too large, of another size, or of float pixels; names the file.
    """
    data = file_bytes(path)
    header = open_header(data, path)
    found = (header.height, header.width)
    if found[0] * found[1] > pixel_limit:
        raise ImageTooLargeError(f"{path}: {found[1]} × {found[0]} pixels are more than the limit of {pixel_limit:,}.")
    check_size(path, found, size)
    try:
        if header.format == "PNG":
            check_png(data)
        # The lock is for rarer formats alone: threads that read PNG need not wait for each other.
        with contextlib.nullcontext() if header.format == "PNG" else quiet_reading():
            header.load()
        return _values(header, data, reading, path)
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error, ...
        raise ImageTruncatedError(f"{path}: cut off or damaged ({error}). Copy it again, or remove it.") from error


def check_size(path: Path, found: Size, wanted: Size | None) -> None:
    """Raises ImageSizeError unless the mask is as large as its image."""
    if wanted is not None and found != tuple(wanted):
        raise ImageSizeError(
            f"{path}: the mask has {found[1]} × {found[0]} pixels, its image {wanted[1]} × {wanted[0]}. "
            "Make the mask of the image as it is (not of a resized or turned copy)."
        )


def _values(header: Image.Image, data: np.ndarray, reading: Reading, path: Path) -> tuple[np.ndarray, bool]:
    mode = header.mode
    if mode == "F":
        raise ImageFormatError(f"{path}: float pixels cannot be labels. Convert the mask to 8 or 16 bits.")
    if mode == "LA":
        header, mode = header.getchannel(0), "L"
    if reading == "color" or (reading == "auto" and mode not in ("1", "L", "P", "PA") and not mode.startswith("I")):
        if mode.startswith("I"):
            raise ImageFormatError(f"{path}: the table is of colours, but the file has one channel of 16 or 32 bits.")
        pixels = np.asarray(header if mode == "RGB" else header.convert("RGBA").convert("RGB")).astype(np.int32)
        return pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2], True
    if mode not in ("1", "L", "P", "PA") and not mode.startswith("I"):  # by number, though there are channels
        channels = np.asarray(header.convert("RGB"))
        if not ((channels[..., 0] == channels[..., 1]) & (channels[..., 1] == channels[..., 2])).all():
            raise ImageFormatError(
                f"{path}: the mask has colours, but the table has none. Give each category its color, or write one "
                "channel of numbers."
            )
        return channels[..., 0], False
    pixels = np.asarray(header.getchannel(0) if mode == "PA" else header)
    if mode == "1":
        return pixels.astype(np.uint8), False
    if mode == "L" and header.format == "PNG" and data[25] == 0 and (step := _GREY_STEP.get(int(data[24]))):
        return pixels // step, False
    return (pixels, False) if pixels.dtype in (np.uint8, np.uint16) else (pixels.astype(np.int32), False)


def file_size(path: Path) -> Size:
    """(height, width) of an image file as stored, from its first bytes.

    Raises:
        ImageError: missing, empty or no image.
    """
    try:
        with open_regular(path) as stream:
            start = stream.read(24)
            if start[:8] == _PNG and len(start) == 24:
                width, height = struct.unpack(">II", start[16:24])
                return height, width
            if not start:
                raise ImageEmptyError(f"{path}: the file is empty. Copy it again.")
            stream.seek(0)
            with quiet_reading(), Image.open(stream) as header:
                return header.height, header.width
    except ImageError:
        raise
    except OSError as error:
        if path.is_file():
            raise ImageFormatError(f"{path}: not an image, or of an unknown format. Remove or convert it.") from error
        raise ImageMissingError(f"{path}: cannot be read ({error.strerror or error}). Check the path.") from error
    except Exception as error:  # Pillow raises whatever a broken header leads to
        raise ImageFormatError(f"{path}: not an image, or of an unknown format. Remove or convert it.") from error
