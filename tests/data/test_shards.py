"""Shards: read by WebDataset's own library, equal to the files they were made of, in any process, from a URL."""

from __future__ import annotations

import functools
import gc
import http.server
import json
import pickle
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_tasks.data.datamodule import DataModule
from vision_tasks.data.formats import webdataset as formats
from vision_tasks.data.formats.interface import Losses
from vision_tasks.data.formats.registry import find_data, read_data
from vision_tasks.data.formats.webdataset import read_shards, write_webdataset
from vision_tasks.data.operations.writing import write_data
from vision_tasks.data.records import Records
from vision_tasks.data.shard_passes import ShardPasses
from vision_tasks.data.shards import INDEX, PLACES
from vision_tasks.errors import VisionTasksError

wds = pytest.importorskip("webdataset")


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Records]:
    """Thirty images with one object each, of which one file name has dots and one is in a folder."""
    folder = tmp_path / "plain data"
    (folder / "train" / "deep").mkdir(parents=True)
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for i in range(30):
        name = {3: "a.b.c.png", 4: "deep/x.png"}.get(i, f"{i}.png")
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save(folder / "train" / name)
        images.append({"id": 100 - i, "file_name": name, "width": 30, "height": 20, "camera": "left"})
        outline = [[1.5, 2, 9, 2, 9, 12.25 + i / 10]]
        entry = {"id": i + 1, "image_id": 100 - i, "category_id": 7, "bbox": [1.5, 2, 7.5, 10.25]}
        annotations.append(entry | {"area": 40, "iscrowd": 0, "segmentation": outline})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "cat"}]}
    (folder / "train" / "instances_train.json").write_text(json.dumps(content))
    return read_data(folder, extras=True)


