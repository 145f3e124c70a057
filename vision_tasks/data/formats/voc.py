"""Pascal VOC: an XML file per image, and lists of the images of each split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.collector import without_collector
from vision_tasks.data.formats.image_annotations import (
    ImageFiles,
    files_below,
    heads_match,
    in_split,
    labels_of,
    splits_of,
    without_ending,
)
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.safe_xml import XmlError
from vision_tasks.data.formats.semantic_files import SPLIT_WORDS
from vision_tasks.data.formats.voc_entries import VocImage, read_voc_file
from vision_tasks.data.problems import Problems
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.regular_files import read_regular_text
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
_ROOT_TAG = re.compile(rb"<annotation[\s>]")
_IMAGE_FOLDERS = (IMAGES, "images", "Images", "img")
_LARGEST_LIST = 64 << 20
_FLAG = re.compile(r"\s+(-1|0|1)$")


def find_voc(path: Path) -> dict[str, Found]:
    """Splits of a VOC data set: by the lists in ImageSets/Main, else by folders called train, val, test, else one.

    Args:
        path: a folder, that of a year (VOC2012) or one above it, or one XML file. XML files may lie anywhere below.

    Raises:
        VisionTasksError: it holds several data sets (VOC2007 and VOC2012).
    """
    if path.is_file():
        is_voc = path.suffix.lower() == ".xml" and heads_match(path.parent, [path.name], _ROOT_TAG)
        return {"train": Found("voc", path)} if is_voc else {}
    top = _top(path)
    base = _annotation_folder(top)
    files = files_below(base, ["xml"])
    if not heads_match(base, files, _ROOT_TAG):
        return {}
    stems = {without_ending(f) for f in files}
    stems |= {s.rpartition("/")[2] for s in stems}
    lists = {s: part for s, part in _lists(top).items() if not stems.isdisjoint(_listed(top, part, stems))}
    if lists:
        return {split: Found("voc", top, None, part) for split, part in lists.items()}
    return {split or "train": Found("voc", top, None, split) for split in splits_of(files)}


@without_collector()
def read_voc(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of one split (see `interface.Reader`).

    Boxes become continuous pixels: x1 = xmin - 1, x2 = xmax. Difficult and truncated objects are objects like others;
    `Extras` says which they are. The image of an XML file is the one with its name; where none has it, the one that
    <filename> states.

    Raises:
        VisionTasksError: no file of the split can be read.
    """
    files = _Files.of(found)
    parsed: list[tuple[str, VocImage]] = []
    problems = Problems()
    unreadable: list[str] = []
    for name in counted(files.chosen, "reading annotations"):
        try:
            parsed.append((name, read_voc_file(files.base / name, extras)))
        except (XmlError, OSError) as error:
            unreadable.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
    if not parsed:
        raise VisionTasksError(
            f"{found.annotations}: none of the {len(files.chosen):,} XML files of this split can be read"
            f"{f' ({unreadable[0]})' if unreadable else ''}. A VOC file is an <annotation> with <object> elements."
        )
    problems.add("file_unreadable", unreadable)
    problems.add("annotation_file_missing", files.missing)
    problems.add("text_not_utf8", [name for name, image in parsed if image.broken_letters])
    names = {o.name for _, image in parsed for o in image.objects if o.name}
    labels = labels_of(names, (files.top, files.base), categories)
    builder = RecordsBuilder(found.annotations, files.images.root, labels.categories, extras)
    builder.problems = problems
    used = {_add_image(builder, name, image, files.images, labels.label_of) for name, image in parsed}
    if files.whole:
        problems.add("image_not_annotated", files.images.others(used, found.part))
    return builder.finish()


def _add_image(
    builder: RecordsBuilder, name: str, image: VocImage, images: ImageFiles, label_of: dict[str, int]
) -> str:
    """Adds an image with its objects; its file name is returned."""
    stem = without_ending(name)
    file = images.of(stem, image.file_name)
    if file is None:
        folder = stem.rpartition("/")[0]
        own = image.file_name if image.file_name not in ("", ".", "..") else f"{stem.rpartition('/')[2]}.jpg"
        file = f"{folder}/{own}" if folder else own
    elif image.file_name and file.rpartition("/")[2] != image.file_name:
        builder.problems.add("image_name_differs", [f"{name} names {image.file_name}, taken is {file}"])
    number = builder.add_image(file, image.height, image.width, extras=image.extras)
    for item in image.objects:
        if not item.name:
            builder.problems.add("object_without_name", [name])
            continue
        shown = builder.add_object(label_of[item.name], item.box, extras=item.extras)
        xmin, ymin, xmax, ymax = item.corners
        if 0 <= xmin < 1 or 0 <= ymin < 1:
            builder.problems.add("voc_from_zero", [f"annotation {shown} (image {number})"])
        if xmin == xmax or ymin == ymax:
            builder.problems.add("voc_one_pixel", [f"annotation {shown} (image {number})"])
        if item.outline:
            builder.problems.add("voc_outline", [f"annotation {shown} (image {number})"])
    return file


