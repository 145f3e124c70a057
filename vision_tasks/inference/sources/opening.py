"""From what a user names to sources of frames: files, folders, patterns, lists, archives, videos, cameras, addresses,
and pictures in memory."""

from __future__ import annotations

import glob
import logging
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from torch import Tensor

from vision_tasks.data.image_errors import ImageError
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Source
from vision_tasks.inference.sources.addresses import ENDS, address_name, check_scheme, file_options, shown
from vision_tasks.inference.sources.files import (
    IMAGE_ENDINGS,
    LIST_ENDINGS,
    VIDEO_ENDINGS,
    files_below,
    kind_of,
    listed_paths,
    natural,
    sniffed,
    without,
)
from vision_tasks.inference.sources.images import (
    ImageSource,
    IterableSource,
    Picture,
    check_member,
    is_picture,
    member_path,
    member_stream,
    open_zip,
    pixels_of,
)
from vision_tasks.inference.sources.live import LiveSource, Opener, camera, stream
from vision_tasks.inference.sources.names import Names
from vision_tasks.inference.sources.problems import TellingSource
from vision_tasks.inference.sources.video import BrokenSource, VideoSource
from vision_tasks.inference.sources.video_open import check_channels

log = logging.getLogger("vision_tasks")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_CAMERA = re.compile(r"(?:/dev/video)?([0-9]{1,3})")


def open_sources(
    specs: Any,
    channels: int = 3,
    out: Path | None = None,
    on_problem: Callable[[str], None] = log.warning,
    every: int = 1,
    start: float | None = None,
    end: float | None = None,
) -> list[Source]:
    """Sources of everything that is named, in order; each file once, each frame with a name of its own.

    Pictures named one by one, one after another, are one source; so are those of a folder, pattern, list or archive.
    Every video is one. Headers of videos are read here, cameras and streams are opened when they are iterated.

    Args:
        specs: one, or several, of: a picture or video file; a folder (searched to the bottom, by ending); a pattern
            (`**` too); a .txt or .lst file with a path on each line; a .zip of pictures and videos; the number of a
            camera; an rtsp, http, rtmp, udp, ... address; a PIL image, array or tensor; anything that yields these.
        channels: what the model takes.
        out: where results go. What lies below is not found in folders and by patterns.
        on_problem: is told, at once, of what cannot be read and is left out; it stands in `Source.problems`, too.
        every, start, end: of videos, only every n-th frame, from and before these seconds; of streams, every n-th.

    Raises:
        VisionTasksError: a source is not there or holds nothing to look at, or none of the videos can be opened.
    """
    opening = _Opening(channels, out, on_problem, every, start, end)
    for spec in specs if isinstance(specs, (list, tuple)) else [specs]:
        opening.add(spec)
    return opening.finish()


