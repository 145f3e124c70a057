"""Which forms of output a model can fill, to refuse others before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vision_tasks.errors import VisionTasksError

if TYPE_CHECKING:
    from vision_tasks.models.vision_model import VisionModel

_NEEDS: dict[str, tuple[str, ...]] = {
    "yolo": ("boxes",),
    "yolo-conf": ("boxes",),
    "labelme": ("boxes",),
    "mot": ("boxes", "tracks"),
    "masks": ("masks", "maps"),
    "maps": ("maps",),
    "instances": ("masks",),
    "panoptic": ("segments",),
    "crops": ("boxes",),
    "cutouts": ("masks",),
}
"""What a form is made of, of "masks" one of the two, of others all. Forms that are not here take what there is."""
_WORDS = {
    "boxes": "objects",
    "tracks": "tracks",
    "masks": "masks of objects",
    "maps": "maps",
    "segments": "objects and maps merged",
}


@dataclass(frozen=True)
class Gives:
    """What comes of a run: boxes of objects, masks of them, tracks, maps, and both merged into segments."""

    boxes: bool = True
    masks: bool = True
    tracks: bool = True
    maps: bool = True
    segments: bool = True

    @classmethod
    def of(cls, model: VisionModel, tracked: bool) -> Gives:
        """What this model gives, with a tracker or without."""
        boxes, maps = model.head_of("objects") is not None, model.head_of("semantic") is not None
        return cls(boxes, model.has_masks, boxes and tracked, maps, model.panoptic is not None)

    def missing(self, form: str) -> list[str]:
        """What the form needs and there is not, in this class's words."""
        needs = _NEEDS.get(form, ())
        lacks = [need for need in needs if not getattr(self, need)]
        return [] if form == "masks" and len(lacks) < len(needs) else lacks


def check_possible(asked: Sequence[str], gives: Gives, known: Collection[str]) -> None:
    """Refuse forms of which nothing would come.

    Args:
        asked: forms that somebody asked for by name. gives: of the run. known: all forms.

    Raises:
        VisionTasksError: there is such a form. Says what it lacks, and which can be had.
    """
    for form in asked:
        lacks = gives.missing(form)
        if not lacks:
            continue
        if lacks == ["tracks"]:
            raise VisionTasksError(f"The form {form} needs tracks. Give a tracker, such as --track bytetrack.")
        there = [word for name, word in _WORDS.items() if getattr(gives, name) and name != "tracks"]
        needed = [_WORDS[need] for need in lacks if need != "tracks"]
        # Tracks are had for the asking where there are objects.
        tracked = Gives(gives.boxes, gives.masks, gives.boxes, gives.maps, gives.segments)
        raise VisionTasksError(
            f"The form {form} needs {' or '.join(needed)}, and this model gives {' and '.join(there) or 'none'} only. "
            f"Choose of {', '.join(other for other in known if not tracked.missing(other))}."
        )
