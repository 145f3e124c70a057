"""mot/: one text file a video in MOTChallenge's form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.inference.outputs.base import Table
from vision_tasks.inference.outputs.files import RecordFile, plain_name

if TYPE_CHECKING:
    from vision_tasks.inference.outputs.result import Result


class Mot(Table):
    """mot/VIDEO.txt with a line `frame,id,x,y,width,height,score,-1,-1,-1` an object; frames and pixels count from 1,
    and the id is -1 without tracking.

    Images are the frames of the folder they lie in, which is named (of MOTChallenge's own SEQUENCE/img1 the sequence);
    they are numbered by their names where these are numbers, as in 000001.jpg, else by their places.
    """

    name = "mot"

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self._files: dict[str, RecordFile] = {}
        self._firsts: dict[str, int | None] = {}
        self._latest = ""

    def record(self, result: Result) -> dict[str, Any] | None:
        """The frame's sequence, number and lines."""
        from vision_tasks.data.formats.mot import mot_lines

        frame = result.frame
        if result.prediction.boxes is None:
            return None
        source = Path(frame.source)
        of_images = frame.time is None
        return {
            "sequence": str(source.parent) if of_images else frame.source,
            "stem": source.stem if of_images else None,
            "frame": result.order[-1] if of_images else frame.index,
            # The frame's number is not known before all images of the sequence are in order.
            "lines": mot_lines(0, result.prediction),
        }

    def open(self) -> None:
        """Nothing: files are named by what comes."""

    def write(self, record: Any) -> None:
        """Append a frame's lines to its sequence's file."""
        key = record["sequence"]
        if key != self._latest and self._latest:
            self._files[self._latest].rest()
        self._latest = key
        if key not in self._files:
            self._files[key] = RecordFile(self.out / "mot" / f"{self._free_name(key, record['stem'])}.txt")
            self._firsts[key] = _first(record)
            self.written = ["mot/*.txt"]
        number = _number(record, self._firsts[key])
        lines = record["lines"].splitlines(keepends=True)
        self._files[key].write("".join(f"{number},{line.partition(',')[2]}" for line in lines))

    def finish(self) -> None:
        """Give the files their names."""
        for file in self._files.values():
            file.finish()

    def discard(self) -> None:
        """Remove the files."""
        for file in self._files.values():
            file.discard()

    def _free_name(self, key: str, image: str | None) -> str:
        folder = Path(key)
        if image is not None and folder.name == "img1":
            folder = folder.parent
        name = plain = plain_name(folder.name if image is not None else folder.stem, "sequence")
        taken = {file.path.stem.casefold() for file in self._files.values()}
        number = 2
        while name.casefold() in taken:
            name, number = f"{plain}-{number}", number + 1
        return name


def _first(record: Any) -> int | None:
    """The place of a sequence's first image, from which others are counted; None where names are numbers from 1."""
    if record["stem"] is None:
        return 0
    return None if _is_number(record["stem"]) and int(record["stem"]) > 0 else record["frame"]


def _number(record: Any, first: int | None) -> int:
    """The frame's number, from 1."""
    if first is None and _is_number(record["stem"]):
        return int(record["stem"])
    return int(record["frame"]) - (first or 0) + 1


def _is_number(stem: str) -> bool:
    return stem.isascii() and stem.isdigit()
