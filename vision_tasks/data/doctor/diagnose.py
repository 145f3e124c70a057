"""Examining a data set: all checks, root causes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vision_tasks.data.doctor.between import check_shared_paths, check_without_objects
from vision_tasks.data.doctor.boxes import check_boxes
from vision_tasks.data.doctor.causes import beneath, folded, without_guesses
from vision_tasks.data.doctor.conventions import check_conventions
from vision_tasks.data.doctor.entries import check_entries
from vision_tasks.data.doctor.findings import Diagnosis, Finding
from vision_tasks.data.doctor.images import check_image_files
from vision_tasks.data.doctor.labels import check_labels
from vision_tasks.data.doctor.masks import check_masks
from vision_tasks.data.doctor.objects import Objects
from vision_tasks.data.doctor.parts import check_parts
from vision_tasks.data.doctor.sizes import Network, check_sizes
from vision_tasks.data.doctor.stated_sizes import check_exchanged
from vision_tasks.data.doctor.statistics import statistics_of
from vision_tasks.data.doctor.unlisted import check_unlisted
from vision_tasks.data.formats.interface import Found
from vision_tasks.data.formats.registry import find_with_images, read_found
from vision_tasks.data.joint import JointRecords
from vision_tasks.data.layout import images_may_be_missing
from vision_tasks.data.patch_edits import apply_edits
from vision_tasks.data.progress import Listener, counted, reporting_to
from vision_tasks.data.records import Records


def diagnose(
    data: Path | str | Records | Mapping[str, Records],
    images: Path | None = None,
    *,
    quick: bool = False,
    network: Network | None = None,
    progress: Listener | None = None,
) -> Diagnosis:
    """What is wrong with a data set, what that does, and what mends it.

    Args:
        data: a folder or an annotation file, or records of one split or of several by name, the one to train on first.
        images: the image folder, if it is not to be found. quick: look at annotations alone; of images a
            few heads are read at the most. network: what a model does to sizes, to say which objects it cannot see.
        progress: is told how far the work is.

    Raises:
        VisionTasksError: there is nothing that can be read at all.
    """
    if progress is not None:
        with reporting_to(progress):
            return diagnose(data, images, quick=quick, network=network)
    splits = splits_of(data, images)
    findings: list[Finding] = []
    places: dict[tuple[str, str], np.ndarray] = {}
    rows: dict[tuple[str, str], np.ndarray] = {}
    out = Diagnosis()
    as_meant: dict[str, Records] = {}
    for name, records in counted(splits.items(), "checking annotations", len(splits)):
        own, objects = check_annotations(records, name)
        findings += own
        for code, found in objects.found.items():
            places[name, code] = found
            rows[name, code] = found if code.startswith("image_") else objects.rows[found]
        out.statistics[name] = statistics_of(objects)
        as_meant[name] = _as_meant(records, own)
        vanishing, advice = check_sizes(as_meant[name], name, network)
        findings += vanishing
        if advice:
            out.advice[name] = advice
    findings += [*check_labels(splits), *check_without_objects(splits)]
    out.looked_at.append(f"{sum(len(r.labels) for r in splits.values()):,} annotations")
    if quick:
        findings += check_shared_paths(splits)
    else:
        files = check_image_files(as_meant)  # boxes tell whether a size or a file is wrong
        findings = [*_without_those_of(files, findings), *files]
        out.looked_at.append(f"{sum(map(len, splits.values())):,} images")
    findings += check_unlisted(splits)
    out.findings = folded(findings, places, rows)
    return out


def _without_those_of(files: Iterable[Finding], findings: Iterable[Finding]) -> list[Finding]:
    """Findings without what the image files say of each image, where annotations or a few heads of files say less."""
    known = {(f.split, f.code) for f in files if f.code in ("image_mis_sized", "image_size_unknown")}
    return [f for f in findings if (f.split, f.code) not in known]


def _as_meant(records: Records, findings: Sequence[Finding]) -> Records:
    """The records with boxes in the form that they are meant in, if they are in a wrong one."""
    edits = [edit for f in findings for edit in f.edits if edit["op"] == "boxes_from"]
    return apply_edits(records, edits) if edits else records


def check_annotations(records: Records, split: str) -> tuple[list[Finding], Objects]:
    """Findings in the annotations of one split, and its objects with boxes as they were meant."""
    written = Objects.of(records, split)
    turned = check_exchanged(written)
    forms, objects = ([], written) if turned else check_conventions(written)
    if not forms and not turned:
        forms, objects = check_parts(written)
    findings = [*check_boxes(objects), *check_masks(objects)]
    if forms:
        findings = beneath(forms, [*check_boxes(written), *check_masks(written)], findings)
    findings = without_guesses([*findings, *turned])
    return [*findings, *check_entries(objects)], objects


def splits_of(data: Path | str | Records | Mapping[str, Records], images: Path | None = None) -> dict[str, Records]:
    """Records by split, each with the categories of its own file, so that splits can be compared."""
    if isinstance(data, Records):
        data = {"train": data}
    if isinstance(data, Mapping):
        return {name: part for split, records in data.items() for name, part in parts_of(split, records)}
    found = found_of(data, images)
    return {name: read_found(f) for name, f in counted(found.items(), "reading", len(found))}


def parts_of(split: str, records: Records) -> list[tuple[str, Records]]:
    """The data sets with objects that a split is made of, with names: "train", "train[1]", ...; or the split itself."""
    if not isinstance(records, JointRecords):
        return [(split, records)]
    own = [part for part in records.parts if part.has_boxes]
    return [(f"{split}[{number}]" if number else split, part) for number, part in enumerate(own)]


def found_of(data: Path | str, images: Path | None = None) -> dict[str, Found]:
    """Where the splits of a data set are, also if their images are nowhere, which is a finding."""
    with images_may_be_missing():
        return find_with_images(data, images=images)