class _Opening:
    """The sources of one run while they are put together."""

    def __init__(
        self,
        channels: int,
        out: Path | None,
        on_problem: Callable[[str], None],
        every: int,
        start: float | None,
        end: float | None,
    ) -> None:
        if every < 1 or (end is not None and end <= (start or 0.0)):
            raise VisionTasksError(f"every must be 1 or more, and end after start, not {every}, {end} and {start}.")
        self._channels, self._out, self._on_problem = channels, out, on_problem
        self._every, self._start, self._end = every, start, end
        self._names = Names()
        self._seen: set[str] = set()
        self._sources: list[Source] = []
        self._loose: list[Picture] = []  # pictures named one by one, not yet a source
        self._early: list[str] = []  # problems of what has no source yet

    def finish(self) -> list[Source]:
        self._close_group()
        broken = [s for s in self._sources if isinstance(s, BrokenSource)]
        if broken and len(broken) == len(self._sources):
            more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
            raise VisionTasksError(f"{broken[0].problems[0]}{more}")
        for source in broken:
            self._on_problem(source.problems[0])
        return self._sources

    def add(self, spec: Any) -> None:
        if isinstance(spec, str) and _ADDRESS.match(spec):
            self._add_address(spec)
        elif isinstance(spec, int) and not isinstance(spec, bool):
            self._add_camera(spec)
        elif isinstance(spec, str) and (match := _CAMERA.fullmatch(spec)) and not Path(spec).is_file():
            self._add_camera(int(match[1])) if not Path(spec).is_dir() else self._add_path(spec)
        elif isinstance(spec, (str, Path)):
            self._add_path(spec)
        elif is_picture(spec):
            self._loose.append(Picture(self._names.single("image"), "picture in memory", spec))
        elif isinstance(spec, Source):
            self._append(spec)
        elif isinstance(spec, (list, tuple)):
            for one in spec:
                self.add(one)
        elif isinstance(spec, (np.ndarray, Tensor)) and spec.ndim != 4:
            pixels_of(spec, self._channels)  # says what is wrong with it
        elif isinstance(spec, Iterable):
            self._append(
                IterableSource(spec, self._names.series("image"), self._names, self._channels, self._on_problem)
            )
        else:
            raise VisionTasksError(
                "A source must be a path, an address, the number of a camera, a PIL image, array, tensor, or something "
                f"that yields these, not a {type(spec).__name__}."
            )

    def _add_path(self, spec: str | Path) -> None:
        path = Path(spec)
        if path.is_dir():
            found = files_below(path, self._out, self._tell)
            kinds = [kind_of(p) for p in found]
            if not any(kinds):
                raise VisionTasksError(
                    f"{spec} holds no images or videos ({', '.join(sorted(IMAGE_ENDINGS | VIDEO_ENDINGS))})."
                )
            self._add_found(path.resolve().name, found, kinds)
        elif path.exists():
            self._add_file(path)
        else:
            found = [Path(p) for p in sorted(glob.glob(str(spec), recursive=True), key=natural)]
            found = without((p for p in found if p.is_file()), self._out)
            if not found:
                raise VisionTasksError(f"There is no file or folder {spec}, and as a pattern it matches nothing.")
            self._add_found("images", found, [kind_of(p) or sniffed(p) for p in found])

    def _add_file(self, path: Path) -> None:
        """A file that was named itself, whatever its ending."""
        if path.suffix.lower() in LIST_ENDINGS:
            self._add_list(path)
        elif path.suffix.lower() == ".zip" or (kind_of(path) is None and zipfile.is_zipfile(path)):
            self._add_zip(path)
        elif (kind_of(path) or sniffed(path)) == "video":
            self._add_video(path)
        elif self._is_new(path):
            self._loose.append(Picture(self._names.single(path.stem), str(path), path))

    def _add_found(self, name: str, paths: Sequence[Path], kinds: Sequence[str | None]) -> None:
        """Files of one folder, pattern or list: its pictures as one source, then its videos."""
        images = [p for p, kind in zip(paths, kinds, strict=True) if kind == "image" and self._is_new(p)]
        pictures = [Picture(self._names.single(p.stem), str(p), p) for p in images]
        if pictures:
            self._append(ImageSource(self._names.group(name), pictures, self._channels, self._on_problem))
        for path, kind in zip(paths, kinds, strict=True):
            if kind == "video":
                self._add_video(path)

    def _add_list(self, file: Path) -> None:
        lines = listed_paths(file)
        found: list[Path] = []
        missing: list[str] = []
        for number, line in lines:
            # First as from where the list lies, then as from where the program runs.
            path = next((p for p in (file.parent / line, Path(line)) if p.is_file()), None)
            if path is None:
                missing.append(f"{file}, line {number}: there is no file {line}. It is left out.")
            else:
                found.append(path)
        if not found:
            raise VisionTasksError(missing[0] if missing else f"{file}: the list is empty. Write a path on each line.")
        for problem in missing:
            self._tell(problem)
        self._add_found(file.stem, found, [kind_of(p) or sniffed(p) for p in found])

    def _add_zip(self, path: Path) -> None:
        with open_zip(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir() and not member_path(m).name.startswith("._")]
        members.sort(key=lambda m: natural(str(member_path(m))))
        pictures: list[Picture] = []
        videos: list[VideoSource | BrokenSource] = []
        problems: list[str] = []
        for member in members:
            inner = member_path(member)
            source, ending = f"{path}/{inner}", inner.suffix.lower()
            try:
                if ending in IMAGE_ENDINGS:
                    check_member(member, source)
                    pictures.append(Picture(self._names.single(inner.stem), source, member))
                elif ending in VIDEO_ENDINGS:
                    check_member(member, source, whole=False)
                    videos.append(self._video(partial(member_stream, path, member), source, inner.stem))
            except ImageError as error:
                problems.append(str(error))
        if not pictures and not videos:
            raise VisionTasksError(problems[0] if problems else f"{path} holds no images or videos.")
        for problem in problems:
            self._tell(problem)
        if pictures:
            name = self._names.group(path.stem)
            self._append(ImageSource(name, pictures, self._channels, self._on_problem, archive=path))
        for video in videos:
            self._append(video)

    def _add_video(self, path: Path) -> None:
        if self._is_new(path):
            self._append(self._video(str(path), str(path), path.stem))

    def _video(
        self, file: Any, source: str, stem: str, options: dict[str, str] | None = None
    ) -> VideoSource | BrokenSource:
        name = self._names.series(stem)
        try:
            return VideoSource(
                file, source, name, self._channels, self._every, self._start, self._end, self._on_problem, options
            )
        except VisionTasksError as error:
            return BrokenSource(name, str(error))

    def _add_camera(self, number: int) -> None:
        opener = partial(camera, number, self._channels)
        self._add_live(opener, f"camera {number}", f"camera{number}", tries_at_first=0)

    def _add_live(self, opener: Opener, source: str, stem: str, tries_at_first: int = 3) -> None:
        check_channels(source, self._channels)
        name = self._names.series(stem)
        self._append(LiveSource(opener, source, name, self._every, self._on_problem, tries_at_first=tries_at_first))

    def _add_address(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme.lower() == "file":
            self._add_path(url2pathname(parts.path))
        elif parts.scheme.lower() in ("http", "https") and Path(parts.path).suffix.lower() in ENDS:
            self._append(self._video(address, shown(address), address_name(address), file_options()))
        else:
            check_scheme(address)
            self._add_live(partial(stream, address, self._channels), shown(address), address_name(address))

    def _append(self, source: Source) -> None:
        self._close_group()
        self._sources.append(source)
        if self._early and isinstance(source, TellingSource):
            source.known(self._early)
            self._early = []

    def _tell(self, problem: str) -> None:
        """Of what is left out before there is a source to say so."""
        self._early.append(problem)
        self._on_problem(problem)

    def _close_group(self) -> None:
        pictures, self._loose = self._loose, []
        if pictures:
            name = self._names.group(pictures[0].name if len(pictures) == 1 else "images")
            self._sources.append(ImageSource(name, pictures, self._channels, self._on_problem))

    def _is_new(self, path: Path) -> bool:
        key = str(path.absolute())
        new = key not in self._seen
        self._seen.add(key)
        return new
