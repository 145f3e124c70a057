"""The index of a large annotation file, kept memory-mapped for next time and for all workers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from vision_tasks.data.problems import Problems
from vision_tasks.data.records import ARRAYS, Records, load_arrays
from vision_tasks.structures import Categories

SCHEMA = 1
"""Goes up whenever what is kept, or how a file is read, changes."""
FROM_BYTES = 50_000_000
"""Files from this size on are kept by default: smaller ones are read in about two seconds."""
_SHAPES = "shape_bytes.npy"


def default_folder() -> Path:
    """`VISION_TASKS_CACHE` if set, else the user's cache folder."""
    own = os.environ.get("VISION_TASKS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vision_tasks"


def folder_for(
    path: Path, wanted: Categories | None, cache: bool | Path | None, dialect: tuple[object, ...] = ()
) -> Path | None:
    """Where the index of this file in its present state is or will be; None if it is not to be kept.

    Args:
        dialect: what else decides how the file is read.
    """
    state = path.stat()
    if cache is False or (cache is None and state.st_size < FROM_BYTES):
        return None
    key = json.dumps(
        [
            SCHEMA,
            str(path.resolve()),
            state.st_size,
            state.st_mtime_ns,
            None if wanted is None else wanted.to_list(),
            *dialect,
        ]
    )
    base = cache if isinstance(cache, Path) else default_folder()
    return base / f"records-{hashlib.sha256(key.encode()).hexdigest()[:20]}"


def load(folder: Path, root: Path, source: Path) -> Records | None:
    """The kept index; None if there is none or it cannot be read."""
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        return Records(
            **load_arrays(folder),
            categories=Categories.of(meta["categories"]),
            problems=Problems.from_list(meta["problems"]),
            has_shapes=meta["has_shapes"],
            root=root,
            source=source,
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


class Writer:
    """Takes outlines while a file is read, then everything else; keeps it in `folder`, or in memory if that is None.

    The folder appears complete or not at all. Where it cannot be written, memory is used and a note is made.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._work: Path | None = None
        self._refusal = ""
        self.shapes: BinaryIO = io.BytesIO()

    def __enter__(self) -> Writer:
        if self._folder is not None:
            try:
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                self._work = Path(tempfile.mkdtemp(prefix=f"{self._folder.name}.", dir=self._folder.parent))
                self.shapes = (self._work / _SHAPES).open("wb")
                self.shapes.write(_header(0))
            except OSError as error:
                self._refusal = f"{self._folder.parent}: {error.strerror or error}"
                self._discard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(self.shapes, io.BytesIO):  # that one lives on in the records
            self.shapes.close()
        self._discard()

    def finish(
        self, arrays: dict[str, Any], categories: Categories, problems: Problems, root: Path, source: Path
    ) -> Records:
        """The records, memory-mapped if they could be kept."""
        if self._work is not None and self._folder is not None:
            try:
                self._keep(self._work, self._folder, arrays, categories, problems)
                if (kept := load(self._folder, root, source)) is not None:
                    return kept
            except OSError as error:
                self._refusal = f"{self._folder.parent}: {error.strerror or error}"
        if self._refusal:
            problems.add("cache_unwritable", [self._refusal])
        if isinstance(self.shapes, io.BytesIO):
            blob = np.frombuffer(self.shapes.getbuffer(), np.uint8)
        else:
            self.shapes.flush()
            assert self._work is not None
            blob = np.fromfile(self._work / _SHAPES, np.uint8)[len(_header(0)) :]
        return Records(**arrays, shape_bytes=blob, categories=categories, problems=problems, root=root, source=source)

    def _keep(
        self, work: Path, folder: Path, arrays: dict[str, Any], categories: Categories, problems: Problems
    ) -> None:
        size = self.shapes.tell() - len(_header(0))
        self.shapes.seek(0)
        self.shapes.write(_header(size))
        self.shapes.flush()
        for name in ARRAYS:
            if name in arrays:
                np.save(work / f"{name}.npy", arrays[name], allow_pickle=False)
        meta = {
            "categories": categories.to_list(),
            "problems": problems.to_list(),
            "has_shapes": arrays["has_shapes"],
        }
        (work / "meta.json").write_text(json.dumps(meta), "utf-8")
        try:
            work.replace(folder)
        except OSError:
            # Someone else was quicker (a folder that holds files is not replaced); an unreadable one makes way.
            if load(folder, folder, folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
                work.replace(folder)

    def _discard(self) -> None:
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
            self._work = None


def _header(size: int) -> bytes:
    """Header of an npy file of `size` bytes; always of one length, so that it can be rewritten at the end."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
    return stream.getvalue()
