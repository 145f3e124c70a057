"""Images of other channels than three: grey, transparency, bands; held to Pillow, OpenCV and arrays."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.formats.semantic import read_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.image_errors import ImageError, ImageFormatError, ImageSizeError, ImageTooLargeError
from vision_tasks.data.images import displayed, read_image

RANDOM = np.random.default_rng(1)


def pixels(channels: int, dtype: type = np.uint8) -> np.ndarray:
    top = 256 if dtype is np.uint8 else 65536
    return RANDOM.integers(0, top, (20, 30, channels)).astype(dtype)


def tiff(
    path: Path, image: np.ndarray, *, planes: bool = False, deflate: bool = False, differences: bool = False,
    order: str = "<", tile: int = 0, photometric: int = 1,
) -> Path:  # fmt: skip
    """A TIFF file written by its specification (revision 6), as Pillow writes none of many bands."""
    height, width, count = image.shape
    pieces: list[bytes] = []
    for plane in np.split(image, count, axis=2) if planes else [image]:
        if tile:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            blocks = [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
        else:
            blocks = [plane[y : y + 7] for y in range(0, height, 7)]
        for block in blocks:
            if differences:
                block = np.concatenate([block[:, :1], np.diff(block, axis=1)], axis=1)
            raw = block.astype(block.dtype.newbyteorder(order)).tobytes()
            pieces.append(zlib.compress(raw) if deflate else raw)
    entries: list[tuple[int, str, list[int]]] = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [image.itemsize * 8] * count),
        (259, "H", [8 if deflate else 1]), (262, "H", [photometric]), (277, "H", [count]),
        (284, "H", [2 if planes else 1]), (317, "H", [2 if differences else 1]), (338, "H", [0] * max(1, count - 1)),
    ]  # fmt: skip
    entries += [(322, "I", [tile]), (323, "I", [tile])] if tile else [(278, "I", [7])]
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    body, places = b"", []
    for piece in pieces:
        places.append(start + len(body))
        body += piece + b"\0" * (len(piece) % 2)
    entries += [(324 if tile else 273, "I", places), (325 if tile else 279, "I", [len(p) for p in pieces])]
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, values in sorted(entries):
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(packed) > 4:
            place = struct.pack(order + "I", start + len(body))
            body, packed = body + packed + b"\0" * (len(packed) % 2), place
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    path.write_bytes(head + directory + b"\0\0\0\0" + body)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4, 5, 13])
@pytest.mark.parametrize(
    "form",
    [
        {}, {"planes": True}, {"deflate": True}, {"deflate": True, "differences": True}, {"order": ">"},
        {"planes": True, "deflate": True, "differences": True}, {"tile": 16},
        {"tile": 16, "deflate": True, "differences": True, "order": ">"},
    ],
)  # fmt: skip
def test_bands_of_a_tiff(tmp_path: Path, dtype: type, channels: int, form: dict[str, object]) -> None:
    image = pixels(channels, dtype)
    found = read_image(tiff(tmp_path / "a.tif", image, **form), (20, 30), channels)  # type: ignore[arg-type]
    assert found.dtype == dtype
    assert (found == image).all()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_tiff_of_four_channels_as_pillow_writes_it(tmp_path: Path, compression: str) -> None:
    image = pixels(4)
    Image.fromarray(image, "RGBA").save(tmp_path / "a.tif", compression=compression)
    assert (read_image(tmp_path / "a.tif", None, 4) == image).all()
    assert (read_image(tmp_path / "a.tif") == image[..., :3]).all()


def test_arrays(tmp_path: Path) -> None:
    image = pixels(7, np.uint16)
    np.save(tmp_path / "a.npy", image)
    assert (read_image(tmp_path / "a.npy", (20, 30), 7) == image).all()
    np.save(tmp_path / "g.npy", image[..., 0])
    assert read_image(tmp_path / "g.npy", None, 3).shape == (20, 30, 3)
    with pytest.raises(ImageSizeError, match="30 × 20"):
        read_image(tmp_path / "a.npy", (20, 31), 7)
    with pytest.raises(ImageTooLargeError):
        read_image(tmp_path / "a.npy", None, 7, pixel_limit=100)
    np.save(tmp_path / "f.npy", image.astype(np.float32))
    with pytest.raises(ImageFormatError, match="float32"):
        read_image(tmp_path / "f.npy", None, 7)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    with pytest.raises(ImageError, match=r"cut\.npy"):
        read_image(tmp_path / "cut.npy", None, 7)
    np.save(tmp_path / "o.npy", np.array([[{}]], object), allow_pickle=True)
    with pytest.raises(ImageFormatError):
        read_image(tmp_path / "o.npy", None, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_one_channel_and_is_repeated_for_three(tmp_path: Path, dtype: type) -> None:
    grey = pixels(1, dtype)
    Image.fromarray(grey[..., 0]).save(tmp_path / "g.png")
    for channels in (1, 3):
        found = read_image(tmp_path / "g.png", None, channels)
        assert found.dtype == dtype
        assert (found == np.repeat(grey, channels, 2)).all()


def test_colours_become_grey_as_pillow_makes_them(tmp_path: Path) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "c.png")
    assert (
        read_image(tmp_path / "c.png", None, 1)[..., 0] == np.asarray(Image.open(tmp_path / "c.png").convert("L"))
    ).all()
    Image.fromarray(pixels(4), "RGBA").save(tmp_path / "a.png")
    rgb = Image.open(tmp_path / "a.png").convert("RGB")
    assert (read_image(tmp_path / "a.png", None, 1)[..., 0] == np.asarray(rgb.convert("L"))).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_is_kept_for_four_channels(tmp_path: Path, dtype: type) -> None:
    image = pixels(4, dtype)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., [2, 1, 0, 3]])
    assert (read_image(tmp_path / "a.png", None, 4) == image).all()
    assert (read_image(tmp_path / "a.png", None, 3) == image[..., :3]).all()


@pytest.mark.parametrize(("own", "wanted"), [(3, 4), (1, 4), (5, 3), (5, 4), (4, 5), (2, 3)])
def test_what_does_not_fit_names_both_numbers(tmp_path: Path, own: int, wanted: int) -> None:
    path = tmp_path / "a.npy"
    np.save(path, pixels(own))
    with pytest.raises(
        ImageFormatError, match=rf"has {own} channels?, but the model takes {wanted}.*in_channels to {own}"
    ):
        read_image(path, None, wanted)


def test_a_damaged_tiff_is_named(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", pixels(5), deflate=True)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_image(path, None, 5)
    with pytest.raises(ImageTooLargeError):
        read_image(tiff(tmp_path / "b.tif", pixels(5)), None, 5, pixel_limit=10)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_image_can_be_looked_at(channels: int) -> None:
    assert displayed(pixels(channels)).shape == (20, 30, 3)


def test_bands_that_are_left_out_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"images/{i}.tif"), np.full((4, 5, 4), 999, np.uint16))
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / f"masks/{i}.png")
    capfd.readouterr()
    files = semantic_files(images="images/{stem}.*", masks="masks/{stem}.png", categories=["a", "b"])
    records = read_semantic(files, "train", tmp_path)
    DataModule(records, channels=4)
    assert not caplog.records
    DataModule(records, records, channels=3)
    assert len(caplog.records) == 1
    assert "have 4 channels, the model takes 3: the rest is left out. Set model.in_channels=4" in caplog.text
    assert read_image(records.image_path(0)).shape == (4, 5, 3)
    assert capfd.readouterr().err == ""
