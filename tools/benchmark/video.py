"""How fast are videos written, and how fast is the whole loop around a model? Beside OpenCV and supervision.

Writing: pictures of 1280×720 that are in memory go to a file, with each of our codecs, with cv2.VideoWriter ("mp4v",
which is MPEG-4 part 2: no browser plays it) and with supervision's VideoSink (the same inside). Pictures are BGR for
the peers and RGB for ours, as each wants them. "cpu" is time of all threads of this process, which other programs
disturb least.

The loop: decode, draw 20 boxes with tags, encode; no model. Ours overlaps the three in threads; the peer is
supervision's documented loop, get_video_frames_generator, BoxAnnotator, LabelAnnotator, VideoSink, one after another.
A model would run in the main thread of ours, which has nothing else to do. "+ 20 ms" stands for one that takes as long
without using the processor, as one on a GPU does.

Each way is timed in turn, `--rounds` times; the best counts. Needs a video of cars: VISION_TASKS_DATA, or --video.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from vision_tasks.inference.sources.opening import open_sources
from vision_tasks.inference.threads import Behind, StageTimes, read_ahead
from vision_tasks.inference.video.codecs import VIDEO_CODECS, available_codecs, default_ending
from vision_tasks.inference.video.writer import VideoWriter
from vision_tasks.structures import Categories, Prediction
from vision_tasks.visualize.drawing import draw

try:
    import supervision
except ImportError:
    supervision = None

WIDTH, HEIGHT = 1280, 720
NAMES = ["car", "bus", "truck", "person"]


def pictures(video: Path, count: int) -> list[np.ndarray]:
    """The first frames of a video, (720, 1280, 3) RGB; from the start again where it has fewer."""
    found: list[np.ndarray] = []
    while len(found) < count:
        before = len(found)
        for frame in open_sources([str(video)])[0]:
            found.append(cv2.resize(frame.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))
            if len(found) == count:
                break
        assert len(found) > before, f"{video} has no frames"
    return found


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of all threads."""
    clock, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - used


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """The best of each, on its own."""
    every: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            every[name].append(timed(way))
    return {name: (min(t for t, _ in times), min(c for _, c in times)) for name, times in every.items()}


def write_ours(path: Path, frames: list[np.ndarray], codec: str) -> None:
    with VideoWriter(path, 30, codec=codec) as writer:
        for frame in frames:
            writer.write(frame)


def write_cv2(path: Path, frames: list[np.ndarray]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (WIDTH, HEIGHT))
    for frame in frames:
        writer.write(frame)
    writer.release()


def write_supervision(path: Path, frames: list[np.ndarray]) -> None:
    info = supervision.VideoInfo(width=WIDTH, height=HEIGHT, fps=30, total_frames=len(frames))
    with supervision.VideoSink(str(path), info) as sink:
        for frame in frames:
            sink.write_frame(frame)


def compare_writers(folder: Path, frames: list[np.ndarray], rounds: int) -> None:
    reverse = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames]
    ways: dict[str, tuple[Path, Callable[[Path], object]]] = {}
    for codec in available_codecs():
        path = folder / f"ours_{codec}{default_ending(codec)}"
        ways[f"ours, {codec} ({VIDEO_CODECS[codec].encoder})"] = (
            path,
            lambda path, codec=codec: write_ours(path, frames, codec),
        )
    ways["cv2.VideoWriter, mp4v"] = folder / "cv2.mp4", lambda path: write_cv2(path, reverse)
    if supervision is not None:
        ways["supervision VideoSink"] = folder / "supervision.mp4", lambda path: write_supervision(path, reverse)
    best = in_turn({name: (lambda path=path, way=way: way(path)) for name, (path, way) in ways.items()}, rounds)
    print(f"\nwriting {len(frames)} pictures of {WIDTH}×{HEIGHT}")
    print(f"{'':34s}{'frames/s':>10s}{'ms':>8s}{'cpu ms':>8s}{'kB':>8s}{'PSNR dB':>9s}")
    for name, (clock, used) in best.items():
        path = ways[name][0]
        size = path.stat().st_size / 1e3
        print(
            f"{name:34s}{len(frames) / clock:10.0f}{clock / len(frames) * 1e3:8.2f}{used / len(frames) * 1e3:8.2f}"
            f"{size:8.0f}{psnr(path, frames):9.2f}"
        )


