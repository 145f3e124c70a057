"""The words that pass between rooms keep their promises."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from vision_tasks.ops import masks as mask_ops
from vision_tasks.structures import Categories, Masks, Prediction, Rle, Target, category_color

CATEGORIES = Categories.of(["cat", "dog"])


def prediction(n: int = 3) -> Prediction:
    corner = torch.arange(n, dtype=torch.float32)[:, None].expand(-1, 2) * 2
    return Prediction(
        (20, 40),
        CATEGORIES,
        boxes=torch.cat((corner, corner + 5), 1),
        labels=torch.arange(n) % 2,
        scores=1 - 0.25 * (1 + torch.arange(n)),
        masks=Masks((20, 40), grid=torch.rand(n, 28, 28), boxes=torch.cat((corner, corner + 5), 1)),
    )


def test_categories_from_names_and_from_coco_and_back() -> None:
    assert CATEGORIES.ids == (1, 2)
    coco = [{"id": 7, "name": "sky", "isthing": 0, "color": [1, 2, 3]}, {"id": 3, "name": "cat"}]
    read = Categories.of(coco)
    assert (read.names, read.ids, read.is_thing) == (("sky", "cat"), (7, 3), (False, True))
    assert read.colors[0] == (1, 2, 3)
    assert read.label_of_id == {7: 0, 3: 1}
    assert Categories.of(read.to_list()) == read
    assert Categories.of(read) is read


def test_categories_refuse_what_is_none() -> None:
    with pytest.raises(TypeError, match="single string"):
        Categories.of("cat")
    with pytest.raises(ValueError, match=r"\[4\]"):
        Categories.of([{"id": 4, "name": "a"}, {"id": 4, "name": "b"}])


def test_colours_differ_and_stay() -> None:
    colors = [category_color(i) for i in range(100)]
    assert len(set(colors)) > 90
    assert colors == [category_color(i) for i in range(100)]
    assert all(0 <= c <= 255 for color in colors for c in color)
    assert all(colorsys.rgb_to_hls(*(c / 255 for c in color))[1] > 0.15 for color in colors), "too dark to see"


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        ([2, 0], [2, 0]),
        ([], []),
        (slice(1, None), [1, 2]),
        (slice(0, 0), []),
        (torch.tensor([False, True, True]), [1, 2]),
        (torch.zeros(3, dtype=torch.bool), []),
        (torch.tensor([], dtype=torch.int64), []),
    ],
)
def test_a_prediction_is_indexed_row_by_row(index: object, rows: list[int]) -> None:
    whole = prediction()
    part = whole[index]  # type: ignore[index]
    assert len(part) == len(rows)
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[rows])
    assert part.masks is not None
    assert whole.masks is not None
    assert whole.masks.grid is not None
    assert torch.equal(part.masks.grid, whole.masks.grid[rows])
    assert part.categories is whole.categories


def test_an_empty_prediction_is_indexed_too() -> None:
    assert len(prediction(0)[torch.zeros(0, dtype=torch.bool)]) == 0
    assert len(prediction(0).filter(0.5)) == 0


def test_filter_keeps_what_reaches_the_threshold() -> None:
    assert len(prediction(3).filter(0.5)) == 2
    assert len(prediction(3).filter(0.0)) == 3
    semantic = Prediction((2, 2), CATEGORIES, semantic=torch.zeros(2, 2, dtype=torch.int16))
    assert semantic.filter(0.9) is semantic


def test_scaling_there_and_back() -> None:
    whole = prediction()
    scaled = whole.scaled_to((40, 20))
    assert scaled.boxes is not None
    assert whole.boxes is not None
    assert scaled.boxes[1].tolist() == [1, 4, 3.5, 14]
    assert scaled.masks is not None
    assert torch.equal(scaled.masks.boxes, scaled.boxes)
    torch.testing.assert_close(scaled.scaled_to((20, 40)).boxes, whole.boxes)
    assert whole.scaled_to((20, 40)) is whole


def test_what_cannot_be_scaled_says_so() -> None:
    with pytest.raises(ValueError, match="semantic"):
        Prediction((2, 2), CATEGORIES, semantic=torch.zeros(2, 2, dtype=torch.int16)).scaled_to((4, 4))
    shapes = Masks((2, 2), shapes=[None])
    with pytest.raises(ValueError, match="grid"):
        Prediction((2, 2), CATEGORIES, boxes=torch.zeros(1, 4), masks=shapes).scaled_to((4, 4))


def test_fields_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="'labels': 1"):
        Target(1, (5, 5), boxes=torch.zeros(2, 4), labels=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        Prediction((5, 5), CATEGORIES, boxes=torch.zeros(2, 5))
    Target(1, (5, 5))  # nobody annotated anything


def test_masks_of_either_form() -> None:
    square = [np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=np.float32)]
    rle: Rle = mask_ops.empty((8, 8))
    masks = Masks((8, 8), shapes=[square, rle, None])
    assert masks[[2, 0]].shapes == [None, square]
    assert masks[torch.tensor([False, True, False])].shapes == [rle]
    assert masks[[]].shapes == []
    with pytest.raises(ValueError, match="either"):
        Masks((8, 8))
    with pytest.raises(ValueError, match="one box per mask"):
        Masks((8, 8), grid=torch.zeros(2, 28, 28))


def test_moving_to_a_device_leaves_the_rest() -> None:
    target = Target(4, (5, 6), boxes=torch.zeros(1, 4), masks=Masks((5, 6), shapes=[None]))
    moved = target.to("cpu")
    assert (moved.image_id, moved.size, moved.masks) == (4, (5, 6), target.masks)
    assert prediction().to("cpu").masks is not None


def test_a_prediction_is_a_sequence_of_objects_and_says_what_it_is() -> None:
    categories = Categories.of(["cat", "dog"])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    found = Prediction((10, 20), categories, torch.rand(6, 4), torch.tensor([0, 1, 0, 1, 0, 1]), scores)
    assert [float(one.scores[0]) for one in found if one.scores is not None] == scores.tolist()
    assert len(found[0]) == len(found[-1]) == 1
    assert torch.equal(found[-1].scores, scores[5:])  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="no object 6 of 6"):
        found[6]
    assert str(found) == "Prediction(10×20, 6 objects: cat 0.90, dog 0.80, cat 0.70, dog 0.60, cat 0.50, ...)"
    assert str(found[:0]) == "Prediction(10×20, 0 objects)"
    maps = Prediction((10, 20), categories, semantic=torch.zeros(10, 20, dtype=torch.int16))
    assert repr(maps) == "Prediction(10×20, semantic)"
