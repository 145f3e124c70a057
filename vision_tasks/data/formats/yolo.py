"""YOLO labels: a text file per image, one object a line, in shares of the image's width and height."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.collector import without_collector
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.patterns import ENDINGS
from vision_tasks.data.formats.yolo_files import (
    NO_LABELS,
    Description,
    describe,
    ends,
    image_files,
    listed_images,
    located,
    names_beside,
    read_text,
    within,
)  # fmt: skip
from vision_tasks.data.formats.yolo_folders import folder_splits, label_folder
from vision_tasks.data.formats.yolo_lines import FAR, Line, as_stored, pixels, read_lines
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.image_headers import in_threads, upright_header
from vision_tasks.data.layout import may_be_missing
from vision_tasks.data.problems import Problems
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Size


def find_yolo(path: Path) -> dict[str, Found]:
    """The splits of a YOLO data set: of data.yaml (or any YAML of this kind), obj.data, a list of images, or folders.

    Raises:
        VisionTasksError: a folder holds several descriptions, or one whose images are not there.
    """
    if path.is_file():
        if path.suffix.lower() == ".txt":
            first = next((line.strip() for line in read_text(path).splitlines() if line.strip()), "")
            is_list = PurePosixPath(first.replace("\\", "/")).suffix.lower().lstrip(".") in ENDINGS
            return {"train": Found("yolo", path)} if is_list else {}
        description = describe(path) if path.suffix.lower() in (".yaml", ".yml", ".data") else None
    else:
        description = _description(path)
        if description is None:
            return {split: Found("yolo", path, part=place) for split, place in folder_splits(path).items()}
    if description is None:
        return {}
    found: dict[str, Found] = {}
    for split, entries in description.parts.items():
        try:
            for entry in entries:
                located(description, entry)
        except VisionTasksError:
            if split == "test" and found:  # named by every template, there in few
                continue
            if not may_be_missing():
                raise
        found[split] = Found("yolo", description.file, part=split)
    return found


_DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "obj.data")
"""What the field calls descriptions of a data set; the first counts if there are several."""


def _description(folder: Path) -> Description | None:
    """What the one description in a folder says; data.yaml if there are several."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".yaml", ".yml", ".data") and p.is_file())
    for name in reversed(_DESCRIPTIONS):
        files.sort(key=lambda p, name=name: p.name != name)  # type: ignore[misc]
    found: list[Description] = []
    for file in files:
        try:
            own = describe(file)
        except VisionTasksError:
            if file.name in _DESCRIPTIONS and not found:
                raise
            continue  # other YAML files may be anything
        if own is not None:
            found.append(own)
    if len(found) > 1 and found[0].file.stem not in ("data", "dataset", "obj"):
        names = ", ".join(d.file.name for d in found)
        raise VisionTasksError(f"{folder}: {names} each describe a YOLO data set. Name the one to use.")
    return found[0] if found else None


@dataclass(frozen=True)
class _Split:
    """Images of a split, the label file of each (which need not be there), and what the class numbers mean."""

    images: Sequence[Path]
    labels: Sequence[Path]
    folders: Sequence[Path]
    description: Description
    is_whole: bool


