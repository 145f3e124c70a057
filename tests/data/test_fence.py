"""Links and paths that lead out of a data set are not followed; the places that people really use are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.formats.fence import is_inside
from vision_tasks.data.formats.registry import read_data
from vision_tasks.errors import VisionTasksError

_LABEL = "0 0.5 0.5 0.2 0.2\n"


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def set_of(tmp_path):
    """A data set "set", beside it a folder "private2" with an image, and one of secrets."""
    _image(tmp_path / "home" / "private2" / "secret.png")
    _text(tmp_path / "home" / "passwd", "root:x:0:0\ncat\n")
    top = tmp_path / "home" / "set"

    def make(about: str | None = "train: images\nnames: [cat]\n") -> Path:
        _image(top / "images" / "a.png")
        _text(top / "labels" / "a.txt", _LABEL)
        if about is not None:
            _text(top / "data.yaml", about)
        return top

    return make


def _names(top: Path) -> set[str]:
    return {r.file_name(row).rpartition("/")[2] for r in read_data(top).values() for row in range(len(r))}


@pytest.mark.parametrize(
    "about",
    [
        "train: [images, ../private2]\nnames: [cat]\n",
        "path: ..\ntrain: [set/images, private2]\nnames: [cat]\n",
        "path: ../private2\ntrain: [.]\nnames: [cat]\n",
        "train: list.txt\nnames: [cat]\n",
    ],
)
def test_folders_beside_the_set_are_not_read(about, set_of):
    top = set_of(about)
    _text(top / "list.txt", "images/a.png\n../private2/secret.png\n")
    if "list" in about or "[.]" in about:  # the rest, or "." from the description on, is there
        assert _names(top) == {"a.png"}
        return
    with pytest.raises(VisionTasksError, match=r"outside of .*/set;"):
        read_data(top)


@pytest.mark.parametrize("about", [None, "train: images\nnames: [cat]\n", "train: images/more\nnames: [cat]\n"])
def test_linked_folders_are_refused_by_name(about, set_of):
    top = set_of(about)
    (top / "images" / "more").symlink_to(top.parent / "private2")
    with pytest.raises(VisionTasksError, match=r"images/more.*(a link that leads out of|outside of)"):
        read_data(top)


def test_links_within_and_the_usual_folders_beside_are_followed(set_of, tmp_path):
    top = set_of("train: [images, ../train/images]\nnames: [cat]\n")
    _image(top / "stored" / "b.png")
    (top / "images" / "more").symlink_to("../stored")
    _image(top.parent / "train" / "images" / "c.png")
    assert _names(top) == {"a.png", "b.png", "c.png"}
    (top / "data.yaml").write_text("train: images\nnames: [cat]\n")
    (tmp_path / "elsewhere").symlink_to(top)  # the set itself may be named by a link
    assert _names(tmp_path / "elsewhere") == {"a.png", "b.png"}


def test_images_above_labels_of_several_kinds(tmp_path):
    """As coco128 has it: one folder of images, and folders beside it whose `images` is a link to it."""
    _image(tmp_path / "images" / "train2017" / "a.png")
    for kind in ("linked", "written"):
        top = tmp_path / kind
        _text(top / "labels" / "train2017" / "a.txt", _LABEL)
        _text(top / "config.yaml", "path: .\ntrain: images/train2017\nnames: [cat]\n")
        if kind == "linked":
            (top / "images").symlink_to("../images")
        else:
            (top / "images").write_text("../images")
        records = read_data(top)["train"]
        assert (len(records), len(records.labels)) == (1, 1)


@pytest.mark.parametrize("kind", ["yolo", "darknet", "voc", "labelme", "masks"])
def test_lists_of_names_that_are_links_out_are_refused(kind, set_of):
    top = set_of(None)
    name = "classes.txt"
    if kind == "darknet":
        name = "obj.names"
        _text(top / "obj.data", "classes = 1\ntrain = list.txt\nnames = obj.names\n")
        _text(top / "list.txt", "images/a.png\n")
    if kind in ("voc", "labelme"):
        (top / "labels" / "a.txt").unlink()
    if kind == "voc":
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
        _text(top / "images" / "a.xml", f"<annotation><object><name>cat</name>{box}</object></annotation>")
    if kind == "labelme":
        _text(top / "images" / "a.json", '{"shapes": [], "imagePath": "a.png"}')
    if kind == "masks":
        from vision_tasks.data.formats.semantic_files import read_category_file

        (top / name).symlink_to("../passwd")
        with pytest.raises(VisionTasksError, match=r"classes\.txt: a link that leads out of"):
            read_category_file(top, name)
        return
    (top / name).symlink_to("../passwd")
    with pytest.raises(VisionTasksError, match=rf"{name}: a link that leads out of"):
        read_data(top)
    (top / name).unlink()
    _text(top / "own.txt", "cat\n")
    (top / name).symlink_to("own.txt")
    assert read_data(top)["train"].categories.names == ("cat",)


def test_links_in_circles_are_nowhere(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert not is_inside(tmp_path / "a", tmp_path)
    assert is_inside(tmp_path, tmp_path)
    assert not is_inside(Path("/etc"), Path("/set"))
    assert not is_inside(Path("/images"), Path("/set"))
