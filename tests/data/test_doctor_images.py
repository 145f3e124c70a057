"""Examining image files: each way in which one can be broken, odd, of another size, or there twice."""

from __future__ import annotations

import io
import json
import shutil
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vision_tasks.data import images
from vision_tasks.data.doctor import image_facts
from vision_tasks.data.doctor.diagnose import diagnose, splits_of
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.doctor.image_facts import STATES, facts_of, look
from vision_tasks.data.doctor.images import check_image_files
from vision_tasks.data.doctor.mending import mend
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.records import Records

STATE = {images.ImageTruncatedError: "image_truncated", images.ImageFormatError: "image_unreadable"}


def photo(seed: int, height: int = 48, width: int = 64) -> Image.Image:
    random = np.random.default_rng(seed)
    small = random.integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, "JPEG", **options)
    return held.getvalue()


def dataset(
    folder: Path,
    files: Mapping[str, Image.Image | bytes | None],
    sizes: Mapping[str, tuple[int, int]] | None = None,
    boxes: Mapping[str, list[list[float]]] | None = None,
) -> Records:
    """Files (None: not there), stated as (width, height) of 64×48 unless told otherwise; ids count from 1."""
    folder.mkdir(exist_ok=True)
    entries, annotations = [], []
    for i, (name, content) in enumerate(files.items(), 1):
        if isinstance(content, Image.Image):
            content.save(folder / name)
        elif content is not None:
            (folder / name).write_bytes(content)
        width, height = (sizes or {}).get(name, (64, 48))
        entries.append({"id": i, "file_name": name, "width": width, "height": height})
        for box in (boxes or {}).get(name, []):
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 1, "bbox": box,
                                "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "data.json").write_text(json.dumps(content))
    return read_coco(folder / "data.json", folder)


def found(records: Records | dict[str, Records]) -> dict[str, Finding]:
    splits = {"train": records} if isinstance(records, Records) else records
    return {f.code: f for f in check_image_files(splits, workers=1)}


def good(count: int = 6) -> dict[str, Image.Image | bytes | None]:
    return {f"good {i} ä.jpg": photo(i) for i in range(count)}


def test_sound_images_give_no_finding(tmp_path: Path) -> None:
    assert found(dataset(tmp_path, good())) == {}
    assert check_image_files({}) == []


BROKEN = {
    "image_missing": None,
    "image_zero_bytes": b"",
    "image_truncated": jpeg(photo(90, 480, 640))[:-900],
    "image_unreadable": b"a text that is called .jpg, longer than any header could be",
}


@pytest.mark.parametrize("code", BROKEN)
def test_files_that_cannot_be_read(code: str, tmp_path: Path) -> None:
    sizes = {"broken.jpg": (640, 480)}
    (finding,) = found(dataset(tmp_path, good() | {"broken.jpg": BROKEN[code]}, sizes)).values()
    assert (finding.code, finding.count, finding.of, finding.split) == (code, 1, 7, "train")
    assert (finding.examples[0].file, finding.examples[0].image_id, finding.examples[0].row) == ("broken.jpg", 7, 6)
    assert finding.examples[0].detail
    assert finding.edits == ({"op": "drop_images", "ids": [7], "why": code},)
    assert finding.severity == "hurts"


def test_where_most_files_are_missing_the_folder_is_wrong_and_nothing_is_dropped(tmp_path: Path) -> None:
    records = dataset(tmp_path, dict.fromkeys([f"{i}.jpg" for i in range(5)]) | good(1))
    finding = found(records)["image_missing"]
    assert (finding.count, finding.severity, finding.edits) == (5, "breaks", ())
    assert str(tmp_path) in finding.detail


def test_names_that_leave_the_folder_are_not_followed(tmp_path: Path) -> None:
    photo(1).save(tmp_path / "outside.jpg")
    finding = found(dataset(tmp_path / "in", good() | {"../outside.jpg": None}))["image_missing"]
    assert "refused" in finding.examples[0].detail


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 30}, {"exif": b"Exif\0\0"}]
)
def test_what_is_cut_off_is_what_reading_finds(options: dict[str, Any], tmp_path: Path) -> None:
    """Decoded at an eighth, a JPEG is cut off exactly where it is in full."""
    whole = jpeg(photo(3, 240, 320), **options)
    picture = io.BytesIO()
    photo(3).save(picture, "PNG")
    for data, suffix in ((whole, "jpg"), (picture.getvalue(), "png")):
        for kept in [*np.linspace(5, len(data) - 1, 25).astype(int), 40, len(data) - 2, len(data)]:
            path = tmp_path / f"cut.{suffix}"
            path.write_bytes(data[:kept])
            try:
                images.read_image(path)
                expected = ""
            except images.ImageError as error:
                expected = STATE[type(error)]
            state = STATES[look(path)[0]["state"]]
            if kept == 40:
                assert state == "image_truncated"
            # What is cut within its header has lost its format, but not its first bytes.
            assert state == expected or (state, expected) == ("image_truncated", "image_unreadable"), kept
            assert expected or kept >= len(data) - 2


