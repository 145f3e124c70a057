"""Mask files: values, colours, several files per image, layouts; held to Pillow and tables by hand."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.formats.label_images import file_size, read_values
from vision_tasks.data.formats.semantic import has_split, read_semantic, with_semantic
from vision_tasks.data.formats.semantic_files import semantic_files
from vision_tasks.data.formats.semantic_layouts import LAYOUTS, voc_color
from vision_tasks.data.formats.semantic_table import looked_up, table_of
from vision_tasks.data.image_errors import ImageError, ImageFormatError, ImageSizeError, MaskValueError
from vision_tasks.data.layout import find_semantic
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

RANDOM = np.random.default_rng(0)


def write(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options) if mode is None else Image.fromarray(pixels, mode).save(path)
    return path


def pair(root: Path, stem: str, mask: np.ndarray, images: str = "images", masks: str = "masks") -> None:
    """An image and its mask."""
    write(root / images / f"{stem}.jpg", np.zeros((*mask.shape[:2], 3), np.uint8))
    write(root / masks / f"{stem}.png", mask)


def values(shape: tuple[int, ...] = (7, 9), top: int = 3) -> np.ndarray:
    return RANDOM.integers(0, top, shape, dtype=np.uint8)


def read(root: Path, split: str = "train", **options: Any) -> Records:
    given = {"images": "images/{stem}.*", "masks": "masks/{stem}.png", "categories": ["a", "b", "c"]} | options
    return read_semantic(semantic_files(**given), split, root)


def maps(records: Records) -> list[np.ndarray | None]:
    assert records.semantic is not None
    return [records.semantic.read(row, records.size(row) or (0, 0)) for row in range(len(records))]


def test_values_count_from_zero_and_255_is_ignored(tmp_path: Path) -> None:
    mask = values()
    mask[2, 3] = 255
    pair(tmp_path, "x/10", mask)
    pair(tmp_path, "x/9", values((4, 5)))
    records = read(tmp_path)
    assert records.semantic is not None
    assert [records.file_name(r) for r in range(2)] == ["images/x/10.jpg", "images/x/9.jpg"]
    assert records.image_ids.tolist() == [10, 9]
    assert records.size(0) == (7, 9)
    assert not records.has_boxes
    assert records.target(0).boxes is None
    assert records.target(0).labels is None
    assert records.semantic.categories.names == ("a", "b", "c")
    assert records.semantic.categories.ids == (0, 1, 2)
    found = maps(records)[0]
    assert found is not None
    assert found.dtype == np.int16
    assert (found == np.where(mask == 255, -1, mask.astype(int))).all()
    again = pickle.loads(pickle.dumps(records)).subset([1])
    assert (maps(again)[0] == maps(records)[1]).all()


def test_names_may_count_from_one_as_in_ade20k(tmp_path: Path) -> None:
    mask = values(top=4)
    pair(tmp_path, "1", mask)
    found = maps(read(tmp_path, first_value=1, ignore=[0]))[0]
    assert (found == mask.astype(int) - 1).all()


def test_entries_name_their_values_and_several_values_may_mean_the_same(tmp_path: Path) -> None:
    mask = np.array([[7, 8, 40, 11], [12, 7, 0, 255]], np.uint8)
    pair(tmp_path, "1", mask)
    categories = [{"id": 7, "name": "road", "values": [8, 40]}, {"id": 11, "name": "wall", "values": [12]}]
    found = maps(read(tmp_path, categories=categories, ignore=[0, 255]))[0]
    assert found.tolist() == [[0, 0, 0, 1], [1, 0, -1, -1]]  # type: ignore[union-attr]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_images_are_read_by_their_index_however_many_bits(tmp_path: Path, bits: int) -> None:
    mask = values(top=min(2**bits, 5))
    image = Image.fromarray(mask, "P")
    image.putpalette([9, 9, 9, 200, 1, 2, 3, 200, 4, 5, 6, 7, 1, 1, 1])
    image.save(tmp_path / "p.png", bits=bits)
    found, are_colors = read_values(tmp_path / "p.png", (7, 9))
    assert (found == mask).all()
    assert not are_colors
    if bits == 8:
        found, are_colors = read_values(tmp_path / "p.png", None, "color")
        palette = np.array([9, 9, 9, 200, 1, 2, 3, 200, 4, 5, 6, 7, 1, 1, 1]).reshape(-1, 3) @ [1, 256, 65536]
        assert are_colors
        assert (found == palette[mask]).all()


@pytest.mark.parametrize(
    ("bits", "bytes_", "wanted"),
    [
        (2, [0b00011011, 0b11100100], [0, 1, 2, 3, 3, 2, 1, 0]),
        (4, [0x0F, 0x21], [0, 15, 2, 1]),
        (1, [0b10110000], [1, 0, 1, 1]),
    ],
)
def test_grey_of_few_bits_keeps_its_numbers(tmp_path: Path, bits: int, bytes_: list[int], wanted: list[int]) -> None:
    # Made by hand: Pillow spreads such values over 0..255.
    import struct
    import zlib

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", len(wanted), 1, bits, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes([0, *bytes_])))
    path = tmp_path / "few.png"
    path.write_bytes(data + part(b"IEND", b""))
    assert read_values(path)[0].tolist() == [wanted]
    assert file_size(path) == (1, len(wanted))


def test_sixteen_bits_hold_a_thousand_categories(tmp_path: Path) -> None:
    mask = RANDOM.integers(0, 1000, (8, 9)).astype(np.uint16)
    mask[0, 0] = 65535
    write(tmp_path / "images/1.jpg", np.zeros((8, 9, 3), np.uint8))
    write(tmp_path / "masks/1.png", mask)
    found = maps(read(tmp_path, categories=[f"c{i}" for i in range(1000)], ignore=[65535]))[0]
    assert (found == np.where(mask == 65535, -1, mask.astype(int))).all()


def test_colours_are_looked_up(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [128, 64, 0], [128, 64, 1], [255, 255, 255]], np.uint8)
    index = RANDOM.integers(0, 4, (20, 30))
    pair(tmp_path, "1", colors[index])
    categories = [
        {"id": 5, "name": "a", "color": [0, 0, 0]},
        {"id": 3, "name": "b", "color": [128, 64, 0], "colors": [[128, 64, 1]]},
    ]
    found = maps(read(tmp_path, categories=categories, ignore=[[255, 255, 255]]))[0]
    assert (found == np.array([0, 1, 1, -1])[index]).all()
    with pytest.raises(MaskValueError, match=r"1\.png: colour \[255, 255, 255\] is in no category"):
        maps(read(tmp_path, categories=categories))


def test_colours_need_no_ids(tmp_path: Path) -> None:
    colors = np.array([[0, 0, 0], [128, 64, 0], [9, 9, 9]], np.uint8)
    mask = np.array([[0, 1, 2], [2, 2, 1]])
    write(tmp_path / "images/1.jpg", np.zeros((2, 3, 3), np.uint8))
    write(tmp_path / "masks/1.png", colors[mask])
    named = [{"name": n, "color": c.tolist()} for n, c in zip("abc", colors, strict=True)]
    records = read(tmp_path, categories=named, first_value=4)
    assert records.categories.ids == (4, 5, 6)
    assert (maps(records)[0] == mask).all()


def test_grey_numbers_in_three_channels_are_numbers_where_the_table_has_no_colours(tmp_path: Path) -> None:
    mask = values()
    pair(tmp_path, "1", np.repeat(mask[..., None], 3, 2))
    assert (maps(read(tmp_path))[0] == mask).all()


def test_looking_up_equals_one_pixel_at_a_time() -> None:
    table = {0: 2, 16777215: 0, 300: 1, 70000: -1}
    pixels = RANDOM.choice([0, 300, 301, 70000, 16777215], (40, 50))
    expected = [[table.get(int(v), -2) for v in row] for row in pixels]
    assert looked_up(pixels.astype(np.int32), table, -2).tolist() == expected
    assert looked_up(np.zeros((0, 4), np.int32), table, -2).shape == (0, 4)
    assert (looked_up(pixels, {}, -1) == -1).all()


def test_values_outside_the_table_are_named_with_the_file_and_what_to_do(tmp_path: Path) -> None:
    pair(tmp_path, "1", np.array([[0, 1, 77, 78]], np.uint8))
    with pytest.raises(MaskValueError, match=r"masks/1\.png: values 77, 78 are in no category .* ignore") as raised:
        maps(read(tmp_path))
    assert raised.value.values == ("77", "78")
    assert pickle.loads(pickle.dumps(raised.value)).values == ("77", "78")
    assert maps(read(tmp_path, unknown="ignore"))[0].tolist() == [[0, 1, -1, -1]]  # type: ignore[union-attr]


class TestOneCategory:
    """There is no second category, so every pixel is it or is not: a head of one output."""

    @pytest.mark.parametrize("there", [1, 255])
    def test_a_name_is_whatever_is_not_zero(self, tmp_path: Path, there: int) -> None:
        mask = values(top=2) * there
        pair(tmp_path, "1", mask)
        records = read(tmp_path, categories=["cell"])
        found = maps(records)[0]
        assert records.semantic is not None
        assert records.semantic.multi_label
        assert found is not None
        assert found.shape == (1, 7, 9)
        assert found.dtype == np.int8
        assert (found[0] == (mask > 0)).all()

    def test_what_is_ignored_is_told(self, tmp_path: Path) -> None:
        pair(tmp_path, "1", np.array([[0, 1, 255, 3]], np.uint8))
        assert maps(read(tmp_path, categories=["cell"], ignore=[255]))[0].tolist() == [[[0, 1, -1, 1]]]  # type: ignore[union-attr]

    def test_an_entry_is_its_value_among_others(self, tmp_path: Path) -> None:
        pair(tmp_path, "1", np.array([[0, 5, 255, 3]], np.uint8))
        found = maps(read(tmp_path, categories=[{"id": 5, "name": "road"}], ignore=[255]))[0]
        assert found.tolist() == [[[0, 1, -1, 0]]]  # type: ignore[union-attr]

    def test_one_file_per_object(self, tmp_path: Path) -> None:
        parts = [values(top=2) * 255 for _ in range(3)]
        for i, part in enumerate(parts):
            write(tmp_path / f"set/one/masks/{i}.png", part)
        write(tmp_path / "set/one/images/one.png", np.zeros((7, 9, 4), np.uint8))
        records = read(tmp_path, images="set/{stem}/images/*.*", masks="set/{stem}/masks/*.png", categories=["cell"])
        assert (maps(records)[0][0] == (np.stack(parts) > 0).any(0)).all()  # type: ignore[index]


class TestOneFilePerCategory:
    def layout(self, root: Path) -> dict[str, np.ndarray]:
        planes = {name: values(top=2) for name in ("b", "c")}
        for name, plane in planes.items():
            write(root / f"masks/1/{name}.png", plane * 255)
        write(root / "images/1.jpg", np.zeros((7, 9, 3), np.uint8))
        return planes

    def test_they_overlap_where_each_is_decided_on_its_own(self, tmp_path: Path) -> None:
        planes = self.layout(tmp_path)
        found = maps(read(tmp_path, masks="masks/{stem}/{category}.png", multi_label=True))[0]
        assert found is not None
        assert (found == np.stack([np.zeros((7, 9)), planes["b"], planes["c"]])).all()

    def test_later_ones_lie_on_earlier_ones_and_all_on_the_background(self, tmp_path: Path) -> None:
        planes = self.layout(tmp_path)
        records = read(tmp_path, masks="masks/{stem}/{category}.png")
        assert records.semantic is not None
        assert records.semantic.categories.names == ("background", "a", "b", "c")
        expected = np.where(planes["c"] > 0, 3, np.where(planes["b"] > 0, 2, 0))
        assert (maps(records)[0] == expected).all()
        without = maps(read(tmp_path, masks="masks/{stem}/{category}.png", background=None))[0]
        assert (without == expected - 1).all()

    def test_a_file_of_no_category_is_named(self, tmp_path: Path) -> None:
        self.layout(tmp_path)
        with pytest.raises(VisionTasksError, match="'c' is none of the semantic categories background, a, b"):
            read(tmp_path, masks="masks/{stem}/{category}.png", categories=["a", "b"])


class TestSplits:
    def test_folders_whose_names_tell_the_split_are_found(self, tmp_path: Path) -> None:
        for split in ("train2017", "valid"):
            pair(tmp_path, "1", values(), f"images/{split}", f"masks/{split}")
        files = semantic_files(
            images="images/{split}/{stem}.jpg", masks="masks/{split}/{stem}.png", categories=list("abc")
        )
        assert read_semantic(files, "train", tmp_path).file_name(0) == "images/train2017/1.jpg"
        assert read_semantic(files, "val", tmp_path).file_name(0) == "images/valid/1.jpg"
        assert not has_split(files, "test", tmp_path)

    def test_several_folders_of_one_split_keep_their_images_apart(self, tmp_path: Path) -> None:
        a, b = values(), values()
        pair(tmp_path, "1", a, "images/p", "masks/p")
        pair(tmp_path, "1", b, "images/q", "masks/q")
        records = read(tmp_path, images="images/{split}/{stem}.jpg", masks="masks/{split}/{stem}.png",
                       splits={"train": ["p", "q"]})  # fmt: skip
        assert [(m == t).all() for m, t in zip(maps(records), (a, b), strict=True)] == [True, True]

    def test_a_list_of_names(self, tmp_path: Path) -> None:
        for name in "abcd":
            pair(tmp_path, name, values())
        (tmp_path / "train.txt").write_text("b\n\nmissing\nimages/d.jpg masks/d.png\n")
        records = read(tmp_path, splits={"train": "train.txt"})
        assert [records.file_name(r) for r in range(2)] == ["images/b.jpg", "images/d.jpg"]
        assert records.problems["list_entry_missing"].examples == ("missing",)
        assert records.problems["mask_without_image"].count == 0

    def test_shares_are_disjoint_whole_and_the_same_every_time(self, tmp_path: Path) -> None:
        for i in range(20):
            pair(tmp_path, f"{i}", values((2, 2)))
        shares = {"train": 0.7, "val": 0.3}
        own = [set(read(tmp_path, split, splits=shares).image_ids.tolist()) for split in ("train", "val")]
        assert (len(own[0]), len(own[1])) == (14, 6)
        assert own[0] | own[1] == set(range(20))
        with pytest.raises(VisionTasksError):
            read(tmp_path, "test", splits=shares)


class TestFlaws:
    def test_images_without_masks_and_masks_without_images_are_counted(self, tmp_path: Path) -> None:
        pair(tmp_path, "1", values())
        write(tmp_path / "images/2.jpg", np.zeros((3, 3, 3), np.uint8))
        write(tmp_path / "masks/3.png", values())
        problems = read(tmp_path).problems
        assert problems["mask_missing"].examples == ("images/2.jpg",)
        assert problems["mask_without_image"].examples == ("masks/3.png",)

    def test_two_images_of_one_name_are_told(self, tmp_path: Path) -> None:
        pair(tmp_path, "1", values())
        write(tmp_path / "images/1.png", np.zeros((7, 9, 3), np.uint8))
        assert read(tmp_path).problems["stem_repeated"].count == 1

    def test_a_mask_of_another_size_is_refused_before_it_is_decoded(self, tmp_path: Path) -> None:
        write(tmp_path / "m.png", values())
        with pytest.raises(ImageSizeError, match="the mask has 9 × 7 pixels, its image 8 × 7"):
            read_values(tmp_path / "m.png", (7, 8))
        with pytest.raises(ImageError, match="more than the limit"):
            read_values(tmp_path / "m.png", None, "auto", 10)

    def test_a_mask_that_is_cut_off_or_none_is_named(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.png", RANDOM.integers(0, 255, (40, 40), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(ImageError, match=r"m\.png: cut off or damaged"):
            read_values(path)
        pair(tmp_path, "1", values())
        (tmp_path / "images/2.jpg").write_bytes((tmp_path / "images/1.jpg").read_bytes())
        (tmp_path / "masks/2.png").write_bytes(b"no image")
        records = read(tmp_path)
        assert len(records) == 1
        assert "2.png" in records.problems["mask_unreadable"].examples[0]

    def test_float_pixels_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "m.tif")
        with pytest.raises(ImageFormatError, match="float"):
            read_values(tmp_path / "m.tif")

    def test_colours_without_a_table_of_colours_are_refused(self, tmp_path: Path) -> None:
        pair(tmp_path, "1", RANDOM.integers(0, 255, (7, 9, 3), dtype=np.uint8))
        with pytest.raises(ImageError, match=r"1\.png: the mask has colours, but the table has none"):
            maps(read(tmp_path))

    @pytest.mark.parametrize("pattern", ["/etc/{stem}.png", "../{stem}.png", "a/../../{stem}.png", "{stam}.png"])
    def test_patterns_stay_in_their_folder(self, pattern: str) -> None:
        with pytest.raises(VisionTasksError, match=r"relative|leads out|has the field"):
            semantic_files(images="i/{stem}.jpg", masks=pattern, categories=["a", "b"])

    def test_nothing_found_says_what_is_there(self, tmp_path: Path) -> None:
        pair(tmp_path, "1", values())
        with pytest.raises(VisionTasksError, match=r"no mask of train is found as labels/.*data\.semantic\.masks"):
            read(tmp_path, masks="labels/{stem}.png")
        write(tmp_path / "labels/1_mask.png", values())
        with pytest.raises(VisionTasksError, match=r"images/1\.jpg, 1 masks such as labels/1_mask\.png"):
            read(tmp_path, masks="labels/{stem}.png")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"categories": None}, "categories is missing"),
            ({"categories": []}, "no categories"),
            ({"categories": ["a", {"name": "b"}]}, "needs a name and an id"),
            ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "unique"),
            ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b", "values": [1]}]}, "one meaning"),
            ({"categories": ["a", "b"], "ignore": [1]}, "one meaning"),
            ({"categories": "names.json"}, "cannot be read"),
        ],
    )
    def test_tables_that_cannot_be(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        pair(tmp_path, "1", values())
        with pytest.raises(VisionTasksError, match=message):
            read(tmp_path, **options)


class TestCategoryFiles:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("c.json", '[{"id": 0, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "c"}]'),
            ("c.json", '{"categories": ["a", "b", "c"], "ignore": 9}'),
            ("c.txt", "a\nb\nc\n"),
            ("c.txt", "Idx\tRatio\tName\n0\t0.1\ta, one\n1\t0.1\tb\n2\t0.2\tc\n"),
        ],
    )
    def test_forms(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        pair(tmp_path, "1", np.array([[0, 1, 2]], np.uint8))
        records = read(tmp_path, categories=name)
        assert records.categories.names == ("a", "b", "c")
        assert maps(records)[0].tolist() == [[0, 1, 2]]  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("c.json", '{"categories": ["a", "b"], "ignore": "x"}', r"c\.json: ignore is 'x'"),
            ("c.json", '{"categories": ["a", "b"], "ignore": [1.5]}', r"c\.json: ignore is \[1\.5\]"),
            ("c.json", '[{"id": 0, "name": "a", "values": 5}]', r"c\.json: .* has values: 5, but they are a list of n"),
            ("c.json", '[{"id": 0, "name": "a", "colors": [5]}]', r"c\.json: .* has colors: \[5\], but they"),
            ("c.json", '[{"id": 0, "name": "a", "color": "red"}]', r"c\.json: .* has color: 'red', but it is \[red"),
            ("c.json", '[{"id": 0}]', r"c\.json: the semantic category .* needs a name"),
            ("c.json", "[]", r"c\.json: the semantic data have no categories"),
            ("c.txt", "Idx\tName\n0\ta\n1 b\n", r"c\.txt: the row '1 b' has no Idx and Name"),
            ("c.txt", "Idx\tName\n0\ta\nx\tb\n", r"c\.txt: the row 'x b' has no Idx and Name"),
        ],
    )
    def test_flaws_are_named_with_the_file(self, tmp_path: Path, name: str, text: str, message: str) -> None:
        (tmp_path / name).write_text(text)
        pair(tmp_path, "1", np.array([[0, 1, 2]], np.uint8))
        with pytest.raises(VisionTasksError, match=message):
            read(tmp_path, categories=name)


class TestLayouts:
    def test_voc_colours_are_the_published_ones(self) -> None:
        # The first and last of the 21 in the development kit, and the colour of the border.
        assert [voc_color(i) for i in (0, 1, 2, 3, 4, 15, 20)] == [
            (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (192, 128, 128), (0, 64, 128),
        ]  # fmt: skip
        assert voc_color(255) == (224, 224, 192)

    def test_voc(self, tmp_path: Path) -> None:
        mask = np.array([[0, 20, 255, 15]], np.uint8)
        pair(tmp_path, "2007_000032", mask, "JPEGImages", "SegmentationClass")
        pair(tmp_path, "2007_000033", mask, "JPEGImages", "SegmentationClass")
        lists = tmp_path / "ImageSets/Segmentation"
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("2007_000033\n")
        assert find_semantic(tmp_path) == "voc"
        assert not has_split(semantic_files("voc"), "train", tmp_path)
        records = read_semantic(semantic_files("voc"), "val", tmp_path)
        assert [records.file_name(0), len(records)] == ["JPEGImages/2007_000033.jpg", 1]
        assert maps(records)[0].tolist() == [[0, 20, -1, 15]]  # type: ignore[union-attr]
        # The same in the palette's colours.
        colors = np.array([voc_color(int(v)) for v in mask.reshape(-1)], np.uint8).reshape(1, 4, 3)
        write(tmp_path / "SegmentationClass/2007_000033.png", colors)
        assert maps(records)[0].tolist() == [[0, 20, -1, 15]]  # type: ignore[union-attr]

    def test_cityscapes(self, tmp_path: Path) -> None:
        mask = np.array([[7, 33, 0, 5, 26, 29]], np.uint8)
        for split, city in (("train", "aachen"), ("val", "ulm")):
            stem = f"{split}/{city}/{city}_000000_000019"
            write(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", np.zeros((1, 6, 3), np.uint8))
            write(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png", mask)
            write(tmp_path / f"gtFine/{stem}_gtFine_color.png", mask)
        assert find_semantic(tmp_path) == "cityscapes"
        records = read_semantic(semantic_files("cityscapes"), "val", tmp_path)
        assert records.categories.names[:2] == ("road", "sidewalk")
        assert len(records.categories) == 19
        assert maps(records)[0].tolist() == [[0, 18, -1, -1, 13, -1]]  # type: ignore[union-attr]

    def test_cityscapes_tables_name_all_34_labels(self) -> None:
        table = table_of(LAYOUTS["cityscapes"]["categories"], LAYOUTS["cityscapes"]["ignore"])
        assert sorted(table.values) == [*range(34), 255]

    def test_ade20k(self, tmp_path: Path) -> None:
        pair(
            tmp_path, "ADE_val_00000001", np.array([[0, 1, 2]], np.uint8), "images/validation", "annotations/validation"
        )
        pair(tmp_path, "ADE_train_00000001", np.array([[2, 1, 2]], np.uint8), "images/training", "annotations/training")
        (tmp_path / "objectInfo150.txt").write_text(
            "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t1\t1\twall\n2\t0.1\t1\t1\tbuilding, edifice\n"
        )
        assert find_semantic(tmp_path) == "ade20k"
        records = read_semantic(semantic_files("ade20k"), "val", tmp_path)
        assert records.categories.names == ("wall", "building")
        assert maps(records)[0].tolist() == [[-1, 0, 1]]  # type: ignore[union-attr]

    def test_unknown_layouts_and_settings_that_say_too_little(self) -> None:
        with pytest.raises(VisionTasksError, match="no semantic layout 'citiscapes'"):
            semantic_files("citiscapes")
        with pytest.raises(VisionTasksError, match="nothing tells where the maps are"):
            semantic_files(images="a/{stem}.png")
        with pytest.raises(VisionTasksError, match=r"need a pattern each with \{stem\}"):
            semantic_files(images="a/*.png", masks="b/{stem}.png")


class TestBesideObjects:
    def test_masks_belong_to_the_image_of_the_same_name(self, tmp_path: Path) -> None:
        for name in "12":
            pair(tmp_path, name, values())
        joint = read(tmp_path)
        write(tmp_path / "images/3.jpg", np.zeros((3, 3, 3), np.uint8))
        files = semantic_files(images="images/{stem}.*", masks="masks/{stem}.png", categories=list("abc"))
        import dataclasses

        plain = dataclasses.replace(joint, semantic=None, root=tmp_path / "images")
        names = [b"2.jpg", b"3.jpg"]
        plain = dataclasses.replace(
            plain, names=np.frombuffer(b"".join(names), np.uint8), name_ends=np.array([5, 10]), has_boxes=True
        )
        both = with_semantic(plain, files, "train", tmp_path)
        assert both.semantic is not None
        assert [both.semantic.has(0), both.semantic.has(1)] == [True, False]
        assert (both.semantic.read(0, (7, 9)) == maps(joint)[1]).all()
        assert both.semantic.read(1, (3, 3)) is None
        assert both.problems["mask_not_listed"].examples == ("3.jpg",)
        assert [both.subset([1, 0]).semantic.has(r) for r in range(2)] == [False, True]  # type: ignore[union-attr]


class TestRealData:
    def test_camvid(self, real_data: Path) -> None:
        root = real_data / "camvid"
        assert find_semantic(root) == "camvid"
        for split, count in (("train", 92), ("val", 21), ("test", 30)):
            records = read_semantic(semantic_files("camvid"), split, root)
            assert len(records) == count
            assert not len(records.problems)
        found = maps(records.subset(range(5)))
        for row in range(5):
            stem = Path(records.file_name(row)).stem
            truth = np.asarray(Image.open(root / "testannot" / f"{stem}.png")).astype(int)
            assert (found[row] == np.where(truth == 11, -1, truth)).all()

    def test_nuclei(self, real_data: Path) -> None:
        root = real_data / "dsb2018_nuclei"
        assert find_semantic(root) == "nuclei"
        train, val = (read_semantic(semantic_files("nuclei"), s, root) for s in ("train", "val"))
        names = {r.file_name(i) for r in (train, val) for i in range(len(r))}
        assert (len(train), len(val), len(names)) == (27, 7, 34)
        found = maps(val.subset([0]))[0]
        folder = (root / val.file_name(0)).parent.parent / "masks"
        truth = np.any([np.asarray(Image.open(p)) > 0 for p in folder.iterdir()], axis=0)
        assert found is not None
        assert (found[0] == truth).all()

    def test_semantic_png_of_coco_with_sparse_values(self, real_data: Path) -> None:
        root = real_data / "coco128"
        files = semantic_files(
            images="images/{split}/{stem}.jpg",
            masks="semantic_segmentation/masks/{split}/{stem}.png",
            categories=[{"id": i, "name": f"c{i}"} for i in range(1, 201)],
            ignore=[0],
        )
        records = read_semantic(files, "train", root)
        assert len(records) == 100
        assert records.problems["mask_missing"].count == 28
        truth = np.asarray(Image.open(root / "semantic_segmentation/masks/train2017/000000000294.png")).astype(int)
        assert (maps(records.subset([records.row_of_id[294]]))[0] == truth - 1).all()
