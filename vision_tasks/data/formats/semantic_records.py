"""Records of images without objects, whose truth is their maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from vision_tasks.data.problems import Problems
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import SemanticSource
from vision_tasks.structures import Size


def image_records(
    root: Path,
    names: Sequence[str],
    sizes: Sequence[Size],
    source: SemanticSource,
    origin: Path,
    problems: Problems,
    ids: Sequence[int] | None = None,
) -> Records:
    """Records of images without any annotation but their maps.

    Args:
        root: image folder. names: M paths below it. sizes: M (height, width), (0, 0) where unknown. source: M maps.
        origin: file or pattern, for messages. ids: M image ids; by default the numbers that the names are, else 1..M.
    """
    encoded = [name.encode("utf-8", "surrogateescape") for name in names]
    stems = [PurePosixPath(name).stem for name in names]
    if ids is None:
        numbered = all(s.isdecimal() and len(s) < 18 for s in stems) and len({int(s) for s in stems}) == len(stems)
        ids = [int(s) for s in stems] if numbered else range(1, len(names) + 1)
    none = np.zeros(0, np.int64)
    return Records(
        image_ids=np.array(ids, np.int64),
        widths=np.array([w for _, w in sizes], np.int32),
        heights=np.array([h for h, _ in sizes], np.int32),
        first=np.zeros(len(names) + 1, np.int64),
        names=np.frombuffer(b"".join(encoded), np.uint8),
        name_ends=np.cumsum([len(n) for n in encoded], dtype=np.int64),
        annotation_ids=none,
        labels=np.zeros(0, np.int32),
        boxes=np.zeros((0, 4)),
        areas=np.zeros(0),
        is_crowd=np.zeros(0, bool),
        usable=np.zeros(0, bool),
        shape_starts=none.copy(),
        shape_bytes=np.zeros(0, np.uint8),
        categories=source.categories,
        problems=problems,
        root=root,
        source=origin,
        has_shapes=False,
        semantic=source,
        has_boxes=False,
    )
