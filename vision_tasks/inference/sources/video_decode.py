"""From a video's packets to upright pictures; what is damaged is passed over and counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vision_tasks.inference.sources.video_damage import Damage
from vision_tasks.inference.sources.video_open import FORMATS, FRAME_LIMIT

_PATIENCE = 50  # failures to read, one right after another, after which the rest of a file is given up


class Pixels:
    """Decoded frames as (H, W, channels) arrays, upright; one converter for the whole video."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._format = FORMATS[channels]
        self._converter = VideoReformatter()
        self._turned: int | None = None
        self._matrix: tuple[int, int, int, int] | None = None

    def of(self, frame: VideoFrame) -> np.ndarray:
        """(H, W, channels) uint8, contiguous; uint16 of grey frames with more than 8 bits."""
        if frame.width * frame.height > FRAME_LIMIT:
            raise ValueError(f"a frame of {frame.width} × {frame.height} pixels")
        if frame.format.name.startswith("gray") and frame.format.components[0].bits > 8:
            grey = self._converted(frame, "gray16le").astype(np.uint16, copy=False)[..., None]
            image = np.repeat(grey, self._channels, 2)
            if self._channels == 4:
                image[..., 3] = 65535
        else:
            image = self._converted(frame, self._format)
            image = image[..., None] if image.ndim == 2 else image
        # PyAV's side data and their frame hold each other, and with them its pixels, until a garbage collection: they
        # are read again only if the angle changes.
        if frame.rotation != self._turned:
            self._turned, self._matrix = frame.rotation, display_matrix(frame)
        return np.ascontiguousarray(upright(image, self._matrix))

    def _converted(self, frame: VideoFrame, form: str) -> np.ndarray:
        array: np.ndarray = self._converter.reformat(frame, format=form).to_ndarray()
        return array


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the matrix by which a player turns the frame: x' = a x + c y, y' = b x + d y; None for none."""
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know all kinds of side data that FFmpeg does
        quarter = {90: (0, -1, 1, 0), -90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1)}
        return quarter.get(frame.rotation)
    if data is None:
        return None
    values = np.frombuffer(data, np.int32, 5).tolist()
    return values[0], values[1], values[3], values[4]


def upright(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """(H, W, C) turned and mirrored as the display matrix says, to quarter turns."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, right, down = image.transpose(1, 0, 2), c, b
    else:
        right, down = a, d
    image = image[:, ::-1] if right < 0 else image
    return image[::-1] if down < 0 else image


def decoded(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[VideoFrame]:
    """All frames that can be decoded, in order of showing."""
    context = stream.codec_context
    for packet in _packets(container, stream, damage):
        for _ in range(2):
            try:
                yield from context.decode(packet)
            except BlockingIOError:  # it has frames to hand out first, and took nothing
                continue
            except EOFError:
                pass
            except Exception as error:  # FFmpeg's, and whatever damaged bytes lead to in between
                damage.failed(error)
            break


def _packets(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[Packet | None]:
    """The stream's packets, past places that cannot be read; then None, at which a decoder gives what it still has."""
    failures = 0
    while 0 <= failures < _PATIENCE:
        try:
            for packet in container.demux(stream):
                failures = 0
                if (
                    packet.size
                ):  # empty ones stand for a frame that was dropped, and a decoder would take them for the end
                    damage.packets += 1
                    damage.hidden += packet.is_discard
                    yield packet
            failures = -1
        except Exception as error:  # as above
            failures += 1
            if failures == 1:
                damage.failed(error, reading=True)
    yield None
