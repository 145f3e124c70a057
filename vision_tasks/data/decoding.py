"""From the bytes of an image file to its pixels as stored."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from vision_tasks.data.image_errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageTruncatedError,
)
from vision_tasks.data.regular_files import open_regular

PIXEL_LIMIT = 500_000_000
"""Larger images are refused before memory is taken for them; 500 megapixels are 1.5 GB as 8-bit RGB."""

# What makes an image upright, by EXIF orientation: whether to mirror left-right first, quarter turns anticlockwise.
TURNS = {2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1)}


# Where standard error goes while OpenCV decodes, in processes of one thread (`one_thread`).
_nowhere: int | None = None

# PIL warns of odd metadata. Filters belong to the whole process, so two threads must not change them at once;
# a child forked meanwhile gets a lock of its own.
_quiet = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: globals().update(_quiet=threading.Lock()))


@contextlib.contextmanager
def quiet_reading() -> Iterator[None]:
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is `PIXEL_LIMIT`; PIL's is a third of it
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def file_bytes(path: Path) -> np.ndarray:
    try:
        with open_regular(path) as stream:  # by Python's own open, so that any letters in the name will do
            data = np.fromfile(stream, np.uint8)
    except OSError as error:
        reason = "is a folder" if path.is_dir() else error.strerror or str(error)
        raise ImageMissingError(f"{path}: cannot be read ({reason}). Check the path.") from error
    if not len(data):
        raise ImageEmptyError(f"{path}: the file is empty. Copy it again.")
    return data


def open_header(data: np.ndarray, path: Path) -> Image.Image:
    """PIL's view of the file, pixels not decoded; how many there may be is for the caller to judge (`PIXEL_LIMIT`)."""
    with quiet_reading():
        try:
            return Image.open(io.BytesIO(data.tobytes()))
        except Exception as error:  # PIL raises whatever a broken header leads to
            raise ImageFormatError(f"{path}: not an image, or of an unknown format. Remove or convert it.") from error


def exif_orientation(header: Image.Image) -> int | None:
    """EXIF orientation 2..8; None for upright, absent or nonsense."""
    if header.format not in ("JPEG", "MPO", "PNG", "WEBP", "TIFF"):
        return None
    with quiet_reading():
        try:
            value = header.getexif().get(ExifTags.Base.Orientation)
        except Exception:  # damaged metadata must not cost an image
            return None
    return value if isinstance(value, int) and value in TURNS else None


def decode(data: np.ndarray, header: Image.Image, path: Path, channels: int = 3) -> np.ndarray:
    """Pixels as stored, (H, W, channels); three are RGB.

    PIL decodes: it says what is cut off instead of filling up with grey, and prints nothing. OpenCV is used where PIL
    would cut 16 bits to 8, and for whole JPEG files where `one_thread` allows it: that takes a fifth less time, and
    the pixels are equal to the bit (both on libjpeg-turbo).
    """
    if channels == 3 and (pixels := _by_opencv(data, header)) is not None:
        return pixels
    # What decoders of rarer formats warn of is caught; holding the lock for all would let threads wait for each other.
    with quiet_reading() if header.format not in ("JPEG", "PNG", "BMP", "WEBP") else contextlib.nullcontext():
        try:
            if header.format == "PNG":
                check_png(data)
            header.load()
            if header.mode == "F":
                raise ImageFormatError(f"{path}: float pixels are not read. Convert it to 8 or 16 bits.")
            if header.mode.startswith("I"):
                return fitted(_grey16(np.asarray(header), path), channels, path)
            if _depth(data, header) == 16:
                return fitted(_color16(data, path), channels, path)
            if channels != 3:
                return fitted(_stored(header), channels, path)
            if header.mode == "P" and "transparency" in header.info:
                header = header.convert("RGBA")  # straight to RGB warns
            return np.array(header if header.mode == "RGB" else header.convert("RGB"))
        except ImageError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, EOFError, struct.error, ...
            raise ImageTruncatedError(f"{path}: cut off or damaged ({error}). Copy it again, or remove it.") from error


