"""Options of the semantic losses: what is refused, and a loss of one's own."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vision_tasks.losses.semantic import LOSSES, semantic_losses


def maps() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 5, 4, 6), torch.randint(-1, 5, (2, 4, 6), dtype=torch.int16)


def test_misspelt_names_and_foreign_values_are_refused() -> None:
    logits, target = maps()
    cases: list[tuple[str, dict[str, dict[str, Any]]]] = [
        ("Did you mean 'cross_entropy'", {"crossentropy": {}}),
        ("Did you mean 'label_smoothing'", {"cross_entropy": {"label_smoothin": 0.1}}),
        ("one number for each of 5", {"dice": {"class_weights": [1, 2]}}),
        ("not all 0", {"cross_entropy": {"class_weights": [0] * 5}}),
        ("finite, at least 0", {"cross_entropy": {"class_weights": [1, 1, 1, 1, math.nan]}}),
        ("label_smoothing must be", {"cross_entropy": {"label_smoothing": 1.0}}),
        ("positive_weight is of sigmoid", {"cross_entropy": {"positive_weight": 2}}),
        ("two ways", {"cross_entropy": {"hard_share": 0.5, "hard_threshold": 0.7}}),
        ("hard_share must be", {"cross_entropy": {"hard_share": 1.5}}),
        ("min_kept must be", {"cross_entropy": {"hard_threshold": 0.7, "min_kept": -1}}),
        (r"absent .* dice takes Literal\['zero', 'skip', 'count'\], not 'none'", {"dice": {"absent": "none"}}),
        ("gamma of the semantic loss focal takes float, not '2'", {"focal": {"gamma": "2"}}),
        ("log of the semantic loss dice takes bool, not 1", {"dice": {"log": 1}}),
        ("smooth of the semantic loss dice takes float, not True", {"dice": {"smooth": True}}),
        ("takes float, not None", {"cross_entropy": {"label_smoothing": None}}),
        (
            "takes a list of one number for each category, or names .* with numbers .*, not 3",
            {"cross_entropy": {"class_weights": 3}},
        ),
        ("not 1.5", {"cross_entropy": {"hard_threshold": 0.7, "min_kept": 1.5}}),
        ("smooth must be", {"jaccard": {"smooth": -1}}),
        ("gamma must be", {"tversky": {"gamma": 0}}),
        ("gamma must be", {"focal": {"gamma": -1}}),
        ("alpha must be", {"focal": {"alpha": 2}}),
        ("alpha is of sigmoid", {"focal": {"alpha": 0.5}}),
    ]
    semantic_losses(
        logits, target, {"cross_entropy": {"class_weights": None, "hard_threshold": 1}, "dice": {"smooth": 1}}
    )
    for message, spec in cases:
        with pytest.raises(ValueError, match=message):
            semantic_losses(logits, target, spec)
    with pytest.raises(ValueError, match=r"label 5, but labels end at 4"):
        semantic_losses(logits, target.clamp_min(5), {"dice": {}})
    with pytest.raises(ValueError, match="has shape"):
        semantic_losses(logits, target[:, 1:], {"dice": {}})


def test_a_loss_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def squares(logits: Tensor, target: Tensor, factor: "Unknown" = 1) -> Tensor:  # type: ignore[name-defined]  # noqa: F821, UP037
        return logits.square().mean() * factor

    monkeypatch.setitem(LOSSES, "squares", squares)
    logits, target = maps()
    torch.testing.assert_close(
        semantic_losses(logits, target, {"squares": {"factor": 2}})["squares"], 2 * logits.square().mean()
    )


def test_every_loss_and_option_is_documented_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    written: dict[tuple[str, str], str] = {}
    for options, losses, defaults, *_ in rows:
        names = re.findall(r"`(\w+)`", losses)
        names = [name for name in LOSSES if name not in names] if losses.startswith("all but") else names
        each = re.findall(r"`(\w+)`", options)
        for option, default in zip(
            each, defaults.split(", ") if len(each) > 1 else [defaults] * len(each), strict=True
        ):
            written |= {(name, option): default for name in names}
    wanted = {
        (name, option): parameter.default
        for name, loss in LOSSES.items()
        for option, parameter in list(inspect.signature(loss).parameters.items())[2:]
    }
    shown = {key: "none" if default is None else str(default).lower() for key, default in wanted.items()}
    assert {key: written.get(key) for key in wanted} == {
        key: str(int(wanted[key]))
        if type(wanted[key]) is float and wanted[key].is_integer()
        else text.replace("e-0", "e-")
        for key, text in shown.items()
    }
    assert {row[0].strip("`") for row in rows} >= set(LOSSES)
