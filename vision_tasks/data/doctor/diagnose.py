"""Examining a data set: all checks, root causes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_tasks.data.doctor.boxes import check_boxes
from vision_tasks.data.doctor.findings import Diagnosis, Finding, ordered
from vision_tasks.data.doctor.objects import Objects
from vision_tasks.data.formats.registry import find_data, read_found
from vision_tasks.data.progress import Listener, counted, reporting_to
from vision_tasks.data.records import Records

if TYPE_CHECKING:
    from vision_tasks.data.doctor.sizes import Network


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
        data: a folder or an annotation file, or records of one split or of several by name. images: the image folder,
            if it is not to be found. quick: look at annotations alone, open no image. network: what a model does to
            sizes (`sizes.network_of`), to say which objects it cannot see. progress: is told how far the work is.

    Raises:
        VisionTasksError: there is nothing that can be read at all.
    """
    if progress is not None:
        with reporting_to(progress):
            return diagnose(data, images, quick=quick, network=network)
    splits = splits_of(data, images)
    findings: list[Finding] = []
    for name, records in counted(splits.items(), "checking annotations", len(splits)):
        findings += check_boxes(Objects.of(records, name))
    looked_at = [f"{sum(len(r.labels) for r in splits.values()):,} annotations"]
    return Diagnosis(ordered(findings), {}, {}, looked_at)


def splits_of(data: Path | str | Records | Mapping[str, Records], images: Path | None = None) -> dict[str, Records]:
    """Records by split, each with the categories of its own file, so that splits can be compared."""
    if isinstance(data, Records):
        return {"train": data}
    if isinstance(data, Mapping):
        return dict(data)
    found: Any = find_data(data)
    if images is not None:
        found = {name: replace(f, images=images) for name, f in found.items()}
    return {name: read_found(f, extras=False) for name, f in counted(found.items(), "reading", len(found))}
