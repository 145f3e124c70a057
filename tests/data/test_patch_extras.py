"""What goes with images and annotations goes with them through a patch: other keys, and maps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.formats.semantic_rendered import rendered
from vision_tasks.data.formats.shapes import from_polygons
from vision_tasks.data.patch import apply_edits
from vision_tasks.data.records import Records
from vision_tasks.structures import Categories


def _records() -> Records:
    """Three images with 1, 2 and 1 objects; all that is said beside is their own number."""
    builder = RecordsBuilder(Path("root"), Path("source"), Categories.of(["cat", "dog", "bird"]))
    for image, labels in enumerate(([0], [1, 2], [2])):
        builder.add_image(f"{image}.png", 40, 50, image_id=image)
        for label in labels:
            shape, _ = from_polygons([[2, 2, 12, 2, 12, 9 + image, 2, 9 + image]])
            builder.add_object(label, (2, 2, 10, 7 + image), shape=shape)
    records = builder.finish()
    extras = Extras(
        {"info": 1}, {i: {"n": i} for i in range(3)}, {i: {"n": i} for i in range(4)}, {i: {"n": i} for i in range(3)}
    )
    records = dataclasses.replace(records, extras=extras)
    return dataclasses.replace(records, semantic=rendered(records, background="nothing"))


def test_dropped_annotations_and_images() -> None:
    edited = apply_edits(_records(), [{"op": "drop_annotations", "ids": [2]}, {"op": "drop_images", "ids": [0]}])
    extras, semantic = edited.extras, edited.semantic
    assert extras is not None
    assert extras.data_set == {"info": 1}
    assert extras.images == {0: {"n": 1}, 1: {"n": 2}}
    assert extras.annotations == {0: {"n": 2}, 1: {"n": 3}}
    assert semantic is not None
    assert len(semantic) == 2
    assert np.unique(np.asarray(semantic.read(1, (40, 50)))).tolist() == [0, 3], "of the last image: nothing, bird"


def test_joined_images() -> None:
    edited = apply_edits(_records(), [{"op": "join_images", "ids": [2, 0]}])
    extras = edited.extras
    assert extras is not None
    assert edited.image_ids.tolist() == [1, 2]
    assert extras.images == {0: {"n": 1}, 1: {"n": 2}}
    assert [extras.annotations[i]["n"] for i in range(4)] == [1, 2, 0, 3], "those of an image stay in their order"
    assert edited.annotation_ids.tolist() == [2, 3, 1, 4]


def test_categories() -> None:
    edited = apply_edits(
        _records(),
        [{"op": "drop_categories", "names": ["cat"]}, {"op": "merge_categories", "names": ["dog"], "into": "bird"}],
    )
    one = apply_edits(_records(), [{"op": "merge_categories", "names": ["dog", "bird"], "into": "bird"}])
    assert one.extras is not None
    assert one.extras.categories == {0: {"n": 0}, 1: {"n": 2}}
    extras = edited.extras
    assert extras is not None
    assert edited.categories.names == ("bird",)
    assert extras.categories == {0: {"n": 2}}, "of those that are one the one whose name stays"
    assert [extras.annotations[i]["n"] for i in range(3)] == [1, 2, 3]
