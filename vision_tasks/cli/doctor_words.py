"""What the doctor says on the console, and what it prints for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from vision_tasks.cli.console import printable

if TYPE_CHECKING:
    from vision_tasks.data.doctor.findings import Diagnosis, Example, Finding

_EXAMPLES = 3
_COLORS = {"breaks": "31;1", "hurts": "33;1", "note": "36", "clean": "32;1"}
_MEANS = {
    "breaks": "would break training, or make it learn something else",
    "hurts": "is left out, or judged wrongly",
    "note": "worth knowing",
}


def lines_of(diagnosis: Diagnosis, mended: set[str] | None = None) -> Iterator[str]:
    """The findings with their consequences, then advice, then counts.

    Args:
        mended: codes that the patch takes care of, if one was written.
    """
    for finding in diagnosis:
        yield from _finding(finding, mended)
        yield ""
    yield from _advice(diagnosis.advice)
    yield from _counts(diagnosis.statistics)
    yield summary(diagnosis)


def summary(diagnosis: Diagnosis) -> str:
    """One line: how many findings of which kind, and what was looked at."""
    looked = f" Looked at: {', '.join(diagnosis.looked_at)}." if diagnosis.looked_at else ""
    if diagnosis.is_clean:
        return f"{painted('clean', 'clean')}: nothing found.{looked}"
    counts = {s: sum(f.severity == s for f in diagnosis) for s in _MEANS}
    words = ", ".join(f"{count} {painted(s, s)} ({_MEANS[s]})" for s, count in counts.items() if count)
    return f"{len(diagnosis)} finding{'s' * (len(diagnosis) != 1)}: {words}.{looked}"


def _finding(finding: Finding, mended: set[str] | None) -> Iterator[str]:
    kind = finding.kind
    head = painted(f"{finding.severity:>6}", finding.severity)
    yield f"{head}  {finding.headline}  [{finding.code}]"
    indent = " " * 8
    if finding.detail:
        yield f"{indent}seen by: {printable(finding.detail)}"
    yield from _examples(finding.examples, finding.count, indent)
    yield f"{indent}effect:  {kind.effect}"
    if mended is not None and finding.edits:
        how = " (the patch mends it)" if finding.code in mended else " (the patch cannot mend it)"
    else:
        how = " (--fix mends it)" if finding.edits else ""
    yield f"{indent}to do:   {finding.remedy}{how}"
    for below in finding.consequences:
        yield f"{indent}└ hence  {below.headline}  [{below.code}]"
        for deeper in below.consequences:
            yield f"{indent}  └ hence  {deeper.headline}  [{deeper.code}]"


def _examples(examples: tuple[Example, ...], count: int, indent: str) -> Iterator[str]:
    for number, example in enumerate(examples[:_EXAMPLES]):
        more = f" ... ({count:,} in all)" if number == _EXAMPLES - 1 and count > _EXAMPLES else ""
        yield f"{indent}{'such as: ' if number == 0 else ' ' * 9}{printable(str(example))}{more}"


def _counts(statistics: Mapping[str, Any]) -> Iterator[str]:
    for split, numbers in statistics.items():
        if not isinstance(numbers, Mapping) or "images" not in numbers:
            continue
        categories = numbers.get("categories", ())
        words = [
            _number(numbers["images"], "image"),
            _number(numbers.get("annotations", 0), "annotation"),
            _number(len(categories), "category", "categories"),
        ]
        yield f"{split}: {', '.join(words)}"


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _advice(advice: Mapping[str, Any]) -> Iterator[str]:
    """The sentences about the first split, which is the one to train on."""
    for split, own in advice.items():
        if lines := own.get("lines"):
            yield f"Advice ({split}):"
            yield from (f"  {printable(line)}" for line in lines)
            yield ""
            return


def to_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything, as primitives for JSON."""
    return {
        "clean": diagnosis.is_clean,
        "breaks": diagnosis.breaks,
        "looked_at": list(diagnosis.looked_at),
        "findings": [_as_dict(finding) for finding in diagnosis],
        "advice": diagnosis.advice,
        "statistics": diagnosis.statistics,
    }


def _as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "split": finding.split,
        "count": finding.count,
        "of": finding.of,
        "title": finding.title,
        "effect": finding.kind.effect,
        "remedy": finding.remedy,
        "detail": finding.detail,
        "examples": [
            {
                "split": e.split, "file": e.file, "image_id": e.image_id, "annotation_id": e.annotation_id,
                "detail": e.detail,
            }
            for e in finding.examples
        ],
        "edits": [dict(edit) for edit in finding.edits],
        "consequences": [_as_dict(below) for below in finding.consequences],
    }  # fmt: skip


def painted(text: str, kind: str) -> str:
    """In the colour of a severity, on a terminal that shows colours."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_COLORS[kind]}m{text}\033[0m"
