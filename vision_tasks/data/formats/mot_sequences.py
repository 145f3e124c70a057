"""Where MOTChallenge's sequences and results lie, and what `seqinfo.ini` says of a sequence."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from vision_tasks.data.formats.mot import MotRows, read_mot
from vision_tasks.data.regular_files import read_regular_text
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size


@dataclass(frozen=True)
class SequenceInfo:
    """What a `seqinfo.ini` says: None where it says nothing.

    Attributes:
        length: frames. rate: frames per second. size: (height, width) of the images.
        images: folder of the images, within the sequence's. ending: of their names, with the dot.
    """

    name: str
    length: int | None = None
    rate: float | None = None
    size: Size | None = None
    images: str = "img1"
    ending: str = ".jpg"


def read_sequence_info(path: Path | str) -> SequenceInfo:
    """Read a `seqinfo.ini`.

    Raises:
        VisionTasksError: no such file, no section [Sequence], or something that is no number where one must be.
    """
    path = Path(path)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_regular_text(path))
        section = parser["Sequence"]
        height, width = section.getint("imHeight"), section.getint("imWidth")
        return SequenceInfo(
            section.get("name", path.parent.name),
            section.getint("seqLength"),
            section.getfloat("frameRate"),
            None if height is None or width is None else (height, width),
            section.get("imDir", "img1"),
            section.get("imExt", ".jpg"),
        )
    except KeyError as error:
        raise VisionTasksError(f"{path} has no section {error}; a seqinfo.ini begins with [Sequence].") from error
    except (OSError, ValueError, configparser.Error) as error:
        message = " ".join(str(error).split())
        raise VisionTasksError(f"{path} cannot be read as a seqinfo.ini: {message}") from error


def read_sequences(place: Path | str) -> dict[str, MotRows]:
    """Every sequence there, by name.

    Args:
        place: a text file; the folder of a sequence (`gt/gt.txt` in it); a folder of such folders, at any depth; or a
            folder of `NAME.txt` files, as results are handed in. A `seqinfo.ini` beside `gt` says how long it is.

    Raises:
        VisionTasksError: nothing there, or a file that cannot be read.
    """
    place = Path(place)
    if place.is_file():
        return {_name(place): _read(place)}
    if not place.is_dir():
        raise VisionTasksError(f"{place} is not there. Give a MOTChallenge text file, or a folder of sequences.")
    files = sorted(place.glob("**/gt/gt.txt")) or sorted(place.glob("*.txt"))
    if not files:
        raise VisionTasksError(f"{place} has neither NAME/gt/gt.txt, as truth is kept, nor NAME.txt, as results are.")
    found: dict[str, Path] = {}
    for path in files:
        name = _name(path)
        if name in found:
            raise VisionTasksError(f"{found[name]} and {path} are both of a sequence {name}. Give one of them.")
        found[name] = path
    return {name: _read(path) for name, path in found.items()}


def _is_truth(path: Path) -> bool:
    return path.name == "gt.txt" and path.resolve().parent.name == "gt"


def _name(path: Path) -> str:
    """Of its sequence: SEQUENCE/gt/gt.txt, or SEQUENCE.txt."""
    return path.resolve().parents[1].name if _is_truth(path) else path.stem


def _read(path: Path) -> MotRows:
    info = path.resolve().parents[1] / "seqinfo.ini"
    length = read_sequence_info(info).length if _is_truth(path) and info.is_file() else None
    return read_mot(path, length)
