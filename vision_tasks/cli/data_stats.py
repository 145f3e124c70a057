"""`vision-tasks data stats`: what is in a data set, in numbers."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.cli.console import console, say, table
from vision_tasks.cli.work_bar import work_bar

if TYPE_CHECKING:
    from vision_tasks.data.operations.statistics import Statistics

_SHOWN = 40


def run(data: Path, as_json: bool, out: Path | None) -> None:
    from vision_tasks.data.formats.registry import read_data
    from vision_tasks.data.operations.statistics import statistics
    from vision_tasks.data.operations.target import writing_to

    with work_bar(console()):
        found = statistics(read_data(data))
        if out is not None:
            with writing_to(out):
                _write_page(out, data, found)
    if as_json:
        say(json.dumps({name: own.to_dict() for name, own in found.items()}, indent=2, ensure_ascii=False))
        return
    _say(found)
    say()
    if out is not None:
        say(f"Written: {out}.")
    quoted = shlex.quote(str(data))
    say(f"Next:\n  vision-tasks data browse {quoted}\n  vision-tasks doctor {quoted}")


def _say(found: Mapping[str, Statistics]) -> None:
    rows = [_summary(name, own) for name, own in found.items()]
    say(table(rows, list(rows[0])))
    for title, name in (("side of objects in pixels (√ of width × height)", "sides"), ("width / height", "aspects"),
                        ("objects in an image", "crowding")):  # fmt: skip
        if any(getattr(own, name) for own in found.values()):
            say(f"\n{title}, from ... on:")
            histograms = [{"split": split, **getattr(own, name)} for split, own in found.items() if getattr(own, name)]
            say(table(histograms, list(histograms[0])))
    for name, own in found.items():
        if own.image_sizes:
            sizes = ", ".join(f"{size}: {count:,}" for size, count in own.image_sizes.items())
            say(f"\nimage sizes of {name}: {sizes}")
    for what in ("categories", "maps"):
        joint = joint_rows(found, what)
        if joint:
            heading = f"the {_SHOWN} most frequent of {len(joint)} " if len(joint) > _SHOWN else ""
            say(f"\n{heading}{'categories' if what == 'categories' else 'categories of semantic maps'}:")
            say(table(joint[:_SHOWN], list(joint[0])))


def _summary(name: str, own: Statistics) -> dict[str, object]:
    row: dict[str, object] = {"split": name, "images": own.images}
    if own.categories or own.objects:
        row |= {
            "objects": own.objects, "per image": own.objects_per_image, "without objects": own.empty_images,
            "outlined": own.outlined, "crowds": own.crowds, "unusable": own.unusable, **own.sizes,
        }  # fmt: skip
    if own.maps:
        row |= {"pixels ignored %": round(100 * own.ignored, 2), "unreadable": own.unreadable_maps}
    return row


def joint_rows(found: Mapping[str, Statistics], what: str) -> list[dict[str, Any]]:
    """One row per category, the most frequent first: numbers of all splits, and of each one the objects or share.

    Args:
        what: "categories" (of objects) or "maps".
    """
    rows: dict[str, dict[str, Any]] = {}
    sums = ("objects", "images", "crowds", "small", "medium", "large") if what == "categories" else ("images", "pixels")
    for split, own in found.items():
        for entry in getattr(own, what):
            row = rows.setdefault(entry["name"], {"category": entry["name"], "id": entry["id"]})
            for key in sums:
                row[key] = row.get(key, 0) + entry[key]
            row[split if what == "categories" else f"{split} %"] = (
                entry["objects"] if what == "categories" else round(100 * entry["share"], 3)
            )
    main = sums[0] if what == "categories" else "pixels"
    total = sum(row[main] for row in rows.values())
    for row in rows.values():
        row["share %"] = round(100 * row[main] / max(total, 1), 2)
    return sorted(rows.values(), key=lambda row: -row[main])


def _write_page(out: Path, data: Path, found: Mapping[str, Statistics]) -> None:
    from vision_tasks.visualize.histograms import plot_categories, plot_histograms
    from vision_tasks.visualize.page import write_page

    panels = {
        title: {split: getattr(own, name) for split, own in found.items() if getattr(own, name)}
        for title, name in (
            ("side of objects, pixels, from ... on", "sides"),
            ("width / height of objects, from ... on", "aspects"),
            ("objects in an image, from ... on", "crowding"),
        )
    }
    panels = {title: splits for title, splits in panels.items() if splits}
    tables: dict[str, list[dict[str, Any]]] = {"Splits": [_summary(name, own) for name, own in found.items()]}
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        if panels:
            pictures.append(plot_histograms(panels, Path(folder) / "sizes_and_shapes.png"))
        for what, unit, key in (("categories", "objects", "objects"), ("maps", "% of pixels", "share")):
            rows = joint_rows(found, what)
            if not rows:
                continue
            tables["Categories" if what == "categories" else "Categories of semantic maps"] = rows
            factor = 1 if what == "categories" else 100
            of = {split: {e["name"]: factor * e[key] for e in getattr(own, what)} for split, own in found.items()}
            names = [row["category"] for row in rows]
            numbers = {split: [own.get(name, 0) for name in names] for split, own in of.items() if own}
            pictures.append(plot_categories(names, numbers, unit, Path(folder) / f"{what}.png"))
        counted = any(own.categories for own in found.values())
        totals = {
            "images": sum(own.images for own in found.values()),
            "objects": sum(own.objects for own in found.values()) if counted else None,
            "categories": max(len(own.categories) or len(own.maps) for own in found.values()),
            "crowds": sum(own.crowds for own in found.values()),
            "unusable": sum(own.unusable for own in found.values()),
        }  # fmt: skip
        write_page(
            out, f"Statistics of {data.name}", totals, tables, curves=pictures, embed=True, lead=str(data),
            commands=[f"vision-tasks data browse {data}", f"vision-tasks doctor {data}"],
        )  # fmt: skip
