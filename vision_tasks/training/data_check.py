"""The doctor's quick part, before a training begins: what would break it stops it, the rest is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

from vision_tasks.data.doctor.diagnose import diagnose, parts_of
from vision_tasks.data.doctor.entries import finding_of
from vision_tasks.data.doctor.findings import Finding
from vision_tasks.data.joint import JointRecords
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

log = logging.getLogger("vision_tasks")

_SAID = 3
"""So many findings are said in words; the others are counted."""


def check_data(splits: Mapping[str, Records | None], how: Literal["stop", "warn", "off"], data: str) -> None:
    """Look for what annotations alone can tell; no image is opened.

    Args:
        splits: records by "train" and "val", as they will be trained on. how: whether to stop at what would break
            training. data: what to call the data on the command line, such as "data/balloons".

    Raises:
        VisionTasksError: with `how="stop"`, something would break training; says what, where and what mends it.
    """
    if how == "off":
        return
    with_objects = {split: records for split, records in splits.items() if records is not None and records.has_boxes}
    parts = {name: part for split, records in with_objects.items() for name, part in parts_of(split, records)}
    diagnosis = diagnose(parts, quick=True)
    grave = [f for f in diagnosis if f.severity == "breaks"]
    if grave and how == "stop":
        words = "\n".join(_words(f) for f in grave)
        several = [split for split, records in splits.items() if isinstance(records, JointRecords)]
        keys = " ".join(f"data.{split}.patch=patch.json" for split in splits if split not in several)
        entries = " and ".join(f"`patch: patch.json` in each entry of data.{split} in the recipe" for split in several)
        how_to = " and ".join(filter(None, [entries, keys]))
        raise VisionTasksError(
            f"The data would break this training:\n{words}\n"
            f"See it: vision-tasks doctor {data} --report doctor.html\n"
            f"Mend it: vision-tasks doctor {data} --fix patch.json, then train with {how_to} "
            f"(as far as the patch has them).\n"
            f"Train all the same: data.check=warn"
        )
    # Of what readers counted they have told already.
    told = {(name, finding_of(problem.code)) for name, part in parts.items() for problem in part.problems}
    rest = [f for f in diagnosis if f.severity != "note" and (f.split, f.code) not in told]
    for finding in rest[:_SAID]:
        log.warning("%s", _words(finding))
    if len(rest) > _SAID or grave:
        more = f"{len(rest) - _SAID} more" if len(rest) > _SAID else "all of it"
        log.warning("The doctor has %s to say: vision-tasks doctor %s", more, data)


def _words(finding: Finding) -> str:
    where = f" ({finding.examples[0]})" if finding.examples else ""
    words = f"{finding.headline}{where}: {finding.kind.effect}"
    return f"{words}. To do: {finding.remedy}. [{finding.code}]"
