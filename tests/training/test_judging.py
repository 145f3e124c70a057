"""Which number says that one checkpoint is better than another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from vision_tasks.training.judging import in_short, numbers_of, score


@dataclass
class Said:
    """A summary that says what it is told to."""

    main: str
    numbers: dict[str, float]
    per_category: list[dict[str, Any]] = field(default_factory=list)


BOXES = Said("AP", {"AP": 0.5, "AP50": 0.7})
MASKS = Said("AP", {"AP": 0.4, "AP50": 0.6})
MAPS = Said("mIoU", {"mIoU": 0.8})
NO_PQ = Said("PQ", {"PQ": -1.0})
NO_BOXES = Said("AP", {"AP": -1.0, "AP50": -1.0})


@pytest.mark.parametrize(
    ("summaries", "expected"),
    [
        ({}, None),
        ({"bbox": BOXES}, ("AP", 0.5)),
        ({"bbox": BOXES, "segm": MASKS}, ("AP", 0.4)),
        ({"semantic": MAPS}, ("mIoU", 0.8)),
        ({"bbox": BOXES, "segm": MASKS, "semantic": MAPS}, ("mean of AP and mIoU", pytest.approx(0.6))),
        ({"bbox": BOXES, "segm": MASKS, "semantic": MAPS, "panoptic": Said("PQ", {"PQ": 0.3})}, ("PQ", 0.3)),
        # No image has masks and a map: the parts decide, not a number that never moves.
        ({"segm": MASKS, "semantic": MAPS, "panoptic": NO_PQ}, ("mean of AP and mIoU", pytest.approx(0.6))),
        ({"bbox": NO_BOXES, "semantic": MAPS}, ("mIoU", 0.8)),
        ({"bbox": NO_BOXES}, ("AP", -1.0)),
        ({"panoptic": Said("PQ", {"PQ": 0.0}), "semantic": MAPS}, ("PQ", 0.0)),
    ],
)  # fmt: skip
def test_score(summaries: dict[str, Said], expected: tuple[str, float] | None) -> None:
    assert score(summaries) == expected


def test_names_do_not_clash() -> None:
    numbers = numbers_of({"bbox": BOXES, "segm": MASKS, "semantic": MAPS})
    assert numbers == {"AP": 0.5, "AP50": 0.7, "segm/AP": 0.4, "segm/AP50": 0.6, "mIoU": 0.8}
    assert in_short({"bbox": BOXES, "segm": MASKS, "semantic": MAPS}) == (
        "AP 0.500, AP50 0.700, masks AP 0.400, AP50 0.600, mIoU 0.800"
    )
