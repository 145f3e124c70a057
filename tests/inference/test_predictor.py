"""The predictor gives one answer for one image, in whatever form it comes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vision_tasks as vt
from tests.tiny_model import tiny_model
from vision_tasks.structures import Prediction


@pytest.fixture(scope="module")
def predictor() -> vt.Predictor:
    return vt.Predictor(tiny_model(score_threshold=0.01), device="cpu", threshold=0)


def picture(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    """Smooth colours, (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def assert_same(one: Prediction, two: Prediction, least: int = 10) -> None:
    assert len(one) >= least, "the comparison needs boxes"
    assert one.size == two.size
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_every_form_of_an_image_gives_the_same(predictor: vt.Predictor, tmp_path: Path) -> None:
    image = picture()
    path = tmp_path / "a picture.png"
    Image.fromarray(image).save(path)
    expected = predictor(image)
    frozen = image.copy()
    frozen.flags.writeable = False
    forms: dict[str, Any] = {
        "path": path,
        "string": str(path),
        "PIL image": Image.fromarray(image),
        "opened file": Image.open(path),
        "tensor": torch.from_numpy(image).permute(2, 0, 1),
        "array that cannot be written": frozen,
        "array seen backwards twice": image[::-1].copy()[::-1],
        "array with transparency": np.dstack((image, np.full(image.shape[:2], 7, np.uint8))),
        "PIL image with transparency": Image.fromarray(np.dstack((image, np.full(image.shape[:2], 7, np.uint8)))),
    }
    for name, form in forms.items():
        try:
            assert_same(expected, predictor(form))
        except AssertionError as error:
            raise AssertionError(name) from error


def test_a_float_tensor_gives_nearly_the_same(predictor: vt.Predictor) -> None:
    image = torch.from_numpy(picture()).permute(2, 0, 1)
    one, two = predictor(image), predictor(image.double() / 255)
    torch.testing.assert_close(one.scores[:10], two.scores[:10], rtol=0, atol=1e-4)


def test_grey_images(predictor: vt.Predictor, tmp_path: Path) -> None:
    grey = picture()[..., 0].copy()
    Image.fromarray(grey).save(tmp_path / "grey.png")
    expected = predictor(np.repeat(grey[..., None], 3, 2))
    forms = (grey, grey[..., None], torch.from_numpy(grey)[None], Image.fromarray(grey), tmp_path / "grey.png")
    for form in forms:
        assert_same(expected, predictor(form))


def test_sixteen_bits(predictor: vt.Predictor, tmp_path: Path) -> None:
    grey = picture()[..., 0].astype(np.uint16) * 257
    image = Image.fromarray(grey)
    assert image.mode == "I;16"
    image.save(tmp_path / "grey.png")
    expected = predictor(grey)
    forms = (tmp_path / "grey.png", image, image.convert("I"), Image.open(tmp_path / "grey.png"), grey.astype(">u2"))
    for form in forms:
        assert_same(expected, predictor(form))
    eight = predictor((grey // 257).astype(np.uint8))
    torch.testing.assert_close(eight.scores[:10], expected.scores[:10], rtol=0, atol=1e-3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_files_and_pil_images_alike(
    orientation: int, predictor: vt.Predictor, tmp_path: Path
) -> None:
    upright = picture()
    undo = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(undo(upright))).save(path, exif=exif)
    expected = predictor(upright)
    assert expected.size == (60, 90)
    assert_same(expected, predictor(path))
    with Image.open(path) as opened:
        assert_same(expected, predictor(opened))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_the_smallest_images(size: tuple[int, int], predictor: vt.Predictor) -> None:
    found = predictor(np.zeros((*size, 3), np.uint8))
    assert found.size == size
    assert found.boxes is not None
    assert found.boxes.isfinite().all()


def test_lists_and_streams(predictor: vt.Predictor) -> None:
    images = [picture(60, 90), picture(80, 40, 1), picture(30, 30, 2)]
    one_by_one = [predictor(image) for image in images]
    for found in (predictor(images), predictor(tuple(images)), [p for _, p in predictor.stream(iter(images))]):
        assert len(found) == 3
        for one, two in zip(one_by_one, found, strict=True):
            assert_same(one, two)
    assert predictor([]) == []


def test_a_stream_holds_a_few_frames_and_ends_its_thread() -> None:
    taken = []

    def images() -> Any:
        for i in range(40):
            taken.append(i)
            yield picture(40, 40, i)

    before = threading.active_count()
    stream = vt.Predictor(tiny_model(), device="cpu", batch_size=3).stream(images(), ahead=4)
    frame, found = next(stream)
    assert (frame.index, frame.image.shape, found.size) == (0, (40, 40, 3), (40, 40))
    assert len(taken) <= 3 + 4 + 2, "a batch, what is decoded ahead, and one in the hand of either side"
    assert len([next(stream) for _ in range(20)]) == 20
    stream.close()
    assert threading.active_count() == before
    assert len(taken) < 40


def test_memory_that_does_not_suffice_halves_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    images = [picture(40, 40, i) for i in range(7)]
    predictor = vt.Predictor(tiny_model(score_threshold=0.01), device="cpu", threshold=0, batch_size=4)
    expected = predictor(images)
    whole, batches = predictor._ready.predict, []

    def scarce(batch: Any, *rest: Any) -> Any:
        batches.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return whole(batch, *rest)

    predictor._ready.predict = scarce  # type: ignore[method-assign]
    found = predictor(images)
    assert batches == [4, 2, 2, 2, 1]
    assert "4 images at once: going on with 2" in caplog.text
    assert len(found) == 7
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(one.scores[:5], two.scores[:5], rtol=0, atol=1e-4)
    predictor._ready.predict = lambda *_: scarce([0, 0, 0])  # type: ignore[method-assign]
    with pytest.raises(vt.VisionTasksError, match=r"One image alone is too large for the memory of cpu.*tiles"):
        predictor(images[0])


def test_errors_of_the_model_are_not_taken_for_scarce_memory() -> None:
    predictor = vt.Predictor(tiny_model(), device="cpu", batch_size=4)

    def broken(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    predictor._ready.predict = broken  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        predictor([picture(), picture()])
    assert predictor.batching.size == 4


def test_batches_of_images_of_one_size_change_nothing_but_rounding() -> None:
    images = [picture(64, 96, i) for i in range(3)]
    model = tiny_model(score_threshold=0.01)
    single, batched = (vt.Predictor(model, device="cpu", threshold=0, batch_size=n)(images) for n in (1, 3))
    for one, two in zip(single, batched, strict=True):
        torch.testing.assert_close(one.scores[:5], two.scores[:5], rtol=0, atol=1e-4)


def test_the_threshold_cuts_and_a_threshold_of_zero_keeps_all(predictor: vt.Predictor) -> None:
    everything = predictor(picture())
    assert everything.scores is not None
    some = float(everything.scores[len(everything) // 2])
    cut = vt.Predictor(predictor.model, device="cpu", threshold=some)(picture())
    assert 0 < len(cut) < len(everything)
    assert_same(everything[everything.scores >= some], cut, least=1)
    assert len(vt.Predictor(predictor.model, device="cpu", threshold=1)(picture())) == int(
        (everything.scores == 1).sum()
    )


def test_only_the_categories_that_are_wanted(predictor: vt.Predictor) -> None:
    everything = predictor(picture())
    assert everything.labels is not None
    names = predictor.model.categories.names
    assert len(everything.labels.unique()) > 1
    some = vt.Predictor(predictor.model, device="cpu", threshold=0, categories=[names[1].upper()])(picture())
    assert_same(everything[everything.labels == 1], some, least=1)
    with pytest.raises(vt.VisionTasksError, match=f"no category '{names[0]}s'.*Did you mean '{names[0]}'"):
        vt.Predictor(predictor.model, device="cpu", categories=[f"{names[0]}s"])


def test_a_checkpoint_is_as_good_as_its_model(predictor: vt.Predictor, tmp_path: Path) -> None:
    path = vt.save(predictor.model, tmp_path / "m.ckpt")
    for source in (path, str(path)):
        assert_same(predictor(picture()), vt.Predictor(source, device="cpu", threshold=0)(picture()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold must be in 0\.\.1, not 1\.5"),
        ({"threshold": float("nan")}, "threshold must be"),
        ({"speed": "warp"}, "speed must be one of exact"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": True}, "batch_size must be at least 1, or 'auto', not True"),
        ({"tile": "640"}, "tile must be a whole number of pixels, or .height, width., not '640'"),
        ({"tile": 64.5}, "tile must be a whole number"),
        ({"tile": 64, "overlap": float("nan")}, "overlap must be a number of pixels"),
        ({"tile": 64, "overlap": float("inf")}, "overlap must be a number of pixels"),
        ({"scales": 1.5}, "scales must be a list of factors"),
        ({"categories": "person"}, "categories must be a list of names"),
        ({"categories": []}, "categories must be a list of names, at least one"),
        ({"device": "gpu"}, "device 'gpu' cannot be used.*device='auto'"),
        ({"model": "nothing.ckpt"}, "There is no weight file nothing.ckpt"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str, predictor: vt.Predictor) -> None:
    with pytest.raises(vt.VisionTasksError, match=message):
        vt.Predictor(**({"model": predictor.model, "device": "cpu"} | options))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nothing.png", "nothing.png: cannot be read"),
        (5, "not a int"),
        (None, "not a NoneType"),
        (np.zeros((5, 5, 3)), "uint8 or uint16, not .* float64"),
        (np.zeros((0, 5, 3), np.uint8), "An array must be"),
        (np.zeros((1, 5, 5, 3), np.uint8), "An array must be"),
        (np.zeros((5, 5, 2), np.uint8), r"\(3, H, W\)"),
        (Image.new("F", (5, 5)), "uint8 or uint16, not .* float32"),
        (Image.new("I", (5, 5), 70000), "uint8 or uint16, not .* int32"),
        (torch.zeros(5, 5), r"must be \(C, H, W\)"),
        (torch.zeros(2, 5, 5), r"\(3, H, W\)"),
        (torch.zeros(3, 5, 5, dtype=torch.int32), "int32"),
        (torch.full((3, 5, 5), 200.0), r"must be in 0\.\.1. Divide it by 255"),
        (torch.full((3, 5, 5), float("nan")), r"must be in 0\.\.1"),
        ("film.mp4", r"not one image.*predictor.stream"),
        (".", r"not one image.*predictor.stream"),
        ("http://somewhere/x.jpg", r"not one image.*predictor.stream"),
    ],
)
def test_what_is_no_image(image: Any, message: str, predictor: vt.Predictor) -> None:
    with pytest.raises(vt.VisionTasksError, match=message):
        predictor(image)


def test_a_file_that_is_no_image_is_named(predictor: vt.Predictor, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(vt.VisionTasksError, match=r"x\.png: not an image"):
        predictor(tmp_path / "x.png")
    with pytest.raises(vt.VisionTasksError, match=r"is not one image\. For folders"):
        predictor(tmp_path)