def test_facts_are_those_of_pillow(real_data: Path) -> None:
    paths = [p for name in ("voc_quirks/JPEGImages", "coco_mini/val2017", "balloon_coco/val2017")
             for p in sorted((real_data / name).glob("*.jpg"))[:8]]  # fmt: skip
    paths += sorted(real_data.glob("camvid/val/*.png"))[:3]
    for path, fact in zip(paths, facts_of(paths, 1).table, strict=True):
        with Image.open(path) as theirs:
            assert (fact["width"], fact["height"]) == theirs.size
            assert (fact["colours"] == image_facts.GREY) == (theirs.mode == "L")
            if path.name == "00090.jpg":
                assert STATES[fact["state"]] == "image_truncated"
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a palette's transparency
                small = np.asarray(theirs.convert("L").resize((32, 32), Image.Resampling.BILINEAR), float)
        assert STATES[fact["state"]] == ""
        assert np.abs(small - fact["thumb"]).mean() < 1.5  # an eighth is decoded, then averaged


def test_pixel_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    records = dataset(tmp_path, good())
    codes = [f.code for f in check_image_files({"train": records}, workers=1, pixel_limit=64 * 48 - 1)]
    assert codes == ["image_too_large"]
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (10**5).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    data = header + zlib.crc32(header[12:]).to_bytes(4, "big") + b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
    (tmp_path / "bomb.png").write_bytes(data)
    assert STATES[look(tmp_path / "bomb.png")[0]["state"]] == "image_too_large"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 9, 77])
