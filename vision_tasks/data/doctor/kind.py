"""What is always the same about a kind of finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["breaks", "hurts", "note"]
"""`breaks`: training would stop, or learn something else than was meant. `hurts`: something is left out, or judged
wrongly. `note`: worth knowing, nothing is lost."""


@dataclass(frozen=True)
class Kind:
    """What is always the same about a finding.

    Attributes:
        severity: see `Severity`. title: what is wrong, in the plural, as it follows a number.
        effect: what it does to training or to the metric. remedy: what to do.
        breaks_from, hurts_from: from this share on it breaks training, or hurts, whatever `severity` says; None: never.
        least: fewer are too few for a share to say anything.
    """

    severity: Severity
    title: str
    effect: str
    remedy: str
    breaks_from: float | None = None
    hurts_from: float | None = None
    least: int = 1
