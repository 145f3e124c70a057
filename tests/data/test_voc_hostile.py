"""XML that was cut off, garbled, or made to do harm: refused or counted, never followed."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.test_voc import obj, only, put, xml
from vision_tasks.data.formats import safe_xml
from vision_tasks.data.formats.safe_xml import XmlError, read_xml
from vision_tasks.errors import VisionTasksError

GOOD = xml(obj("ü", 2, 2, 9, 9), obj("b", 3, 3, 9, 9, more="<part><name>x</name></part>"))
LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'
OUTSIDE = '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'


@pytest.mark.parametrize("text", [LAUGHS, OUTSIDE])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-7", "utf-8-sig", "cp037"])
def test_entities_are_refused_in_any_encoding(text: str, encoding: str, tmp_path: Path) -> None:
    data = (f'<?xml version="1.0" encoding="{encoding}"?>' + text).encode(encoding)
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(XmlError):
        read_xml(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + text.encode(encoding))
    with pytest.raises(XmlError):
        read_xml(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb2312", "iso-8859-1", "windows-1252"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    put(tmp_path, a=GOOD)
    declared = f'<?xml version="1.0" encoding="{"utf-8" if encoding == "utf-8-sig" else encoding}"?>\n'
    (tmp_path / "Annotations" / "a.xml").write_bytes((declared + GOOD).encode(encoding))
    records = only(tmp_path)
    assert records.categories.names == ("b", "ü")
    assert len(records.problems) == 0


def test_broken_letters_are_replaced(tmp_path: Path) -> None:
    put(tmp_path, a=GOOD)
    (tmp_path / "Annotations" / "a.xml").write_bytes(GOOD.encode("latin-1"))
    records = only(tmp_path)
    assert records.categories.names == ("b", "\ufffd")
    assert records.problems["text_not_utf8"].examples == ("a.xml",)


def test_unreadable_files_are_left_out(tmp_path: Path) -> None:
    """Each is counted and named with the reason; what can be read is read. If nothing can, that is said."""
    put(tmp_path, a=GOOD, cut=GOOD[:-20], empty="", foreign="<annotations/>", laughs=LAUGHS, text="no XML")
    records = only(tmp_path)
    assert len(records) == 1
    problem = records.problems["file_unreadable"]
    assert problem.count == 5
    assert problem.examples[0].startswith("cut.xml: no valid XML (unclosed token: line 1, column ")
    assert problem.examples[2] == "foreign.xml: its outermost element is <annotations>, not <annotation>"
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation>")
    with pytest.raises(VisionTasksError, match=r"none of the 6 XML files of this split can be read \(a.xml: no valid"):
        only(tmp_path)


def test_sizes_are_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(b" " * (safe_xml.LARGEST + 1))
    with pytest.raises(XmlError, match="more than 16 MB"):
        read_xml(path)
    path.write_text("<a>" * 600_000 + "</a>" * 600_000)
    with pytest.raises(XmlError, match="more than 1,000,000 tags"):
        read_xml(path)


def test_deep_elements_do_not_recurse(tmp_path: Path) -> None:
    deep = "<x>" * 50_000 + "</x>" * 50_000
    put(tmp_path, a=xml(obj("a", 1, 1, 5, 5, more=deep), more=deep))
    assert len(only(tmp_path).labels) == 1


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_end_in_records_or_a_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray((codecs.BOM_UTF8 if data.draw(st.booleans()) else b"") + GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["cut", "flip", "insert", "repeat"])):
            case "cut":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "flip":
                raw[at] = data.draw(st.integers(0, 255))
            case "insert":
                raw[at:at] = data.draw(st.sampled_from([b"<", b"&amp;", b"\0", b"<object/>", b"1e999", b"-", b"&#0;"]))
            case _:
                raw[at:at] = raw[at : at + 60]
        if len(raw) < 2:
            break
    put(tmp_path, a=GOOD)
    (tmp_path / "Annotations" / "a.xml").write_bytes(bytes(raw))
    try:
        records = only(tmp_path)
    except VisionTasksError:
        return
    for row in range(len(records)):
        target = records.target(row)
        assert target.boxes is not None
        assert np.isfinite(target.boxes.numpy()).all()
        records.image_path(row)