@without_collector()
def read_yolo(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split; only the headers of images are read.

    Shares are of the image as it is shown (turned as EXIF says), which is what YOLO's tools and `read_image` do. An
    image without a label file has no objects. `extras` keeps `score` and `keypoints`.

    Args:
        found: as `find_yolo` gives it. categories: those trained on, matched by name.

    Raises:
        VisionTasksError: no image is found, or none of them (but in a test split) has a label file.
    """
    problems = Problems()
    split = _split(found, problems)
    there = _label_files(split)
    has = [label in there for label in split.labels]
    if not any(has) and found.part != "test":
        raise VisionTasksError(
            f"{found.annotations}: none of the {len(has):,} images, such as {split.images[0]}, has a label file; "
            f"looked for {split.labels[0]}. Put labels where images are, with labels for images in the path."
        )
    if split.description.labelled_only:
        chosen = [n for n, own in enumerate(has) if own]
        split = _Split([split.images[n] for n in chosen], [split.labels[n] for n in chosen], split.folders,
                       split.description, split.is_whole)  # fmt: skip
        has = [True] * len(chosen)
    problems.add(
        "label_missing", (str(p) for p, own in zip(split.images, has, strict=True) if not own), has.count(False)
    )
    if split.is_whole:
        stray = sorted(str(p) for p in there.difference(split.labels) if p.name.lower() not in NO_LABELS)
        problems.add("label_without_image", stray)
    names = split.description.names or names_beside([*dict.fromkeys(p.parent for p in split.labels), *split.folders])
    if names is None:
        names = _numbers_used([p for p, own in zip(split.labels, has, strict=True) if own])
        problems.add("class_names_missing", [str(found.annotations)])
    own = Categories.of([{"id": n, "name": name} for n, name in names.items()])
    return _read(found, split, has, own, categories, problems, extras)


def _read(
    found: Found, split: _Split, has: Sequence[bool], own: Categories, wanted: Categories | None, problems: Problems,
    extras: bool,
) -> Records:  # fmt: skip
    root = Path(os.path.commonpath([p.parent for p in split.images]))
    builder = RecordsBuilder(found.annotations, root, wanted or own, extras)
    label_of = _labels(own, wanted, found.annotations, problems)
    stems = [p.stem for p in split.images]
    numbered = all(s.isdecimal() and len(s) < 18 for s in stems) and len({int(s) for s in stems}) == len(stems)

    def look(place: int) -> tuple[Size | ImageError, int | None, str]:
        text = read_text(split.labels[place]) if has[place] else ""
        try:
            return *upright_header(split.images[place]), text
        except ImageError as error:
            return error, None, text

    work = counted(in_threads(look, range(len(split.images))), "reading YOLO labels", len(split.images))
    for place, (size, turn, text) in enumerate(work):
        image, label = split.images[place], split.labels[place]
        known = size if isinstance(size, tuple) else (0, 0)
        builder.add_image(image.relative_to(root).as_posix(), *known, int(stems[place]) if numbered else None)
        lines, lost = read_lines(text, split.description.key_points)
        problems.add("label_line_unreadable", [f"{label}:{number}" for number in lost])
        if isinstance(size, ImageError):
            problems.add("image_unreadable", [str(size)])
            continue
        far = [f"{label}:{o.number}" for o in lines if max(map(abs, o.values)) > FAR]
        problems.add("label_not_shares", far)
        problems.add("unknown_category", [f"{label}:{o.number}" for o in lines if o.category not in label_of])
        # Of these `read_image` takes the pixels as stored, as their size fits; a square it turns always.
        if turn in (2, 3, 4) and known[0] != known[1]:
            lines = [as_stored(line, turn) for line in lines]
        for line in lines:
            if (number := label_of.get(line.category)) is not None:
                box, area, shape = pixels(line, known[1], known[0])
                builder.add_object(number, box, shape=shape, area=area, extras=_others(line, known) if extras else None)
    builder.problems = problems
    return builder.finish()


def _others(line: Line, size: Size) -> dict[str, object]:
    out: dict[str, object] = {} if line.score is None else {"score": line.score}
    if line.key_points:
        out["keypoints"] = list(line.key_points)
    return out


def _labels(own: Categories, wanted: Categories | None, path: Path, problems: Problems) -> Mapping[int, int]:
    """Class number -> label."""
    if wanted is None:
        return own.label_of_id
    place = {name: label for label, name in reversed(list(enumerate(wanted.names)))}
    found = {number: place[name] for number, name in zip(own.ids, own.names, strict=True) if name in place}
    if not found:
        raise VisionTasksError(
            f"{path}: none of its classes ({', '.join(map(repr, own.names[:10]))}) is one of those wanted "
            f"({', '.join(map(repr, wanted.names[:10]))}). Names must be spelt alike."
        )
    problems.add("category_renumbered", [wanted.names[v] for n, v in found.items() if wanted.ids[v] != n])
    return found


def _split(found: Found, problems: Problems) -> _Split:
    """The images of a split and their label files."""
    path = Path(os.path.abspath(found.annotations))
    if path.is_dir():
        description = Description(path / "data.yaml")
        part = found.part or "."
        images = (
            image_files(Path(os.path.normpath(path / part)), path) if found.images is None else _named(found, [part])
        )
        is_whole, lost = True, list[str]()
    elif path.suffix.lower() == ".txt":
        description, is_whole = Description(path), False
        images, lost = listed_images(description, path)
    else:
        description = _described(path, found.part)
        images, lost, is_whole = _described_images(description, found, problems)
    problems.add("list_entry_missing", lost)
    unique = dict.fromkeys(images)
    problems.add("image_repeated", count=len(images) - len(unique))
    if not unique:
        raise VisionTasksError(
            f"{path}: no image is found{' as ' + found.part if found.part else ''}. Check the paths."
        )
    top = path if path.is_dir() else path.parent
    where: dict[Path, Path] = {}
    labels = []
    for image in unique:
        if image.parent not in where:
            where[image.parent] = _labels_of(image.parent, top, found.images)
        labels.append(where[image.parent] / f"{image.stem}.txt")
    above = [f.parent for f in dict.fromkeys(where.values()) if f.parent.is_relative_to(top)]
    return _Split(list(unique), labels, [*dict.fromkeys([*above, top])], description, is_whole)


def _described(path: Path, part: str | None) -> Description:
    described = describe(path) if path.suffix.lower() in (".yaml", ".yml", ".data") else None
    if described is None:
        raise VisionTasksError(
            f"{path}: describes no YOLO data set. That is a YAML or .data file with train, val and names, a list of "
            "images (.txt), or a folder. If the file is of another format, leave format out, or name that one."
        )
    if part not in described.parts:
        kept = ", ".join(described.parts)
        what = f"has no part {part!r}, only {kept}" if part else f"which of its parts is meant: {kept}"
        raise VisionTasksError(f"{path}: {what}. Give part, or the folder as data.path.")
    return described


def _named(found: Found, entries: Sequence[str]) -> list[Path]:
    """Images in a folder that somebody named: the one of the images, or that above the splits' folders."""
    top = Path(os.path.abspath(found.images or "."))
    folders = [next((p for p in within(top, ends(f"/{entry}")) if p.is_dir()), top) for entry in entries]
    return [path for folder in dict.fromkeys(folders) for path in image_files(folder, top)]


def _labels_of(folder: Path, top: Path, named: Path | None) -> Path:
    """Label folder of a folder's images, which somebody may have named apart from the labels."""
    found = label_folder(folder, top)
    if found != folder or named is None:
        return found
    inner = folder.relative_to(Path(os.path.abspath(named)))
    places = [top / "labels" / inner, top / "labels" / folder.name, label_folder(folder, folder.parent.parent)]
    return next((p for p in places if p.is_dir()), folder)


def _described_images(description: Description, found: Found, problems: Problems) -> tuple[list[Path], list[str], bool]:
    images: list[Path] = []
    if found.images is not None:
        return _named(found, description.parts[found.part or "train"]), [], True
    lost: list[str] = []
    is_whole = True
    for entry in description.parts[found.part or "train"]:
        place = located(description, entry)
        if place.is_dir():
            images += image_files(place, Path(os.path.abspath(description.file.parent)))
        elif place.suffix.lower() == ".txt":
            listed, missing = listed_images(description, place)
            images, lost, is_whole = images + listed, lost + missing, False
        else:
            images.append(place)
    return images, lost, is_whole


def _label_files(split: _Split) -> set[Path]:
    """All label files there are, by one listing per folder."""
    there: set[Path] = set()
    for folder in dict.fromkeys(p.parent for p in split.labels):
        try:
            with os.scandir(folder) as entries:
                there.update(folder / e.name for e in entries if e.name.endswith(".txt"))
        except OSError:
            continue
    return there


def _numbers_used(labels: Sequence[Path]) -> dict[int, str]:
    """Class numbers in label files, each its own name."""
    used: set[int] = set()
    for text in in_threads(read_text, labels):
        used.update(line.category for line in read_lines(text)[0])
    return {n: str(n) for n in sorted(used)} or {0: "0"}
