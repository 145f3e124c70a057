"""What is wrong with a data set but can be lived with: counted, explained once, with ids to look up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

Severity = Literal["warning", "note"]
"""`warning`: something is left out of training. `note`: mended or harmless, nothing is lost."""

EXAMPLES = 5
"""So many ids are kept per kind: enough to look at, few enough for one line."""

# code -> (severity, what it does, what to do). One table, so that every reader words a flaw alike.
KINDS: dict[str, tuple[Severity, str, str]] = {
    "unknown_image": (
        "warning",
        "annotations name an image id that the file lacks: left out",
        "add the images or delete these annotations",
    ),
    "unknown_category": (
        "warning",
        "annotations name a category id that is not listed: left out",
        "add the category or correct the ids",
    ),
    "entry_unreadable": (
        "warning",
        "entries are not JSON objects or lack what they are about: left out",
        "look at these entries in the file",
    ),
    "box_nested": (
        "note",
        "boxes stand in a list of their own, [[x, y, width, height]]: read as what is in it",
        "write them as [x, y, width, height]",
    ),
    "image_repeated": (
        "note",
        "images are listed more than once with the same file: the first entry counts",
        "delete the repetitions",
    ),
    "image_ambiguous": (
        "warning",
        "one image id is used for different files, so whose the annotations are is unknown: left out",
        "give each image its own id",
    ),
    "image_without_id": ("warning", "images have no id: left out", "give each image an id"),
    "image_without_file": ("warning", "images have no file name: left out", "add file_name"),
    "image_file_missing": (
        "warning",
        "image files are not in the folder: left out",
        "copy the files, or delete the images from the annotations",
    ),
    "image_file_from_url": ("note", "images have no file_name: the last part of coco_url is used", "add file_name"),
    "image_file_shared": (
        "warning",
        "two image ids share one file: each copy is trained without the other's objects",
        "merge the two entries",
    ),
    "image_size_unknown": (
        "note",
        "images state no usable width and height: the decoded file decides",
        "add width and height (the doctor's patch does)",
    ),
    "text_id": ("note", "ids are text: they were numbered, and results carry the numbers", "use whole numbers as ids"),
    "number_as_text": (
        "note",
        "entries hold numbers written as text: read as numbers",
        "write them without quotation marks",
    ),
    "annotation_without_id": ("note", "annotations have no id: they were numbered", "give each annotation an id"),
    "annotation_id_repeated": ("note", "annotation ids occur more than once: all are kept", "renumber the annotations"),
    "box_missing": ("note", "annotations have no bbox: it is taken around their segmentation", "add bbox"),
    "box_unreadable": (
        "warning",
        "boxes are missing or not four finite numbers: not trained on",
        "correct or delete these annotations",
    ),
    "box_inverted": (
        "warning",
        "boxes have negative width or height (corners instead of width and height?): not trained on",
        "bbox is [x, y, width, height]",
    ),
    "box_empty": ("warning", "boxes have no area: not trained on", "correct or delete these annotations"),
    "box_outside": ("warning", "boxes lie outside their image: not trained on", "check the sizes of image and box"),
    "box_clipped": (
        "note",
        "boxes reach more than a pixel beyond their image: clipped",
        "check the sizes of image and box",
    ),
    "area_missing": (
        "note",
        "annotations state no usable area: width times height is used",
        "add area, which decides small, medium and large",
    ),
    "crowd_missing": ("note", "annotations state no usable iscrowd: taken as 0", "add iscrowd"),
    "polygon_flaw": (
        "warning",
        "polygons have an odd count of numbers, fewer than 3 points or no finite numbers: those outlines are left out",
        "redraw these outlines",
    ),
    "polygon_flat": (
        "note",
        "polygons are one flat list of numbers instead of a list of lists: read as one outline",
        "wrap them in a list",
    ),
    "rle_flaw": (
        "warning",
        "run-length masks do not fill the size they state, or are unreadable: left out, the box is kept",
        "encode these masks again",
    ),
    "rle_size": (
        "warning",
        "run-length masks are of another size than their image: left out, the box is kept",
        "encode these masks again",
    ),
    "segmentation_flaw": (
        "warning",
        "segmentations are neither polygons nor run-length masks: left out, the box is kept",
        "correct these annotations",
    ),
    "keypoints_ignored": (
        "note",
        "annotations have key points: only boxes and masks are read",
        "nothing, if detection is what you want",
    ),
    "category_repeated": (
        "note",
        "categories are listed more than once: the first entry counts",
        "delete the repetitions",
    ),
    "category_without_name": ("note", "categories have no name: their id is used", "add names"),
    "category_renumbered": (
        "note",
        "categories have other ids here than in the training data: matched by name",
        "use the same ids in all files",
    ),
    "text_not_utf8": ("note", "entries are not UTF-8: broken letters are replaced", "save the file as UTF-8"),
    "mask_missing": (
        "warning",
        "images have no semantic mask: left out",
        "add the masks, or check the pattern data.semantic.masks",
    ),
    "mask_without_image": (
        "warning",
        "semantic masks have no image: left out",
        "add the images, or check the pattern data.semantic.images",
    ),
    "mask_not_listed": (
        "note",
        "images of a data set with boxes have no semantic mask: they teach only boxes",
        "add the masks, if there should be any",
    ),
    "mask_unreadable": ("warning", "semantic masks cannot be read: left out", "make these masks again"),
    "mask_size": (
        "warning",
        "semantic masks are of another size than their image: left out",
        "make the mask of the image as it is",
    ),
    "mask_empty": (
        "warning",
        "masks of objects have no pixel: left out",
        "draw these objects again, or delete their files",
    ),
    "mask_all_ignored": (
        "warning",
        "semantic masks hold nothing but ignored pixels: they teach nothing",
        "annotate them, or take values out of data.semantic.ignore",
    ),
    "stem_repeated": (
        "warning",
        "images share a name up to its ending, so whose the mask is is unknown: the first counts",
        "give each image a name of its own",
    ),
    "list_entry_missing": (
        "warning",
        "entries of the list of a split have no image and mask: left out",
        "copy the files, or delete the entries",
    ),
    "segment_unknown": (
        "warning",
        "panoptic entries name an image or a category that the file does not list: left out",
        "correct the ids",
    ),
    "file_unreadable": (
        "warning",
        "annotation files cannot be read (cut off, garbled, or of another kind): left out with their images",
        "export them again",
    ),
    "annotation_file_missing": (
        "warning",
        "entries of the list of a split have no annotation file: left out",
        "copy the files, or delete the entries",
    ),
    "image_not_annotated": (
        "note",
        "images have no annotation file: left out, as whether anything is on them is unknown",
        "annotate them; an annotation file without objects says that there is nothing",
    ),
    "object_without_name": ("warning", "objects have no category: left out", "name what they show"),
    "image_name_differs": (
        "note",
        "annotation files name another image than the one that is called as they are: that one is used",
        "correct the name in the file",
    ),
    "voc_from_zero": (
        "warning",
        "VOC boxes begin at 0, but VOC counts from 1: the tool that wrote them counted from 0",
        "move all boxes of the data set by a pixel: vision-tasks doctor makes a patch that does",
    ),
    "voc_one_pixel": (
        "note",
        "VOC boxes begin and end at the same pixel: one pixel wide or high, most often a slip of the mouse",
        "look at them and delete them",
    ),
    "voc_outline": (
        "note",
        "objects have an outline beside their box, which is not read: VOC has none",
        "export the masks in a format that has them, such as COCO",
    ),
    "shape_unreadable": (
        "warning",
        "LabelMe shapes have no label, no usable points or an unknown type: left out",
        "draw them again",
    ),
    "shape_without_area": (
        "note",
        "LabelMe shapes are points or lines, which are no objects: left out",
        "nothing, if detection is what you want",
    ),
    "shape_mask_flaw": (
        "warning",
        "LabelMe masks are unreadable or do not fit their box or image: left out, the box is kept",
        "draw them again",
    ),
    "image_path_outside": (
        "note",
        "image paths lead out of the data set: the file beside the annotation, of its name, is used instead",
        "correct imagePath",
    ),
    "image_embedded": (
        "warning",
        "images are only inside their annotation files (imageData), from where they are not read",
        "save them beside the annotations",
    ),
    "label_missing": (
        "note",
        "images have no label file: they count as images without objects",
        "add empty label files, or take these images away if nobody annotated them",
    ),
    "label_without_image": (
        "warning",
        "label files have no image: left out",
        "add the images, or delete these files",
    ),
    "label_line_unreadable": (
        "warning",
        "lines of label files are not a class number and a box or an outline: left out",
        "correct or delete these lines",
    ),
    "label_not_shares": (
        "warning",
        "labels hold numbers far above 1, which should be shares of width and height: taken as they are",
        "divide them by width and height if they are pixels",
    ),
    "class_names_missing": (
        "note",
        "nothing names the classes: their numbers are used",
        "list them in data.yaml (names), or one a line in classes.txt",
    ),
    "image_unreadable": (
        "warning",
        "image files cannot be opened, so what their labels mean in pixels is unknown: without their objects",
        "copy these files again, or remove them",
    ),
    "segment_unlisted": (
        "warning",
        "pixels of panoptic maps have an id that no segment of their image has: left out",
        "check that the PNG and the JSON belong together",
    ),
    "cache_unwritable": (
        "note",
        "the index could not be kept for next time",
        "set VISION_TASKS_CACHE to a folder that can be written",
    ),
}


@dataclass(frozen=True)
class Problem:
    """One kind of flaw.

    Attributes:
        code: its key in `KINDS`. count: how often. examples: up to `EXAMPLES` places, in words.
        severity: warning or note. what: what it is and what was done. remedy: what to do.
    """

    code: str
    count: int
    examples: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        return KINDS[self.code][0]

    @property
    def what(self) -> str:
        return KINDS[self.code][1]

    @property
    def remedy(self) -> str:
        return KINDS[self.code][2]

    def __str__(self) -> str:
        examples = (
            f" ({', '.join(self.examples)}{', ...' if self.count > len(self.examples) else ''})"
            if self.examples
            else ""
        )
        return f"{self.severity}: {self.count:,} × {self.what}{examples}. To mend it: {self.remedy}. [{self.code}]"


class Problems:
    """The flaws found in a data set, by kind; grows while reading, is shown once."""

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self._found = {p.code: p for p in found}

    def add(self, code: str, examples: Iterable[object] = (), count: int | None = None) -> None:
        """Count `count` more of this kind (default: as many as `examples` has; zero adds nothing).

        Only the first `EXAMPLES` examples are looked at when a count is given, so a generator is fine.
        """
        if code not in KINDS:
            raise KeyError(f"unknown kind of problem {code!r}")
        if count is None:
            examples = list(examples)
            count = len(examples)
        if count == 0:
            return
        old = self._found.get(code, Problem(code, 0, ()))
        kept = list(old.examples)
        for example in examples:
            if len(kept) >= EXAMPLES:
                break
            kept.append(str(example))
        self._found[code] = replace(old, count=old.count + count, examples=tuple(kept))

    def __getitem__(self, code: str) -> Problem:
        return self._found.get(code, Problem(code, 0, ()))

    def __iter__(self) -> Iterator[Problem]:
        """Warnings first, then by how many."""
        return iter(sorted(self._found.values(), key=lambda p: (p.severity == "note", -p.count, p.code)))

    def __len__(self) -> int:
        """Number of kinds."""
        return len(self._found)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problems) and self._found == other._found

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Problems({list(self)!r})"

    def copy(self) -> Problems:
        return Problems(self._found.values())

    def summary(self, limit: int = 8) -> str:
        """A few lines for the console, the gravest first; empty if nothing was found."""
        lines = [str(p) for p in self]
        if len(lines) > limit:
            lines[limit:] = [
                f"... and {len(lines) - limit} more kinds of notes: {', '.join(p.code for p in list(self)[limit:])}"
            ]
        return "\n".join(lines)

    def to_list(self) -> list[dict[str, Any]]:
        """Primitives for JSON; `from_list` reads them back."""
        return [{"code": p.code, "count": p.count, "examples": list(p.examples)} for p in self._found.values()]

    @classmethod
    def from_list(cls, entries: Iterable[dict[str, Any]]) -> Problems:
        return cls(Problem(e["code"], e["count"], tuple(e["examples"])) for e in entries)
