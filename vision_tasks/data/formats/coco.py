"""COCO instances annotations, as clean or dirty as people have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from vision_tasks.data.extras import Extras
from vision_tasks.data.formats import cache as record_cache
from vision_tasks.data.formats import coco_entries as entries
from vision_tasks.data.formats.assemble import Columns, assemble
from vision_tasks.data.formats.coco_categories import read_categories
from vision_tasks.data.formats.coco_extras import CocoExtras
from vision_tasks.data.formats.coco_kind import foreign_annotation, foreign_object, foreign_start
from vision_tasks.data.formats.collector import without_collector
from vision_tasks.data.formats.json_stream import BLOCK, Chunk, JsonFile
from vision_tasks.data.formats.shapes import RLE_MARK, rle_size
from vision_tasks.data.problems import Problems
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.regular_files import open_regular
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Categories

_SPACE = b" \t\r\n"


def read_coco(
    annotations: Path | str,
    images: Path | str | None = None,
    categories: Categories | Iterable[str] | Iterable[Mapping[str, Any]] | None = None,
    cache: bool | Path | None = None,
    extras: bool = False,
    dialect: entries.Dialect = entries.COCO,
) -> Records:
    """Reads a COCO instances file in chunks, so that memory stays near the size of the result.

    Flaws that training can live with are counted in `Records.problems`. No image file is touched.

    Args:
        annotations: the JSON file. images: its image folder; the JSON's own folder if not given.
        categories: those of the model or the training data; the file's are matched to them by name (by id where the
            file lists none), and labels count in them. Default: those of the file, unused ones included.
        cache: keep a memory-mapped index for next time: True (in `cache.default_folder()`), False, a folder, or
            None for True from `cache.FROM_BYTES` on.
        extras: keep the other keys in `Records.extras`; the index is neither used nor kept then.
        dialect: see `lvis.read_lvis`.

    Raises:
        VisionTasksError: the file is missing, cut off, no JSON, of another kind (captions, panoptic, results, ...), or
            none of its images or annotations can be used; names the file and the ids.
    """
    path = Path(annotations)
    root = Path(images) if images is not None else path.parent
    wanted = None if categories is None else Categories.of(categories)
    try:
        if path.is_dir():
            raise VisionTasksError(f"{path} is a folder, not an annotation file. Name the JSON file.")
        folder = record_cache.folder_for(path, wanted, False if extras else cache, dialect)
        if folder is not None and (known := record_cache.load(folder, root, path)) is not None:
            return known
        with open_regular(path) as stream, record_cache.Writer(folder) as writer, without_collector():
            reader = _Reader(path, writer.shapes, CocoExtras() if extras else None, dialect)
            found, own_categories, others = reader.read(stream, wanted)
            records = writer.finish(found, own_categories, reader.problems, root, path)
            return records if others is None else replace(records, extras=others)
    except OSError as error:
        raise VisionTasksError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error


class _Reader:
    """Collects the columns of one file."""

    def __init__(self, path: Path, shapes: BinaryIO, extras: CocoExtras | None, dialect: entries.Dialect) -> None:
        self.path, self.shapes, self.extras, self.dialect = path, shapes, extras, dialect
        self.shape_bytes = 0
        self.problems = Problems()
        self.columns = Columns()
        self.image_texts, self.category_texts = entries.TextIds(), entries.TextIds()
        self.seen = {"images": 0, "annotations": 0}
        self.decode_images: Callable[[bytes], Any] = msgspec.json.Decoder(
            list[entries.UrlImage] if dialect.lvis else list[entries.Image]
        ).decode
        self.decode_annotations = msgspec.json.Decoder(list[entries.Annotation]).decode
        self._add_images([])
        self._add_annotations([], [])

    def read(self, stream: BinaryIO, wanted: Categories | None) -> tuple[dict[str, Any], Categories, Extras | None]:
        """The arrays of `Records`, outlines excepted; what labels mean; the other keys, if they are wanted."""
        file = JsonFile(stream, self.path)
        if (first := file.first()) != "{":
            raise foreign_start(self.path, first, file.head())
        categories = b"null"
        megabytes = self.path.stat().st_size >> 20
        keys = []
        for key in file.members():
            keys.append(key)
            if key in self.seen:
                for chunk in counted(file.chunks(key), f"reading MB of {key}", megabytes, BLOCK >> 20):
                    self._chunk(chunk, key)
            elif key == "categories":
                categories = file.value()
            elif self.extras is not None:
                self.extras.add_member(key, file.value())
        if not {"images", "annotations"} <= set(keys):
            raise foreign_object(self.path, keys)
        found, ids, labels = read_categories(categories, wanted, self.category_texts, self.problems, self.path)
        arrays = assemble(self.columns, ids, labels, self.problems, self.path)
        others = None if self.extras is None else self.extras.finish(self.columns, categories, ids, labels)
        return arrays, found, others

    def _chunk(self, chunk: Chunk, key: str) -> None:
        body = chunk.text.lstrip(_SPACE)
        body = (body[1:] if body.startswith(b",") else body).strip(_SPACE)
        if not body:
            return
        try:
            whole = b"[" + body + b"]"
            if key == "images":
                found = self.decode_images(whole)
                if self.dialect.lvis:
                    found = [self._named(i) for i in found]
                self._add_images(found)
            else:
                found = clean = self.decode_annotations(whole)
                shapes = [entries.shape_of(a.segmentation) for a in clean]
                self._add_annotations(clean, [outline for outline, _ in shapes])
                for annotation, (_, flaw) in zip(clean, shapes, strict=True):
                    if flaw:
                        self.problems.add(flaw, [f"annotation {annotation.id}"])
                # Counting the word is cheaper than decoding what will not be used.
                self.problems.add("keypoints_ignored", (), body.count(b'"keypoints"'))
        except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError):
            del body
            self._patiently(chunk, key)
            return
        if self.extras is not None:
            self.extras.add_text(key, whole, len(found))

    def _named(self, image: entries.UrlImage) -> entries.Image:
        name = image.file_name or entries.name_from_url(image.coco_url, self.dialect.url_parts)
        return entries.Image(image.id, name, image.width, image.height)

    def _patiently(self, chunk: Chunk, key: str) -> None:
        """Entry by entry, for chunks with a flaw."""
        images: list[entries.Image] = []
        annotations: list[entries.Annotation] = []
        outlines: list[bytes] = []
        values: list[dict[str, Any]] = []
        end, first = 0, self.seen[key]
        for number, (start, stop) in enumerate(zip(chunk.starts.tolist(), chunk.ends.tolist(), strict=True), first):
            where = f"entry {number} of {key}"
            self._between(chunk, end, start, where)
            end = stop
            value = entries.loads(chunk.text[start:stop], self.problems, where)
            if value is None:
                raise self._broken(chunk, start, where)
            if not isinstance(value, dict):
                self.problems.add("entry_unreadable", [where])
                continue
            values.append(value)
            if key == "images":
                images.append(entries.patient_image(value, self.image_texts, where, self.problems, self.dialect))
            else:
                if foreign := foreign_annotation(self.path, value):
                    raise foreign
                annotation, outline = entries.patient_annotation(
                    value, self.image_texts, self.category_texts, where, self.problems
                )
                annotations.append(annotation)
                outlines.append(outline)
        self._between(chunk, end, len(chunk.text), f"entry {first + len(chunk.starts)} of {key}")
        self._add_images(images)
        self._add_annotations(annotations, outlines)
        if self.extras is not None:
            self.extras.add_values(key, values)
        self.seen[key] = first + len(chunk.starts)

    def _between(self, chunk: Chunk, start: int, stop: int, where: str) -> None:
        """What stands between two bracketed entries: commas, and perhaps numbers or null, which are no entries."""
        for piece in chunk.text[start:stop].split(b","):
            if word := piece.strip(_SPACE):
                if word != b"null" and entries.loads(word, self.problems, where) is None:
                    raise self._broken(chunk, start, where)
                self.problems.add("entry_unreadable", [where])

    def _broken(self, chunk: Chunk, start: int, where: str) -> VisionTasksError:
        near = chunk.text[start : start + 60].decode("utf-8", "replace")
        place = f"{where} (byte {chunk.offset + start:,}: {near!r})"
        return VisionTasksError(f"{self.path}: no valid JSON at {place}. Correct it, or export the file again.")

    def _add_images(self, images: Sequence[entries.Image]) -> None:
        # All is converted before anything is kept: whatever raises sends the whole chunk the patient way.
        ids = _whole([i.id for i in images])
        widths, heights = _side([i.width for i in images]), _side([i.height for i in images])
        names = [i.file_name.replace("\\", "/").encode("utf-8", "replace") for i in images]
        columns = self.columns
        columns.image_ids.append(ids)
        columns.widths.append(widths)
        columns.heights.append(heights)
        columns.names.append(b"".join(names))
        columns.name_lengths.append(np.array([len(n) for n in names], np.int64))
        self.seen["images"] += len(images)

    def _add_annotations(self, annotations: Sequence[entries.Annotation], outlines: Sequence[bytes]) -> None:
        ids = _whole([a.id for a in annotations])
        owners = _whole([a.image_id for a in annotations])
        category_ids = _whole([a.category_id for a in annotations])
        boxes = np.array([a.bbox for a in annotations], np.float64).reshape(-1, 4)
        areas = np.array([a.area for a in annotations], np.float64)
        crowd = np.array([min(max(a.iscrowd, -1), 1) for a in annotations], np.int8)
        lengths = np.array([len(o) for o in outlines], np.int64)
        starts = self.shape_bytes + np.cumsum(lengths) - lengths
        columns = self.columns
        columns.annotation_ids.append(ids)
        columns.owners.append(owners)
        columns.category_ids.append(category_ids)
        columns.boxes.append(boxes)
        columns.areas.append(areas)
        columns.is_crowd.append(crowd > 0)
        columns.shape_starts.append(np.where(lengths > 0, starts, -1))
        for number, outline in enumerate(outlines, columns.annotations):
            if outline.startswith(RLE_MARK):
                columns.rle_sizes.extend((number, *rle_size(outline)))
        columns.annotations += len(annotations)
        if not self.dialect.lvis:
            self.problems.add("crowd_missing", (f"annotation {i}" for i in ids[crowd < 0]), int((crowd < 0).sum()))
        self.shape_bytes += self.shapes.write(b"".join(outlines))
        self.seen["annotations"] += len(annotations)


def _whole(numbers: list[int]) -> np.ndarray:
    """Ids as int64; OverflowError, which leads to the patient way, where they could be taken for `TEXT`."""
    ids = np.array(numbers, np.int64)
    if len(ids) and int(ids.max()) >= 2**62:
        raise OverflowError
    return ids


def _side(pixels: list[int]) -> np.ndarray:
    return np.array(pixels, np.int64).clip(0, 2**31 - 1).astype(np.int32)
