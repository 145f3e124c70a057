"""Images of any number of bands: TIFF as satellites and microscopes have them, and NumPy arrays."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from vision_tasks.data.image_errors import ImageFormatError, ImageTooLargeError, ImageTruncatedError

_WIDTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR, _EXTRA = (
    256,
    258,
    259,
    262,
    277,
    284,
    317,
    338,
)
_OFFSETS, _COUNTS = {False: 273, True: 324}, {False: 279, True: 325}  # of strips, of tiles
_KEPT = (257, 266, 278, 322, 323)  # height, fill order, rows of a strip, width and height of a tile
_PLAIN = (0, 1, 2)  # photometric: grey or RGB; the rest (palettes, separations, YCbCr, ...) is for Pillow


Tags = TiffImagePlugin.ImageFileDirectory_v2


def file_bands(data: np.ndarray, path: Path, channels: int, pixel_limit: int) -> np.ndarray | None:
    """All bands of a file that Pillow does not read as it is; None if it does."""
    if path.suffix.lower() == ".npy":
        return read_array(data, path, pixel_limit)
    tags = tiff_bands(data)
    if tags is None or (channels in (1, 3) and tags[277] <= 4 and (tags[262] == 2 or has_alpha(tags))):
        return None
    return read_tiff(data, tags, path, pixel_limit)


def tiff_bands(data: np.ndarray) -> Tags | None:
    """The directory of a TIFF file of two or more bands of plain numbers; None of any other file.

    Pillow's own `open` refuses many of them, or shows the first band alone.
    """
    if data[:4].tobytes() not in (b"II*\0", b"MM\0*"):
        return None
    raw = data.tobytes()
    try:
        tags = Tags(raw[:8])
        stream = io.BytesIO(raw)
        stream.seek(tags.next)
        tags.load(stream)
        plain = tags.get(_PHOTOMETRIC) in _PLAIN and tags.get(_COMPRESSION, 1) not in (6, 7)  # 6, 7: JPEG
        return tags if plain and int(tags.get(_SAMPLES, 1)) > 1 else None
    except Exception:  # whatever a broken directory leads to; Pillow will say that it is broken
        return None


def has_alpha(tags: Tags) -> bool:
    """Whether one of the bands is transparency."""
    return any(kind in (1, 2) for kind in _several(tags.get(_EXTRA, 0)))


def read_tiff(data: np.ndarray, tags: Tags, path: Path, pixel_limit: int) -> np.ndarray:
    """All bands of a TIFF file, (H, W, C) uint8 or uint16.

    Pillow knows no images of many bands, but bands that lie side by side are one wide grey image to it, and bands in
    planes are several. So the file is given to it again under a directory that says so.

    Raises:
        ImageFormatError: other numbers than of 8 or 16 bits without sign. ImageTooLargeError: more pixels than allowed.
        ImageTruncatedError: cut off.
    """
    height, width, samples = int(tags[257]), int(tags[_WIDTH]), int(tags[_SAMPLES])
    if height * width > pixel_limit:
        raise ImageTooLargeError(f"{path}: {width} × {height} pixels are more than the limit of {pixel_limit:,}.")
    bits, kinds = set(_several(tags.get(_BITS, 1))), set(_several(tags.get(339, 1)))
    if len(bits) > 1 or not bits <= {8, 16} or kinds != {1}:
        raise ImageFormatError(f"{path}: bands of this kind are not read. Convert it to a TIFF of 8 or 16 bits.")
    planes = tags.get(_PLANAR, 1) == 2
    tiled = 322 in tags
    try:
        offsets, counts = _several(tags[_OFFSETS[tiled]]), _several(tags[_COUNTS[tiled]])
        each = len(offsets) // samples if planes else len(offsets)
        parts = [
            _grey(
                data.tobytes(), tags, offsets[i : i + each], counts[i : i + each], 1 if planes else samples, min(bits)
            )
            for i in range(0, len(offsets), each)
        ]
        return np.stack(parts, axis=2) if planes else parts[0].reshape(height, width, samples)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, KeyError, struct.error, ...
        raise ImageTruncatedError(f"{path}: cut off or damaged ({error}). Copy it again, or remove it.") from error


def _grey(
    raw: bytes, tags: Tags, offsets: tuple[int, ...], counts: tuple[int, ...], factor: int, depth: int
) -> np.ndarray:
    """One plane, or all bands of each row side by side: (H, W × factor)."""
    tiled = 322 in tags
    order = "<" if raw[:2] == b"II" else ">"
    entries = {key: _several(tags[key]) for key in _KEPT if key in tags}
    if 322 in entries:
        entries[322] = (entries[322][0] * factor,)
    entries |= {
        _WIDTH: (int(tags[_WIDTH]) * factor,), _BITS: (depth,), _COMPRESSION: _several(tags.get(_COMPRESSION, 1)),
        _PHOTOMETRIC: (1,), _SAMPLES: (1,), _OFFSETS[tiled]: offsets, _COUNTS[tiled]: counts,
    }  # fmt: skip
    at = len(raw) + len(raw) % 2
    directory = struct.pack(order + "H", len(entries))
    beyond, start = b"", at + 2 + 12 * len(entries) + 4
    for key, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, beyond = struct.pack(order + "I", start + len(beyond)), beyond + packed
        directory += struct.pack(order + "HHI", key, 4, len(values)) + packed
    directory += struct.pack(order + "I", 0)
    again = raw[:4] + struct.pack(order + "I", at) + raw[8:].ljust(at - 8, b"\0") + directory + beyond
    with Image.open(io.BytesIO(again)) as wide:
        pixels = np.asarray(wide).astype(np.uint16 if depth == 16 else np.uint8)
    if tags.get(_PREDICTOR, 1) == 2:
        pixels = _summed(pixels, factor, int(entries[322][0]) if tiled else pixels.shape[1])
    return pixels


def _summed(differences: np.ndarray, step: int, tile: int) -> np.ndarray:
    """Undoes horizontal differencing, which starts anew with each tile; numbers wrap around as they did."""
    out = differences.copy()
    for left in range(0, out.shape[1], tile):
        part = out[:, left : left + tile]
        part[:] = part.reshape(len(part), -1, step).cumsum(1, dtype=part.dtype).reshape(part.shape)
    return out


def _several(value: object) -> tuple[int, ...]:
    return tuple(int(v) for v in value) if isinstance(value, tuple | list) else (int(value),)  # type: ignore[call-overload]


def read_array(data: np.ndarray, path: Path, pixel_limit: int) -> np.ndarray:
    """An .npy file of (H, W) or (H, W, C) uint8 or uint16 as (H, W, C).

    Raises:
        ImageFormatError: another shape or type, or no array. ImageTooLargeError: more pixels than allowed.
    """
    try:
        stream = io.BytesIO(data.tobytes())
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, kind = read[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError) as error:
        raise ImageFormatError(f"{path}: no NumPy array ({error}). Save it with numpy.save.") from error
    if len(shape) not in (2, 3) or kind not in (np.uint8, np.uint16) or 0 in shape:
        raise ImageFormatError(
            f"{path}: an array of shape {shape} and type {kind}. An image is (height, width, "
            "channels) of uint8 or uint16."
        )
    if shape[0] * shape[1] > pixel_limit:
        raise ImageTooLargeError(f"{path}: {shape[1]} × {shape[0]} pixels are more than the limit of {pixel_limit:,}.")
    stream.seek(0)
    try:
        pixels: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        raise ImageFormatError(f"{path}: the array is cut off ({error}). Copy it again.") from error
    return pixels.reshape(*shape[:2], -1)
