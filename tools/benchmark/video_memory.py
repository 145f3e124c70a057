"""Memory over a long video: frames are held a few at a time, however many there are.

Writes a video, reads it with `VideoSource`, and prints the resident memory as it goes; with --predict, through
`Predictor.stream` and a small model, too. The memory at the end is compared with that after a tenth of the frames.

    python tools/benchmark/video_memory.py [--frames 10000] [--size 480 640] [--predict CHECKPOINT]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil


def write(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A video of noise that moves over a gradient, so that frames differ."""
    height, width = size
    base = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for index in range(frames):
            picture = np.repeat((base + np.uint8(index % 256))[..., None], 3, 2)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))


def watched(numbers: Iterator[int], frames: int) -> None:
    """Prints the memory ten times, and how much it grew after the first."""
    process = psutil.Process()
    seen: list[float] = []
    start = time.perf_counter()
    for count in numbers:
        if (count + 1) % max(1, frames // 10) == 0:
            seen.append(process.memory_info().rss / 2**20)
            pace = (count + 1) / (time.perf_counter() - start)
            print(f"{count + 1:>8,} frames  {seen[-1]:8.1f} MiB  {pace:7.1f} frames/s")
    print(f"grown by {seen[-1] - seen[0]:+.1f} MiB from the first tenth to the end, at most {max(seen) - seen[0]:+.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--predict", metavar="CHECKPOINT", help="through this model, too")
    given = parser.parse_args()
    from vision_tasks.inference.sources.opening import open_sources

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write(path, given.frames, tuple(given.size))
        print(f"{path.stat().st_size / 2**20:.1f} MiB of video, {given.frames:,} frames of {given.size}")
        (source,) = open_sources(path)
        watched((frame.index for frame in source), given.frames)
        if given.predict:
            from vision_tasks.inference.predictor import Predictor

            predictor = Predictor(given.predict)
            watched((frame.index for frame, _ in predictor.stream(path)), given.frames)


if __name__ == "__main__":
    main()
