"""The doctor's confusion table: clean photos, damaged in one way after another, and what the doctor says of each.

    VISION_TASKS_DATA=... python tools/doctor_confusion.py            # Markdown on standard output
    VISION_TASKS_DATA=... python tools/doctor_confusion.py xyxy CMYK  # these alone

The damages are those of `tests/data/test_doctor_confusion.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.data.doctor_confusion import DAMAGES, Outcome, difference, forget, outcome
from tests.data.doctor_photos import Photos, make_clean
from vision_tasks.data.doctor.diagnose import diagnose, splits_of
from vision_tasks.data.records import Records


def main() -> None:
    names = sys.argv[1:] or list(DAMAGES)
    with tempfile.TemporaryDirectory() as folder:
        clean = make_clean(Path(os.environ["VISION_TASKS_DATA"]), Path(folder) / "clean")
        clean.write()
        original = splits_of(clean.folder)
        print("| damage | first finding | beneath it | others | edits | after the patch |")
        print("| --- | --- | --- | --- | --- | --- |")
        print(f"| none | {', '.join(diagnose(clean.folder).codes()) or 'nothing'} | | | | |")
        right = sum(_row(name, clean, original, Path(folder) / "damaged") for name in names)
    print(f"\n{right} of {len(names)} damages are named by the first finding.")


def _row(name: str, clean: Photos, original: dict[str, Records], folder: Path) -> bool:
    damage = DAMAGES[name]
    found = outcome(damage, clean, folder)
    forget(folder)
    codes = found.diagnosis.codes()
    right = found.first == damage.code
    first = found.first if right else f"**{found.first}** instead of {damage.code}"
    below = ", ".join(f.code for f in found.diagnosis.findings[0].consequences) if codes else ""
    print(f"| {name} | {first} | {below} | {', '.join(codes[1:])} | {found.edits or ''} | {_after(found, original)} |")
    return right


def _after(found: Outcome, original: dict[str, Records]) -> str:
    if not found.edits:
        return "people must decide"
    left = ", ".join(found.after.codes())
    same = all(not difference(found.mended[split], records) for split, records in original.items())
    return left or ("as it was before the damage" if same else "nothing found")


if __name__ == "__main__":
    main()
