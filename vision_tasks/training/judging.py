"""By what a model is judged: the metrics its heads and the data allow, and one number that says which one is best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Summary(Protocol):
    """What an evaluation of one kind says.

    Attributes:
        main: name of the number that matters most. numbers: by name, 0..1, -1 where there was nothing to judge by.
        per_category: rows for a table, the name first.
    """

    @property
    def main(self) -> str: ...
    @property
    def numbers(self) -> dict[str, float]: ...
    @property
    def per_category(self) -> list[dict[str, Any]]: ...


class Judge(Protocol):
    """A metric of one kind: `update` it with predictions, then ask for its `summary` on all ranks."""

    @property
    def kind(self) -> str: ...
    def update(self, *args: Any) -> None: ...
    def summary(self) -> Summary: ...
    def reset(self) -> None: ...


Summaries = dict[str, Summary]
"""By kind: "bbox", "segm", "semantic", "panoptic"."""

_PREFIX = {"segm": "segm/"}  # the same names as those of the boxes


def score(summaries: Mapping[str, Summary]) -> tuple[str, float] | None:
    """Name and value of what the best model is judged by; None if nothing was evaluated.

    Panoptic quality if it could be computed (it needs images that have masks and a map); else the mean over the heads:
    AP of the masks, or of the boxes without masks, and mIoU of the maps. What had no truth to be judged by (-1) is left
    out; if nothing had any, the value is -1.
    """
    objects = summaries.get("segm") or summaries.get("bbox")
    both = [summary for summary in (objects, summaries.get("semantic")) if summary is not None]
    merged = [summaries["panoptic"]] if "panoptic" in summaries else []
    for candidates in (merged, both):
        judged = [summary for summary in candidates if summary.numbers[summary.main] >= 0]
        if judged:
            names = " and ".join(summary.main for summary in judged)
            value = sum(summary.numbers[summary.main] for summary in judged) / len(judged)
            return (names if len(judged) == 1 else f"mean of {names}"), value
    nothing = [*both, *merged]
    return (nothing[0].main, -1.0) if nothing else None


def numbers_of(summaries: Mapping[str, Summary]) -> dict[str, float]:
    """Every number by its name; those of the masks as "segm/AP" and so on."""
    return {_PREFIX.get(kind, "") + name: value for kind, s in summaries.items() for name, value in s.numbers.items()}


def in_short(summaries: Mapping[str, Summary]) -> str:
    """The numbers that matter, in one line: "AP 0.512, AP50 0.801, masks AP 0.433, AP50 0.700, mIoU 0.613"."""
    words = []
    for kind, summary in summaries.items():
        names = [summary.main, *(n for n in ("AP50",) if n in summary.numbers)]
        part = ", ".join(f"{name} {summary.numbers[name]:.3f}" for name in names)
        words.append(f"masks {part}" if kind == "segm" else part)
    return ", ".join(words)
