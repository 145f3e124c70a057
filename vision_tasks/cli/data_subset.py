"""`vision-tasks data subset`: some images, or some categories."""

from __future__ import annotations

from pathlib import Path

from vision_tasks.cli.console import console, say
from vision_tasks.cli.convert import check_apart, image_writing, say_records, say_written
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.errors import VisionTasksError

_LARGEST_LIST = 1 << 30


def run(
    data: Path, out: Path, categories: str, count: int | None, files: Path | None, to: str, images: str, seed: int
) -> None:
    """Files are chosen first, then categories, then by chance."""
    from vision_tasks.data.formats.registry import FORMATS, read_data
    from vision_tasks.data.operations.subset import named_images, only_categories, some_images
    from vision_tasks.data.operations.writing import check_target, write_data

    names = [name.strip() for name in categories.split(",") if name.strip()]
    if not names and count is None and files is None:
        raise VisionTasksError("say what to keep: --categories cat,dog, --count 100 or --files list.txt")
    writing = image_writing(images)
    check_target(out, to)
    check_apart(data, out)
    with work_bar(console()):
        splits = read_data(data, extras=True)
        before = sum(map(len, splits.values()))
        if files is not None:
            splits = named_images(splits, read_list(files), str(files))
        if names:
            splits = only_categories(splits, names)
        if count is not None:
            splits = some_images(splits, count, seed)
        losses = write_data(splits, out, to, writing)
    say(f"{sum(map(len, splits.values())):,} of {before:,} images:")
    say_records(splits)
    say_written(out, FORMATS[to].title, losses, writing)


def read_list(path: Path) -> list[str]:
    """Lines of a text file.

    Raises:
        VisionTasksError: it cannot be read.
    """
    from vision_tasks.data.regular_files import read_regular_text

    try:
        return read_regular_text(path, _LARGEST_LIST).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VisionTasksError(f"--files {path}: cannot be read ({error}).") from error
