"""Objects found in tiles, mirrored, at several scales: by a detector whose right answers are known."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import torch

import vision_tasks as vt
from tests.inference.blob_model import blob_model, discs, scene
from tests.tiny_model import tiny_model
from tests.tiny_models import TINY
from vision_tasks.inference.looks.looks import Looks
from vision_tasks.inference.looks.object_tiles import cut_off, windows
from vision_tasks.inference.looks.objects import batch_at, predict_objects
from vision_tasks.inference.looks.sliding import Tiling
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.ops.masks import render, to_rles
from vision_tasks.structures import Prediction

# sahi.slicing.get_slice_bboxes of SAHI 0.12: (height, width), (tile height, width), ratio -> columns and rows.
SLICES = [
    ((600, 1000), (256, 256), 0.2, [0, 205, 410, 615, 744], [0, 205, 344]),
    ((300, 500), (512, 512), 0.2, [0], [0]),
    ((417, 833), (200, 320), 50, [0, 270, 513], [0, 150, 217]),
    ((512, 512), (256, 256), 0.0, [0, 256], [0, 256]),
]


@pytest.mark.parametrize(("size", "tile", "overlap", "lefts", "tops"), SLICES)
def test_tiles_lie_where_sahi_lays_them(
    size: tuple[int, int], tile: tuple[int, int], overlap: float, lefts: list[int], tops: list[int]
) -> None:
    height, width = min(tile[0], size[0]), min(tile[1], size[1])
    expected = [[x, y, x + width, y + height] for y in tops for x in lefts]
    assert windows(size, Tiling.of(tile, overlap)).tolist() == expected


def test_only_inner_edges_cut() -> None:
    boxes = torch.tensor([[0, 50, 10, 60], [95, 50, 100, 60], [50, 0, 60, 5], [50, 90, 60, 100], [50, 50, 60, 60]])
    assert cut_off(boxes, torch.tensor([0, 0, 100, 100]), (100, 100)).tolist() == [False] * 5
    assert cut_off(boxes, torch.tensor([0, 0, 100, 100]), (200, 100)).tolist() == [False, False, False, True, False]
    moved = boxes + torch.tensor([100, 100, 100, 100])
    assert cut_off(moved, torch.tensor([100, 100, 200, 200]), (300, 300)).tolist() == [True] * 4 + [False]


def ask(model: VisionModel, image: torch.Tensor, threshold: float = 0.3, **options: Any) -> Prediction:
    return vt.Predictor(model, device="cpu", threshold=threshold, **options)(image)


def found(prediction: Prediction) -> set[tuple[int, ...]]:
    assert prediction.boxes is not None
    assert prediction.labels is not None
    boxes = prediction.boxes.round().long().tolist()
    return {(*box, label) for box, label in zip(boxes, prediction.labels.tolist(), strict=True)}


SMALL = [(10 + 37 * i, 15 + 29 * j, 22 + 37 * i, 30 + 29 * j, (i + j) % 2, 0.5 + 0.02 * i) for i in range(8) for j in range(6)]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("merge", ["join", "nms", "nmm", "wbf"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "options", [{}, pytest.param({"flip": True}, marks=pytest.mark.slow), {"flip": True, "batch_size": 3}]
)
def test_objects_smaller_than_the_overlap_are_found_as_without_tiles(
    merge: Any, whole: bool, options: dict[str, Any]
) -> None:
    image = scene(200, 320, SMALL)
    expected = {(x1, y1, x2, y2, c) for x1, y1, x2, y2, c, _ in SMALL}
    assert found(ask(blob_model(), image)) == expected
    # Parts that "nms" and "nmm" suppress must score no better than the whole: here all of a rectangle is as bright.
    tiled = ask(blob_model(), image, tile=96, overlap=32, whole=whole, merge=merge, **options)
    if merge in ("join", "nmm"):
        assert found(tiled) == expected
    else:
        assert found(tiled) >= expected if merge == "wbf" else len(tiled) >= len(expected)
    assert tiled.size == (200, 320)
    assert tiled.scores.tolist() == sorted(tiled.scores.tolist(), reverse=True)


def test_objects_larger_than_a_tile() -> None:
    train = (20, 40, 290, 80, 0, 0.9)
    image = scene(120, 320, [train, (30, 90, 40, 100, 1, 0.9)])
    expected = {(20, 40, 290, 80, 0), (30, 90, 40, 100, 1)}
    for options in ({"whole": True}, {"whole": False, "tile": 192}):
        tiled = ask(blob_model(), image, **({"tile": 96, "overlap": 0.25} | options))
        assert found(tiled) == expected
    # By non-maximum merging, as SAHI does it, its parts overlap too little.
    parts = ask(blob_model(), image, tile=96, overlap=0.25, whole=False, merge="nmm")
    assert len(parts) > 2


def test_the_whole_image_is_one_more_look() -> None:
    model = blob_model(resize="shortest", min_size=60, max_size=100, smallest=4)
    head = model.heads["objects"]
    image = scene(600, 1000, [(100, 100, 105, 105, 0, 1.0), (0, 300, 1000, 600, 1, 1.0)])
    plain = predict_objects(model, image, Looks())
    assert found(plain) == {(0, 300, 1000, 600, 1)}  # a tenth of the tiny one's side is half a pixel
    tiny_alone = predict_objects(model, image, Looks(tiling=Tiling.of(60), whole=False))
    assert (100, 100, 105, 105, 0) in found(tiny_alone)
    head.calls.clear()
    both = predict_objects(model, image, Looks(tiling=Tiling.of(60, 0), batch_size=32), threshold=0.6)
    assert found(both) == {(100, 100, 105, 105, 0), (0, 300, 1000, 600, 1)}
    assert len(both.boxes) == 2
    # 10 rows of 17 tiles, 32 at once, then the whole image.
    assert [c[0] for c in head.calls] == [32] * 5 + [10, 1]
    assert head.calls[-1][2:] == (60, 100)


def test_one_plain_look_is_what_the_model_says() -> None:
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for name in ("mask_rcnn", "yolox", "ssd", "retinanet"):
        builder, options = TINY[name]
        torch.manual_seed(0)
        model = vt.create_model(builder, ["a", "b"], **options).eval()
        with torch.inference_mode():
            (expected,) = model.predict(model.preprocess([image]))
            got = predict_objects(model, image, Looks(tiling=Tiling.of(128)))
        assert torch.equal(got.boxes, expected.boxes)
        assert torch.equal(got.scores, expected.scores)
        assert (got.masks is None) == (expected.masks is None)


# Networks whose heads are others' heads, with more of the same.
FURTHER = ("cascade_rcnn", "faster_rcnn_v2", "mask_rcnn_v2", "retinanet_v2", "ssd")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in FURTHER else []) for name in sorted(TINY)]
)
def test_every_model_takes_all_looks(name: str) -> None:
    builder, options = TINY[name]
    torch.manual_seed(0)
    model = vt.create_model(builder, ["a", "b"], **options).eval()
    image = torch.randint(0, 256, (3, 90, 140), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    looks = Looks(flip=True, scales=(1, 1.5), tiling=Tiling.of(64), batch_size=4)
    with torch.inference_mode():
        got = predict_objects(model, image, looks)
    assert got.size == (90, 140)
    assert got.boxes.isfinite().all()
    assert len(got.boxes) == 0 or (got.boxes.amax(0) <= torch.tensor([140, 90, 140, 90])).all()
    if model.has_masks:
        assert got.masks is not None
        assert len(to_rles(got.masks)) == len(got)


def test_a_mirrored_image_gives_mirrored_boxes_and_masks() -> None:
    # With flip both networks' looks are the same two, so that the answers are mirror images of each other.
    model = tiny_model(seed=3)
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    one, two = (ask(model, i, 0.0, flip=True) for i in (image, image.flip(-1)))
    assert len(one) == len(two) > 10
    turned = torch.stack((96 - two.boxes[:, 2], two.boxes[:, 1], 96 - two.boxes[:, 0], two.boxes[:, 3]), dim=1)
    torch.testing.assert_close(one.scores, two.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.boxes[:10], turned[:10], atol=0.05, rtol=0)


@pytest.mark.parametrize("tile", [None, 80])
@pytest.mark.parametrize("fuse", ["wbf", "nms"])
def test_masks_are_flipped_fused_and_united(tile: int | None, fuse: Any) -> None:
    image, masks = discs(120, 200, [(30, 40, 20), (75, 60, 18), (150, 80, 33), (110, 20, 11)])
    image[0, 30:40, 10:30] = 0  # not symmetric: a bite
    masks[0, 30:40, 10:30] = False
    model = blob_model(("disc",), masks=28)
    got = ask(model, image, flip=True, fuse=fuse, tile=tile, overlap=None if tile is None else 24)
    assert len(got) == 4
    drawn = render(got.masks)
    for mask in masks:
        overlap = ((drawn & mask).sum((1, 2)) / (drawn | mask).sum((1, 2))).max()
        assert overlap > 0.9
    expected = ask(model, image)
    assert found(got) == found(expected)


def test_masks_of_parts_become_one() -> None:
    image, masks = discs(100, 300, [(150, 50, 45)])
    got = ask(blob_model(("disc",), masks=64), image, tile=(100, 160), overlap=20, whole=False)
    assert len(got) == 1
    drawn = render(got.masks)[0]
    assert (drawn & masks[0]).sum() / (drawn | masks[0]).sum() > 0.95


def test_fused_masks_are_the_mean_of_what_is_seen() -> None:
    # Two models, one of which draws boxes 4 pixels too far right: the mean of both masks, where the fused box is.
    image, masks = discs(80, 80, [(40, 40, 24)])
    models = [blob_model(("disc",), masks=56), blob_model(("disc",), masks=28, drift=4.0)]
    got = ask(models, image)
    assert got.boxes.tolist() == [[18, 18, 66, 66]]
    exact, drifted = masks[0].float(), torch.zeros(80, 80)
    drifted[4:, 4:] = masks[0, :-4, :-4].float()
    either, both = (exact + drifted) > 0, (exact + drifted) > 1
    drawn = render(got.masks)[0]
    assert (drawn & ~either).sum() < 0.02 * either.sum()
    assert (both & ~drawn).sum() < 0.02 * both.sum()


def test_scales_are_multiples_of_the_models_own_size() -> None:
    image = [torch.zeros(3, 100, 150, dtype=torch.uint8)]
    for rule, plain, larger in (
        (Preprocess(min_size=50, max_size=60), (64, 64), (64, 96)),
        (Preprocess(resize="none"), (128, 160), (160, 256)),
        (Preprocess(resize="letterbox", size=(64, 64)), (64, 64), (96, 96)),
        (Preprocess(resize="stretch", size=(64, 96)), (64, 96), (96, 128)),
    ):
        assert batch_at(rule, image, 1).images.shape[-2:] == plain
        assert batch_at(rule, image, 1.5).images.shape[-2:] == larger
    model = blob_model(resize="shortest", min_size=60, max_size=100)
    shapes = model.heads["objects"].calls
    predict_objects(model, scene(600, 1000, []), Looks(scales=(0.5, 2), flip=True, batch_size=2))
    assert [s[2:] for s in shapes] == [(30, 50), (120, 200)]
    assert [s[0] for s in shapes] == [2, 2]


def test_each_tile_may_hold_as_many_as_the_model_gives() -> None:
    builder, options = TINY["faster_rcnn"]
    torch.manual_seed(0)
    model = vt.create_model(builder, ["a", "b"], **options).eval()
    with torch.no_grad():
        model.heads["objects"].roi.scores.weight *= 30
    image = torch.randint(0, 256, (3, 120, 240), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert len(predict_objects(model, image, Looks(flip=True, scales=(1, 1.5)))) <= 12
        assert len(predict_objects(model, image, Looks(tiling=Tiling.of(60)))) > 24


@pytest.mark.slow
def test_an_image_of_48_million_pixels_takes_the_memory_of_a_few_tiles() -> None:
    spots = [(97 + 640 * i, 53 + 600 * j, 103 + 640 * i, 60 + 600 * j, 0, 1.0) for i in range(12) for j in range(10)]
    image = scene(6000, 8000, spots)
    model = blob_model(resize="shortest", min_size=512, max_size=1024, smallest=12)
    looks = Looks(tiling=Tiling.of(512, 32), whole=False, batch_size=4)
    tracemalloc.start()  # numpy's share, which the stub's head works with
    got = predict_objects(model, image, looks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {tuple(b) for b in got.boxes.round().long().tolist()} == {s[:4] for s in spots}
    assert peak < 60e6
    assert len(predict_objects(model, image, Looks())) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge": "wbc"}, "merge must be one of join, nms, nmm, wbf, not 'wbc'"),
        ({"fuse": "mean"}, "fuse must be one of wbf, nms, soft_linear, soft_gaussian, not 'mean'"),
        ({"tile": 64, "overlap": 64}, "cannot overlap by 64"),
        ({"tile": 64, "overlap": -0.5}, "cannot overlap by"),
        ({"overlap": 0.2}, "overlap is that of tiles"),
        ({"scales": (0,)}, "scales must be factors"),
        ({"weights": (1, 2)}, "1 models need as many weights"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(vt.VisionTasksError, match=message):
        vt.Predictor(blob_model(), device="cpu", **options)
