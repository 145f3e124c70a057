"""Generated records, and comparing those that were written and read again with what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from vision_tasks.data.formats.building import RecordsBuilder
from vision_tasks.data.records import Records
from vision_tasks.structures import Categories

# Letters that XML and JSON hold; names are compared after white space has become one space.
NAMES = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp", "Cn", "Co"], exclude_characters="\\/:"
    ),
    min_size=1,
    max_size=8,
).filter(lambda name: not name.startswith(".") and name not in ("__ignore__", "_background_", "__background__"))
PIXELS = st.one_of(st.integers(0, 300), st.integers(-200_000, 900_000).map(lambda v: v / 1000))
SIDES = st.one_of(st.integers(0, 300), st.integers(0, 300_000).map(lambda v: v / 1000))


@st.composite
def objects(draw: st.DrawFn, labels: int, others: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    box = tuple(float(draw(s)) for s in (PIXELS, PIXELS, SIDES, SIDES))
    return {"label": draw(st.integers(0, labels - 1)), "box": box, "extras": draw(others)}


FILES = st.tuples(st.sampled_from(["", "a/", "a b/c/"]), NAMES)


@st.composite
def data_sets(
    draw: st.DrawFn, of_object: st.SearchStrategy[dict[str, Any]], of_image: st.SearchStrategy[dict[str, Any]]
) -> dict[str, Records]:
    """One to three splits of up to four images, of boxes alone; ids count from 1."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return {
        split: build(
            names,
            [
                (f"{folder}{name}.jpg", draw(of_image), draw(st.lists(objects(len(names), of_object), max_size=4)))
                for folder, name in draw(
                    st.lists(
                        st.tuples(st.sampled_from(["", "a/", "a b/c/"]), NAMES), min_size=1, max_size=4, unique=True
                    )
                )
            ],
        )
        for split in draw(st.sampled_from([["train"], ["train", "val"], ["train", "val", "test"]]))
    }


def build(names: list[str], images: list[tuple[str, dict[str, Any], list[dict[str, Any]]]]) -> Records:
    """Records of images of 200 × 300 pixels: (file name, extras, arguments of `add_object`)."""
    builder = RecordsBuilder(Path("made"), Path("made"), Categories.of(names), extras=True)
    for name, extras, own in images:
        builder.add_image(name, 200, 300, extras=extras)
        for item in own:
            builder.add_object(**item)
    return builder.finish()


def by_name(records: Records, prefix: str = "") -> dict[str, Any]:
    """All that is said of each image, but for ids, by its name without `prefix`."""
    assert records.extras is not None
    out = {}
    for row in range(len(records)):
        own = range(int(records.first[row]), int(records.first[row + 1]))
        name = records.file_name(row)
        assert name.startswith(prefix)
        out[name.removeprefix(prefix)] = {
            "size": records.size(row),
            "extras": dict(records.extras.of_image(row)),
            "objects": [
                (
                    records.categories.names[records.labels[i]],
                    records.boxes[i].tolist(),
                    bool(records.is_crowd[i]),
                    _plain(records.segmentation(i)),
                    dict(records.extras.of_annotation(i)),
                )
                for i in own
            ],
        }
    return out


def _plain(outline: Any) -> Any:
    return [np.asarray(p).tolist() for p in outline] if isinstance(outline, list) else outline
