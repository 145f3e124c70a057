"""Pictures as files."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from vision_tasks.errors import VisionTasksError


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture in the form that the file's ending names, atomically.

    Raises:
        VisionTasksError: the disk is full or the folder cannot be written.
    """
    # OpenCV complains, on stderr, of an option that a form does not have.
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix.lower() in (".jpg", ".jpeg") else []
    ok, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(picture[..., ::-1]), options)
    temporary = path.with_name(f".{path.name}.part")
    try:
        if not ok:
            raise OSError("the picture cannot be encoded")
        temporary.write_bytes(encoded.tobytes())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise VisionTasksError(f"{path} cannot be written: {error}. Make room or choose another folder.") from error