def psnr(path: Path, frames: list[np.ndarray]) -> float:
    """Of what is read back, over all frames and channels."""
    errors = [
        np.square(shown.image[::4, ::4].astype(np.float64) - wanted[::4, ::4]).mean()
        for shown, wanted in zip(open_sources([str(path)])[0], frames, strict=True)
    ]
    return float(10 * np.log10(255**2 / np.mean(errors)))


def objects(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4), labels (N,) and scores (N,) that stay where they are."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(30, 200, (count, 2))
    corner = rng.uniform(0, 1, (count, 2)) * (np.asarray([width, height]) - sides)
    return np.concatenate([corner, corner + sides], 1), rng.integers(0, len(NAMES), count), rng.uniform(0.5, 1, count)


def our_loop(video: Path, path: Path, codec: str, wait: float, times: StageTimes) -> None:
    (source,) = open_sources([str(video)])
    found: Prediction | None = None
    writer = VideoWriter(path, source.rate, codec=codec, times=times)

    def finish(item: tuple[np.ndarray, float | None, Prediction]) -> None:
        image, when, prediction = item
        with times.measure("draw"):
            picture = draw(image, prediction, legend=False)
        writer.write(picture, when)

    with writer, Behind(finish, 2) as behind:
        for frame in read_ahead(times.each("decode", source), 4):
            if found is None:
                height, width = frame.image.shape[:2]
                boxes, labels, scores = (torch.from_numpy(part) for part in objects(20, height, width))
                found = Prediction((height, width), Categories.of(NAMES), boxes.float(), labels, scores.float())
            time.sleep(wait)
            behind.put((frame.image, frame.time, found))


def peer_loop(video: Path, path: Path, wait: float) -> None:
    info = supervision.VideoInfo.from_video_path(str(video))
    box, label = supervision.BoxAnnotator(), supervision.LabelAnnotator()
    boxes, labels, scores = objects(20, info.height, info.width)
    found = supervision.Detections(boxes, class_id=labels, confidence=scores)
    words = [f"{NAMES[k]} {s:.2f}" for k, s in zip(labels, scores, strict=True)]
    with supervision.VideoSink(str(path), info) as sink:
        for frame in supervision.get_video_frames_generator(str(video)):
            time.sleep(wait)
            scene = box.annotate(frame.copy(), found)
            sink.write_frame(label.annotate(scene, found, words))


def long_video(video: Path, path: Path, frames: int) -> None:
    """A 1280×720 H.264 video of so many frames, for both loops to read."""
    few = pictures(video, min(frames, 300))

    def endless() -> Iterator[np.ndarray]:
        while True:
            yield from few

    with VideoWriter(path, 30) as writer:
        for picture, _ in zip(endless(), range(frames), strict=False):
            writer.write(picture)


def compare_loops(folder: Path, video: Path, frames: int, rounds: int) -> None:
    source = folder / "source.mp4"
    long_video(video, source, frames)
    for wait, words in ((0.0, "no model"), (0.02, "+ 20 ms for a model elsewhere")):
        stages: dict[str, StageTimes] = {}
        ways: dict[str, Callable[[], object]] = {}
        for codec in available_codecs():
            stages[codec] = StageTimes()
            ways[f"ours, {codec}"] = lambda codec=codec, wait=wait, times=stages[codec]: our_loop(
                source, folder / f"loop{default_ending(codec)}", codec, wait, times
            )
        if supervision is not None:
            ways["supervision, mp4v"] = lambda wait=wait: peer_loop(source, folder / "peer.mp4", wait)
        best = in_turn(ways, rounds)
        print(f"\ndecode, draw 20 boxes, encode; {frames} frames of {WIDTH}×{HEIGHT}; {words}")
        for name, (clock, used) in best.items():
            row = f"{name:22s}{frames / clock:8.0f} frames/s, cpu {used / frames * 1e3:5.1f} ms a frame"
            codec = name.removeprefix("ours, ")
            if codec in stages:
                row += "; alone: " + ", ".join(
                    f"{stage} {rate:.0f}/s" for stage, rate in stages[codec].summary().items()
                )
            print(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("VISION_TASKS_DATA")
    default = Path(data) / "videos" / "car-detection.mp4" if data else None
    parser.add_argument("--video", type=Path, default=default, required=default is None)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, OpenCV {cv2.__version__}, rounds {options.rounds}"
    )
    if supervision is None:
        print("supervision is not installed: left out")
    with tempfile.TemporaryDirectory() as folder:
        compare_writers(Path(folder), pictures(options.video, options.frames), options.rounds)
        compare_loops(Path(folder), options.video, options.frames, options.rounds)


if __name__ == "__main__":
    main()