@pytest.fixture
def shards(source: dict[str, Records], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(formats, "IMAGES_PER_SHARD", 7)
    assert write_data(source, tmp_path / "shards", "webdataset").lines() == []
    return tmp_path / "shards"


def test_the_librarys_own_reader_reads_them(source: dict[str, Records], shards: Path) -> None:
    files = sorted(map(str, (shards / "train").glob("*.tar")))
    assert len(files) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves closing the files to the garbage collector
        samples = list(wds.WebDataset(files, shardshuffle=False, empty_check=False).decode("rgb8"))
        gc.collect()
    assert len(samples) == 30
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(sample["png"], np.asarray(Image.open(source["train"].image_path(row))))
        assert sample["json"]["image"]["file_name"] == source["train"].file_name(row)
        assert sample["json"]["image"]["camera"] == "left"
        (annotation,) = sample["json"]["annotations"]
        assert annotation["bbox"] == [1.5, 2, 7.5, 10.25]
        assert annotation["category"] == "cat"


def test_nothing_is_lost_there_and_back(source: dict[str, Records], shards: Path, tmp_path: Path) -> None:
    assert {name: f.format for name, f in find_data(shards).items()} == {"train": "webdataset"}
    back = read_data(shards, extras=True)
    assert write_data(back, tmp_path / "again", "coco").lines() == []
    again = json.loads((tmp_path / "again/annotations/instances_train.json").read_text())
    first = json.loads((tmp_path / "plain data/train/instances_train.json").read_text())
    assert again["images"] == first["images"]
    assert again["annotations"] == first["annotations"]
    for row in range(30):
        name = source["train"].file_name(row)
        assert (tmp_path / "again/images/train" / name).read_bytes() == source["train"].image_path(row).read_bytes()


def test_training_sees_the_same_samples(source: dict[str, Records], shards: Path) -> None:
    from vision_tasks.data.dataset import DetectionDataset

    plain, packed = DetectionDataset(source["train"]), DetectionDataset(read_shards(shards / "train"))
    packed = pickle.loads(pickle.dumps(packed))
    for row in (0, 3, 4, 29):
        np.testing.assert_array_equal(plain[row].image, packed[row].image)
        assert plain[row].target.boxes.tolist() == packed[row].target.boxes.tolist()
    part = read_shards(shards / "train").subset([8, 2])
    assert bytes(part.image_data(0)) == source["train"].image_path(8).read_bytes()


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 4), (2, 3), (3, 4), (7, 2)])
def test_a_pass_takes_each_image_once_and_each_rank_its_own_shards(ranks: int, batch_size: int) -> None:
    shard = np.repeat(np.arange(12), 10)
    passes = ShardPasses(shard, batch_size, ranks)
    for number in (0, 1, 5):
        rows, rounds = passes.of_pass(3, number)
        assert sorted(rows.tolist()) == list(range(120))
        assert set(rounds.tolist()) == {number}
        first = number * -(-120 // batch_size)
        owner: dict[int, set[int]] = {}
        for n in range(60 // batch_size):  # in the first half all have their own
            own = owner.setdefault((first + n) % ranks, set())
            own |= set(shard[rows[n * batch_size : (n + 1) * batch_size]].tolist())
        groups = list(owner.values())
        assert all(not a & b for i, a in enumerate(groups) for b in groups[:i])
        assert not np.array_equal(rows, passes.of_pass(4, number)[0])
    assert ShardPasses(np.zeros(3), 5, 4).of_pass(0, 0)[0].shape == (3,)


def test_loaders_take_shards_one_after_another(shards: Path) -> None:
    """One rank, batches of five: the first images come of four shards at most, and every image comes once."""
    records = read_shards(shards / "train")
    loader = DataModule(train=records, batch_size=5, workers=0).train_dataloader()
    ids = [i for batch in loader for i in batch.image_ids]
    assert sorted(ids) == sorted(records.image_ids.tolist())


@pytest.fixture
def address(shards: Path) -> Iterator[str]:
    """A server of the shards on this machine."""
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=shards / "train"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_shards_of_a_url(
    address: str, source: dict[str, Records], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISION_TASKS_CACHE", str(tmp_path / "cache"))
    largest = max(p.stat().st_size for p in (tmp_path / "shards/train").glob("*.tar"))
    records = read_shards(address, gigabytes=2.5 * largest / 1e9)
    order = np.random.default_rng(0).permutation(30).tolist()
    for row in order:
        assert bytes(records.image_data(row)) == source["train"].image_path(row).read_bytes()
    kept = list((tmp_path / "cache").glob("*/shard-*.tar"))
    assert 0 < sum(path.stat().st_size for path in kept) <= 2.5 * largest
    assert not list((tmp_path / "cache").glob("*/.*"))
    (tmp_path / "shards/train/shard-000001.tar").write_bytes(b"short")
    for path in kept:
        path.unlink()
    with pytest.raises(VisionTasksError, match=r"shard-000001\.tar: 5 bytes came"):
        read_shards(address).image_data(7)
    with pytest.raises(VisionTasksError, match="cannot be fetched"):
        read_shards(address + "/nowhere")


def test_what_cannot_be_used_is_said(shards: Path, source: dict[str, Records], tmp_path: Path) -> None:
    folder = shards / "train"
    with pytest.raises(VisionTasksError, match="--images none leaves nothing"):
        write_webdataset(source, tmp_path / "n", images="none", losses=Losses())
    (folder / "shard-000000.tar").write_bytes(b"")
    with pytest.raises(Exception, match="cut off at byte"):
        read_shards(folder).image_data(0)
    index = (folder / INDEX).read_text()
    (folder / INDEX).write_text(index.replace("shard-000000", "../../secret"))
    with pytest.raises(VisionTasksError, match="which is refused"):
        read_shards(folder)
    (folder / INDEX).write_text("{}")
    with pytest.raises(VisionTasksError, match="does not describe shards"):
        read_shards(folder)
    (folder / INDEX).write_text(index)
    np.save(folder / PLACES, np.load(folder / PLACES)[5:])
    with pytest.raises(VisionTasksError, match="lacks image"):
        read_shards(folder)
    np.save(folder / PLACES, np.array([[1, 99, 0, 5]]))
    with pytest.raises(VisionTasksError, match="does not fit"):
        read_shards(folder)


def test_images_that_cannot_be_read_are_left_out_and_said(source: dict[str, Records], tmp_path: Path) -> None:
    source["train"].image_path(2).unlink()
    losses = write_data(source, tmp_path / "out", "webdataset")
    assert "1 × images that cannot be read" in losses.lines()[0]
    assert len(read_shards(tmp_path / "out/train")) == 29


def test_data_tools_read_images_in_shards(source: dict[str, Records], shards: Path, tmp_path: Path) -> None:
    from vision_tasks.data.operations.gathering import gather
    from vision_tasks.visualize.browse import draw_record

    packed = read_data(shards)["train"]
    both = gather([packed.subset([1, 2]), source["train"].subset([3, 4])], [["a.png", "b.png"], ["c.png", "d.png"]])
    write_data({"train": both.subset([2, 1])}, tmp_path / "both", "coco")
    for name, row in (("c.png", 3), ("b.png", 2)):
        written = (tmp_path / "both/images/train" / name).read_bytes()
        assert written == source["train"].image_path(row).read_bytes()
    picture, words, _ = draw_record(packed, 4)
    assert "deep/x.png" in words
    assert (picture == draw_record(source["train"], 4)[0]).all()


def test_an_address_as_a_data_set_names_the_keys() -> None:
    with pytest.raises(VisionTasksError, match=r"is an address.*data\.train\.shards=URL/train"):
        find_data("https://example.org/shards")
