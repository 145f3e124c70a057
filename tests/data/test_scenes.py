"""Generated scenes: the same every time, sound by pycocotools, and consistent between their three kinds of truth."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vision_tasks.data import scenes
from vision_tasks.data.scene_shapes import Part
from vision_tasks.errors import VisionTasksError

# pycocotools 2.0.x under NumPy 2: its own affair.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MADE = {"train": 12, "val": 3, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return scenes.generate_scenes(tmp_path_factory.mktemp("made") / "scenes", **MADE)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def coco(folder):
    return COCO(str(folder / "annotations" / "instances_train.json"))


def test_layout(folder):
    assert len(list((folder / "images" / "train").glob("*.jpg"))) == MADE["train"]
    assert len(list((folder / "semantic" / "val").glob("*.png"))) == MADE["val"]
    listed = json.loads((folder / "semantic" / "categories.json").read_text())["categories"]
    assert {c["name"]: c["id"] for c in listed} == scenes.SEMANTIC
    for split in ("train", "val"):
        truth = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
        for image in truth["images"]:
            pixels = cv2.imread(str(folder / "images" / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3)


def test_same_every_time(folder, tmp_path):
    again = scenes.generate_scenes(tmp_path / "scenes", **MADE)
    assert digest(again) == digest(folder)
    first, other = scenes.make_scene((96, 128), (0, 0, 1)), scenes.make_scene((96, 128), (1, 0, 1))
    np.testing.assert_array_equal(first.image, scenes.make_scene((96, 128), (0, 0, 1)).image)
    assert not np.array_equal(first.image, other.image)


def test_pycocotools_agrees_with_area_and_box(coco):
    kinds = set()
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        # pycocotools' own box of the mask
        runs = coco_mask.encode(np.asfortranarray(mask))
        assert coco_mask.toBbox(runs).tolist() == annotation["bbox"]
        kinds.add((type(annotation["segmentation"]).__name__, annotation["iscrowd"]))
    assert {("list", 0), ("dict", 1)} <= kinds


def test_semantic_map_is_made_of_the_instances(folder, coco):
    for image in coco.loadImgs(coco.getImgIds()):
        semantic = cv2.imread(
            str(folder / "semantic" / "train" / (image["file_name"][:-4] + ".png")), cv2.IMREAD_UNCHANGED
        )
        expected = np.zeros_like(semantic)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert not expected[mask].any(), "visible parts of two objects overlap"
            expected[mask] = annotation["category_id"]
        is_thing = (semantic >= 1) & (semantic <= len(scenes.THINGS))
        np.testing.assert_array_equal(np.where(is_thing, semantic, 0), expected)
        assert set(np.unique(semantic)) <= {*scenes.SEMANTIC.values(), scenes.IGNORED}


def test_has_what_dirty_life_has():
    made = [scenes.make_scene((96, 96), (0, 0, i)) for i in range(60)]
    counts = [len(s.annotations) for s in made]
    assert 0 in counts
    assert 2 <= np.mean(counts) <= 6
    assert any(a["iscrowd"] for s in made for a in s.annotations)
    assert {a["category_id"] for s in made for a in s.annotations} == {1, 2, 3, 4, 5}


def test_used_again_and_only_replaced_if_ours(folder, tmp_path):
    before = (folder / "scenes.json").stat().st_mtime_ns
    assert scenes.generate_scenes(folder, **MADE) == folder
    assert (folder / "scenes.json").stat().st_mtime_ns == before

    small = scenes.generate_scenes(tmp_path / "d", train=1, val=0, sizes=[(40, 50)])
    scenes.generate_scenes(small, train=2, val=0, sizes=[(40, 50)])
    assert len(list((small / "images" / "train").iterdir())) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["d"]

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(VisionTasksError, match="mine"):
        scenes.generate_scenes(tmp_path / "mine", train=1, val=0)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_nothing_is_left_when_interrupted(tmp_path):
    def stop(done, total):
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scenes.generate_scenes(tmp_path / "d", train=3, val=1, sizes=[(40, 50)], progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "inside"),
    [
        (Part("sphere", (0.8,)), lambda p: (p**2).sum(0) < 0.64),
        (Part("box", (0.5, 0.7, 0.9)), lambda p: (np.abs(p) < np.asarray([[0.5], [0.7], [0.9]])).all(0)),
        (
            Part("frustum", (-0.5, 0.6, 0.8, 0.3)),
            lambda p: (np.hypot(p[0], p[2]) < 0.8 - (p[1] + 0.5) / 1.1 * 0.5) & (p[1] > -0.5) & (p[1] < 0.6),
        ),
    ],
)
def test_rays_against_marching(part, inside):
    """Small steps along each ray find the same entry, and the normal there faces the ray."""
    rng = np.random.default_rng(0)
    origin = rng.normal(size=(3, 400))
    origin *= 3 / np.linalg.norm(origin, axis=0)
    direction = rng.uniform(-1, 1, (3, 400)) - origin
    distance, normal = part.hit(origin.astype(np.float32), direction.astype(np.float32))
    steps = np.linspace(0, 2, 4001)
    marched = inside((origin[:, None] + direction[:, None] * steps[:, None]).reshape(3, -1)).reshape(4001, 400)
    found = marched.any(0)
    assert np.mean(found != np.isfinite(distance)) < 0.01  # rays that graze
    both = found & np.isfinite(distance)
    assert both.sum() > 100
    np.testing.assert_allclose(distance[both], steps[marched.argmax(0)][both], atol=2e-3)
    assert np.linalg.norm(normal[:, both], axis=0) == pytest.approx(1, abs=1e-4)
    assert ((normal * direction).sum(0)[both] < 1e-3).all()
