"""Every kind of finding there is: what it is called, how grave it is, what it does, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vision_tasks.data import problems

Severity = Literal["breaks", "hurts", "note"]
"""`breaks`: training would stop, or learn something else than was meant. `hurts`: something is left out, or judged
wrongly. `note`: worth knowing, nothing is lost."""


@dataclass(frozen=True)
class Kind:
    """What is always the same about a finding.

    Attributes:
        severity: see `Severity`. title: what is wrong, in the plural, as it follows a number.
        effect: what it does to training or to the metric. remedy: what to do.
        breaks_from, hurts_from: from this share on it breaks training, or hurts, whatever `severity` says; None: never.
        least: fewer are too few for a share to say anything.
    """

    severity: Severity
    title: str
    effect: str
    remedy: str
    breaks_from: float | None = None
    hurts_from: float | None = None
    least: int = 1


KINDS: dict[str, Kind] = {
    # conventions: one cause for a whole file
    "boxes_xyxy": Kind(
        "hurts",
        "boxes are corners (x1, y1, x2, y2) where x, y, width, height belong",
        "they reach far beyond their objects and often their images",
        "convert them: the patch does",
        breaks_from=0.2,
    ),
    "boxes_normalised": Kind(
        "hurts",
        "boxes are shares of the image (0 to 1) where pixels belong",
        "all objects are smaller than a pixel, and none is learned",
        "multiply them by the image's size: the patch does",
        breaks_from=0.2,
    ),
    "boxes_swapped": Kind(
        "hurts",
        "boxes have x and y, and width and height, the wrong way round",
        "they lie elsewhere than their objects",
        "swap them: the patch does",
        breaks_from=0.2,
    ),
    "boxes_centred": Kind(
        "hurts",
        "boxes begin at their centre where their upper left corner belongs",
        "each is half its size too far to the lower right",
        "move them: the patch does",
        breaks_from=0.2,
    ),
    "boxes_yxyx": Kind(
        "hurts",
        "boxes are corners with y first (y1, x1, y2, x2) where x, y, width, height belong",
        "they lie elsewhere than their objects, and reach far beyond them",
        "convert them: the patch does",
        breaks_from=0.2,
    ),
    "boxes_percent": Kind(
        "hurts",
        "boxes are percentages of the image (0 to 100) where pixels belong",
        "all of them crowd in the upper left of their images",
        "multiply them by the image's size: the patch does",
        breaks_from=0.2,
    ),
    # boxes
    "box_unreadable": Kind(
        "hurts",
        "boxes are missing or not four finite numbers",
        "they are not trained on",
        "correct or delete them",
        breaks_from=0.5,
    ),
    "box_inverted": Kind(
        "hurts",
        "boxes have negative width or height",
        "they are not trained on, and count as missed in the metric",
        "put their corners in order: the patch does",
        breaks_from=0.5,
    ),
    "box_empty": Kind(
        "hurts",
        "boxes have no area",
        "they are not trained on, and can never be found in the metric",
        "delete them, or take them from their masks: the patch does",
        breaks_from=0.5,
    ),
    "box_outside": Kind(
        "hurts",
        "boxes lie outside their image",
        "they are not trained on",
        "delete them: the patch does",
        breaks_from=0.5,
    ),
    "box_beyond": Kind(
        "note", "boxes reach more than a pixel beyond their image", "they are clipped", "clip them: the patch does"
    ),
    "box_far_beyond": Kind(
        "hurts",
        "boxes reach more than a tenth of the image beyond it",
        "they are clipped; so many are no stray errors, but boxes of another form, or of images of another size",
        "look at them; where whole objects are boxed, also beyond the image, they are right: data.check=warn",
        breaks_from=0.2,
    ),
    "box_amodal": Kind(
        "note",
        "boxes hold their mask with room to spare",
        "usual where whole objects are boxed and the seen part is outlined; else the boxes are loose",
        "look at some of them",
    ),
    "box_duplicated": Kind(
        "hurts",
        "annotations repeat another of the same category at the same place",
        "a model is punished for finding the object once",
        "delete the repetitions: the patch does",
    ),
    "box_whole_image": Kind(
        "note",
        "boxes cover their whole image",
        "often a placeholder of an annotation tool: the model learns to call every image an object",
        "look at them; delete those that are no objects",
        hurts_from=0.02,
        least=5,
    ),
    "box_from_zero": Kind(
        "hurts",
        "VOC boxes begin at 0, but VOC counts from 1",
        "the tool that wrote them counted from 0: all boxes of the file are a pixel too far to the upper left",
        "tell the reader: the patch moves them",
    ),
    # masks
    "mask_beside_box": Kind(
        "hurts",
        "masks do not fit their box",
        "box and mask teach different places",
        "take the box from the mask: the patch does, unless most disagree",
        breaks_from=0.5,
    ),
    "mask_crossing": Kind(
        "hurts",
        "outlines cross themselves",
        "what is inside depends on who draws them",
        "training draws them as COCO's tools do; redraw them if something else was meant",
    ),
    "mask_empty": Kind(
        "hurts",
        "masks enclose no pixel",
        "the object has a box and no mask to learn",
        "delete these masks: the patch does",
    ),
    "mask_missing": Kind(
        "note",
        "annotations have no mask, where most others have one",
        "their boxes are learned, and no mask",
        "draw the masks, if they were forgotten",
    ),
    "mask_area": Kind(
        "hurts",
        "areas disagree with their masks",
        "the metric counts objects as small, medium or large by area",
        "compute them anew: the patch does",
    ),
    "mask_size": Kind(
        "hurts",
        "run-length masks are of another size than their image",
        "they are left out, their boxes are kept",
        "encode these masks again",
    ),
    "mask_unreadable": Kind(
        "hurts", "masks are unreadable, or have fewer than three points", "they are left out", "draw them again"
    ),
    # categories
    "category_unknown": Kind(
        "hurts",
        "annotations have a category id that is not listed",
        "they are left out: the model learns that these objects are background",
        "add the category, or correct the ids",
        breaks_from=0.01,
    ),
    "category_alike": Kind(
        "hurts",
        "categories have nearly the same name",
        "one thing is learned as two, which compete",
        "make them one: the patch does",
    ),
    "category_conflict": Kind(
        "breaks",
        "categories have other ids or names in this split than in the first",
        "labels are matched by name; what has no name in common is left out or judged as something else",
        "give all splits one list of categories",
    ),
    "category_unused": Kind(
        "note",
        "categories have no annotation",
        "the model has outputs that it never uses",
        "leave them out of the file, unless their objects are still to come",
    ),
    "category_gaps": Kind(
        "note",
        "category ids from the lowest to the highest are not used",
        "none here; tools that take ids for labels fail",
        "nothing",
    ),
    "category_rare": Kind(
        "hurts",
        "categories have few objects",
        "they are hardly learned, and their AP is chance",
        "collect more, merge them, or sample their images more often: data.sampling=repeat_factor",
    ),
    "category_absent": Kind(
        "hurts",
        "categories are in one split and absent from another",
        "they are never learned, or never judged",
        "split anew: vision-tasks data split",
    ),
    "category_imbalance": Kind(
        "note",
        "categories have less than a hundredth of the objects of the most frequent one",
        "frequent categories drown them",
        "sample their images more often: data.sampling=repeat_factor",
    ),
    # entries of images
    "image_ambiguous": Kind(
        "hurts",
        "image ids are used for different files",
        "whose the annotations are is unknown: images and annotations are left out",
        "give each image an id of its own",
        breaks_from=0.01,
    ),
    "image_listed_twice": Kind("note", "images are listed twice", "the first entry counts", "delete the repetitions"),
    "image_file_shared": Kind(
        "hurts",
        "image files are listed under two ids",
        "each copy is trained without the other's objects",
        "make one entry of them: the patch does",
    ),
    "image_unknown": Kind(
        "hurts",
        "annotations name an image that is not listed",
        "they are left out",
        "add the images, or delete the annotations",
    ),
    "training_empty": Kind(
        "breaks",
        "images of training have no annotation, none of them",
        "there is nothing to learn",
        "annotate them, or see whether the file is the one that was meant",
    ),
    "split_empty": Kind(
        "hurts",
        "images of this split have no annotation, none of them",
        "nothing can be judged by it",
        "annotate them, or see whether the file is the one that was meant",
    ),
    "image_empty": Kind(
        "note",
        "images have no annotations",
        "they teach background, which is right if nothing is on them",
        "look at some of them",
    ),
    # image files
    "image_missing": Kind(
        "hurts",
        "image files are missing",
        "they are left out of training and of the metric",
        "copy them, or delete the entries: the patch does",
        breaks_from=0.5,
    ),
    "image_zero_bytes": Kind(
        "hurts",
        "image files hold nothing",
        "training takes another image in their place",
        "copy them again; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_truncated": Kind(
        "hurts",
        "image files are cut off",
        "training takes another image in their place",
        "copy them again; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_unreadable": Kind(
        "hurts",
        "image files are no images",
        "training takes another image in their place",
        "replace them; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_too_large": Kind(
        "hurts",
        "images have more pixels than are read",
        "they are refused before memory is taken for them; training takes another image in their place",
        "scale them down, or cut them: vision-tasks data tile; the patch leaves them out",
        breaks_from=0.5,
    ),
    "image_mis_sized": Kind(
        "hurts",
        "image files are of another size than the annotations state",
        "boxes lie elsewhere than their objects; training refuses such images",
        "see which size the boxes were drawn on; the patch scales them if the shape is the same",
        breaks_from=0.1,
    ),
    "image_rotated": Kind(
        "hurts",
        "images are turned by their EXIF entry",
        "viewers show them upright, tools that ignore EXIF do not: boxes fit one of them",
        "look at them; write the pixels upright and delete the entry",
    ),
    "image_cmyk": Kind("note", "images have CMYK colours", "they are converted, and colours shift", "save them as RGB"),
    "image_16_bit": Kind(
        "note",
        "images have 16 bits",
        "they are read with all their bits; tools that read 8 see black or noise",
        "nothing, if the range is used",
    ),
    "image_misnamed": Kind(
        "note",
        "images are of another format than their name's ending says",
        "they are read by what they hold; tools that go by the name fail",
        "rename them",
    ),
    "image_unlisted": Kind(
        "note",
        "files in the image folders are named by no annotation",
        "nothing is learned of them, not even that nothing is on them",
        "list them if they belong to the data, without annotations where nothing is on them",
    ),
    "image_mixed_channels": Kind("note", "images are grey among coloured ones", "they are read as RGB", "nothing"),
    "image_copied": Kind(
        "hurts", "images are the same as another of their split", "they count twice", "leave one out: the patch does"
    ),
    "image_leaked": Kind(
        "hurts",
        "images that should judge are in training, too, or nearly the same",
        "the model is judged by what it has learned by heart: scores are too good",
        "leave them out of training: the patch does",
    ),
    # sizes
    "object_vanishes": Kind(
        "hurts",
        "objects are smaller than two pixels after the resize",
        "no model can see them",
        "enlarge the input, or cut images into tiles: vision-tasks data tile",
    ),
}

_SEMANTIC = {"mask_size": "semantic_mask_size", "mask_unreadable": "semantic_mask_unreadable"}
"""Problems of semantic maps whose names are those of outlines here."""

# What readers count besides is told in their words, under their names: "what it is: what was done".
for code, (severity, what, remedy) in problems.KINDS.items():
    title, _, effect = what.partition(": ")
    KINDS.setdefault(
        _SEMANTIC.get(code, code), Kind("hurts" if severity == "warning" else "note", title, effect, remedy)
    )