def one_thread() -> None:
    """Tell that this process has no other thread that writes to standard error, as workers of a loader have none.

    OpenCV can then be kept from printing what libjpeg thinks of damaged files, by sending it nowhere meanwhile.
    """
    global _nowhere
    _nowhere = os.open(os.devnull, os.O_WRONLY)


def _by_opencv(data: np.ndarray, header: Image.Image) -> np.ndarray | None:
    """The pixels (H, W, 3) RGB of a JPEG file that has an end, where `one_thread` allows it; else None, for PIL."""
    if _nowhere is None or header.format != "JPEG" or header.mode != "RGB" or bytes(data[-2:]) != b"\xff\xd9":
        return None
    shown = os.dup(2)
    try:
        os.dup2(_nowhere, 2)
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    finally:
        os.dup2(shown, 2)
        os.close(shown)
    return None if pixels is None or pixels.shape[:2] != header.size[::-1] else pixels


def fitted(image: np.ndarray, channels: int, path: Path) -> np.ndarray:
    """(H, W, C) as the (H, W, channels) that are wanted; three and four channels are RGB and RGBA.

    Raises:
        ImageFormatError: there is no way that loses or invents nothing but transparency and colour.
    """
    own = image.shape[2]
    if own == channels:
        return image
    if own == 1 and channels == 3:
        return np.repeat(image, 3, 2)
    if own in (2, 4) and channels in (own - 1, 1, 3) and not (own == 2 and channels == 3):
        return fitted(image[..., : own - 1], channels, path)
    if own == 3 and channels == 1:
        # The weights of ITU-R 601 in 1/65536, rounded: what Pillow's "L" has.
        weights = np.array([19595, 38470, 7471], np.uint32)
        return ((image.astype(np.uint32) @ weights + 0x8000) >> 16).astype(image.dtype)[..., None]
    raise ImageFormatError(
        f"{path}: the image has {own} channel{'s' if own > 1 else ''}, but the model takes {channels}. Use images of "
        f"{channels}, or set the model's in_channels to {own}."
    )


def _stored(header: Image.Image) -> np.ndarray:
    """8-bit pixels with as many channels as the file has; palettes are looked up."""
    if header.mode == "1":
        header = header.convert("L")
    elif header.mode in ("P", "PA"):
        header = header.convert("RGBA" if header.mode == "PA" or "transparency" in header.info else "RGB")
    elif header.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        header = header.convert("RGB")
    pixels = np.array(header)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def check_png(data: np.ndarray) -> None:
    """Raises ValueError where a checksum is wrong: PIL does not look, and libpng prints."""
    raw = memoryview(data.data)
    at = 8
    while at + 12 <= len(raw):
        size, kind = int.from_bytes(raw[at : at + 4], "big"), bytes(raw[at + 4 : at + 8])
        end = at + 8 + size
        critical = kind[:1].isupper()
        if critical and zlib.crc32(raw[at + 4 : end]) != int.from_bytes(raw[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of its part {kind!r} at byte {at:,}")
        if kind == b"IEND":
            return
        at = end + 4
    raise ValueError("its end is missing")


def _depth(data: np.ndarray, header: Image.Image) -> int:
    """Bits per channel, as far as it concerns images of several channels."""
    if header.format == "PNG":
        return int(data[24])  # in IHDR, which comes first
    if isinstance(header, TiffImagePlugin.TiffImageFile):
        bits = header.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 8)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _grey16(values: np.ndarray, path: Path) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageFormatError(f"{path}: 32-bit pixels are not read. Convert it to 8 or 16 bits.")
    return values.astype(np.uint16)[..., None]


def _color16(data: np.ndarray, path: Path) -> np.ndarray:
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it prints odd tags of TIFF for each file
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if image is None or image.dtype != np.uint16:
        raise ImageFormatError(f"{path}: 16-bit pixels of this kind are not read. Convert it to PNG.")
    if image.ndim == 2:
        return image[..., None]
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
