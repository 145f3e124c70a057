"""WebDataset shards: images and their annotations in plain tar files, for data that outgrow a disk.

Written by the library of that name, so that its own readers read them: a sample is `KEY.jpg` (the image file as it
was) and `KEY.json` (its entry of "images", and its "annotations", as COCO has them). Beside the shards lie the whole
of the annotations and an index (`data.shards`), by which they are read here.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.formats.coco import read_coco
from vision_tasks.data.formats.coco_writer import having_objects, write_instances
from vision_tasks.data.formats.image_files import safe_name
from vision_tasks.data.formats.interface import Found, ImageWriting, Losses
from vision_tasks.data.formats.json_text import json_text
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.images import read_bytes
from vision_tasks.data.progress import counted
from vision_tasks.data.records import Records
from vision_tasks.data.shards import ANNOTATIONS, CACHE_GIGABYTES, INDEX, MARK, PLACES, described, open_shards
from vision_tasks.errors import VisionTasksError

IMAGES_PER_SHARD = 1000
BYTES_PER_SHARD = 256 << 20
"""A shard ends with whichever comes first: large enough to be fetched in one go, small enough to be mixed."""

_SPLITS = ("train", "val", "test")


def find_webdataset(path: Path) -> dict[str, Found]:
    """Folders of shards that `write_webdataset` made: those of the splits, or the folder itself."""
    if (path / INDEX).is_file() and (path / PLACES).is_file():
        return {path.name if path.name in _SPLITS else "train": Found("webdataset", path)}
    return {
        split: Found("webdataset", path / split)
        for split in _SPLITS
        if (path / split / INDEX).is_file() and (path / split / PLACES).is_file()
    }


def read_webdataset(found: Found, categories: Categories | None = None, *, extras: bool = False) -> Records:
    """Records of a folder of shards (see `interface.Reader`); images stay in their shards."""
    return read_shards(found.annotations, categories, extras=extras)


def read_shards(
    place: str | Path, categories: Categories | None = None, *, extras: bool = False, gigabytes: float = CACHE_GIGABYTES
) -> Records:
    """Records of the shards in a folder, or at a URL (http, https).

    Args:
        gigabytes: of a URL's shards, so much is kept on this machine.

    Raises:
        VisionTasksError: the place has no index, or it cannot be fetched.
    """
    folder = described(place)
    file = folder / ANNOTATIONS
    if not file.is_file():
        raise VisionTasksError(f"{place}: {ANNOTATIONS} is missing. Make the shards again.")
    if extras:
        from vision_tasks.data.formats.registry import read_found

        records = read_found(Found("coco", file, folder), categories, extras=True)
    else:
        records = read_coco(file, folder, categories)
    return dataclasses.replace(records, archive=open_shards(place, records.image_ids, gigabytes))


def write_webdataset(splits: Mapping[str, Records], folder: Path, *, images: ImageWriting, losses: Losses) -> None:
    """Shards of each split in a folder of its name (see `interface.Writer`).

    Raises:
        VisionTasksError: images are not to be copied: without them there is nothing to write.
    """
    if images == "none":
        raise VisionTasksError("webdataset: shards hold the images themselves: --images none leaves nothing to write.")
    try:
        from webdataset import TarWriter
    except ImportError as error:
        raise VisionTasksError(
            "Shards are written with webdataset, which is not installed: pip install 'vision_tasks[webdataset]'"
        ) from error
    for split, records in splits.items():
        _write_split(having_objects(records, losses), folder / split, TarWriter, losses)


def _write_split(records: Records, folder: Path, writer: Any, losses: Losses) -> None:
    folder.mkdir(parents=True)
    kept: list[int] = []
    missing: list[str] = []
    shards: list[dict[str, Any]] = []
    places: list[np.ndarray] = []
    for number, (samples, rows) in enumerate(_shards(records, missing)):
        path = folder / f"shard-{number:06d}.tar"
        with writer(str(path), encoder=False, mtime=0.0) as tar:
            for sample in samples:
                tar.write(sample)
        found = _members(path)
        keys = [sample["__key__"] for sample in samples]
        ids = records.image_ids[rows]
        places.append(np.array([(i, number, *found[key]) for i, key in zip(ids, keys, strict=True)], np.int64))
        shards.append({"name": path.name, "bytes": path.stat().st_size, "images": len(rows)})
        kept += rows
    if not kept:
        raise VisionTasksError(f"{records.source}: not one of its images can be read, such as {missing[0]}.")
    losses.add("images that cannot be read: left out, with their annotations", missing)
    np.save(folder / PLACES, np.concatenate(places), allow_pickle=False)
    with (folder / ANNOTATIONS).open("wb") as stream:
        write_instances(records.subset(kept), stream, losses)
    (folder / INDEX).write_text(json.dumps({MARK: 1, "annotations": ANNOTATIONS, "shards": shards}, indent=1), "utf-8")


def _shards(records: Records, missing: list[str]) -> Iterator[tuple[list[dict[str, Any]], list[int]]]:
    """Samples of one shard after another, with their image rows; one shard's bytes are held at a time."""
    samples: list[dict[str, Any]] = []
    rows: list[int] = []
    size = 0
    for row in counted(range(len(records)), "writing shards", len(records)):
        name = safe_name(records, row)
        try:
            data = read_bytes(records, row).tobytes()
        except ImageError:
            missing.append(name)
            continue
        if rows and (len(rows) >= IMAGES_PER_SHARD or size + len(data) > BYTES_PER_SHARD):
            yield samples, rows
            samples, rows, size = [], [], 0
        # Keys are numbers: in WebDataset a key ends at the first dot, and file names have dots anywhere.
        suffix = Path(name).suffix.lower().lstrip(".") or "bin"
        samples.append({"__key__": f"{row:09d}", suffix: data, "json": _json(records, row)})
        rows.append(row)
        size += len(data)
    if rows:
        yield samples, rows


def _json(records: Records, row: int) -> bytes:
    """One image's part of the annotations, by COCO's names."""
    stream = io.BytesIO()
    write_instances(records.subset([row]), stream, Losses())
    content = msgspec.json.decode(stream.getvalue())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    for annotation in content["annotations"]:
        annotation["category"] = names[annotation["category_id"]]
    return json_text({"image": content["images"][0], "annotations": content["annotations"]})


def _members(path: Path) -> dict[str, tuple[int, int]]:
    """Key -> first byte and length of each image in a shard."""
    with tarfile.open(path) as tar:
        return {m.name.split(".")[0]: (m.offset_data, m.size) for m in tar if not m.name.endswith(".json")}
