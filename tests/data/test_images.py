"""Reading images: against PIL and OpenCV on real odd files, orientation, 16 bits, and each way of being broken."""

from __future__ import annotations

import json
import os
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from vision_tasks.data import decoding, images
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.images import check_images, read_image
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

RNG = np.random.default_rng(0)
PHOTO = cv2.resize(RNG.integers(0, 255, (6, 9, 3), np.uint8), (36, 24), interpolation=cv2.INTER_CUBIC)


def saved(path: Path, image: Image.Image | np.ndarray, **options: object) -> Path:
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


def turned(path: Path, orientation: int, photo: np.ndarray = PHOTO) -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    return saved(path, photo, exif=exif.tobytes(), quality=95)


@pytest.mark.parametrize("name", ["00103", "apple_1", "apple_20", "apple_42", "orange_1", "raccoon-150", "raccoon-161"])
def test_odd_real_images_are_what_pil_sees(real_data: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = real_data / "voc_quirks" / "JPEGImages" / f"{name}.jpg"
    image = read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(image, theirs)
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert capfd.readouterr() == ("", "")


def test_truncated_real_image(real_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(images.ImageTruncatedError, match=r"00090\.jpg"):
        read_image(real_data / "voc_quirks" / "JPEGImages" / "00090.jpg")
    assert capfd.readouterr() == ("", "")


def test_real_photos_equal_opencv(real_data: Path) -> None:
    for path in sorted((real_data / "coco_mini" / "val2017").glob("*.jpg"))[:10]:
        theirs = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        assert np.abs(read_image(path).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    path = turned(tmp_path / "a.jpg", orientation)
    stored = np.asarray(Image.open(path))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_image(path), upright)
    np.testing.assert_array_equal(read_image(path, (0, 0)), upright)
    # 24 x 36 is how the pixels are stored: annotations of that size were made on the image unturned.
    np.testing.assert_array_equal(read_image(path, (24, 36)), stored)
    if orientation >= 5:
        np.testing.assert_array_equal(read_image(path, (36, 24)), upright)
    else:
        with pytest.raises(images.ImageSizeError, match="36 × 24 pixels"):
            read_image(path, (36, 24))


def test_square_images_are_turned_and_nonsense_is_ignored(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.jpg", 6, PHOTO[:20, :20])
    np.testing.assert_array_equal(read_image(path, (20, 20)), np.asarray(ImageOps.exif_transpose(Image.open(path))))
    path = turned(tmp_path / "b.jpg", 9)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))
    path = saved(tmp_path / "c.jpg", PHOTO, exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff")
    assert read_image(path).shape == (24, 36, 3)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_survive(tmp_path: Path, kind: str, channels: int) -> None:
    deep = RNG.integers(0, 65536, (7, 5, channels)).astype(np.uint16)
    path = tmp_path / f"a.{kind}"
    cv2.imwrite(str(path), deep)
    image = read_image(path)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, np.repeat(deep, 3, 2) if channels == 1 else deep[..., 2::-1])


def test_modes_become_rgb(tmp_path: Path) -> None:
    picture = Image.fromarray(PHOTO)
    for mode, kind in [
        ("L", "png"),
        ("LA", "png"),
        ("1", "png"),
        ("P", "png"),
        ("RGBA", "png"),
        ("CMYK", "jpg"),
        ("P", "gif"),
    ]:
        path = saved(tmp_path / f"{mode}.{kind}", picture.convert(mode))
        image = read_image(path)
        assert image.dtype == np.uint8
        with Image.open(path) as theirs:
            np.testing.assert_array_equal(image, np.asarray(theirs.convert("RGB")))
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "clear.png", clear)), PHOTO)
    float_path = saved(tmp_path / "f.tiff", Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(images.ImageFormatError, match="float"):
        read_image(float_path)


def test_names_with_spaces_and_any_letters(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(saved(tmp_path / "größe 写真 ✓.png", PHOTO)), PHOTO)


def test_each_way_of_being_broken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = {
        kind: saved(tmp_path / f"whole.{kind}", PHOTO).read_bytes() for kind in ("jpg", "png", "webp", "tiff", "bmp")
    }
    path = tmp_path / "broken"
    for data in whole.values():
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(images.ImageError, match="broken"):
            read_image(path)
    path.write_bytes(whole["jpg"][: len(whole["jpg"]) * 2 // 3])
    with pytest.raises(images.ImageTruncatedError):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(images.ImageEmptyError):
        read_image(path)
    path.write_bytes(b"no image at all")
    with pytest.raises(images.ImageFormatError):
        read_image(path)
    with pytest.raises(images.ImageMissingError):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(images.ImageMissingError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(images.ImageSizeError, match=r"36 × 24.*40 × 24"):
        read_image(tmp_path / "whole.png", (24, 40))
    assert capfd.readouterr() == ("", "")


def test_damaged_bytes_raise_image_errors_only_and_print_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), np.tile(PHOTO.astype(np.uint16) * 257, (2, 2, 1)))
    sources = [deep.read_bytes()]
    sources += [
        saved(tmp_path / f"b.{kind}", PHOTO).read_bytes() for kind in ("jpg", "png", "gif", "webp", "tiff", "bmp")
    ]
    for data in sources:
        for _ in range(25):
            damaged = bytearray(data)
            start = int(RNG.integers(len(data)))
            damaged[start : start + int(RNG.integers(30))] = RNG.integers(
                0, 255, int(RNG.integers(30)), np.uint8
            ).tobytes()
            path.write_bytes(damaged)
            try:
                assert read_image(path).shape[2] == 3
            except images.ImageError:
                continue
    assert capfd.readouterr() == ("", "")


def test_huge_sizes_are_refused_before_decoding(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", PHOTO)
    with pytest.raises(images.ImageTooLargeError, match="36 × 24"):
        read_image(path, pixel_limit=800)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2  # the header's width and height
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(images.ImageTooLargeError):
        read_image(path)


def test_threads_read_at_once_and_leave_warning_filters_alone(tmp_path: Path) -> None:
    path = turned(tmp_path / "a.jpg", 6)
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [read_image(path) for _ in range(30)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def records_of(folder: Path, names: list[str]) -> Records:
    file = folder / "a.json"
    listed = [{"id": i, "file_name": n, "width": 36, "height": 24} for i, n in enumerate(names)]
    truth = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 2, 2]} for i in range(len(names))]
    file.write_text(json.dumps({"images": listed, "annotations": truth, "categories": [{"id": 1, "name": "a"}]}))
    return read_coco(file, folder / "images")


def test_missing_files_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("one.jpg", "two.JPG", "sub/three.jpg"):
        (tmp_path / "images" / name).touch()
    whole = records_of(tmp_path, ["one.jpg", "sub/three.jpg"])
    assert check_images(whole) is whole
    records = check_images(records_of(tmp_path, ["one.jpg", "two.jpg", "sub/three.jpg", "sub/one.jpg"]))
    assert records.image_ids.tolist() == [0, 2]
    assert records.annotation_ids.tolist() == [0, 2]
    problem = records.problems["image_file_missing"]
    assert problem.count == 2
    assert problem.examples == ("image 1 two.jpg (there is two.JPG)", "image 3 sub/one.jpg")


def test_no_file_at_all_is_an_error_that_shows_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(VisionTasksError, match="is empty"):
        check_images(records_of(tmp_path, ["img_001.jpg"]))
    (tmp_path / "images" / "img_001.png").touch()
    with pytest.raises(VisionTasksError, match=r"holds 1 entries, such as img_001\.png"):
        check_images(records_of(tmp_path, ["img_001.jpg"]))
    with pytest.raises(VisionTasksError, match="is no folder"):
        check_images(records_of(tmp_path, ["images/img_001.png"]))
    with pytest.raises(VisionTasksError, match="leads out"):
        check_images(records_of(tmp_path, ["../x.png"]))


def test_real_sets_are_complete(real_data: Path) -> None:
    for file, folder in [
        ("coco_mini/annotations/instances_val2017.json", "coco_mini/val2017"),
        ("bloodcells_coco/train/_annotations.coco.json", "bloodcells_coco/train"),
    ]:
        records = read_coco(real_data / file, real_data / folder)
        assert check_images(records) is records
        assert read_image(records.image_path(3), records.size(3)).shape[:2] == records.size(3)


def test_large_images_are_refused_by_our_limit_alone(tmp_path: Path) -> None:
    """PIL would refuse more than 358 megapixels; only the header is looked at here."""
    path = tmp_path / "large.png"
    Image.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(images.ImageTruncatedError):  # it was let through to the decoder
        read_image(path)
    with pytest.raises(images.ImageTooLargeError, match="20000 × 20000"):
        read_image(path, pixel_limit=399_999_999)


def test_workers_decode_jpeg_files_by_opencv_to_the_same_pixels_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.jpg", PHOTO)
    plain = read_image(path)
    monkeypatch.setattr(decoding, "_nowhere", os.open(os.devnull, os.O_WRONLY))
    calls = []
    monkeypatch.setattr(decoding.cv2, "imdecode", lambda *a, own=cv2.imdecode: calls.append(1) or own(*a))
    assert np.array_equal(read_image(path), plain)
    assert calls == [1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(images.ImageTruncatedError):
        read_image(path)
    for _ in range(40):
        damaged = bytearray(whole)
        start = int(RNG.integers(len(whole) - 2))
        damaged[start : start + 10] = RNG.integers(0, 255, 10, np.uint8).tobytes()
        path.write_bytes(damaged)
        try:
            assert read_image(path).shape[2] == 3
        except images.ImageError:
            continue
    os.close(decoding._nowhere)
    assert capfd.readouterr() == ("", "")
