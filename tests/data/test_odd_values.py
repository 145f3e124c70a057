"""Numbers of hundreds of digits, deep nesting, "." as a file name, keys given twice: refused in plain words."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.data.written_coco import written
from vision_tasks.cli.data_merge import read_renaming
from vision_tasks.cli.main import app
from vision_tasks.config import load_config
from vision_tasks.data.formats.image_files import unique_stems
from vision_tasks.data.formats.registry import read_data
from vision_tasks.data.formats.semantic_files import read_category_file
from vision_tasks.data.formats.semantic_table import table_of
from vision_tasks.data.operations.tile import windows
from vision_tasks.data.patch import read_patch
from vision_tasks.data.records import escapes
from vision_tasks.data.shards import INDEX, MARK, PLACES, open_shards
from vision_tasks.errors import VisionTasksError

HUGE = "1" + "0" * 400
DEEP = "[" * 100_000


@pytest.mark.parametrize("name", [".", "./", "././"])
def test_a_name_of_no_file_is_refused(tmp_path: Path, name: str) -> None:
    assert escapes(name) == "names no file"
    records = written(tmp_path, "train", {"a.png": []}, ["x"])
    object.__setattr__(records, "names", np.frombuffer(name.encode(), np.uint8))
    object.__setattr__(records, "name_ends", np.array([len(name)]))
    with pytest.raises(VisionTasksError, match="names no file"):
        unique_stems(records)


def test_labelme_takes_the_image_beside_it(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    shape = {"label": "x", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"}
    (tmp_path / "a.json").write_text(json.dumps({"imagePath": ".", "shapes": [shape]}))
    assert read_data(tmp_path)["train"].file_name(0) == "a.png"
    (tmp_path / "a.png").unlink()
    assert read_data(tmp_path)["train"].file_name(0) == "a.jpg"


def saved(places: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, places)
    return stream.getvalue()


def lying(text: str) -> bytes:
    """The head of a .npy file that promises what does not follow."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


SOUND = np.array([[1, 0, 512, 10]])
BAD_PLACES = {
    "empty": b"",
    "zip": b"PK\x03\x04" + bytes(200),
    "cut off": saved(SOUND)[:-8],
    "huge": lying("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000, 4), }\n"),
    "kind": saved(SOUND.astype(float)),
    "pickle": lying("{'descr': '|O', 'fortran_order': False, 'shape': (1, 4), }\n") + bytes(64),
    "no shard": saved(np.array([[1, 1, 512, 10]])),
}


@pytest.mark.parametrize("what", list(BAD_PLACES))
def test_places_that_are_wrong(tmp_path: Path, what: str) -> None:
    (tmp_path / INDEX).write_text(json.dumps({MARK: 1, "shards": [{"name": "a.tar", "bytes": 9}]}))
    (tmp_path / PLACES).write_bytes(saved(SOUND))
    assert len(open_shards(tmp_path)) == 1
    (tmp_path / PLACES).write_bytes(BAD_PLACES[what])
    with pytest.raises(VisionTasksError, match=PLACES):
        open_shards(tmp_path)


@pytest.mark.parametrize("size", ["Infinity", "1e400", HUGE, "true", "0", DEEP])
def test_an_index_that_is_wrong(tmp_path: Path, size: str) -> None:
    (tmp_path / INDEX).write_text(f'{{"{MARK}": 1, "shards": [{{"name": "a.tar", "bytes": {size}}}]}}')
    (tmp_path / PLACES).write_bytes(saved(SOUND))
    with pytest.raises(VisionTasksError, match="does not describe shards"):
        open_shards(tmp_path)


def test_categories_of_masks(tmp_path: Path) -> None:
    (tmp_path / "categories.json").write_text(DEEP)
    with pytest.raises(VisionTasksError, match="no list of categories"):
        read_category_file(tmp_path, "categories.json")
    for entry in ({"id": 10**20, "name": "x"}, {"id": 1, "name": "x", "values": [10**20]}):
        with pytest.raises(VisionTasksError, match="the semantic category"):
            table_of([entry])


def patch_of(edits: str, version: str = "1") -> str:
    return f'{{"vision_tasks_patch": {version}, "splits": {{"train": {{"fingerprint": "f", {edits}}}}}}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            patch_of(f'"edits": [{{"op": "set_box", "id": 1, "was": [{HUGE}, 1, 1, 1], "to": [1, 1, 1, 1]}}]'),
            "'was' must",
        ),
        (patch_of('"edits": []', "true"), "is no patch"),
        (patch_of('"edits": []', "1.0"), "is no patch"),
        (patch_of('"edits": [{"op": "drop_images", "ids": [1]}], "edits": []'), "'edits' stands twice"),
    ],
)
def test_patches(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "patch.json").write_text(text)
    with pytest.raises(VisionTasksError, match=said):
        read_patch(tmp_path / "patch.json")


@pytest.mark.parametrize("text", ["[" * 50_000, 'cat: ""', "cat: ' '", "cat: 2024-05-01", "2024-05-01: cat", "cat: no"])
def test_maps_of_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(VisionTasksError, match=r"map\.yaml"):
        read_renaming(tmp_path / "map.yaml")


def test_options_of_the_command_line(tmp_path: Path) -> None:
    written(tmp_path / "in", "train", {"a.png": [], "b.png": []}, ["x"])
    done = CliRunner().invoke(app, ["data", "split", str(tmp_path / "in"), str(tmp_path / "out"), "--seed", "-1"])
    assert done.exit_code == 2
    for overlap in (float("inf"), float("nan"), -1.0):
        with pytest.raises(VisionTasksError, match="overlap"):
            windows((100, 100), 50, overlap)


def test_annotations_and_shards_of_one_split() -> None:
    with pytest.raises(VisionTasksError, match="annotations and shards are two sources"):
        load_config(None, ["data.train={annotations: a.json, shards: b}"])


def test_a_split_without_any_tile_is_left_out(tmp_path: Path) -> None:
    written(tmp_path / "in", "train", {"a.png": [("x", [2.0, 2.0, 5.0, 5.0])]}, ["x"])
    written(tmp_path / "in", "val", {"b.png": []}, ["x"])
    command = ["data", "tile", str(tmp_path / "in"), str(tmp_path / "out"), "--size", "50", "--no-empty"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "val is left out: no tile of it has an object" in done.output
    assert list(read_data(tmp_path / "out")) == ["train"]


def test_one_id_for_the_only_images(tmp_path: Path) -> None:
    images = [{"id": 5, "file_name": name, "width": 9, "height": 9} for name in ("a.png", "b.png")]
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(VisionTasksError, match=r"image id 5 is given to 2 different files \('a.png', 'b.png'\)"):
        read_data(tmp_path)
