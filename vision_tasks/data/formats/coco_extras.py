"""Keeping the keys of a COCO file that training does not need, so that they can be written again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats import coco_entries as entries
from vision_tasks.data.formats.assemble import Columns

_READ = {
    "images": frozenset(("id", "file_name", "width", "height")),
    "annotations": frozenset(("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")),
    "categories": frozenset(("id", "name")),
}
"""Keys that `Records` hold."""


class _PlainAnnotation(entries.Annotation, gc=False, forbid_unknown_fields=True):
    """An annotation that has no other keys."""


_decode_raw = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_plain = msgspec.json.Decoder(list[_PlainAnnotation]).decode


class CocoExtras:
    """Collects other keys while a file is read, by the place of each entry among those that the reader keeps."""

    def __init__(self) -> None:
        self._data_set: dict[str, Any] = {}
        self._entries: dict[str, dict[int, dict[str, Any]]] = {"images": {}, "annotations": {}}
        self._seen = {"images": 0, "annotations": 0}

    def add_member(self, key: str, value: bytes) -> None:
        """A key of the data set, such as "info"."""
        self._data_set[key] = _value(value)

    def add_text(self, key: str, text: bytes, count: int) -> None:
        """Entries of "images" or "annotations" that the quick way of reading took.

        Args:
            text: a JSON list of them. count: how many.
        """
        found = self._entries[key]
        if key == "images" or not _is_plain(text):
            read = _READ[key]
            for place, entry in enumerate(_decode_raw(text), self._seen[key]):
                if len(entry) > len(read) or not read.issuperset(entry):
                    others = {name: _value(bytes(raw)) for name, raw in entry.items() if name not in read}
                    if others:
                        found[place] = others
        self._seen[key] += count

    def add_values(self, key: str, values: list[dict[str, Any]]) -> None:
        """Entries that the patient way took."""
        for place, entry in enumerate(values, self._seen[key]):
            if others := others_of(key, entry):
                self._entries[key][place] = others
        self._seen[key] += len(values)

    def finish(self, columns: Columns, categories: bytes, ids: np.ndarray, labels: np.ndarray) -> Extras:
        """What was found, by the rows and indices of the records.

        Args:
            columns: after `assemble`. categories: the file's "categories". ids: (K,) as collected. labels: (K,).
        """
        label_of = dict(zip(ids.tolist(), labels.tolist(), strict=True))
        known: dict[int, dict[str, Any]] = {}
        listed = _value(categories)
        for entry in listed if isinstance(listed, list) else []:
            if not isinstance(entry, dict):
                continue
            label = label_of.get(entry["id"]) if isinstance(entry.get("id"), int) else None
            if label is not None and label not in known and (others := others_of("categories", entry)):
                known[label] = others
        whole = Extras(self._data_set, self._entries["images"], self._entries["annotations"], known)
        return whole.subset(columns.kept_images, columns.kept_annotations)


def others_of(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    """The keys of an entry that `Records` do not hold."""
    return {name: value for name, value in entry.items() if name not in _READ[key]}


def _is_plain(text: bytes) -> bool:
    try:
        _decode_plain(text)
    except msgspec.ValidationError:
        return False
    return True


def _value(raw: bytes) -> Any:
    """Any JSON value; what is none becomes None, as the reader does not need it."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(raw.decode("utf-8", "replace"), strict=False)  # NaN, broken letters
    except (ValueError, RecursionError):
        return None
