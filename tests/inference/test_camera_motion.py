"""Camera motion, recovered from pictures that were moved by a known affine."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.inference.tracked_scenes import at, box, found, ids
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.tracking.camera_motion import METHODS, CameraMotion, moved_boxes, unmoved
from vision_tasks.inference.tracking.registry import create_tracker

NO_BOXES = np.empty((0, 4))
each_method = pytest.mark.parametrize("method", METHODS)


def _texture(height: int = 540, width: int = 960, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: blots of several sizes, which have corners to hold on to."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((height, width), np.float32)
    for size in (6, 12, 40):
        coarse = generator.uniform(0, 1, (height // size + 2, width // size + 2)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor((picture / picture.max() * 255).clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _affine(angle: float, zoom: float, x: float, y: float, centre: tuple[float, float]) -> np.ndarray:
    """In continuous pixels: a turn (degrees) and a zoom about the centre, then a shift."""
    motion = cv2.getRotationMatrix2D(centre, angle, zoom)
    motion[:, 2] += x, y
    return motion


def _moved(picture: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The picture after the camera moved. OpenCV counts pixel centres from 0, we from a half."""
    turn, half = motion[:, :2], np.array([0.5, 0.5])
    return cv2.warpAffine(
        picture,
        np.column_stack((turn, motion[:, 2] + turn @ half - half)),
        (picture.shape[1], picture.shape[0]),
        borderMode=cv2.BORDER_REFLECT,
    )


def _off(motion: np.ndarray, true: np.ndarray, picture: np.ndarray) -> float:
    """Pixels by which the worst corner of the picture is off."""
    height, width = picture.shape[:2]
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    away = (corners @ motion[:, :2].T + motion[:, 2]) - (corners @ true[:, :2].T + true[:, 2])
    return float(np.abs(away).max())


def _estimated(method: str, before: np.ndarray, after: np.ndarray, boxes: np.ndarray = NO_BOXES) -> np.ndarray:
    camera = CameraMotion(method)  # type: ignore[arg-type]
    assert np.array_equal(camera.estimate(before, boxes), unmoved())
    return camera.estimate(after, boxes)


@each_method
@pytest.mark.parametrize("change", [(0, 1, 9.5, -4), (2, 1, 3, 3), (0, 1.04, 0, 0), (-1.5, 0.98, -12, 6)])
def test_turn_zoom_and_shift_are_recovered(method: str, change: tuple[float, float, float, float]) -> None:
    picture = _texture()
    true = _affine(*change, centre=(480, 270))
    assert _off(_estimated(method, picture, _moved(picture, true)), true, picture) < 1.0


@each_method
def test_of_a_real_street(method: str, real_data: Path) -> None:
    picture = cv2.imread(str(real_data / "mot17_mini/train/MOT17-04-FRCNN/img1/000001.jpg"))[:, :, ::-1]
    picture = np.ascontiguousarray(picture)
    true = _affine(1.0, 1.02, 14, -9, centre=(960, 540))
    assert _off(_estimated(method, picture, _moved(picture, true)), true, picture) < 2.0


def test_a_jump_is_for_orb() -> None:
    picture = _texture()
    true = _affine(0, 1, 130, 40, centre=(480, 270))
    assert _off(_estimated("orb", picture, _moved(picture, true)), true, picture) < 1.5


@each_method
def test_objects_that_fill_half_the_picture_do_not_count(method: str) -> None:
    """The left three quarters move by 20 pixels, the camera by -3: without the boxes the left would win."""
    before, other = _texture(), _texture(seed=9)
    true = _affine(0, 1, -3, 0, centre=(0, 0))
    after = _moved(before, true)
    before[:, :720] = other[:, :720]
    after[:, :720] = other[:, 20:740]
    boxes = np.array([[0.0, 0, 740, 540]])
    assert _off(_estimated(method, before, after, boxes), true, before) < 1.0
    assert _off(_estimated(method, before, after), true, before) > 10


@each_method
def test_what_cannot_be_told_is_no_motion(method: str) -> None:
    grey = np.full((90, 120, 3), 128, np.uint8)
    assert np.array_equal(_estimated(method, grey, grey), unmoved())
    picture = _texture()
    assert np.array_equal(_estimated(method, picture, picture[:300]), unmoved())  # another size: another scene
    everywhere = np.array([[-5.0, -5, 2000, 2000]])
    assert np.array_equal(
        _estimated(method, picture, _moved(picture, _affine(0, 1, 5, 5, (0, 0))), everywhere), unmoved()
    )
    for size in ((1, 1, 3), (20, 700, 3), (62, 62, 3)):
        speck = np.random.default_rng(7).integers(0, 255, size, np.uint8)
        assert _off(_estimated(method, speck, speck), unmoved(), speck) < 1e-3


@each_method
def test_unlike_pictures_are_no_motion(method: str) -> None:
    assert np.array_equal(_estimated(method, _texture(seed=1), _texture(seed=2)), unmoved())


@pytest.mark.parametrize("form", ["uint16", "grey", "four"])
def test_other_kinds_of_pictures(form: str) -> None:
    before = _texture()
    true = _affine(0, 1, 6, 4, (0, 0))
    after = _moved(before, true)
    change = {
        "uint16": lambda p: p.astype(np.uint16) * 257,
        "grey": lambda p: p[:, :, :1],
        "four": lambda p: np.concatenate((p, p[:, :, :1]), axis=2),
    }[form]
    assert _off(_estimated("flow", change(before), change(after)), true, before) < 1.0


def test_boxes_move_with_the_camera() -> None:
    quarter = np.array([[0.0, -2, 100], [2, 0, 0]])  # a quarter turn, twice as large, 100 to the right
    moved = moved_boxes(np.array([[10.0, 20, 14, 30]]), quarter)
    assert moved[0].tolist() == pytest.approx([100 - 50 - 4, 24 - 10, 100 - 50 + 4, 24 + 10])
    assert np.isnan(moved_boxes(np.full((2, 3, 4), np.nan), quarter)).all()


@pytest.mark.parametrize("name", ["sort", "bytetrack", "ocsort"])
def test_a_shaking_camera_does_not_cost_numbers(name: str) -> None:
    """Five still objects under a camera that jumps by up to 45 pixels, more than they are wide."""
    world = _texture(700, 1200)
    generator = np.random.default_rng(6)
    objects = np.array([box(150 + 110 * k, 150 + 40 * (k % 3), 30, 40) for k in range(5)])
    scene = []
    for _ in range(14):
        x, y = generator.integers(-45, 46, 2).tolist()
        picture = np.ascontiguousarray(world[50 + y : 590 + y, 60 + x : 1020 + x])
        scene.append((picture, objects - np.array([x, y, x, y])))
    seen = {}
    for motion in ("none", "orb"):
        tracker = create_tracker(name, camera_motion=motion)
        seen[motion] = [ids(tracker.update(found(boxes), at(None, i, p))) for i, (p, boxes) in enumerate(scene)]
    assert seen["orb"] == [[1, 2, 3, 4, 5]] * 14
    assert seen["none"] != seen["orb"]


def test_the_picture_is_needed() -> None:
    with pytest.raises(VisionTasksError, match="needs the picture"):
        create_tracker("sort", camera_motion="flow").update(found([box(1)]))
