"""Small videos whose every frame says which one it is: frame k is grey of `shade(k)`, with coloured corners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from vision_tasks.inference.sources.video import VideoSource

RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 230), (235, 235, 235)


def shade(index: int) -> int:
    """The grey of frame `index`; told apart by `number_of`."""
    return 24 + 8 * (index % 25)


def number_of(image: np.ndarray) -> int:
    """Which frame (modulo 25) an upright or turned (H, W, 3) image is, by the grey of its middle."""
    height, width = image.shape[:2]
    middle = image[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    return round((float(middle.mean()) - 24) / 8)


def picture(index: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3): red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    height, width = size
    image = np.full((height, width, 3), shade(index), np.uint8)
    part = min(size) // 3
    image[:part, :part], image[:part, -part:] = RED, GREEN
    image[-part:, :part], image[-part:, -part:] = BLUE, WHITE
    return image


def make_clip(
    path: Path | str,
    frames: int = 20,
    size: tuple[int, int] = (48, 64),
    rate: int = 10,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    stamps: list[int] | None = None,
    key_every: int = 5,
    form: str | None = None,
    sound: bool = False,
    index_first: bool = False,
    reordered: int = 0,
    **stream_settings: Any,
) -> None:
    """Writes a video.

    Args:
        stamps: of the frames, in milliseconds; by default they follow one another at `rate`.
        form: FFmpeg's name of the container, if the ending does not say it. sound: a second of silence beside it.
        index_first: of MP4, as needed where a file may be cut off. reordered: frames between two
            that are stored after the second of them (H.264's B-frames).
        stream_settings: attributes of the stream, and "turn": arguments of its `set_display_rotation`.
    """
    movflags = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", format=form, options=movflags) as container:
        # More than one thread, and reordering, would make small files differ from run to run and machine to machine.
        options = {"preset": "ultrafast", "bf": str(reordered)} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=1000 if stamps else rate, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = key_every
        stream.codec_context.thread_count = 1
        for name, value in stream_settings.items():
            if name == "turn":
                stream.set_display_rotation(*value)
            else:
                setattr(stream, name, value)
        voice: Any = container.add_stream("aac", rate=8000) if sound else None
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, size))
            if stamps:
                frame.pts = stamps[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux(voice.encode(silence))
            container.mux(voice.encode(None))


def open_clip(path: Path, **options: Any) -> VideoSource:
    return VideoSource(str(path), path.name, "clip", **options)


def numbers(source: VideoSource) -> list[int]:
    return [number_of(frame.image) for frame in source]
