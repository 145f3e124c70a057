"""`vision-tasks convert`: a data set in another format."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from vision_tasks.cli.console import console, say, table
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.data.formats.interface import ImageWriting, Losses
from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.data.records import Records


def run(data: Path, out: Path, to: str, form: str, images: str, image_folder: Path | None, patch: Path | None) -> None:
    """Reads, patches and writes a data set; says what was read, what is wrong with it and what could not be kept."""
    from vision_tasks.data.formats.registry import FORMATS, find_with_images, read_found, with_joint_categories
    from vision_tasks.data.layout import images_may_be_missing
    from vision_tasks.data.operations.writing import check_target, write_data

    writing = image_writing(images)
    check_target(out, to)
    check_apart(data, out)
    with images_may_be_missing() if writing == "none" else nullcontext():
        found = find_with_images(data, form or None, image_folder)
    name = next(iter(found.values())).format
    with work_bar(console()):
        splits = {split: read_found(one, extras=True) for split, one in found.items()}
        if patch is not None:
            splits = _patched(splits, patch)
        splits = with_joint_categories(splits)
        say(f"{data} ({FORMATS[name].title}):")
        say_records(splits)
        losses = write_data(splits, out, to, writing)
    say_written(out, FORMATS[to].title, losses, writing)


def image_writing(images: str) -> ImageWriting:
    """The option `--images`, checked."""
    if images not in get_args(ImageWriting):
        raise VisionTasksError(f"--images {images}: choose one of {', '.join(get_args(ImageWriting))}.")
    return cast(ImageWriting, images)


def check_apart(data: Path, out: Path) -> None:
    """Refuses to write into the folder that is read: it would hold two data sets afterwards.

    Raises:
        VisionTasksError: `out` is `data` or lies in it.
    """
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise VisionTasksError(
            f"{out} lies in {data}, which is to be read: the data set would be mixed up with its copy. "
            "Name a folder elsewhere."
        )


def say_records(splits: Mapping[str, Records]) -> None:
    """A table of the splits, and what is wrong with them."""
    say(table([_row(name, records) for name, records in splits.items()], _COLUMNS))
    for name, records in splits.items():
        if summary := records.problems.summary():
            say(f"\n{name}:\n{summary}")


def say_written(out: Path, title: str, losses: Losses, images: ImageWriting) -> None:
    """What could not be kept, where the data are, and what to do next."""
    say()
    if len(losses):
        say(f"What {title} does not keep of this:")
        for line in losses.lines():
            say(f"  {line}")
    else:
        say("Everything was kept.")
    where = "" if images != "none" else " (annotations alone: the images stay where they are)"
    say(f"Written to {out}{where}. Next:")
    if images == "none":
        say(f"  vision-tasks doctor {_quoted(out)} --images FOLDER")
        say("  vision-tasks train data.train.annotations=... data.train.images=FOLDER")
        return
    say(f"  vision-tasks doctor {_quoted(out)}")
    say(f"  vision-tasks train data={_quoted(out)}")


_COLUMNS = ["split", "images", "objects", "outlines", "crowds", "maps", "categories"]


def _row(name: str, records: Records) -> dict[str, object]:
    return {
        "split": name,
        "images": len(records),
        "objects": len(records.labels) if records.has_boxes else None,
        "outlines": int((records.shape_starts >= 0).sum()) if records.has_boxes else None,
        "crowds": int(records.is_crowd.sum()) if records.has_boxes else None,
        "maps": None if records.semantic is None else len(records.semantic),
        "categories": len(records.categories),
    }


def _patched(splits: Mapping[str, Records], path: Path) -> dict[str, Records]:
    """The splits that the patch is for as it mends them; the others as they are."""
    from vision_tasks.data.patch import apply_patch, fingerprint, read_patch

    parts = read_patch(path)
    made_for = {part.fingerprint for part in parts.values()}
    out = {}
    for name, records in splits.items():
        meant = name in parts or fingerprint(records) in made_for
        out[name] = apply_patch(records, parts, name) if meant else records
        say(f"{name}: {'mended by ' if meant else 'not in '}{path}")
    if lacking := [name for name in parts if name not in splits]:
        raise VisionTasksError(f"{path}: is for {', '.join(lacking)}, too, which these data do not have.")
    return out


def _quoted(path: Path) -> str:
    text = str(path)
    return f"'{text}'" if " " in text else text
