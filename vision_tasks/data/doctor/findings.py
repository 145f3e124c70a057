"""What the doctor says: findings with their consequences, examples and fixes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vision_tasks.data.doctor.kinds import KINDS, Kind, Severity
from vision_tasks.data.doctor.wording import in_singular

_IDS = re.compile(r"\b(annotation|image) -?\d+|[ ()]")

_OF_PATCH = re.compile(r"[:;,] the patch (?:does|leaves them out|moves them|scales them if the shape is the same)$")

EXAMPLES = 12
"""So many are kept per finding: enough for a gallery."""


@dataclass(frozen=True)
class Example:
    """One place where a finding holds.

    Attributes:
        file: the image file's name as the data set gives it, "" if the place is no image. image_id, annotation_id:
            None where there is none. detail: what is wrong there, in a few words with numbers.
        split, row: which records, and image row in them, so that it can be drawn.
    """

    file: str = ""
    image_id: int | None = None
    annotation_id: int | None = None
    detail: str = ""
    split: str = ""
    row: int | None = None

    def __str__(self) -> str:
        ids = [f"image {self.image_id}"] if self.image_id is not None else []
        ids += [f"annotation {self.annotation_id}"] if self.annotation_id is not None else []
        where = ", ".join(([self.file] if self.file else []) + ids)
        if not _IDS.sub("", self.detail):  # it says nothing but the place
            return where or self.detail
        return f"{where}: {self.detail}" if where else self.detail


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a data set.

    Attributes:
        code: key of `kinds.KINDS`. count: how often. of: of how many, 0 where that says nothing.
        split: "train", "val", "test", or "" if it is between splits. examples: up to `EXAMPLES`.
        detail: what was measured, such as the distribution that gave it away.
        edits: what mends it, in the form of `data.patch`; empty if people must decide.
        consequences: findings that this one explains.
        own_title, own_remedy: words for this one, where those of its kind do not fit.
    """

    code: str
    count: int
    of: int = 0
    split: str = ""
    examples: tuple[Example, ...] = ()
    detail: str = ""
    edits: tuple[Mapping[str, Any], ...] = ()
    consequences: tuple[Finding, ...] = ()
    own_title: str = ""
    own_remedy: str = ""

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]

    @property
    def title(self) -> str:
        """What is wrong, in the plural, as it follows a number."""
        return self.own_title or self.kind.title

    @property
    def headline(self) -> str:
        """Split, how many of how many, and what is wrong with them."""
        of = f" of {self.of:,}" if self.of else ""
        split = f"{self.split}: " if self.split else ""
        title = self.title if self.count != 1 else in_singular(self.title, bool(of))
        return f"{split}{self.count:,}{of} {title}"

    @property
    def remedy(self) -> str:
        """What to do; the patch is only spoken of where it does something."""
        return self.own_remedy or (self.kind.remedy if self.edits else _OF_PATCH.sub("", self.kind.remedy))

    @property
    def severity(self) -> Severity:
        """That of its kind, or a graver one where it is as frequent as that takes."""
        kind = self.kind
        if self.of and self.count >= kind.least:
            if kind.breaks_from is not None and self.count >= kind.breaks_from * self.of:
                return "breaks"
            if kind.hurts_from is not None and self.count >= kind.hurts_from * self.of:
                return "hurts"
        return self.kind.severity


_ORDER = {"breaks": 0, "hurts": 1, "note": 2}
_LAST = ("category_rare", "category_absent", "category_imbalance", "category_unused")
"""How often categories occur: matters once files and boxes are in order."""


@dataclass(repr=False)
class Diagnosis:
    """All that was found, the gravest first, with numbers and advice beside.

    Attributes:
        findings: root causes; what follows from them is folded beneath. statistics: by split, primitives for JSON:
            counts, histograms. advice: input size, anchors and strides that would suit the data, with the recall they
            reach. looked_at: what was examined, in words ("annotations", "240 images", ...).
    """

    findings: list[Finding] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    advice: dict[str, Any] = field(default_factory=dict)
    looked_at: list[str] = field(default_factory=list)

    @property
    def breaks(self) -> bool:
        """Whether something would break training."""
        return any(f.severity == "breaks" for f in self.findings)

    @property
    def is_clean(self) -> bool:
        """Whether nothing at all was found."""
        return not self.findings

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __repr__(self) -> str:
        return f"Diagnosis({', '.join(f'{f.split}:{f.code}×{f.count:,}' for f in self) or 'nothing found'})"

    def __str__(self) -> str:
        """A line a finding, with what follows from it and what to do."""
        lines: list[str] = []
        for found in self:
            lines += [f"{found.severity}: {found.headline} [{found.code}]"]
            lines += [f"    hence {below.headline} [{below.code}]" for below in found.consequences]
            lines += [f"    to do: {found.remedy}"]
        return "\n".join(lines) or "nothing found"

    def codes(self) -> list[str]:
        """Codes of the root causes, the gravest first."""
        return [f.code for f in self.findings]


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first; of one severity those of files and boxes before those of how often categories occur.

    Of these those that explain others, then those that touch the greatest share.
    """
    return sorted(
        findings,
        key=lambda f: (
            _ORDER[f.severity],
            f.code in _LAST,
            not f.consequences,
            -(f.count / f.of if f.of else 0),
            -f.count,
            f.code,
        ),
    )
