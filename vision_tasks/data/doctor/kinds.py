"""Every kind of finding there is: what it is called, how grave it is, what it does, and what to do."""

from __future__ import annotations

from vision_tasks.data import problems
from vision_tasks.data.doctor.kind import Kind as Kind
from vision_tasks.data.doctor.kind import Severity as Severity
from vision_tasks.data.doctor.kinds_of_images import IMAGES

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
        "they are not trained on; so many as a fifth are no stray errors, but of another form or of other images",
        "delete them: the patch does",
        breaks_from=0.2,
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
    **IMAGES,
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
_BREAK_FROM = {"label_not_shares": 0.2, "label_line_unreadable": 0.5}
for code, (severity, what, remedy) in problems.KINDS.items():
    title, _, effect = what.partition(": ")
    KINDS.setdefault(
        _SEMANTIC.get(code, code),
        Kind("hurts" if severity == "warning" else "note", title, effect, remedy, _BREAK_FROM.get(code)),
    )
