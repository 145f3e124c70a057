"""Pipes and endless devices in the place of files are refused at once, wherever files of a data set are opened."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.regular_files import open_regular, read_regular, read_regular_text

_COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "cat"}],
}
_VOC = "<annotation><filename>a.jpg</filename><size><width>8</width><height>6</height></size></annotation>"


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)


def _put(top: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def _coco(top: Path) -> str:
    _put(top, {"instances_train.json": json.dumps(_COCO)})
    _image(top / "a.jpg")
    return "instances_train.json"


def _voc(top: Path) -> str:
    _put(top, {"Annotations/a.xml": _VOC, "Annotations/b.xml": _VOC})
    _image(top / "JPEGImages/a.jpg")
    return "Annotations/a.xml"


def _yolo(top: Path) -> str:
    _put(top, {"data.yaml": "train: images\nnames: [cat]\n", "labels/a.txt": "0 .5 .5 .2 .2\n"})
    _image(top / "images/a.jpg")
    return "labels/a.txt"


def _yolo_image(top: Path) -> str:
    _yolo(top)
    return "images/a.jpg"


def _labelme(top: Path) -> str:
    text = json.dumps({"shapes": [], "imagePath": "a.jpg", "imageHeight": 6, "imageWidth": 8})
    _put(top, {"a.json": text, "b.json": text})
    _image(top / "a.jpg")
    return "a.json"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("odd", [_fifo, _zeros])
def test_pipes_and_endless_devices_are_refused_by_name(odd, tmp_path):
    odd(tmp_path / "x")
    for opening in (open_regular, read_regular, read_regular_text):
        with pytest.raises(OSError, match="not a regular file") as caught:
            opening(tmp_path / "x")
        assert caught.value.filename == str(tmp_path / "x")
    with pytest.raises(IsADirectoryError):
        read_regular(tmp_path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        with pytest.raises(OSError, match="not a regular file"):
            read_regular(tmp_path / "x")
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_files_are_read_whole_up_to_the_limit(tmp_path):
    data = os.urandom(100_000)
    (tmp_path / "x").write_bytes(data)
    (tmp_path / "link").symlink_to(tmp_path / "x")
    assert read_regular(tmp_path / "link") == read_regular(tmp_path / "x", 100_000) == data
    with open_regular(tmp_path / "x") as stream:
        assert stream.read() == data
    with pytest.raises(OSError, match="100,000 bytes are too many"):
        read_regular(tmp_path / "x", 99_999)
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_regular_text(tmp_path / "x") == "a\nb\nc\n"


@pytest.mark.parametrize("odd", [_fifo, _zeros])
def test_no_reader_waits_or_reads_without_end(odd, tmp_path):
    """One process for all, with little memory, that is ended if it hangs."""
    sets = []
    for make in (_coco, _voc, _yolo, _yolo_image, _labelme):
        top = tmp_path / make.__name__
        top.mkdir()
        place = top / make(top)
        place.unlink()
        odd(place)
        sets.append([str(top), str(place)])
    program = textwrap.dedent(
        """
        import json, resource, sys
        from pathlib import Path
        from vision_tasks.data.decoding import file_bytes
        from vision_tasks.data.formats.coco import read_coco
        from vision_tasks.data.formats.label_images import file_size, read_values
        from vision_tasks.data.formats.registry import read_data
        from vision_tasks.data.image_headers import upright_size
        from vision_tasks.data.patch import read_patch
        from vision_tasks.data.weighting import file_rates
        from vision_tasks.cli.data_subset import read_list
        from vision_tasks.cli.data_merge import read_renaming
        from vision_tasks.errors import VisionTasksError
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
        records = None
        for top, place in json.loads(sys.argv[1]):
            calls = [lambda: read_data(Path(top)), lambda: read_data(Path(place)), lambda: read_coco(Path(place)),
                     lambda: file_bytes(Path(place)), lambda: upright_size(Path(place)), lambda: file_size(Path(place)),
                     lambda: read_patch(Path(place)), lambda: read_list(Path(place)),
                     lambda: read_renaming(Path(place))]
            for number, call in enumerate(calls):
                try:
                    call()
                    assert number == 0, (top, number)
                except VisionTasksError as error:
                    assert top in str(error), error
        print("all refused")
        """
    )
    run = [sys.executable, "-c", program, json.dumps(sets)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.stdout == "all refused\n", done.stderr[-2000:]


def test_the_rest_of_a_set_is_read_and_the_odd_file_named(tmp_path):
    from vision_tasks.data.formats.registry import read_data

    place = tmp_path / _voc(tmp_path)
    place.unlink()
    os.mkfifo(place)
    records = read_data(tmp_path)["train"]
    assert len(records) == 1
    assert "a.xml: a pipe or a device" in records.problems.summary()
