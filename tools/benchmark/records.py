"""Memory and time of reading COCO annotations: `read_coco` next to pycocotools' COCO class, each in its own process.

    python tools/benchmark/records.py                          # 860,000 annotations, 118,000 images, with polygons
    python tools/benchmark/records.py --annotations 10000000 --images 1400000 --skip-peer

COCO 2017 train has 860,001 annotations on 118,287 images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil


def generate(path: Path, annotations: int, images: int, points: int, seed: int = 0) -> None:
    """Writes a file like COCO's: unsorted annotations, 80 categories, star-shaped polygons of about `points` points."""
    rng = np.random.default_rng(seed)
    with path.open("w") as out:
        out.write('{"info": {}, "images": [')
        for i in range(images):
            entry = {"license": 1, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640, "id": 3 * i + 1}
            out.write((", " if i else "") + json.dumps(entry))
        out.write('], "categories": ')
        out.write(json.dumps([{"supercategory": "thing", "id": c, "name": f"category {c}"} for c in range(1, 81)]))
        out.write(', "annotations": [')
        done = 0
        while done < annotations:
            n = min(10_000, annotations - done)
            owners, kinds = rng.integers(images, size=n) * 3 + 1, rng.integers(1, 81, n)
            centers, radii = rng.uniform([100, 100], [540, 380], (n, 2)), rng.uniform(5, 90, n)
            counts = rng.geometric(1 / (points - 2), n) + 2
            lines = []
            for i in range(n):
                angle = np.linspace(0, 2 * np.pi, counts[i], endpoint=False)
                radius = radii[i] * rng.uniform(0.7, 1, counts[i])
                xy = np.round(centers[i] + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), 2)
                (x1, y1), (x2, y2) = xy.min(0).tolist(), xy.max(0).tolist()
                area = abs(xy[:, 0] @ np.roll(xy[:, 1], -1) - xy[:, 1] @ np.roll(xy[:, 0], -1)) / 2
                entry = {
                    "segmentation": [xy.ravel().tolist()],
                    "area": round(float(area), 4),
                    "iscrowd": 0,
                    "image_id": int(owners[i]),
                    "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
                    "category_id": int(kinds[i]),
                    "id": done + i + 1,
                }
                lines.append(json.dumps(entry))
            out.write((", " if done else "") + ", ".join(lines))
            done += n
        out.write("]}")


OURS = """
import sys, time
from vision_tasks.data.formats.coco import read_coco
print("start", flush=True); sys.stdin.readline()
t = time.perf_counter()
cache = {"none": False, "folder": True}[sys.argv[2]]
r = read_coco(sys.argv[1], cache=cache)
t = time.perf_counter() - t
n = len(r.labels)
fixed = r.nbytes - r.shape_bytes.nbytes
t2 = time.perf_counter()
for row in range(0, len(r), max(1, len(r) // 2000)): r.target(row)
t2 = (time.perf_counter() - t2) / len(range(0, len(r), max(1, len(r) // 2000)))
print(f"{t:.1f} s, {r.nbytes / n:.0f} bytes per annotation kept ({fixed / n:.0f} without outlines, "
      f"{r.nbytes / 1e6:.0f} MB in all), target() {t2 * 1e6:.0f} us per image", flush=True)
"""
PEER = """
import sys, time, contextlib, io
from pycocotools.coco import COCO
import psutil
before = psutil.Process().memory_info().rss
print("start", flush=True); sys.stdin.readline()
t = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()): coco = COCO(sys.argv[1])
t = time.perf_counter() - t
kept = psutil.Process().memory_info().rss - before
print(f"{t:.1f} s, {kept / len(coco.anns):.0f} bytes per annotation kept ({kept / 1e6:.0f} MB in all)", flush=True)
"""


def measure(name: str, program: str, *arguments: str) -> None:
    """Runs a program that prints `start`, waits for a line, works, and prints its figures; watches its memory.

    Anonymous memory is what it takes from the machine; resident adds the pages of mapped files, which can be dropped.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    watched = psutil.Process(process.pid)
    base = watched.memory_info()
    peak = {"resident": 0, "anonymous": 0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            now = watched.memory_info()
            peak["resident"] = max(peak["resident"], now.rss - base.rss)
            peak["anonymous"] = max(peak["anonymous"], (now.rss - now.shared) - (base.rss - base.shared))

    thread = threading.Thread(target=watch)
    thread.start()
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline().strip()
    ended.set()
    thread.join()
    process.stdin.close()
    process.wait()
    print(
        f"{name:28s} {line}; peak while reading {peak['anonymous'] / 1e6:.0f} MB"
        f" ({peak['resident'] / 1e6:.0f} MB with mapped pages)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=int, default=860_000)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--points", type=int, default=25, help="mean points of a polygon")
    parser.add_argument("--skip-peer", action="store_true")
    parser.add_argument("--file", type=Path, help="measure this file instead of a generated one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "instances.json"
        if options.file is None:
            begin = time.perf_counter()
            generate(path, options.annotations, options.images, options.points)
            print(f"generated {path.stat().st_size / 1e6:.0f} MB in {time.perf_counter() - begin:.0f} s", flush=True)
        os.environ["VISION_TASKS_CACHE"] = folder
        measure("read_coco, in memory", OURS, str(path), "none")
        measure("read_coco, first, kept", OURS, str(path), "folder")
        measure("read_coco, again, mapped", OURS, str(path), "folder")
        if not options.skip_peer:
            measure("pycocotools' COCO", PEER, str(path))


if __name__ == "__main__":
    main()
