"""Writing a data set in any format: all of it, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vision_tasks.data.formats.interface import ImageWriting, Losses, Writer
from vision_tasks.data.formats.registry import FORMATS
from vision_tasks.data.operations.target import check_free, resolved, writing_to
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
        VisionTasksError: no such format, none that can be written, or a folder that cannot be (see `check_free`).
        OSError: it cannot be written after all, as on a full disk; names a file or folder to be written.
    """
    write = check_target(out, form)
    _check_outlines(splits, form)
    place = resolved(out)
    losses = Losses()
    with writing_to(out):
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            work.chmod(0o755)  # mkdtemp makes folders for the owner alone
            write(splits, work, images=images, losses=losses)
            work.replace(place)
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
                f"{records.source} ({name}): no object has an outline, and {form} holds nothing but the "
                "pixels of objects. Choose a format that has boxes: coco, voc, yolo, labelme, lvis or webdataset."
            )


def check_target(out: Path | str, form: str) -> Writer:
    """The writer of a format, if it can be used: asked before long work, so that it is not in vain.

    Raises:
        VisionTasksError: no such format, none that can be written, or a folder that cannot be (see `check_free`).
    """
    entry = FORMATS.get(form)
    if entry is None or entry.write is None:
        known = ", ".join(name for name, f in FORMATS.items() if f.write is not None)
        raise VisionTasksError(f"{form!r} cannot be written; formats to write are: {known}.")
    check_free(out)
    return entry.write
