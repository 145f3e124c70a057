"""Heads learn of the last epochs without mosaic from the batches themselves, also when a run goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vision_tasks.config import Config
from vision_tasks.heads.faster_rcnn import FasterRCNNHead
from vision_tasks.structures import Batch
from vision_tasks.training import run

pytestmark = pytest.mark.slow


def test_a_head_is_told_when_batches_are_plain(recipe: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, set[tuple[int, int]]]] = []
    original = FasterRCNNHead.losses

    def losses(self: FasterRCNNHead, features: dict[str, torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
        seen.append((self.use_l1, set(batch.original_sizes)))
        return original(self, features, batch)

    monkeypatch.setattr(FasterRCNNHead, "use_l1", False, raising=False)
    monkeypatch.setattr(FasterRCNNHead, "losses", losses)
    options = ("data.mosaic=1", "data.mixup=0.5", "data.plain_epochs=1", "train.average=0.9", "run.name=plain")
    run.fit(recipe("train.epochs=2", *options))
    assert [told for told, _ in seen] == [False] * 4 + [True] * 4
    # Mosaics have the size the model resizes to; the scenes themselves have others.
    assert [sizes == {(64, 64)} for _, sizes in seen] == [True] * 4 + [False] * 4

    seen.clear()
    config = recipe("train.epochs=4", *options)
    last = run.fit(recipe("train.epochs=2", *options[:-1], "run.name=again")).last
    seen.clear()
    run.fit(config, resume=last)
    assert [told for told, _ in seen] == [False] * 4 + [True] * 4
