"""`vision-tasks data merge`: several data sets as one."""

from __future__ import annotations

from pathlib import Path

from vision_tasks.cli.console import console, say
from vision_tasks.cli.convert import check_apart, image_writing, say_records, say_written
from vision_tasks.cli.work_bar import work_bar
from vision_tasks.errors import VisionTasksError


def run(out: Path, data: list[Path], categories: Path | None, to: str, images: str) -> None:
    from vision_tasks.data.formats.registry import FORMATS, read_data
    from vision_tasks.data.operations.merge import merge
    from vision_tasks.data.operations.writing import check_target, write_data

    if len(data) < 2:
        raise VisionTasksError("name two data sets or more: vision-tasks data merge NEW_FOLDER ONE ANOTHER")
    writing = image_writing(images)
    check_target(out, to)
    for path in data:
        check_apart(path, out)
    renaming = {} if categories is None else read_renaming(categories)
    with work_bar(console()):
        merged, notes = merge([read_data(path, extras=True) for path in data], renaming)
        losses = write_data(merged, out, to, writing)
    say_records(merged)
    for note in notes:
        say(f"note: {note}")
    say_written(out, FORMATS[to].title, losses, writing)


def _is_name(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool) and bool(str(value).strip())


def read_renaming(path: Path) -> dict[str, str | None]:
    """Old names and new ones of a YAML file; null drops a category.

    Raises:
        VisionTasksError: the file cannot be read, or holds anything else.
    """
    from vision_tasks.data.yaml_files import read_yaml

    try:
        content = read_yaml(path)
    except OSError as error:
        raise VisionTasksError(f"--map {path}: cannot be read ({error.strerror or error}).") from error
    if not isinstance(content, dict):
        raise VisionTasksError(f"--map {path}: must hold lines such as 'Car: car', or 'rider: null' to drop.")
    for old, new in content.items():
        if not (_is_name(old) and (new is None or _is_name(new))):
            raise VisionTasksError(
                f"--map {path}: {old!r}: {new!r} is not an old and a new name. Names such as no, 1 and 2024-05-01 need "
                "quotation marks; null drops a category."
            )
    return {str(old): None if new is None else str(new) for old, new in content.items()}
