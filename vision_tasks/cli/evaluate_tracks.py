"""`vision-tasks evaluate-tracks`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from vision_tasks.cli.console import console, printable, say, table
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.outputs.files import make_folder

if TYPE_CHECKING:
    from vision_tasks.data.formats.mot import MotRows
    from vision_tasks.metrics.tracking import TrackingSummary

_COLUMNS = ["HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDSW", "FP", "FN", "MT", "PT", "ML", "Frag"]


def run(truth: Path, results: Path, rules: str, category: int | None, annotated_only: bool, out: Path | None) -> None:
    """Print a row per sequence and one of all; write every number as JSON.

    The file: {"rules", "numbers": {name: value}, "per_sequence": [{"name", ...}], "curves": {"alpha": [19], ...}}.
    """
    from vision_tasks.data.formats.mot_sequences import read_sequences
    from vision_tasks.metrics.tracking import tracking_evaluate

    known, found = read_sequences(truth), read_sequences(results)
    if len(known) == len(found) == 1:
        found = dict(zip(known, found.values(), strict=True))
    if known and found and not set(known) & set(found):
        raise VisionTasksError(
            f"{results}: the results are of {_some(found)}, and the truth of {_some(known)}. They go together by name: "
            f"name the results {next(iter(known))}.txt and so on."
        )
    for name in sorted(set(found) - set(known)):
        console().print(f"No truth of {printable(name)}: it is left out.", markup=False)
        del found[name]
    if not annotated_only:
        _say_gaps(known, found)
    summary = tracking_evaluate(known, found, rules, category, annotated_only=annotated_only)
    _print(summary)
    if out is not None:
        make_folder(out.parent)
        parts = {"numbers": summary.numbers, "per_sequence": summary.per_sequence, "curves": summary.curves}
        out.write_text(json.dumps({"rules": rules} | parts, indent=1) + "\n", encoding="utf-8")
        say(f"\nNumbers for programs: {out}")


def _some(names: Collection[str]) -> str:
    first, more = sorted(names)[:5], len(names) > 5
    return ", ".join(first) + (" and others" if more else "")


def _print(summary: TrackingSummary) -> None:
    rows = summary.per_sequence
    if len(rows) > 1:
        rows = [*rows, {"name": "all", **summary.numbers}]
    say(table([{"sequence": row["name"], **row} for row in rows], ["sequence", *_COLUMNS]))


def _say_gaps(truth: dict[str, MotRows], results: dict[str, MotRows]) -> None:
    """Truth that ends before the tracks do: what comes after it counts as wrong, which is seldom meant."""
    for name, rows in truth.items():
        last = int(rows.frames.max(initial=-1)) + 1
        beyond = 0 if name not in results else int((results[name].frames >= last).sum())
        if beyond:
            console().print(
                f"{printable(name)}: the truth ends with frame {last}, and {beyond} rows of the results come after "
                "it and count as wrong. With --annotated-only they are left out.",
                markup=False,
            )
