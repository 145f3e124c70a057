"""What names mean, what frames are called, and what is said of what cannot be read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.inference.source_clips import make_clip, number_of
from vision_tasks.errors import VisionTasksError
from vision_tasks.inference.frames import Frame, Source
from vision_tasks.inference.sources import images as image_sources
from vision_tasks.inference.sources.names import numbered
from vision_tasks.inference.sources.opening import open_sources
from vision_tasks.inference.sources.video import VideoSource


def save(path: Path, value: int = 7, size: tuple[int, int] = (5, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)
    return path


def frames(specs: Any, **options: Any) -> list[Frame]:
    return [frame for source in open_sources(specs, **options) for frame in source]


def names(specs: Any, **options: Any) -> list[str]:
    return [frame.name for frame in frames(specs, **options)]


def quiet(problem: str) -> None:
    """For `on_problem`."""


def test_a_folder_to_the_bottom_in_the_order_of_counting(tmp_path: Path) -> None:
    for name in ("b.png", "a_10.png", "a_9.png", "deep/er/c.jpg", "._a_9.png", "drawn/d.png", "odd[1].PNG"):
        save(tmp_path / name) if not name.endswith("PNG") else save(tmp_path / "x.png").rename(tmp_path / name)
    make_clip(tmp_path / "deep" / "clip.mp4", 3)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "types.ts").write_text("export const a = 1")
    images, video = open_sources(tmp_path, out=tmp_path / "drawn")
    assert [Path(f.source).name for f in images] == ["a_9.png", "a_10.png", "b.png", "c.jpg", "odd[1].PNG"]
    assert (images.kind, images.length, images.name, images.rate) == ("images", 5, tmp_path.name, None)
    assert (video.kind, video.name, video.length) == ("video", "clip", 3)
    assert [f.index for f in images] == [0, 1, 2, 3, 4]
    assert {f.time for f in images} == {None}
    assert len(open_sources(str(tmp_path / "drawn"), out=tmp_path / "drawn")) == 1, "unless it is named itself"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    save(tmp_path / "real" / "a.png")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "data" / "linked")
    os.symlink(tmp_path / "data", tmp_path / "data" / "circle")
    assert names(tmp_path / "data") == ["a"]


def test_patterns_files_and_each_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "odd[1].png", "deep/c.png", "out/d.png"):
        save(tmp_path / name)
    make_clip(tmp_path / "v.mp4", 2)
    assert names(tmp_path / "*.png") == ["a", "b", "odd[1]"]
    assert names(str(tmp_path / "**" / "*.png"), out=tmp_path / "out") == ["a", "b", "c", "odd[1]"]
    assert names([tmp_path / "odd[1].png"]) == ["odd[1]"], "a name before a pattern"
    assert names([tmp_path / "b.png", tmp_path]) == ["b", "a", "c", "odd[1]", "d", "v_000000", "v_000001"]
    assert names(str(tmp_path / "?.*")) == ["a", "b", "v_000000", "v_000001"]
    assert [s.name for s in open_sources([tmp_path / "a.png", tmp_path / "b.png"])] == ["images"]
    assert [s.name for s in open_sources([tmp_path / "a.png", tmp_path / "v.mp4", tmp_path / "b.png"])] == [
        "a", "v", "b",
    ]  # fmt: skip


def test_files_of_unknown_endings(tmp_path: Path) -> None:
    save(tmp_path / "a.png").rename(tmp_path / "picture")
    make_clip(tmp_path / "v.mp4", 3)
    (tmp_path / "v.mp4").rename(tmp_path / "film.data")
    with zipfile.ZipFile(tmp_path / "pack.cbz", "w") as archive:
        archive.write(tmp_path / "picture", "inner.png")
    assert names([tmp_path / n for n in ("picture", "film.data", "pack.cbz")]) == [
        "picture", "film_000000", "film_000001", "film_000002", "inner",
    ]  # fmt: skip


def test_gifs_that_move_are_videos(tmp_path: Path) -> None:
    save(tmp_path / "still.gif")
    make_clip(tmp_path / "moving.gif", 4, codec="gif", pixels="rgb8")
    assert names(tmp_path) == ["still", *(numbered("moving", k) for k in range(4))]


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "lists" / "a.png")
    save(tmp_path / "with space.png")
    make_clip(tmp_path / "v.mp4", 2)
    monkeypatch.chdir(tmp_path)
    lines = ["\ufeffa.png", "", "# a comment", "with space.png", str(tmp_path / "v.mp4"), "gone.png", "a.png"]
    (tmp_path / "lists" / "train.txt").write_text("\r\n".join(lines), encoding="utf-8")
    told: list[str] = []
    sources = open_sources("lists/train.txt", on_problem=told.append)
    assert [f.name for s in sources for f in s] == ["a", "with space", "v_000000", "v_000001"]
    assert "train.txt, line 6: there is no file gone.png" in told[0]
    assert sources[0].problems == told
    (tmp_path / "results.txt").write_text("1,2,3\n")
    with pytest.raises(VisionTasksError, match="line 1: there is no file 1,2,3"):
        open_sources(tmp_path / "results.txt")
    (tmp_path / "empty.lst").touch()
    with pytest.raises(VisionTasksError, match="the list is empty"):
        open_sources(tmp_path / "empty.lst")


def test_zip_files_are_read_where_they_are(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", 11)
    make_clip(tmp_path / "in" / "v.mp4", 3)
    make_clip(tmp_path / "in" / "w.mkv", 2)
    path = tmp_path / "pack.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "in" / "a.png", "deep/b_10.png")
        archive.write(tmp_path / "in" / "a.png", "deep/b_9.png")
        archive.write(tmp_path / "in" / "a.png", "../../evil.png")
        archive.write(tmp_path / "in" / "a.png", "windows\\path\\c.PNG")
        archive.write(tmp_path / "in" / "a.png", "__MACOSX/._c.png")
        archive.writestr("deep/broken.jpg", b"nothing")
        archive.writestr("empty.jpg", b"")
        archive.writestr("readme.md", "x")
        archive.write(tmp_path / "in" / "v.mp4", "v.mp4")
        archive.write(tmp_path / "in" / "w.mkv", "w.mkv", zipfile.ZIP_STORED)
    told: list[str] = []
    sources = open_sources(path, on_problem=told.append)
    found = [f for s in sources for f in s]
    assert [f.name for f in found if f.time is None] == ["b_9", "b_10", "evil", "c"]
    assert [number_of(f.image) for f in found if f.time is not None] == [0, 1, 2, 0, 1]
    assert found[2].source == f"{path}/evil.png"
    assert (found[0].image == 11).all()
    assert [s.name for s in sources] == ["pack", "v", "w"]
    assert len(told) == 2
    assert f"{path}/deep/broken.jpg: not an image" in told[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "pack.zip"], "nothing is unpacked"


def encrypted(path: Path) -> None:
    """Sets the mark of encryption on all members."""
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(mark, at + 4)
    path.write_bytes(data)


def test_zip_files_that_are_no_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "a.png")
    good = (tmp_path / "a.zip").read_bytes()
    encrypted(tmp_path / "a.zip")
    with pytest.raises(VisionTasksError, match=r"a\.zip/a\.png: encrypted"):
        open_sources(tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes(good[:-30])
    with pytest.raises(VisionTasksError, match="not a zip file that can be read"):
        open_sources(tmp_path / "a.zip")
    at = good.index(b"IDAT")
    (tmp_path / "a.zip").write_bytes(good[:at] + b"XXXX" + good[at + 4 :])
    (source,) = open_sources(tmp_path / "a.zip", on_problem=quiet)
    assert list(source) == []
    assert "cannot be unpacked (Bad CRC-32" in source.problems[0]
    (tmp_path / "a.zip").write_bytes(good)
    monkeypatch.setattr(image_sources, "MEMBER_LIMIT", 20)
    with pytest.raises(VisionTasksError, match="bytes unpacked are more than the limit of 20"):
        open_sources(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(VisionTasksError, match="holds no images or videos"):
        open_sources(tmp_path / "none.zip")


def test_broken_images_are_told_and_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "c.jpg").touch()
    save(tmp_path / "d.png")
    told: list[str] = []
    (source,) = open_sources(tmp_path, on_problem=told.append)
    assert [(f.name, f.index) for f in source] == [("a", 0), ("d", 3)]
    assert len(told) == 2
    assert str(tmp_path / "b.png") in told[0]
    assert source.problems == told
    assert len(list(source)) == 2
    assert len(source.problems) == len(told) == 2, "each is said once"


def test_broken_videos_are_told_unless_all_are(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("x")
    save(tmp_path / "a.png")
    told: list[str] = []
    sources = open_sources(tmp_path, on_problem=told.append)
    assert [f.name for s in sources for f in s] == ["a"]
    assert [p for s in sources for p in s.problems] == told
    assert "bad.mp4: " in told[0]
    with pytest.raises(VisionTasksError, match=r"bad\.mp4: "):
        open_sources(tmp_path / "bad.mp4")


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for spec, words in (
        (tmp_path / "gone.png", "There is no file or folder"),
        (tmp_path / "*.png", "as a pattern it matches nothing"),
        (tmp_path / "empty", "holds no images or videos"),
        ("gopher://host/1", "streams begin with"),
        (3.5, "not a float"),
        (None, "not a NoneType"),
        (np.zeros((2, 3)), "float64"),
        (np.zeros(3, np.uint8), "An array must be"),
        (torch.full((3, 4, 4), 2.0), "in 0..1"),
    ):
        with pytest.raises(VisionTasksError, match=words):
            frames(spec)
    with pytest.raises(VisionTasksError, match="every must be 1"):
        open_sources(tmp_path, every=0)
    with pytest.raises(VisionTasksError, match="the model takes 5"):
        open_sources(0, channels=5)


def test_pictures_in_memory() -> None:
    chance = np.random.default_rng(0)
    array = chance.integers(0, 256, (5, 6, 3), np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    deep = chance.integers(0, 65536, (5, 6, 3), np.uint16)
    found = frames([array, Image.fromarray(array), tensor, tensor / 255, tensor.double() / 255, array[..., 0], deep])
    for frame in found[:5]:
        assert frame.image.dtype == np.uint8
        assert (frame.image == array).all()
    assert (found[5].image == array[..., :1]).all()
    assert found[6].image.dtype == np.uint16
    assert (found[6].image == deep).all()
    assert len({f.name for f in found}) == 7
    (fine,) = frames(torch.from_numpy(deep.astype(np.float32)).permute(2, 0, 1) / 65535)
    assert (fine.image == deep).all()
    (grey,) = frames(array, channels=1)
    assert grey.image.shape == (5, 6, 1)
    assert names(np.stack([array, array])) == ["image_000000", "image_000001"]


def test_iterables_are_read_one_by_one(tmp_path: Path) -> None:
    asked: list[int] = []

    def camera() -> Iterator[Any]:
        for k in range(4):
            asked.append(k)
            yield np.full((4, 5, 3), k, np.uint8)
        yield save(tmp_path / "a.png")
        yield tmp_path / "gone.png"
        yield Frame(np.zeros((2, 2, 3), np.uint8), "mine", "mine")
        yield "wrong", 3

    (source,) = open_sources([camera()], on_problem=quiet)
    assert source.length is None
    stream = iter(source)
    first = next(stream)
    assert asked == [0]
    assert (first.name, first.index) == ("image_000000", 0)
    rest = [next(stream) for _ in range(5)]
    assert [f.name for f in rest] == ["image_000001", "image_000002", "image_000003", "a", "mine"]
    assert len(source.problems) == 1
    with pytest.raises(VisionTasksError, match=r"Picture 7 \(from 0\)"):
        next(stream)


def test_sources_of_ones_own_and_nested_lists(tmp_path: Path) -> None:
    make_clip(tmp_path / "v.mp4", 2)
    own = VideoSource(str(tmp_path / "v.mp4"), "mine", "mine")
    sources: list[Source] = open_sources([own, [save(tmp_path / "a.png"), [tmp_path / "v.mp4"]]])
    assert sources[0] is own
    assert [f.name for s in sources for f in s] == ["mine_000000", "mine_000001", "a", "v_000000", "v_000001"]


def test_parts_of_a_source(tmp_path: Path) -> None:
    for k in range(5):
        save(tmp_path / f"{k}.png")
    (source,) = open_sources(tmp_path)
    parts = [source.part(rank, 3) for rank in range(3)]
    assert [[(f.name, f.index) for f in part or ()] for part in parts] == [
        [("0", 0), ("3", 3)], [("1", 1), ("4", 4)], [("2", 2)],
    ]  # fmt: skip
    assert source.part(5, 6) is None
    assert [part.length for part in parts if part] == [2, 2, 1]
