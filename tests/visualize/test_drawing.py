"""Drawn pictures: tags stay inside and readable, the input stays as it was, masks land where they belong."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories, Masks, Prediction, Target
from vision_tasks.visualize import text
from vision_tasks.visualize.comparison import FOUND, MISSED, PASSED, WRONG, draw_comparison, match
from vision_tasks.visualize.contact_sheet import contact_sheet
from vision_tasks.visualize.drawing import draw, line_width, to_rgb8

# pycocotools 2.0.x under NumPy 2: its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = Categories.of(["cat", "very long name of a category", "Ελληνικά", "瓶子", "<b>$x_1$\n</b>", "", "عربي"])


def predicted(size, boxes, labels=None, scores=None, **more):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.as_tensor(labels)
    scores = torch.full((len(boxes),), 0.9) if scores is None else torch.as_tensor(scores)
    return Prediction(size, CATEGORIES, boxes, labels, scores, **more)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 9), (20, 300), (64, 64), (480, 640)])
def test_boxes_at_all_borders(size):
    height, width = size
    boxes = [
        [0, 0, width, height], [0, 0, 1, 1], [width - 1, height - 1, width, height], [width - 1, 0, width, 1],
        [0, height - 1, 1, height], [-50, -50, width + 50, height + 50], [width / 2, -9, width / 2, height],
        [-30, -30, -20, -20], [1e9, 1e9, 2e9, 2e9], [float("nan"), 0, 1, 1], [0, 0, float("inf"), 1], [5, 5, 2, 2],
    ]  # fmt: skip
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    before = image.copy()
    drawn = draw(image, predicted(size, boxes, [i % len(CATEGORIES.names) for i in range(len(boxes))]))
    assert drawn.shape == (*size, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(image, drawn)


@settings(max_examples=150, deadline=None)
@given(
    frame=st.tuples(st.integers(10, 400), st.integers(10, 400)),
    box=st.tuples(*[st.integers(-50, 450)] * 4),
    tag=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    taken=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(200, 400), st.integers(200, 400))),
)
def test_tags_stay_inside_the_frame(frame, box, tag, taken):
    tag = (min(tag[0], frame[0]), min(tag[1], frame[1]))
    x1, y1, x2, y2 = text.place_tag(box, tag, frame, np.asarray(taken, np.int64).reshape(-1, 4))
    assert (y2 - y1, x2 - x1) == tag
    assert 0 <= x1 <= x2 <= frame[1]
    assert 0 <= y1 <= y2 <= frame[0]


def test_tags_avoid_each_other():
    taken = np.zeros((0, 4), np.int64)
    for _ in range(6):  # six objects in one place
        place = text.place_tag((100, 100, 180, 160), (12, 40), (300, 300), taken)
        inside = [
            max(0, min(place[2], t[2]) - max(place[0], t[0])) * max(0, min(place[3], t[3]) - max(place[1], t[1]))
            for t in taken
        ]
        assert sum(inside) == 0
        taken = np.concatenate([taken, [place]])


@pytest.mark.parametrize(("frame", "expected"), [((64, 64), True), ((300, 30), True), ((3, 500), False)])
def test_text_is_made_to_fit(frame, expected):
    mask = text.fitted_text("a name that is much too long for this", text.text_height(frame), frame)
    assert (mask is not None) is expected
    if mask is not None:
        assert mask.shape[0] <= frame[0]
        assert mask.shape[1] <= frame[1]
        assert mask.max() > 128


def test_sizes_grow_with_the_image():
    heights = [text.text_height((s, s)) for s in (64, 480, 1080, 4000, 8000)]
    assert heights == sorted(heights)
    assert heights[0] >= 7
    assert 0.01 < heights[-1] / 8000 < 0.03
    assert line_width((64, 64)) == 1
    assert line_width((8000, 8000)) > 15


@pytest.mark.parametrize("color", [*CATEGORIES.colors, (0, 0, 0), (255, 255, 255), (128, 128, 128)])
def test_contrast_of_tags(color):
    """WCAG's contrast between the letters and their tag is above 4.5, its bound for text."""

    def luminance(c):
        channels = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in c]
        return float(np.dot([0.2126, 0.7152, 0.0722], channels))

    light, dark = sorted([luminance(color), luminance(text.readable_on(color))], reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 4.5


def test_letters_of_other_scripts_are_drawn():
    for word in ("Ελλ", "Кир", "عربي"):
        assert text.text_mask(word, 20).max() > 128
    # Not all the same "missing" box
    assert not np.array_equal(text.text_mask("Ж", 20), text.text_mask("Я", 20))
    assert text.text_mask("瓶子", 20).size  # a box where no font of the machine has it


def test_box_is_drawn_on_its_own_pixels():
    drawn = draw(np.zeros((40, 60, 3), np.uint8), predicted((40, 60), [[10, 5, 30, 25]]), labels=False)
    rows, columns = np.nonzero(drawn.any(2))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (5, 25, 10, 30)
    assert tuple(drawn[5, 10]) == CATEGORIES.colors[0]
    assert not drawn[6:24, 11:29].any()


def test_threshold_order_and_zero_objects():
    image = np.zeros((30, 30, 3), np.uint8)
    low = predicted((30, 30), [[2, 2, 20, 20], [4, 4, 22, 22]], [0, 1], [0.3, 0.4])
    np.testing.assert_array_equal(draw(image, low), image)
    np.testing.assert_array_equal(draw(image, predicted((30, 30), [])), image)
    np.testing.assert_array_equal(draw(image, Prediction((30, 30), CATEGORIES)), image)
    both = draw(image, low, threshold=0.1, labels=False)
    assert tuple(both[4, 19]) == CATEGORIES.colors[1]  # where the lines cross the better one is on top


def test_kinds_of_images():
    prediction = predicted((20, 30), [[2, 2, 15, 19]])
    grey = np.full((20, 30), 77, np.uint8)
    for image in (grey, grey[..., None], np.repeat(grey[..., None], 3, 2), np.repeat(grey[..., None], 4, 2)):
        assert tuple(draw(image, prediction)[-1, -1]) == (77, 77, 77)
    deep = np.full((20, 30), 4095, np.uint16)
    deep[:, 15:] = 2048
    assert draw(deep, prediction)[-1, [0, -1], 0].tolist() == [255, 128]
    assert to_rgb8(np.full((2, 2), 65535, np.uint16)).max() == 255
    read_only = grey.copy()
    read_only.flags.writeable = False
    draw(read_only[:, ::-1], prediction)
    color = np.repeat(grey[..., None], 3, 2)
    color.flags.writeable = False
    assert draw(color, prediction, zoom=2).shape == (40, 60, 3)
    many = np.concatenate([np.stack([grey, grey // 7, grey // 3], 2), np.full((20, 30, 4), 200, np.uint8)], 2)
    assert tuple(draw(many, prediction)[-1, -1]) == (77, 11, 25)
    assert tuple(draw(many[..., 1:3], prediction)[-1, -1]) == (11, 11, 11)
    for wrong in (np.zeros((20, 30, 3)), np.zeros((20, 0), np.uint8), np.zeros((3, 4, 5, 3), np.uint8)):
        with pytest.raises(VisionTasksError, match="shape"):
            draw(wrong, prediction)
    with pytest.raises(VisionTasksError, match="20×30"):
        draw(np.zeros((21, 30), np.uint8), prediction)


def test_truth_with_masks_crowd_and_unknown_label():
    square = np.asarray([[10, 10], [30, 10], [30, 30], [10, 30]], np.float32)
    target = Target(
        1,
        (40, 50),
        torch.tensor([[10.0, 10, 30, 30], [0, 0, 50, 40]]),
        torch.tensor([2, 99]),
        Masks((40, 50), shapes=[[square], None]),
        is_crowd=torch.tensor([False, True]),
    )
    image = np.full((40, 50, 3), 100, np.uint8)
    drawn = draw(image, target, CATEGORIES, labels=False)
    inside = drawn[12:28, 12:28].reshape(-1, 3)
    expected = (100 * 13 + np.asarray(CATEGORIES.colors[2]) * 7) // 20
    np.testing.assert_array_equal(inside, np.broadcast_to(expected, inside.shape))
    np.testing.assert_array_equal(drawn[35, 20:40], np.full((20, 3), 100))
    large = draw(image, target, CATEGORIES, labels=False, zoom=3)
    assert large.shape == (120, 150, 3)
    np.testing.assert_array_equal(large[60, 60], expected)
    draw(image, target)  # without categories: by number
    draw(image, target, CATEGORIES)


def test_grid_masks_follow_the_box():
    masks = Masks((60, 60), grid=torch.ones(1, 28, 28), boxes=torch.tensor([[20.0, 20, 40, 40]]))
    drawn = draw(np.zeros((60, 60, 3), np.uint8), predicted((60, 60), [[20, 20, 40, 40]], masks=masks), labels=False)
    assert drawn[30, 30].any()
    assert not drawn[45:].any()


def test_matching_by_hand():
    target = Target(
        1,
        (100, 100),
        torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 100, 100]]),
        torch.tensor([0, 0, 0]),
        is_crowd=torch.tensor([False, False, True]),
    )
    prediction = predicted(
        (100, 100),
        [[0, 0, 10, 9], [0, 0, 10, 10], [60, 60, 70, 70], [20, 20, 40, 40], [0, 50, 5, 55]],
        [0, 0, 0, 1, 0],
        [0.8, 0.9, 0.7, 0.9, 0.6],
    )
    truth_of, passed = match(target, prediction, 0.5)
    # The better of two takes the truth; one lies on the crowd; one has the wrong label; one hits nothing.
    assert truth_of.tolist() == [-1, 0, -1, -1, -1]
    assert passed.tolist() == [False, False, True, False, False]
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_comparison(image, target, prediction, CATEGORIES)
    seen = {tuple(int(v) for v in c) for c in drawn.reshape(-1, 3)}
    assert {FOUND, MISSED, WRONG, PASSED} <= seen
    empty = draw_comparison(image, Target(1, (100, 100)), predicted((100, 100), []))
    assert empty.shape[1] == drawn.shape[1]


def test_comparison_of_tiny_images():
    drawn = draw_comparison(np.zeros((1, 1), np.uint8), Target(1, (1, 1)), predicted((1, 1), [[0, 0, 1, 1]]))
    assert drawn.dtype == np.uint8
    assert drawn.shape[0] >= 1
    assert drawn.shape[1] >= 2
    assert drawn.shape[2] == 3


def test_contact_sheet():
    images = [np.full((20, 40, 3), 10 * i, np.uint8) for i in range(1, 6)] + [np.full((90, 30), 99, np.uint8)]
    sheet = contact_sheet(images, columns=3, cell=60, gap=4)
    assert sheet.shape == (30 + 4 + 60, 3 * 64 - 4, 3)
    assert sheet[15, 30, 0] == 10
    assert sheet[60, 158, 0] == 99
    assert contact_sheet([]).shape == (1, 1, 3)
