"""From the data section of a recipe to records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from vision_tasks.config import DataConfig, SemanticConfig, Split
from vision_tasks.data.formats.beside import others_beside
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.mask_images import OBJECT_LAYOUTS
from vision_tasks.data.formats.registry import find_data, read_found
from vision_tasks.data.formats.semantic import alone, has_split, read_semantic, relabelled, with_rendered, with_semantic
from vision_tasks.data.formats.webdataset import read_shards
from vision_tasks.data.images import check_images
from vision_tasks.data.joint import join
from vision_tasks.data.layout import find_semantic, held
from vision_tasks.data.patch import apply_patch
from vision_tasks.data.records import Records
from vision_tasks.data.relabel import chosen, with_maps_of, with_objects_of
from vision_tasks.data.semantic_check import check_maps
from vision_tasks.errors import VisionTasksError
from vision_tasks.models.multi_head import Kind
from vision_tasks.structures import Categories
from vision_tasks.training.data_words import tell_maps, tell_objects, tell_shared

log = logging.getLogger("vision_tasks")


def splits_of(config: DataConfig, name: str, kinds: tuple[Kind, ...] = ("objects",)) -> list[Split]:
    """The files of "train", "val" or "test": as named in the recipe, one or several, else found in `data.path`.

    Args:
        kinds: what is wanted of it: objects, semantic maps, or both.

    Raises:
        VisionTasksError: nothing of a kind that is known is found, or what is named lacks what is wanted.
    """
    named: Split | list[Split] | None = getattr(config, name)
    if not isinstance(named, list):
        found = _split_of(config, named, name, kinds)
        return [] if found is None else [found]
    alone = config.model_copy(update={"semantic": None, "path": None})  # each part says what it has
    parts = [(_split_of(alone, part, name, kinds), part.ratio) for part in named]
    return [part.model_copy(update={"ratio": ratio}) for part, ratio in parts if part is not None]


def _split_of(config: DataConfig, named: Split | None, name: str, kinds: tuple[Kind, ...]) -> Split | None:
    semantic = _semantic_of(config, named, name) if "semantic" in kinds else None
    patch = None if named is None else named.patch
    maps_alone = named is not None and named.annotations is None and named.shards is None
    if semantic is not None and ("objects" not in kinds or maps_alone):
        return Split(semantic=semantic, patch=patch)
    if named is not None and named.shards is not None:
        return named.model_copy(update={"semantic": semantic})
    if named is not None and named.annotations is not None:
        return _located(named, name).model_copy(update={"semantic": semantic})
    if named is not None and (patch is None or config.path is None):
        wanted = "the model finds objects" if patch is None else "there is nothing for the patch to mend"
        raise VisionTasksError(f"data.{name} names no annotations: {wanted}. Give a COCO JSON file.")
    if config.path is None or ("objects" not in kinds and config.semantic is not None):
        return None
    if "objects" not in kinds and name != "train" and find_semantic(config.path) is not None:
        return None  # maps without a split of this name
    try:
        splits = find_objects(config.path)
    except VisionTasksError as error:
        if "semantic" in kinds and semantic is None:
            raise VisionTasksError(_no_maps(config.path, error)) from error
        layout = find_semantic(config.path)
        if layout is not None:
            raise VisionTasksError(
                f"{error}\nSemantic maps of the layout {layout} are there, but this model finds objects: for maps "
                "train a model of maps (model=unet, say)."
            ) from error
        raise
    if name == "train" and (words := others_beside(config.path, splits, maps=False)):
        log.info("%s", words)
    if name not in splits:
        return None
    return _as_split(splits[name]).model_copy(update={"semantic": semantic, "patch": patch})


def find_objects(path: Path) -> dict[str, Found]:
    """The splits of a data set of objects, in whatever format (`registry.find_data`).

    Raises:
        VisionTasksError: nothing is found, or semantic maps alone.
    """
    found = find_data(path)
    if any(f.format != "masks" for f in found.values()) or find_semantic(path) in OBJECT_LAYOUTS:
        return found
    return find_data(path, "coco")  # raises, with what a data set of objects would be


def _located(named: Split, name: str) -> Split:
    """A split with the format and image folder that it does not name itself."""
    assert named.annotations is not None
    if named.format is not None and (named.part is not None or named.images is not None):
        return named
    try:
        found = find_data(named.annotations, named.format)
    except VisionTasksError:
        if named.images is None or named.annotations.suffix.lower() != ".json":
            raise
        return named  # its reader says better what is wrong with it
    one = found.get(named.part or name) or next(iter(found.values()))
    own = {key: value for key in ("images", "part") if (value := getattr(named, key)) is not None}
    return _as_split(one).model_copy(update=own | {"patch": named.patch, "ratio": named.ratio})


def _as_split(found: Found) -> Split:
    return Split(annotations=found.annotations, images=found.images, format=found.format, part=found.part)


def _semantic_of(config: DataConfig, named: Split | None, name: str) -> SemanticConfig | None:
    """Where the maps of a split are, with the folder that their patterns start from."""
    given = (named.semantic if named is not None else None) or config.semantic
    if given is None:
        layout = find_semantic(config.path) if named is None and config.path is not None else None
        if layout is None:
            return None
        found = SemanticConfig.model_validate({"layout": layout, "path": config.path})
        return found if has_split(found.files(), name, Path(config.path or "")) else None
    root = given.path or config.path or (named.images if named is not None else None)
    if root is None:
        raise VisionTasksError("data.semantic has patterns, but no folder that they start from. Give data.path.")
    if name != "train" and not has_split(given.files(), name, root):
        return None
    return given.model_copy(update={"path": root})


def read_split(
    split: Split,
    name: str,
    categories: Categories | None = None,
    kinds: tuple[Kind, ...] = ("objects",),
    semantic_categories: Categories | None = None,
) -> Records:
    """Records of images that are there; what is wrong with the data is said once.

    Args:
        split: from `split_of`. name: "train", "val" or "test".
        categories, semantic_categories: those trained on, whose labels objects and maps shall have.
        kinds: what is wanted. Maps without files of their own are drawn of the objects.

    Raises:
        VisionTasksError: the data cannot be used.
    """
    files = None if split.semantic is None else split.semantic.files()
    root = Path((split.semantic.path if split.semantic is not None else None) or ".")
    if split.annotations is None and split.shards is None:
        assert files is not None
        records = read_semantic(files, name, root, semantic_categories)
        records = check_images(records if split.patch is None else apply_patch(records, split.patch, name))
    else:
        records = check_images(_objects(split, name, categories))
        if "semantic" in kinds and files is not None:
            records = with_semantic(records, files, name, root, semantic_categories)
        elif kinds == ("semantic",):
            log.info("%s: the semantic maps are drawn of the objects in %s", name, records.source)
            records = relabelled(with_rendered(records), semantic_categories)
        if "objects" not in kinds:
            records = alone(records)
    if records.has_boxes:
        tell_objects(records, name)
    if records.semantic is not None:
        records, checked = check_maps(records)
        tell_maps(records, checked, name)
    if len(records.problems):
        # The gravest come first; the console itself says that something is a warning.
        words = records.problems.summary()
        log.log(
            logging.WARNING if words.startswith("warning: ") else logging.INFO, "%s", words.removeprefix("warning: ")
        )
    return records


def _objects(split: Split, name: str, categories: Categories | None) -> Records:
    """The objects of a split, mended as its patch says."""
    # A patch may rename categories, so that only what it leaves can be matched with those wanted.
    wanted = categories if split.patch is None else None
    if split.shards is not None:
        records = read_shards(split.shards, wanted, gigabytes=split.shard_cache)
    else:
        assert split.annotations is not None
        found = Found(split.format or "coco", Path(split.annotations), split.images, split.part)
        records = read_found(found, wanted)
    if not records.has_boxes:
        raise VisionTasksError(f"{records.source}: these are semantic maps, but this model finds objects.")
    if split.patch is not None:
        records = apply_patch(records, split.patch, name)
        records = records if categories is None else with_objects_of(records, categories)
    if split.format == "coco_panoptic" and not all(records.categories.is_thing):
        things = [entry for entry in records.categories.to_list() if entry["isthing"]]
        records = with_objects_of(records, Categories.of(things))
    return records


def read_parts(
    splits: Sequence[Split],
    name: str,
    kinds: tuple[Kind, ...] = ("objects",),
    categories: Categories | None = None,
    semantic_categories: Categories | None = None,
    each: Callable[[Records], Records] = lambda records: records,
) -> Records:
    """Records of one split, or of several as one data set; all have the categories of the first.

    Args:
        each: what is done to the records of each split before they are joined. Others: as in `read_split`.
    """
    parts: list[Records] = []
    for split in splits:
        records = each(read_split(split, name, categories, kinds, semantic_categories))
        if records.has_boxes and categories is None:
            categories = records.categories
        if records.semantic is not None and semantic_categories is None:
            semantic_categories = records.semantic.categories
        parts.append(records)
    return parts[0] if len(parts) == 1 else join(parts, [split.ratio for split in splits])


def read_splits(
    config: DataConfig, kinds: tuple[Kind, ...] = ("objects",), names: Mapping[Kind, Sequence[str]] | None = None
) -> tuple[Records, Records | None]:
    """Training records, and validation records (None if there are none) with the same categories.

    Args:
        kinds: what the model learns from: objects, semantic maps, or both.
        names: categories of a kind that are wanted, if not all.

    Raises:
        VisionTasksError: no training data, or not with these categories.
    """
    train = splits_of(config, "train", kinds)
    if not train:
        where = f"in {config.path}" if config.path else "named"
        if config.path is not None and config.path.is_dir():
            others = sorted(p.relative_to(config.path).as_posix() for p in config.path.glob("**/*.json"))[:6]
            where += f" (JSON files there: {', '.join(others)}; is one of them cut off, or not of COCO's form?)"
        raise VisionTasksError(f"There is no training data {where}. Give data=FOLDER, or data.train.annotations=FILE.")
    only = partial(_only, names=names or {})
    records = read_parts(train, "train", kinds, each=only)
    val = splits_of(config, "val", kinds)
    if not val:
        log.warning("There is no validation data: nothing is evaluated, and best.ckpt is the last.")
        return records, None
    # Where some are chosen by name, the file's own are read, and the same chosen again.
    objects = records.categories if records.has_boxes and "objects" not in (names or {}) else None
    surfaces = None if records.semantic is None or "semantic" in (names or {}) else records.semantic.categories
    judged = read_parts(val, "val", kinds, objects, surfaces, only)
    tell_shared(records, judged)
    return records, judged


def _only(records: Records, names: Mapping[Kind, Sequence[str]]) -> Records:
    """The objects and maps of these names.

    Raises:
        VisionTasksError: the data have no such category.
    """
    try:
        if "objects" in names and records.has_boxes:
            records = with_objects_of(records, chosen(records.categories, names["objects"]))
        if "semantic" in names and records.semantic is not None:
            records = with_maps_of(records, chosen(records.semantic.categories, names["semantic"]))
    except ValueError as error:
        raise VisionTasksError(f"{records.source}: {error}. Correct the head's categories.") from error
    return records


def _no_maps(path: Path, error: VisionTasksError) -> str:
    there = held(path) if path.is_dir() else ""
    return (
        f"{path}: no semantic maps of a known layout, and no COCO file of objects to draw them of; {there or error}\n"
        "Set data.semantic.images, data.semantic.masks (patterns such as images/{split}/{stem}.jpg) and "
        "data.semantic.categories, or data.semantic.layout."
    )
