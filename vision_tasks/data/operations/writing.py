"""Writing a data set in any format: all of it, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vision_tasks.data.formats.interface import ImageWriting, Losses, Writer
from vision_tasks.data.formats.registry import FORMATS
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

_OF_PIXELS = ("masks", "coco_panoptic")


def write_data(
    splits: Mapping[str, Records], out: Path | str, form: str = "coco", images: ImageWriting = "copy"
) -> Losses:
    """Write the splits of a data set into a new folder.

    Args:
        splits: records by "train", "val", "test", with the same categories. out: a folder that does not exist, or is
            empty; it appears when all is written. form: key of `FORMATS`. images: what becomes of image files.

    Returns:
        What the format could not hold.

    Raises:
        VisionTasksError: no such format, none that can be written, or a folder that holds something.
    """
    out = Path(out)
    write = check_target(out, form)
    _check_outlines(splits, form)
    out.parent.mkdir(parents=True, exist_ok=True)
    losses = Losses()
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        work.chmod(0o755)  # mkdtemp makes folders for the owner alone
        write(splits, work, images=images, losses=losses)
        work.replace(out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return losses


def _check_outlines(splits: Mapping[str, Records], form: str) -> None:
    """Refuse to write pixels of objects of which only boxes are known.

    Raises:
        VisionTasksError: no object of a split has an outline, and the format holds nothing else.
    """
    for name, records in splits.items():
        bare = records.has_boxes and len(records.labels) > 0 and not records.has_shapes
        if form in _OF_PIXELS and bare and (records.semantic is None or form != "masks"):
            raise VisionTasksError(
                f"{records.source} ({name}): no object has an outline, and {FORMATS[form].title} hold nothing but the "
                "pixels of objects. Choose a format that has boxes: coco, voc, yolo, labelme, lvis or webdataset."
            )


def check_target(out: Path | str, form: str) -> Writer:
    """The writer of a format, if it can be used: asked before long work, so that it is not in vain.

    Raises:
        VisionTasksError: no such format, none that can be written, or a folder that holds something.
    """
    out = Path(out)
    entry = FORMATS.get(form)
    if entry is None or entry.write is None:
        known = ", ".join(name for name, f in FORMATS.items() if f.write is not None)
        raise VisionTasksError(f"{form!r} cannot be written; formats to write are: {known}.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VisionTasksError(f"{out} holds something already. Name a new folder.")
    return entry.write
