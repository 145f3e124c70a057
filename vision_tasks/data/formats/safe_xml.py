"""XML from anybody: no entities, no document types, no surprising sizes."""

from __future__ import annotations

import codecs
import errno
import re
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, XMLParser

from vision_tasks.data.regular_files import read_regular

LARGEST = 16 << 20
"""Bytes of a file; an annotation of one image with ten thousand objects has 5 MB."""
_MOST_TAGS = 1_000_000
# Encodings that map bytes to letters, and nothing cleverer.
_ENCODINGS = re.compile(
    r"utf-?8|utf-?16(-?[lb]e)?|(us-)?ascii|iso-?8859-?\d+|latin-?1|windows-?12\d\d|cp\d+|gb\w+|big5\w*|shift_?jis|"
    r"euc[-_]\w+|koi8-\w"
)


class XmlError(ValueError):
    """Why a file is not read, in a few words."""


def read_xml(path: Path) -> tuple[Element, bool]:
    """The root element of a file; and whether letters were broken (they are replaced).

    The text is decoded here, so that what is searched for declarations is what is parsed, whatever the encoding.

    Raises:
        XmlError: too large, cut off, garbled, of an unknown encoding, or with a document type, which could define
            entities that grow or read other files. OSError: it cannot be read.
    """
    try:
        text, broken = _decoded(read_regular(path, LARGEST))
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise XmlError(f"more than {LARGEST >> 20} MB") from error
        raise
    if "\0" in text:  # UTF-16 without a mark: expat would find that out, and read other text than is searched here
        raise XmlError("it holds zero bytes")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise XmlError("it defines a document type or entities, which is refused")
    if text.count("<") > _MOST_TAGS:
        raise XmlError(f"more than {_MOST_TAGS:,} tags")
    parser = XMLParser()
    try:
        parser.feed(text)
        return parser.close(), broken
    except (ParseError, ValueError) as error:
        raise XmlError(f"no valid XML ({error})") from error


def _decoded(data: bytes) -> tuple[str, bool]:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            data = data if encoding == "utf-16" else data[len(mark) :]
            break
    else:
        declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']", data[:300])
        encoding = declared[1].decode().lower() if declared else "utf-8"
        if not _ENCODINGS.fullmatch(encoding):
            raise XmlError(f"its encoding {encoding!r} is not known")
        if encoding.startswith(("utf-16", "utf16")):
            encoding = "utf-8"  # it could be read up to here, so it is none
    try:
        return data.decode(encoding), False
    except LookupError as error:
        raise XmlError(f"its encoding {encoding!r} is not known") from error
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), True