@dataclass(frozen=True)
class _Files:
    """What belongs to a split.

    Attributes:
        top: folder of the data set. base: folder that XML names start from.
        chosen: XML files of the split, relative to `base`. missing: names in the split's list without XML file.
        whole: folders tell the split, or nothing does, so that its images are known, too.
    """

    top: Path
    base: Path
    chosen: list[str]
    missing: list[str]
    images: ImageFiles
    whole: bool = True

    @classmethod
    def of(cls, found: Found) -> _Files:
        place = found.annotations
        if place.is_file():
            top = place.parent.parent if place.parent.name.lower() == "annotations" else place.parent
            return cls(top, place.parent, [place.name], [], _images(found.images, top, place.parent), False)
        top = _top(place)
        base = _annotation_folder(top)
        files = files_below(base, ["xml"])
        missing: list[str] = []
        whole = True
        if found.part is None or found.part in SPLIT_WORDS:
            chosen = in_split(files, found.part)
        else:
            whole = False
            chosen, missing = _of_list(files, _listed(top, found.part, {without_ending(f) for f in files}))
        if not chosen:
            raise VisionTasksError(f"{place}: no XML file{f' of {found.part}' if found.part else ''} is there.")
        return cls(top, base, chosen, missing, _images(found.images, top, base), whole)


def _of_list(files: Sequence[str], listed: Iterable[str]) -> tuple[list[str], list[str]]:
    """XML files in the order of a list, and what it names without a file."""
    by_stem = {without_ending(f).rpartition("/")[2]: f for f in files} | {without_ending(f): f for f in files}
    names = list(dict.fromkeys(listed))
    found = dict.fromkeys(by_stem[n] for n in names if n in by_stem)
    return list(found), [n for n in names if n not in by_stem]


def _top(path: Path) -> Path:
    """The folder that holds Annotations: this one, the one above or, of VOCdevkit, one below."""
    if path.name.lower() == "annotations":
        return path.parent
    below = [path, *(f for f in sorted(path.glob("*")) if f.is_dir()), *sorted(path.glob("VOCdevkit/*"))]
    tops = [f for f in below if (f / ANNOTATIONS).is_dir()]
    if path in tops or len(tops) < 2:
        return path if path in tops or not tops else tops[0]
    if all((f / LISTS).is_dir() for f in tops):
        raise VisionTasksError(f"{path} holds {len(tops)} VOC data sets: {', '.join(t.name for t in tops)}. Name one.")
    return path


def _annotation_folder(top: Path) -> Path:
    return top / ANNOTATIONS if (top / ANNOTATIONS).is_dir() else top


def _images(given: Path | None, top: Path, base: Path) -> ImageFiles:
    """The images of the folder that is given, else of the first usual folder that holds any."""
    if given is not None:
        return ImageFiles(given)
    for folder in (*(top / name for name in _IMAGE_FOLDERS), base):
        if folder.is_dir() and (images := ImageFiles(folder)):
            return images
    images = ImageFiles(top)
    return images if images or not (top / ANNOTATIONS).is_dir() else ImageFiles(top / IMAGES)


def _lists(top: Path) -> dict[str, str]:
    """Split -> its list, relative to `top`; a pattern where there are only lists of each class (cat_train.txt)."""
    for place in (LISTS, "ImageSets"):
        names = {f.stem.lower(): f.name for f in sorted((top / place).glob("*.txt"))}
        plain = {s: next((names[w] for w in words if w in names), None) for s, words in SPLIT_WORDS.items()}
        if plain["train"] is None:
            plain["train"] = names.get("trainval")
        if any(plain.values()):
            return {split: f"{place}/{name}" for split, name in plain.items() if name}
        ends = {n.rpartition("_")[2] for n in names if "_" in n}
        classes = {s: f"{place}/*_{s}.txt" for s in SPLIT_WORDS if s in ends}
        if classes:
            return classes
    return {}


def _listed(top: Path, part: str, stems: set[str]) -> list[str]:
    """Names in a list, or in several; of "name 1" and "name -1" lines the name.

    Args:
        stems: names that are known, which may end with such a number themselves.

    Raises:
        VisionTasksError: the list is missing or far too long.
    """
    files = sorted(top.glob(part)) if "*" in part else [top / part]
    out: dict[str, None] = {}
    for file in files:
        try:
            lines = read_regular_text(file, _LARGEST_LIST, "replace").split("\n")
        except OSError as error:
            raise VisionTasksError(f"{file}: the list cannot be read ({error.strerror}). Check its path.") from error
        for line in map(str.strip, lines):
            if line:
                out[line if line in stems else _FLAG.sub("", line)] = None
    return list(out)
