"""What frames are called, and that passwords stay where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.inference.source_clips import make_clip
from tests.inference.test_sources import names, save
from vision_tasks.inference.sources.addresses import address_name, shown
from vision_tasks.inference.sources.files import natural
from vision_tasks.inference.sources.names import Names, numbered
from vision_tasks.inference.sources.opening import open_sources


def test_names_never_collide(tmp_path: Path) -> None:
    for name in ("one/A.png", "two/a.png", "two/a-2.png", "two/v_000001.png", "three/q.png"):
        save(tmp_path / name)
    make_clip(tmp_path / "one" / "v.mp4", 3)
    make_clip(tmp_path / "two" / "V.mp4", 3)
    make_clip(tmp_path / "three" / "three.mp4", 2)
    found = names([tmp_path / n for n in ("one", "two", "three")])
    assert len({n.casefold() for n in found}) == len(found) == 5 + 8
    assert found[0] == "A"
    sources = open_sources([tmp_path / n for n in ("one", "two", "three")])
    assert len({s.name.casefold() for s in sources}) == len(sources)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["a", "A", "a-2", "a_000001", "a_000001_000001", "b", "é", "x" * 300]))
    )
)
def test_names_of_pictures_and_series_in_any_order(wanted: list[tuple[bool, str]]) -> None:
    given_names, files = Names(), []
    for series, name in wanted:
        free = given_names.series(name) if series else given_names.single(name)
        files += [free, *(numbered(free, k) for k in range(3))] if series else [free]
    assert len({f.casefold() for f in files}) == len(files)


def test_names_that_no_file_may_have() -> None:
    taken = Names()
    assert taken.single('a<b>:"/\\|?*\x00\x1bc') == "a_b__________c"
    assert taken.single("") == "image"
    assert len(taken.single("é" * 300).encode()) <= 180


def test_natural_order() -> None:
    wanted = ["a", "a1", "a2", "a02b", "a10", "a10/b", "b/9", "b/10", "b/" + "9" * 5000, "²"]
    mixed = wanted[::-1]
    assert sorted(mixed, key=natural) == wanted


@pytest.mark.parametrize(
    ("address", "public", "name"),
    [
        ("rtsp://me:secret@10.0.0.5:554/live/ch1", "rtsp://10.0.0.5:554/live/ch1", "10.0.0.5_ch1"),
        ("rtsp://cam/user=me_password=secret_channel=1", "rtsp://cam/...", "cam"),
        ("http://cam/video?user=x&pwd=secret", "http://cam/video?user=x&pwd=...", "cam_video"),
        ("udp://@:1234", "udp://:1234", "stream"),
        ("rtsp://[fe80::1]:554/a.sdp", "rtsp://[fe80::1]:554/a.sdp", "fe80::1_a"),
    ],
)
def test_passwords_stay_in_the_address(address: str, public: str, name: str) -> None:
    assert shown(address) == public
    assert address_name(address) == name
