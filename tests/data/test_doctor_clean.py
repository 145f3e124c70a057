"""Sound data of every kind, however odd, are not accused of a wrong form of boxes, nor of anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from doctor_sets import coco, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vision_tasks.data.doctor.diagnose import check_annotations
from vision_tasks.data.doctor.forms import reread
from vision_tasks.data.formats.coco import read_coco

Rng = np.random.Generator
Layout = Callable[[Rng, int], tuple[np.ndarray, np.ndarray]]
"""Sizes and centres of k objects, (k, 2) each, as shares of width and height."""


def _square(r: Rng, k: int) -> tuple[np.ndarray, np.ndarray]:
    along = r.uniform(0, 1, (k, 1))
    return np.repeat(r.uniform(0.05, 0.2, (k, 1)), 2, 1), np.repeat(along, 2, 1)


LAYOUTS: dict[str, Layout] = {
    "anywhere": lambda r, k: (r.uniform(0.01, 1, (k, 2)), r.uniform(0, 1, (k, 2))),
    "tiny": lambda r, k: (r.uniform(0.004, 0.02, (k, 2)), r.uniform(0, 1, (k, 2))),
    "one in the middle": lambda r, k: (r.uniform(0.3, 0.98, (1, 2)), 0.5 + r.normal(0, 0.03, (1, 2))),
    "half the image in the middle": lambda r, k: (np.full((1, 2), 0.5), np.full((1, 2), 0.5)),
    "small in the middle": lambda r, k: (r.uniform(0.05, 0.3, (1, 2)), 0.5 + r.normal(0, 0.03, (1, 2))),
    "close": lambda r, k: (r.uniform(0.8, 1.2, (1, 2)), 0.5 + r.normal(0, 0.05, (1, 2))),
    "lower right": lambda r, k: (r.uniform(0.02, 0.3, (k, 2)), r.uniform(0.6, 1, (k, 2))),
    "upper left": lambda r, k: (r.uniform(0.02, 0.6, (k, 2)), r.uniform(0, 0.3, (k, 2))),
    "in a row on top": lambda r, k: (r.uniform(0.02, 0.6, (k, 2)), r.uniform(0, 1, (k, 2)) * [1, 0.2]),
    "in a column": lambda r, k: (r.uniform(0.02, 0.2, (k, 2)), [0.45, 0] + r.uniform(0, 1, (k, 2)) * [0.1, 1]),
    "on the diagonal": _square,
    "whole images": lambda r, k: (np.ones((1, 2)), np.full((1, 2), 0.5)),
}
SIZES = [(480, 640), (1080, 1920), (640, 480), (600, 600), (416, 416)]
MAY_BE_WHOLE = {"anywhere", "close", "one in the middle", "whole images"}


def sound(layout: Layout, rng: Rng, images: int, shapes: str, masks: bool, beyond: float = 0.0) -> dict:  # type: ignore[type-arg]
    """A sound set; with `beyond`, boxes are enlarged by up to this share after they were cut at the border."""
    sizes, boxes = [], []
    for _ in range(images):
        h, w = {"one": SIZES[0], "some": SIZES[rng.integers(5)], "any": tuple(rng.integers(64, 2000, 2))}[shapes]
        size, centre = layout(rng, int(rng.integers(1, 8)))
        low = np.clip((centre - size / 2) * [w, h], 0, [w, h])
        high = np.clip((centre + size / 2) * [w, h], 0, [w, h])
        side = (high - low) * rng.uniform(1, 1 + beyond, low.shape)
        box = np.concatenate([(low + high - side) / 2, side], 1)[(high - low > 3).all(1)]
        box = np.round(box) if rng.random() < 0.5 else box
        same = np.tril((np.abs(box[:, None] - box[None]) <= 0.5).all(2), -1).any(
            1
        )  # by chance, as real objects never are
        boxes.append(box[~same].tolist())
        sizes.append((int(h), int(w)))
    return coco(boxes, sizes, masks)


def codes(data: dict, folder: Path) -> set[str]:  # type: ignore[type-arg]
    records = read_coco(written(data, folder / "a.json"), folder, cache=False)
    return {f.code for f in check_annotations(records, "train")[0]} - {"image_empty"}


settled = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds, shapes = st.integers(0, 2**32 - 1), st.sampled_from(["one", "some", "any"])


@settled
@given(seed=seeds, name=st.sampled_from(sorted(LAYOUTS)), images=st.integers(1, 40), shapes=shapes, masks=st.booleans())
def test_sound_sets_of_every_kind(
    tmp_path: Path, seed: int, name: str, images: int, shapes: str, masks: bool
) -> None:  # fmt: skip
    data = sound(LAYOUTS[name], np.random.default_rng(seed), images, shapes, masks)
    found = codes(data, tmp_path)
    assert found <= ({"box_whole_image"} if name in MAY_BE_WHOLE else set())


@settled
@given(seed=seeds, name=st.sampled_from(sorted(LAYOUTS)), shapes=shapes)
def test_boxes_that_go_on_beyond_the_image_are_no_other_form(
    tmp_path: Path, seed: int, name: str, shapes: str
) -> None:  # fmt: skip
    """As where whole persons are boxed, though the image shows but a part of them."""
    data = sound(LAYOUTS[name], np.random.default_rng(seed), 30, shapes, masks=False, beyond=0.6)
    assert not [c for c in codes(data, tmp_path) if c.startswith("boxes_")]


@pytest.mark.parametrize("form", ["xyxy", "normalised", "swapped", "centred"])
def test_of_one_box_nothing_is_concluded(form: str, tmp_path: Path) -> None:
    box = {"xyxy": [300, 200, 400, 300], "normalised": [0.2, 0.2, 0.5, 0.5], "swapped": [20, 500, 30, 60],
           "centred": [600, 300, 80, 80]}[form]  # fmt: skip
    data = coco([[box]], [(480, 640)], masks=False)
    assert not [c for c in codes(data, tmp_path) if c.startswith("boxes_")]


@pytest.mark.parametrize("seed", range(30))
def test_rounding_of_one_shape_is_no_correlation(seed: int, tmp_path: Path) -> None:
    data = sound(LAYOUTS["half the image in the middle"], np.random.default_rng(seed), 30, "any", masks=False)
    assert codes(data, tmp_path) == set()


def test_an_empty_set_has_nothing_wrong_with_its_boxes(tmp_path: Path) -> None:
    assert codes(coco([[], []], [(480, 640)] * 2), tmp_path) == set()


def test_images_without_a_size_are_judged_by_what_is_known(tmp_path: Path) -> None:
    data = sound(LAYOUTS["anywhere"], np.random.default_rng(0), 20, "some", masks=False)
    for image in data["images"]:
        del image["width"], image["height"]
    assert codes(data, tmp_path) == {"image_size_unknown"}


def test_forms_by_hand() -> None:
    sizes = np.array([[200.0, 100.0]])
    meant = [10.0, 20.0, 30.0, 40.0]
    for form, box in {
        "xyxy": [10.0, 20, 40, 60], "normalised": [0.05, 0.2, 0.15, 0.4], "swapped": [20.0, 10, 40, 30],
        "centred": [25.0, 40, 30, 40],
    }.items():  # fmt: skip
        assert reread(np.array([box]), form, sizes)[0].tolist() == pytest.approx(meant)
    with pytest.raises(ValueError, match="there is no form"):
        reread(sizes, "polar", sizes)
