"""Time and memory of the doctor on annotations as large as COCO's training set, without opening an image.

    python tools/benchmark/doctor.py                        # 118,287 images, 860,001 annotations, 25 points each
    python tools/benchmark/doctor.py --file instances_train2017.json

Reading and examining are timed apart, in one process; `peak` is the most memory that the process held.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from records import generate


def examine(path: Path, cache: bool) -> None:
    """Reads and examines one file, and prints what it took and what was found."""
    from vision_tasks.data.doctor.diagnose import diagnose
    from vision_tasks.data.formats.coco import read_coco

    begin = time.perf_counter()
    records = read_coco(path, path.parent, cache=cache)
    read = time.perf_counter()
    diagnosis = diagnose(records, quick=True)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{len(records):,} images, {len(records.labels):,} annotations: read {read - begin:.1f} s, "
        f"examined {done - read:.1f} s, peak {peak:,.0f} MB, arrays {records.nbytes / 1e6:,.0f} MB"
    )
    for finding in diagnosis:
        print(f"  {finding.severity}: {finding.count:,} {finding.kind.title} [{finding.code}]")
    if diagnosis.is_clean:
        print("  nothing found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="a COCO file instead of a generated one")
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--annotations", type=int, default=860_001)
    parser.add_argument("--points", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file
        if path is None:
            path = Path(folder) / "instances.json"
            generate(path, options.annotations, options.images, options.points)
            print(f"generated {path.stat().st_size / 1e6:,.0f} MB", flush=True)
        examine(path, cache=False)


if __name__ == "__main__":
    main()
