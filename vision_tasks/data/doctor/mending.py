"""From a diagnosis to the patch that mends what can be mended."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vision_tasks.data.doctor.diagnose import diagnose
from vision_tasks.data.doctor.findings import Diagnosis, Finding
from vision_tasks.data.doctor.network import Network
from vision_tasks.data.patch import SplitPatch, apply_edits, fingerprint
from vision_tasks.data.patch_edits import OPERATIONS
from vision_tasks.data.records import Records
from vision_tasks.errors import VisionTasksError

_ROUNDS = 3
_ORDER = {op: number for number, op in enumerate(OPERATIONS)}
_IMAGES = ("join_images", "drop_images")
"""Operations whose ids are those of images."""


@dataclass
class Mending:
    """What was done about a diagnosis.

    Attributes:
        edits: by split, in the order in which they are made. records: by split, as the edits leave them.
        left: what annotations still show then. refused: fixes that did not fit, in words.
    """

    edits: dict[str, list[Mapping[str, Any]]]
    records: dict[str, Records]
    left: Diagnosis = field(default_factory=Diagnosis)
    refused: list[str] = field(default_factory=list)

    @property
    def codes(self) -> set[str]:
        """Findings that some edit is for."""
        return {str(edit.get("why", "")) for edits in self.edits.values() for edit in edits}

    def patches(
        self, splits: Mapping[str, Records], before: Mapping[str, SplitPatch] | None = None
    ) -> dict[str, SplitPatch]:
        """What `write_patch` takes.

        Args:
            splits: the records that were diagnosed. before: patches that had been applied to them already, which the
                new ones continue.
        """
        out = {}
        for name, records in splits.items():
            old = (before or {}).get(name) or SplitPatch(records.source.name, fingerprint(records), ())
            out[name] = SplitPatch(old.source, old.fingerprint, (*old.edits, *self.edits[name]))
        return out


def mend(splits: Mapping[str, Records], diagnosis: Diagnosis, network: Network | None = None) -> Mending:
    """Make the edits that the findings propose, look again, and go on until nothing new can be mended.

    What only images show is taken from `diagnosis`; after that annotations alone are looked at. Consequences are not
    mended by themselves: they go with their cause, or are found in the next round.
    """
    done = Mending({name: [] for name in splits}, dict(splits))
    left, made = diagnosis, False
    for _ in range(_ROUNDS):
        proposed = _proposed(left.findings, done)
        if not any(proposed.values()):
            break
        for name, edits in proposed.items():
            for _, group in itertools.groupby(edits, key=lambda e: e["op"]):
                _make(done, name, list(group))
        left, made = diagnose(done.records, quick=True, network=network), True
        left.findings = [f for f in left.findings if f.code != "image_unlisted"]  # those that an edit leaves out
    done.left = left if made else Diagnosis()
    return done


def _proposed(findings: Iterable[Finding], done: Mending) -> dict[str, list[Mapping[str, Any]]]:
    """Edits by split that have not been made: first those that move boxes, last those that leave things out."""
    out: dict[str, list[Mapping[str, Any]]] = {name: [] for name in done.records}
    for finding in findings:
        for edit in finding.edits:
            name = str(edit.get("split", finding.split))
            plain = _op_first({"why": finding.code} | {k: v for k, v in edit.items() if k != "split"})
            if name in out and plain not in done.edits[name]:  # what did not help once will not help again
                out[name].append(plain)
    return {name: sorted(edits, key=lambda e: _ORDER.get(str(e["op"]), 0)) for name, edits in out.items()}


def _make(done: Mending, name: str, edits: Sequence[Mapping[str, Any]]) -> None:
    """Makes edits of one operation: all at once, or, if they do not all fit, those that do."""
    kept = [left for edit in edits if (left := _still_there(edit, done.records[name]))]
    try:
        done.records[name] = apply_edits(done.records[name], kept)
    except VisionTasksError as error:
        if len(kept) > 1:
            for edit in kept:
                _make(done, name, [edit])
        else:
            done.refused.append(f"{name}: {kept[0]['why']} cannot be mended: {error}")
    else:
        done.edits[name] += kept


def _still_there(edit: Mapping[str, Any], records: Records) -> Mapping[str, Any] | None:
    """The edit without ids that an edit before it has left out; None if none remains."""
    if "ids" not in edit:
        return edit
    own = records.image_ids if edit["op"] in _IMAGES else records.annotation_ids
    ids = np.asarray(edit["ids"], np.int64)
    there = np.isin(ids, own)
    if not there.any() or (edit["op"] == "join_images" and not (there[0] and there.sum() > 1)):
        return None
    return {**edit, "ids": ids[there].tolist()}


def _op_first(edit: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keys in the order in which people read them: what, on what, why."""
    return {"op": edit["op"], **{k: v for k, v in edit.items() if k not in ("op", "why")}, "why": edit["why"]}
