"""`vision-tasks data split`: train, val and test, each with its share of every category."""

from __future__ import annotations

from pathlib import Path

from vision_tasks.cli.console import console, say, table
from vision_tasks.cli.convert import check_apart, image_writing, say_written
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.errors import VisionTasksError

_SHOWN = 30
"""Rows of the table of categories; of more the rarest are shown, which are the ones that go wrong."""


def run(data: Path, out: Path, shares: str, group: str, to: str, images: str, seed: int) -> None:
    from vision_tasks.data.formats.registry import FORMATS, read_data
    from vision_tasks.data.operations.split import check_shares, pooled, presence, share_table, split_records
    from vision_tasks.data.operations.writing import check_target, write_data

    parts = shares_of(shares)
    check_shares(parts)
    writing = image_writing(images)
    check_target(out, to)
    check_apart(data, out)
    with work_bar(console()):
        splits = read_data(data, extras=True)
        records, notes = pooled(splits)
        if len(splits) > 1:
            say(f"{data} is divided into {', '.join(splits)} already: all its images are divided anew.")
        for note in notes:
            say(f"note: {note}")
        present = presence(records)
        divided = split_records(records, parts, group, seed, present)
        counts = {name: present.of(records, own) for name, own in divided.items()}
        rows = share_table(divided, counts)
        losses = write_data(divided, out, to, writing)
    total = len(records)
    said = ", ".join(f"{name} {len(own):,} ({100 * len(own) / total:.1f} %)" for name, own in divided.items())
    say(f"{total:,} images: {said}")
    say()
    rows = sorted(rows, key=lambda row: int(str(row["images"])))
    if len(rows) > _SHOWN:
        say(f"images with each category, the {_SHOWN} rarest of {len(rows)}:")
    say(table(rows[:_SHOWN], list(rows[0]) if rows else ["category"]))
    for name in divided:
        lacking = [str(row["category"]) for row in rows if row["images"] and not row[name]]
        if lacking:
            more = ", ..." if len(lacking) > 8 else ""
            say(f"note: {name} has no image of {', '.join(lacking[:8])}{more}: too few to go round")
    say_written(out, FORMATS[to].title, losses, writing)


def shares_of(text: str) -> list[float]:
    """Numbers with commas; "80,20" means "0.8,0.2"."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise VisionTasksError(f"--shares {text!r}: give numbers with commas, such as 0.8,0.1,0.1.") from None
    total = sum(numbers)
    return [number / 100 for number in numbers] if abs(total - 100) < 1e-6 else numbers
