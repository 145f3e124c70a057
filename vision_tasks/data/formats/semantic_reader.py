"""From a semantic data set on the disk to `Records` with their maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from vision_tasks.categories import Categories
from vision_tasks.data.formats.label_images import file_size
from vision_tasks.data.formats.patterns import compiled, fixed_part, matching
from vision_tasks.data.formats.semantic_files import SemanticFiles, chosen_stems, split_folders, table_for
from vision_tasks.data.formats.semantic_masks import MaskFiles, mask_files
from vision_tasks.data.formats.semantic_records import image_records
from vision_tasks.data.formats.semantic_table import ValueTable
from vision_tasks.data.image_errors import ImageError
from vision_tasks.data.problems import Problems
from vision_tasks.data.records import Records
from vision_tasks.data.semantic_source import IGNORED
from vision_tasks.errors import VisionTasksError
from vision_tasks.structures import Size

_EXAMPLES = 3


def read_masks(files: SemanticFiles, split: str, root: Path) -> Records:
    """Images with their mask files; images without a mask are left out, and counted.

    Raises:
        VisionTasksError: no image has a mask (says what was found), or the categories cannot be read.
    """
    assert files.masks is not None
    if files.images is None:
        raise VisionTasksError(
            f"data.semantic.images is missing: which images do the masks {files.masks} belong to? Give a pattern with "
            "{stem}, such as images/{split}/{stem}.*."
        )
    table, background = _with_background(files, table_for(files, root))
    problems = Problems()
    images: dict[str, str] = {}
    for stem, path, _ in _named(files, files.images, split, root):
        if stem in images:
            problems.add("stem_repeated", [path])
        else:
            images[stem] = path
    masks = _masks(files, split, root)
    chosen, lost = chosen_stems(files, split, root, sorted(images))
    both = [stem for stem in chosen if stem in masks]
    if not both:
        raise VisionTasksError(_nothing(files, split, root, list(images.values()), masks))
    problems.add("list_entry_missing", lost)
    problems.add("mask_missing", [images[stem] for stem in chosen if stem not in masks])
    if len(chosen) == len(images):  # else they may belong to another split
        problems.add("mask_without_image", [own[0][0] for stem, own in masks.items() if stem not in images])
    sizes = {stem: _mask_size(root / masks[stem][0][0], problems) for stem in both}
    kept = [stem for stem in both if sizes[stem] is not None]
    if not kept:
        raise VisionTasksError(f"{root}: not one mask of {split} can be read.\n{problems.summary()}")
    source = _source(files, root, table, background, [masks[stem] for stem in kept])
    names = [images[stem] for stem in kept]
    return image_records(root, names, [sizes[stem] or (0, 0) for stem in kept], source, root / files.masks, problems)


def _named(files: SemanticFiles, pattern: str, split: str, root: Path) -> Iterator[tuple[str, str, str]]:
    """Stem, path and category of the files of a split; where it has several folders, they are part of the stem."""
    own = split_folders(files, split, root)
    for folder in own:
        for path, found in matching(root, pattern, {"split": folder}):
            yield f"{folder}/{found['stem']}" if len(own) > 1 else found["stem"], path, found.get("category", "")


def _masks(files: SemanticFiles, split: str, root: Path) -> dict[str, list[tuple[str, str]]]:
    """Stem -> paths of its masks, and the category each is of."""
    assert files.masks is not None
    masks: dict[str, list[tuple[str, str]]] = {}
    for stem, path, category in _named(files, files.masks, split, root):
        masks.setdefault(stem, []).append((path, category))
    return masks


def _mask_size(path: Path, problems: Problems) -> Size | None:
    try:
        return file_size(path)
    except ImageError as error:
        problems.add("mask_unreadable", [str(error)])
        return None


def _with_background(files: SemanticFiles, table: ValueTable) -> tuple[ValueTable, int]:
    """Of binary masks per category: the table with a background category before the others, and its label."""
    assert files.masks is not None
    single = len(table.categories) == 1 or files.multi_label
    if "{category}" not in files.masks or single or files.background is None:
        return table, IGNORED
    if files.background in table.categories.names:
        return table, table.categories.names.index(files.background)
    entries = table.categories.to_list()
    free = 0 if 0 not in table.categories.ids else max(table.categories.ids) + 1
    added = [{"id": free, "name": files.background, "isthing": 0, "color": (0, 0, 0)}, *entries]
    return replace(table, categories=Categories.of(added)), 0


def _source(
    files: SemanticFiles, root: Path, table: ValueTable, background: int, own: Sequence[Sequence[tuple[str, str]]]
) -> MaskFiles:
    assert files.masks is not None
    paths = [[path for path, _ in several] for several in own]
    names = table.categories.names
    if "{category}" in files.masks:
        label_of = {name: label for label, name in enumerate(names)}
        for path, category in (entry for several in own for entry in several):
            if category not in label_of:
                raise VisionTasksError(
                    f"{root / path}: {category!r} is none of the semantic categories {', '.join(names[:8])}. Add it, "
                    "or correct the pattern data.semantic.masks."
                )
        labels = [[label_of[category] for _, category in several] for several in own]
        return mask_files(root, paths, table, files.reading, labels, background, files.multi_label)
    if "*" in files.masks.removesuffix(".*"):
        if len(names) > 1:
            raise VisionTasksError(
                f"data.semantic.masks: {files.masks!r} gives several masks per image, which suits one category, not "
                f"{len(names)}. Write {{category}} where the files' names tell the category."
            )
        return mask_files(root, paths, table, files.reading, [[0] * len(several) for several in own])
    return mask_files(root, [several[:1] for several in paths], table, files.reading, multi_label=files.multi_label)


def with_masks(records: Records, files: SemanticFiles, split: str, root: Path) -> Records:
    """The same records with mask files beside their objects, matched by file name; images without one keep their boxes.

    An image's stem is what the pattern `images` says of its path below `root`; without that pattern, or where it does
    not fit, its name without ending, whole or the last part.

    Raises:
        VisionTasksError: not one image has a mask.
    """
    assert files.masks is not None
    table, background = _with_background(files, table_for(files, root))
    masks = _masks(files, split, root)
    rule = compiled(files.images.replace("{split}", "*")) if files.images else None
    own: list[list[tuple[str, str]] | None] = []
    for row in range(len(records)):
        name = records.file_name(row)
        stem = PurePosixPath(name).with_suffix("").as_posix()
        keys = [stem, stem.rpartition("/")[2]]
        image = records.root / name
        inside = image.relative_to(root).as_posix() if image.is_relative_to(root) else ""
        if rule is not None and (told := rule.fullmatch(inside)):
            keys.insert(0, told["stem"])
        own.append(next((masks[key] for key in keys if key in masks), None))
    there = [several for several in own if several is not None]
    if not there:
        raise VisionTasksError(_nothing(files, split, root, [records.file_name(0)], masks))
    problems = records.problems.copy()
    bare = [records.file_name(row) for row, several in enumerate(own) if several is None]
    problems.add("mask_not_listed", bare)
    source = _source(files, root, table, background, there)
    positions = np.full(len(own), -1, np.int64)
    positions[[row for row, several in enumerate(own) if several is not None]] = np.arange(len(there))
    return replace(records, semantic=spread(source, positions), problems=problems)


def spread(source: MaskFiles, positions: np.ndarray) -> MaskFiles:
    """Maps of M images of which only some have one: (M,) place in `source`, -1 for none."""
    has = positions >= 0
    counts = np.zeros(len(positions), np.int64)
    counts[has] = np.diff(source.first)[positions[has]]
    ordered = source.subset(positions[has])
    annotated = np.zeros(len(positions), bool)
    annotated[has] = ordered.annotated
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return replace(ordered, first=first, annotated=annotated)


def _nothing(
    files: SemanticFiles, split: str, root: Path, images: Sequence[str], masks: Mapping[str, Sequence[tuple[str, str]]]
) -> str:
    def held(pattern: str | None) -> str:
        folder = root / fixed_part(pattern or "")
        if not folder.is_dir():
            return f"There is no folder {folder}."
        names = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir())
        return (
            f"{folder} holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
            if names
            else f"{folder} is empty."
        )

    mask_names = [entry[0] for several in list(masks.values())[:_EXAMPLES] for entry in several[:1]]
    if images and mask_names:
        return (
            f"{root}: no image of {split} has a mask: {len(images)} images such as {images[0]}, {len(masks)} masks "
            f"such as {mask_names[0]}. {{stem}} must stand for the same text in data.semantic.images ({files.images}) "
            f"and data.semantic.masks ({files.masks})."
        )
    what, pattern = ("image", files.images) if not images else ("mask", files.masks)
    return f"{root}: no {what} of {split} is found as {pattern}. {held(pattern)} Set data.semantic.{what}s."
