"""Pascal VOC files as people have them, read: compared with ElementTree and with numbers made by hand."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.formats.voc import find_voc, read_voc
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories


def xml(*objects: str, name: str = "a.jpg", size: tuple[int, int] = (100, 80), more: str = "") -> str:
    """A file of an image of this (width, height)."""
    return (
        f"<annotation>{more}<filename>{name}</filename><size><width>{size[0]}</width><height>{size[1]}</height>"
        f"<depth>3</depth></size>{''.join(objects)}</annotation>"
    )


def obj(name: str, *corners: object, more: str = "") -> str:
    inner = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{inner}</bndbox></object>"


def put(root: Path, **files: str) -> Path:
    """A VOC folder with these annotations, and an (empty) image for each."""
    for stem, text in files.items():
        for folder, ending, content in (("Annotations", ".xml", text), ("JPEGImages", ".jpg", "")):
            path = root / folder / (stem + ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, "utf-8")
    return root


def only(root: Path, extras: bool = True) -> Records:
    splits = read_data(root, "voc", extras=extras)
    assert list(splits) == ["train"]
    return splits["train"]


def test_bccd_is_what_elementtree_reads(real_data: Path) -> None:
    """All boxes of all splits; and the counts that are known of this data set."""
    root = real_data / "bccd_voc"
    counts: Counter[str] = Counter()
    splits = read_data(root)
    assert [len(r) for r in splits.values()] == [205, 87, 72]
    for split, records in splits.items():
        names = (root / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        assert [records.file_name(row) for row in range(len(records))] == [f"{n}.jpg" for n in names]
        for row, name in enumerate(names):
            objects = ElementTree.parse(root / "Annotations" / f"{name}.xml").getroot().findall("object")
            want = [[float(o.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
            own = slice(records.first[row], records.first[row + 1])
            boxes = records.boxes[own]
            corners = np.concatenate([boxes[:, :2] + 1, boxes[:, :2] + boxes[:, 2:]], 1)
            np.testing.assert_array_equal(corners, np.array(want).reshape(-1, 4))
            labels = [records.categories.names[i] for i in records.labels[own]]
            assert labels == [o.findtext("name") for o in objects]
            counts.update(labels)
    assert counts == {"RBC": 4155, "WBC": 372, "Platelets": 361}
    assert sum(r.problems["voc_one_pixel"].count for r in splits.values()) == 2
    assert all((r.size(0) == (480, 640) and r.categories.names == ("Platelets", "RBC", "WBC")) for r in splits.values())


def test_odd_samples(real_data: Path) -> None:
    records = only(real_data / "voc_quirks")
    assert len(records) == 16
    assert records.problems["image_size_unknown"].count == 9
    assert records.problems["voc_one_pixel"].count == 2
    assert records.categories.names == ("Platelets", "RBC", "WBC", "apple", "kangaroo", "orange", "raccoon")
    assert all(records.image_path(row).is_file() for row in range(16))


def test_it_counts_from_one_and_includes_the_last_pixel(tmp_path: Path) -> None:
    """One pixel in the corner of an image is 1, 1, 1, 1; a box that fills it is 1, 1, width, height."""
    objects = (obj("b", 1, 1, 1, 1), obj("a", 1, 1, 100, 80), obj("a", "10.5", "20.25", "30.5", "40.5"))
    records = only(put(tmp_path, a=xml(*objects)))
    np.testing.assert_array_equal(records.boxes, [[0, 0, 1, 1], [0, 0, 100, 80], [9.5, 19.25, 21, 21.25]])
    np.testing.assert_array_equal(records.areas, [1, 8000, 21 * 21.25])
    assert records.categories.names == ("a", "b")
    assert records.labels.tolist() == [1, 0, 0]
    assert len(records.problems) == 1
    assert records.problems["voc_one_pixel"].examples == ("annotation 1 (image 1)",)


def test_flaws_are_counted(tmp_path: Path) -> None:
    outline = "<polygon><x1>1</x1><y1>2</y1></polygon>"
    objects = (
        obj("a", 0, 5, 20, 20), obj("a", 5, 0, 20, 20), obj("a", 30, 30, 20, 20), obj("a", "x", 1, 2, 3),
        obj("a", "nan", "inf", 2, 3), "<object><name>a</name></object>", "<object><bndbox/></object>",
        obj("a", 200, 200, 210, 210), obj("a", 1, 1, 9, 9, more=outline),
    )  # fmt: skip
    problems = only(put(tmp_path, a=xml(*objects))).problems
    assert {p.code: p.count for p in problems} == {
        "voc_from_zero": 2, "box_inverted": 1, "box_unreadable": 3, "object_without_name": 1, "box_outside": 1,
        "voc_outline": 1,
    }  # fmt: skip
    assert problems["voc_from_zero"].examples == ("annotation 1 (image 1)", "annotation 2 (image 1)")


def test_other_keys(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>"
    flags = "<pose>Left</pose><truncated>1</truncated><difficult>1</difficult><occluded>0</occluded>"
    text = xml(
        obj("person", 2, 2, 9, 9, more=flags + part * 2), obj("person", 2, 2, 8, 8, more="<pose>Unspecified</pose>"),
        more="<folder>x</folder><path>C:/x/a.jpg</path><source><database>D</database></source><segmented>1</segmented>",
    )  # fmt: skip
    records = only(put(tmp_path, a=text.replace("<depth>3", "<depth>1")))
    head = {"name": "head", "bndbox": {"xmin": "3", "ymin": "3", "xmax": "5", "ymax": "5"}}
    assert records.extras is not None
    assert records.extras.annotations == {0: {"pose": "Left", "truncated": 1, "difficult": 1, "part": [head, head]}}
    assert records.extras.images == {0: {"source": {"database": "D"}, "segmented": 1, "depth": 1}}
    assert len(records.labels) == 2
    assert records.usable.all()  # difficult objects are trained on
    assert only(tmp_path, extras=False).extras is None


def test_the_image_of_a_file(tmp_path: Path) -> None:
    """That of its own name; else the one it names; else what it would be called. Names lead nowhere else."""
    put(tmp_path, a=xml(name="b.jpg"), b=xml(name="wrong.png"), c=xml(name="other.jpg"))
    put(tmp_path, d=xml(name="../../secret.jpg"), e=xml(name=r"C:\x\e.png"), f=xml(name=""), g=xml(name=".."))
    images = tmp_path / "JPEGImages"
    for stem in "cdefg":
        (images / f"{stem}.jpg").unlink()
    for name in ("other.jpg", "e.jpg", "e.png"):
        (images / name).write_text("")
    (tmp_path / "secret.jpg").write_text("")
    records = only(tmp_path)
    names = [records.file_name(row) for row in range(len(records))]
    assert names == ["a.jpg", "b.jpg", "other.jpg", "secret.jpg", "e.png", "f.jpg", "g.jpg"]
    assert records.problems["image_name_differs"].count == 2
    assert records.image_path(3) == images / "secret.jpg"


def test_lists(tmp_path: Path) -> None:
    """Plain ones, with blank lines, flags and names with spaces; those of each class; entries without file."""
    stems = ("a", "b", "c d", "e 1")
    put(tmp_path, **{s: xml(obj("k", 1, 1, 5, 5)) for s in stems})
    main = tmp_path / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for name, text in (("cat_train", "a  1\nb -1\n"), ("dog_train", "a -1\nc d  0\n"), ("cat_val", "e 1\nno -1\n")):
        (main / f"{name}.txt").write_text(text)
    by_class = read_data(tmp_path)
    assert [[r.file_name(i) for i in range(len(r))] for r in by_class.values()] == [
        ["a.jpg", "b.jpg", "c d.jpg"], ["e 1.jpg"],
    ]  # fmt: skip
    assert by_class["val"].problems["annotation_file_missing"].examples == ("no",)
    (main / "trainval.txt").write_text("\ufeffb\r\n\r\na\r\na\r\n", "utf-8")
    (main / "test.txt").write_text("nowhere\n")
    plain = read_data(tmp_path)
    assert {s: [r.file_name(i) for i in range(len(r))] for s, r in plain.items()} == {"train": ["b.jpg", "a.jpg"]}


def test_images_without_file_are_said(tmp_path: Path) -> None:
    """Of the split that is read, and where no list tells which images those are."""
    put(tmp_path, **{f"{folder}/a": xml() for folder in ("train", "val")})
    for name in ("train/b.jpg", "val/c.png", "d.jpg"):
        (tmp_path / "JPEGImages" / name).write_text("")
    splits = read_data(tmp_path)
    assert {s: r.problems["image_not_annotated"].examples for s, r in splits.items()} == {
        "train": ("train/b.jpg",), "val": ("val/c.png",),
    }  # fmt: skip
    shutil.rmtree(tmp_path / "Annotations" / "val")
    shutil.rmtree(tmp_path / "JPEGImages" / "val")
    assert len(only(tmp_path)) == 1
    (tmp_path / "Annotations" / "train" / "a.xml").rename(tmp_path / "Annotations" / "a.xml")
    assert only(tmp_path).problems["image_not_annotated"].count == 2


def test_folders_tell_splits_where_there_are_no_lists(tmp_path: Path) -> None:
    """As Roboflow exports: images and files side by side in train, valid and test; a/x.xml goes with a/x.jpg."""
    for split in ("train", "valid", "test"):
        for inner in ("", "deep/"):
            folder = tmp_path / split / inner
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "x.jpg").write_text("")
            (folder / "x.xml").write_text(xml(obj(split, 1, 1, 2, 2), name="x.jpg"))
    splits = read_data(tmp_path)
    assert {s: [r.file_name(i) for i in range(len(r))] for s, r in splits.items()} == {
        s: [f"{f}/deep/x.jpg", f"{f}/x.jpg"] for s, f in (("train", "train"), ("val", "valid"), ("test", "test"))
    }
    assert splits["train"].categories.names == ("train", "valid", "test")


def test_where_a_data_set_begins(tmp_path: Path) -> None:
    put(tmp_path / "VOCdevkit" / "VOC2007", a=xml(obj("k", 1, 1, 5, 5)))
    year = tmp_path / "VOCdevkit" / "VOC2007"
    for place in (tmp_path, tmp_path / "VOCdevkit", year, year / "Annotations", year / "Annotations" / "a.xml"):
        records = read_data(place)["train"]
        assert (len(records), records.image_path(0)) == (1, year / "JPEGImages" / "a.jpg")
    for name in ("VOC2007", "VOC2012"):
        put(tmp_path / "VOCdevkit" / name, a=xml())
        (tmp_path / "VOCdevkit" / name / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    with pytest.raises(VisionTasksError, match="2 VOC data sets: VOC2007, VOC2012"):
        find_data(tmp_path / "VOCdevkit", "voc")
    (tmp_path / "cvat.xml").write_text("<annotations/>")
    assert find_voc(tmp_path / "cvat.xml") == {}
    elsewhere = tmp_path / "elsewhere"
    shutil.move(year / "JPEGImages", elsewhere)
    assert read_voc(Found("voc", year, elsewhere)).image_path(0) == elsewhere / "a.jpg"


def test_what_labels_mean(tmp_path: Path) -> None:
    """The list of labels, then the alphabet; or the categories that are given, by name."""
    put(tmp_path, a=xml(obj(" dog ", 1, 1, 5, 5), obj("cat", 1, 1, 5, 5), obj("emu", 1, 1, 5, 5)))
    assert only(tmp_path).categories.names == ("cat", "dog", "emu")
    (tmp_path / "labels.txt").write_text("_background_\nzebra\n dog\n\ndog\n")
    records = only(tmp_path)
    assert records.categories.names == ("zebra", "dog", "cat", "emu")
    (tmp_path / "labels.txt").write_text("of\nsomething\nelse\n")
    assert only(tmp_path).categories.names == ("cat", "dog", "emu")
    wanted = Categories.of([{"id": 7, "name": "emu"}, {"id": 3, "name": "dog"}])
    records = read_voc(find_data(tmp_path)["train"], wanted)
    assert records.categories == wanted
    assert records.labels.tolist() == [1, 0]
    assert records.problems["unknown_category"].count == 1