@pytest.mark.parametrize("stated", ["stored", "upright"])
def test_exif(orientation: int, stated: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    turned = jpeg(photo(7), exif=exif.tobytes())
    swapped = stated == "upright" and orientation in (6, 8)
    findings = found(dataset(tmp_path, good() | {"exif.jpg": turned}, {"exif.jpg": (48, 64) if swapped else (64, 48)}))
    if orientation in (1, 9, 77):
        assert findings == {}
        return
    (finding,) = findings.values()
    detail = finding.examples[0].detail
    assert (finding.code, finding.count) == ("image_rotated", 1)
    assert f"orientation {orientation}" in detail
    if orientation == 3:
        assert "cannot be told" in detail
    else:
        assert ("as stored" in detail, "upright picture: read upright" in detail) == (not swapped, swapped)


def test_odd_kinds_are_noted(tmp_path: Path) -> None:
    files = good() | {
        "cmyk.jpg": jpeg(photo(20).convert("CMYK")),
        "deep.png": Image.fromarray((np.arange(48 * 64).reshape(48, 64) * 20).astype(np.uint16)),
        "grey.jpg": photo(21).convert("L"),
    }
    findings = found(dataset(tmp_path, files))
    assert {code: [e.file for e in f.examples] for code, f in findings.items()} == {
        "image_cmyk": ["cmyk.jpg"],
        "image_16_bit": ["deep.png"],
        "image_mixed_channels": ["deep.png", "grey.jpg"],
    }
    assert {f.severity for f in findings.values()} == {"note"}
    assert found(dataset(tmp_path, {f"{i}.jpg": photo(i).convert("L") for i in range(4)})) == {}  # all are grey


INSIDE, BIG = [[4, 4, 20, 20]], [[10, 10, 100, 70]]


@pytest.mark.parametrize(
    ("stated", "boxes", "scaled"),
    [
        ((128, 96), BIG, True),  # the file was made smaller, its boxes were not
        ((32, 24), [[4, 4, 50, 40]], False),  # boxes of the file, the stated size is wrong
        ((48, 64), INSIDE, False),  # swapped
        ((128, 96), INSIDE, True),  # nothing tells: as stated
        ((128, 96), [[40, 20, 24, 10]], False),  # ends at the file's edge, as what an image cuts does
        ((100, 90), [[5, 5, 80, 60]], None),  # drawn on another image
        ((40, 48), [[5, 5, 58, 30]], False),
    ],
)
def test_mis_sized(stated: tuple[int, int], boxes: list[list[float]], scaled: bool | None, tmp_path: Path) -> None:
    records = dataset(tmp_path, good() | {"odd.jpg": photo(9)}, {"odd.jpg": stated}, {"odd.jpg": boxes})
    (finding,) = found(records).values()
    assert (finding.code, finding.count) == ("image_mis_sized", 1)
    assert "64 × 48" in finding.examples[0].detail
    assert f"{stated[0]} × {stated[1]} are stated" in finding.examples[0].detail
    edit = {"op": "set_size", "image": 7, "was": [stated[1], stated[0]], "to": [48, 64], "scale_boxes": scaled,
            "why": "image_mis_sized"}  # fmt: skip
    assert finding.edits == (() if scaled is None else (edit,))


def test_copies_and_leaks(tmp_path: Path) -> None:
    train = {f"{i}.jpg": jpeg(photo(i), quality=95) for i in range(8)}
    train |= {"again.jpg": train["2.jpg"], "saved anew.png": photo(3)}
    val = {f"v{i}.jpg": jpeg(photo(50 + i), quality=95) for i in range(5)}
    val |= {"v5.jpg": train["5.jpg"], "v6.jpg": jpeg(photo(6).transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=60)}
    boxes = {"again.jpg": INSIDE}
    copied, leaked = check_image_files(
        {"train": dataset(tmp_path / "train", train, boxes=boxes), "val": dataset(tmp_path / "val", val)}, workers=1
    )
    assert (copied.code, copied.count, copied.split) == ("image_copied", 2, "train")
    assert [e.file for e in copied.examples] == ["2.jpg", "saved anew.png"]  # the one with annotations is kept
    assert "the same file as again.jpg (image 9)" in copied.examples[0].detail
    assert copied.edits == ({"op": "drop_images", "ids": [3, 10], "why": "image_copied"},)
    assert (leaked.code, leaked.count, leaked.of, leaked.split) == ("image_leaked", 2, 7, "train")
    assert leaked.edits == ({"op": "drop_images", "ids": [6, 7], "why": "image_leaked"},)
    assert "more of train" not in leaked.detail
    assert [e.detail.split(":")[0] for e in leaked.examples] == [
        "the same file as v5.jpg of val (image 6)", "like v6.jpg of val (image 7), mirrored"
    ]  # fmt: skip


def test_versions_of_a_leaked_original_are_left_out_with_it(tmp_path: Path) -> None:
    name = "a b_jpg.rf.{}.jpg".format
    train = good() | {name("0" * 32): photo(70), name("1" * 32): photo(71), "a b_jpg.jpg": photo(72)}
    val = {"other.jpg": photo(70)}
    (leaked,) = check_image_files({"train": dataset(tmp_path / "a", train), "val": dataset(tmp_path / "b", val)}, 1)
    assert leaked.edits == ({"op": "drop_images", "ids": [7, 8], "why": "image_leaked"},)
    assert "1 more of train" in leaked.detail


def test_names_that_are_mixed_up_mend_no_sizes(tmp_path: Path) -> None:
    sizes = [(64, 48), (96, 72), (80, 80), (32, 24)] * 3
    files: dict[str, Image.Image | bytes | None] = {
        f"{i}.jpg": photo(i).resize(sizes[(i + 1) % len(sizes)]) for i in range(len(sizes))
    }
    stated = {f"{i}.jpg": size for i, size in enumerate(sizes)}
    finding = found(dataset(tmp_path, files, stated, dict.fromkeys(files, INSIDE)))["image_mis_sized"]
    assert finding.count == len(sizes)
    assert "mixed up" in finding.detail
    assert not finding.edits


@pytest.mark.slow
def test_sizes_are_judged_by_boxes_as_they_are_meant(real_data: Path, tmp_path: Path) -> None:
    """Exchanged sides beside boxes in corners: both are mended, and nothing of either is left."""
    folder = tmp_path / "balloons"
    shutil.copytree(real_data / "balloon_coco", folder)
    for file in folder.rglob("custom_*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["width"], image["height"] = image["height"], image["width"]
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["bbox"] = [x, y, x + w, y + h]
        file.write_text(json.dumps(content))
    splits = splits_of(folder)
    diagnosis = diagnose(splits)
    assert diagnosis.codes()[:2] == ["boxes_xyxy", "image_mis_sized"]
    assert mend(splits, diagnosis).left.is_clean
