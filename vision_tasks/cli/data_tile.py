"""`vision-tasks data tile`: large images cut into tiles."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from vision_tasks.cli.console import console, say
from vision_tasks.cli.convert import check_apart, say_records, say_written
from vision_tasks.cli.work_bar import work_bar

_NAMED = 5


def run(data: Path, out: Path, size: int, overlap: float, visible: float, empty: bool, to: str) -> None:
    from vision_tasks.data.formats.registry import FORMATS, read_data
    from vision_tasks.data.operations.target import resolved, writing_to
    from vision_tasks.data.operations.tile import windows
    from vision_tasks.data.operations.tile_files import NoTileError, cut_images
    from vision_tasks.data.operations.writing import check_target, write_data

    check_target(out, to)
    check_apart(data, out)
    windows((size, size), size, overlap)  # refuses an overlap that leaves nothing before anything is read
    place = resolved(out)
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.tiles.", dir=place.parent))
    try:
        with work_bar(console()), writing_to(out):
            splits = read_data(data, extras=True)
            made, bare = {}, {}
            for name, records in splits.items():
                try:
                    made[name] = cut_images(records, work / name, size, overlap, visible, empty)
                except NoTileError as error:
                    bare[name] = error
            if not made:
                raise next(iter(bare.values()))
            tiles = {name: cut.records for name, cut in made.items()}
            # Linked, not copied: the tiles are on the same disk, and their first folder goes.
            losses = write_data(tiles, out, to, "link")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for name, cut in made.items():
        counts = cut.counts
        objects = (
            f"; objects are in a tile {counts.whole:,} times wholly, {counts.cut:,} times as a part, of which "
            f"{counts.crowds:,} became crowds (less than {100 * visible:g} % of them is visible)"
        )
        say(
            f"{name}: {len(splits[name]):,} images, {len(cut.records):,} tiles"
            f"{objects if splits[name].has_boxes else ''}"
        )
        if counts.unusable:
            say(f"  {counts.unusable:,} objects that training would leave out are left out (vision-tasks doctor)")
        if cut.empty:
            say(f"  {cut.empty:,} tiles without objects are left out")
        for file, reason in list(cut.unreadable.items())[:_NAMED]:
            say(f"  no tiles of {file}: {reason}")
        if len(cut.unreadable) > _NAMED:
            say(f"  ... and of {len(cut.unreadable) - _NAMED:,} more images that cannot be read")
    for name in bare:
        say(f"note: {name} is left out: no tile of it has an object")
    say_records(tiles)
    say_written(out, FORMATS[to].title, losses, "copy")
