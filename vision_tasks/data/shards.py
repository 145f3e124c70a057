"""Images in tar shards, of a folder or a URL: found by place, read without unpacking.

A shard is a plain tar in WebDataset's form (`KEY.jpg` and `KEY.json` follow each other), which its library reads, too.
Beside the shards of a split lie `index.json` (names and sizes of the shards), `places.npy` (which bytes of which shard
each image is) and `instances.json` (all annotations): so the order of a pass, resuming, sampling and evaluation are
those of any other data set, and no shard has to be read to know what is in it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from vision_tasks.data.formats.cache import default_folder
from vision_tasks.data.image_errors import ImageTruncatedError
from vision_tasks.data.regular_files import descriptor, open_regular, read_regular
from vision_tasks.errors import VisionTasksError

INDEX, PLACES, ANNOTATIONS = "index.json", "places.npy", "instances.json"
MARK = "vision_tasks_shards"
CACHE_GIGABYTES = 20.0
_OPEN_FILES = 16
_SCHEMES = ("http://", "https://")
# What downloads are cut off at, by far more than there can be.
_LARGEST = {INDEX: 1 << 26, PLACES: 1 << 32, ANNOTATIONS: 1 << 34}
# WebDataset hands URLs to curl, to which brackets and braces mean many files.
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#@!&()*+,;=%-]+")


def is_url(place: str | Path) -> bool:
    """Whether shards are to be fetched; any other place is a folder."""
    return str(place).startswith(_SCHEMES)


@dataclass(frozen=True, eq=False)
class ShardImages:
    """The images of M rows, each so many bytes of a shard.

    Attributes:
        place: folder or URL of the shards. names: of the shards. sizes: bytes of each shard.
        shard, offset, length: (M,) int64: which shard, and which of its bytes.
        cache: folder in which shards of a URL are kept, None for a local folder. cache_bytes: how much is kept.
    """

    place: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    shard: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    cache: Path | None = None
    cache_bytes: int = 0
    _open: dict[int, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def is_remote(self) -> bool:
        """Whether shards come over a network, so that reading them in any order but their own is dear."""
        return self.cache is not None

    def subset(self, rows: np.ndarray) -> ShardImages:
        """Of these image rows, (R,) int64, alone."""
        return ShardImages(
            self.place, self.names, self.sizes, self.shard[rows], self.offset[rows], self.length[rows],
            self.cache, self.cache_bytes,
        )  # fmt: skip

    def read(self, row: int) -> np.ndarray:
        """What an image's file holds, (bytes,) uint8.

        Raises:
            ImageTruncatedError: the shard is shorter than its index says. VisionTasksError: it cannot be fetched.
        """
        shard, offset, length = int(self.shard[row]), int(self.offset[row]), int(self.length[row])
        opened, name = self._descriptor(shard), f"{self.place}/{self.names[shard]}"
        held = os.fstat(opened).st_size
        if offset + length > held:  # before memory is taken for it
            raise ImageTruncatedError(f"{name}: cut off at byte {held:,}, but an image is to end at byte "
                                      f"{offset + length:,}. Copy the shard again.")  # fmt: skip
        try:
            data = os.pread(opened, length, offset)  # moves no position: processes may share the file
        except OSError as error:
            raise VisionTasksError(f"{name}: the shard cannot be read ({error}). Copy it again.") from error
        if len(data) != length:
            raise ImageTruncatedError(f"{name}: cut off at byte {offset + len(data):,}. Copy the shard again.")
        return np.frombuffer(data, np.uint8)

    def _descriptor(self, shard: int) -> int:
        if shard not in self._open:
            if len(self._open) >= _OPEN_FILES:
                os.close(self._open.pop(next(iter(self._open))))
            path = Path(self.place) / self.names[shard] if self.cache is None else self._fetched(shard)
            try:
                self._open[shard] = descriptor(path)
            except OSError as error:
                reason = f"{path}: the shard cannot be read ({error.strerror}). Copy it again."
                raise VisionTasksError(reason) from error
        return self._open[shard]

    def _fetched(self, shard: int) -> Path:
        """The shard in the cache; fetched by one process while others wait for it."""
        assert self.cache is not None
        path = self.cache / self.names[shard]
        with _locked(path.with_suffix(".lock")):
            if not path.is_file() or path.stat().st_size != self.sizes[shard]:
                self._make_room(self.sizes[shard])
                fetch(f"{self.place}/{self.names[shard]}", path, self.sizes[shard])
            os.utime(path)
        return path

    def _make_room(self, wanted: int) -> None:
        """Delete the shards that were opened longest ago. A process that still has one open goes on reading it."""
        assert self.cache is not None
        kept = []
        for path in self.cache.glob("*.tar"):
            with suppress(OSError):
                kept.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total + wanted <= self.cache_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= size

    def __del__(self) -> None:
        for opened in self._open.values():
            with suppress(OSError):
                os.close(opened)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)


def open_shards(
    place: str | Path, image_ids: np.ndarray | None = None, gigabytes: float = CACHE_GIGABYTES
) -> ShardImages:
    """The images of shards.

    Args:
        place: folder or URL that holds the index. image_ids: (M,) of the images wanted, in this order; all if None.
        gigabytes: of the shards of a URL, so much is kept on this machine.

    Raises:
        VisionTasksError: there is no such index, it is of another kind, or lacks an image.
    """
    remote = is_url(place)
    folder = described(place)
    where = str(place).rstrip("/")
    index = _index(folder / INDEX, where)
    places = _places(folder / PLACES, where, len(index))
    if image_ids is not None:
        order = np.argsort(places[:, 0], kind="stable")
        at = np.searchsorted(places[order, 0], image_ids).clip(max=len(places) - 1)
        rows = order[at]
        if (places[rows, 0] != image_ids).any():
            lacking = image_ids[places[rows, 0] != image_ids]
            raise VisionTasksError(f"{where}: {PLACES} lacks image {lacking[0]}. Make the shards again.")
        places = places[rows]
    names = tuple(str(entry["name"]) for entry in index)
    sizes = tuple(int(entry["bytes"]) for entry in index)
    _, shard, offset, length = places.T
    return ShardImages(where, names, sizes, shard, offset, length, folder if remote else None, int(gigabytes * 1e9))


def described(place: str | Path) -> Path:
    """The folder with what describes the shards of a place; of a URL, fetched."""
    if not is_url(place):
        return Path(place)
    import hashlib

    where = str(place).rstrip("/")
    folder = default_folder() / f"shards-{hashlib.sha256(where.encode()).hexdigest()[:20]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (INDEX, PLACES, ANNOTATIONS):
        with _locked(folder / f"{name}.lock"):
            # Shards are made once and not changed: the same URL is the same data for as long as it is kept.
            if not (folder / name).is_file():
                fetch(f"{where}/{name}", folder / name, most=_LARGEST[name])
    return folder


def fetch(url: str, path: Path, size: int | None = None, most: int = 1 << 40) -> None:
    """Copy a file of a URL to `path`, whole or not at all, by WebDataset's own way of opening URLs.

    Args:
        size: bytes that it must have. most: bytes that it may have; no more than that is ever taken.

    Raises:
        VisionTasksError: the library is not installed, the URL has signs that no URL has, or the file is not there, of
            another size, or too large.
    """
    if not _URL.fullmatch(url):
        raise VisionTasksError(f"{url!r} is not fetched: a URL has letters, digits and %-signs. Write others as %20.")
    most = most if size is None else size
    try:
        from webdataset.gopen import gopen
    except ImportError as error:
        raise VisionTasksError(
            "Shards of a URL are fetched with webdataset, which is not installed: "
            "pip install 'vision_tasks[webdataset]'"
        ) from error
    descriptor, work = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as out, gopen(url) as stream:
            found = _copied(stream, out, most)
        if found > most and size is None:
            raise VisionTasksError(f"{url}: more than {most:,} bytes come, so this is no such file. Check the address.")
        if not found or (size is not None and found != size):
            raise VisionTasksError(f"{url}: {found:,} bytes came, not the {size or 'expected':,} of the index")
        Path(work).replace(path)
    except VisionTasksError:
        raise
    except Exception as error:  # whatever the library or the program it starts raises
        if isinstance(error, OSError) and error.errno is not None:  # the library's own have no number
            raise VisionTasksError(f"{url}: cannot be kept in {path.parent}: {error.strerror}.") from error
        ended = re.search(r"exit \d+", str(error))  # its own words are the whole command
        raise VisionTasksError(
            f"{url}: cannot be fetched ({f'curl: {ended[0]}' if ended else error}). Check the network, and the "
            f"address: it is that of the folder of one split, which holds {INDEX}."
        ) from error
    finally:
        with suppress(OSError):
            os.unlink(work)


def _copied(stream: IO[bytes], out: IO[bytes], most: int) -> int:
    """Copies; how many bytes came, at the most one more than `most`."""
    found = 0
    while found <= most and (part := stream.read(min(1 << 20, most + 1 - found))):
        out.write(part)
        found += len(part)
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; where files cannot be locked, two may do the same work, and the later one wins."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _index(path: Path, where: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(read_regular(path, _LARGEST[INDEX]).decode())
        shards = content["shards"]
        if content[MARK] != 1 or not all(isinstance(s["name"], str) and _is_size(s["bytes"]) for s in shards):
            raise ValueError("of another version")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise VisionTasksError(
            f"{where}: {INDEX} does not describe shards ({error}). Make them with: vision-tasks convert DATA OUT "
            "--to webdataset"
        ) from error
    for shard in shards:
        if not _SHARD_NAME.fullmatch(shard["name"]):
            raise VisionTasksError(
                f"{where}: {INDEX} names a shard {shard['name'][:80]!r}, which is refused: names of shards have "
                "letters, digits, dots and dashes. Make them again."
            )
    return list(shards)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 62


def _places(path: Path, where: str, shards: int) -> np.ndarray:
    try:
        with open_regular(path) as stream:
            header = np.lib.format
            read = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}
            shape, by_column, kind = read.get(header.read_magic(stream), header.read_array_header_2_0)(stream)
            # What the header says is believed only if so many bytes follow.
            held = os.fstat(stream.fileno()).st_size - stream.tell()
            if len(shape) != 2 or shape[1] != 4 or by_column or kind != np.int64 or held != shape[0] * 32:
                raise ValueError(f"{held:,} bytes are no {shape} of {kind}")
            places = np.frombuffer(stream.read(held), np.int64).reshape(-1, 4)
    except (OSError, ValueError) as error:
        raise VisionTasksError(f"{where}: {PLACES} cannot be read ({error}). Make the shards again.") from error
    if not len(places) or (places[:, 1:] < 0).any() or (places[:, 1] >= shards).any() or (places[:, 3] > 1 << 31).any():
        raise VisionTasksError(f"{where}: {PLACES} does not fit {INDEX}. Make the shards again.")
    return places
