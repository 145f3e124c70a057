"""Real photos, clean and then damaged in every way there is: each is named, and mended where it can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.doctor_confusion import CONVENTIONS, DAMAGES, Outcome, difference, outcome, voc
from tests.data.doctor_photos import Photos, copied, make_clean
from tests.tiny_model import tiny_model
from vision_tasks.data.dataset import DetectionDataset, collate
from vision_tasks.data.doctor.diagnose import diagnose, splits_of
from vision_tasks.data.records import Records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clean(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Photos:
    photos = make_clean(real_data, tmp_path_factory.mktemp("clean") / "photos")
    photos.write()
    return photos


@pytest.fixture(scope="module")
def clean_loss(clean: Photos) -> float:
    return loss_of(splits_of(clean.folder)["train"])


def test_clean_photos_give_no_finding(clean: Photos, tmp_path: Path) -> None:
    diagnosis = diagnose(clean.folder)
    assert diagnosis.codes() == []
    assert diagnosis.is_clean
    assert not diagnosis.breaks
    photos = copied(clean, tmp_path / "photos")
    voc(photos)
    assert diagnose(photos.folder).codes() == [], "as VOC, which counts from 1"


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_first_and_mended(clean: Photos, clean_loss: float, tmp_path: Path, name: str) -> None:
    damage = DAMAGES[name]
    found = outcome(damage, clean, tmp_path / "photos")
    assert found.first == damage.code, found.diagnosis.codes()
    assert not found.mending.refused
    if found.edits:
        left = [finding for finding in found.after if finding.code == damage.code]
        assert left == []
        assert not found.after.breaks
    if damage.restores:
        for split, records in splits_of(clean.folder).items():
            assert difference(found.mended[split], records) == [], split
    if damage.trains:
        assert found.diagnosis.breaks
        assert loss_of(found.mended["train"]) == pytest.approx(clean_loss, rel=1e-4)
    check_more(name, found, clean, tmp_path / "photos")


def check_more(name: str, found: Outcome, clean: Photos, folder: Path) -> None:
    """What the patch has made of damages that cannot be taken back, and what follows from a cause."""
    original = splits_of(clean.folder)["train"]
    train = found.mended["train"]
    if name in CONVENTIONS:
        assert len(found.diagnosis) == 1, "one cause, its consequences beneath"
        assert found.diagnosis.findings[0].consequences
    elif name == "image files of half the size":
        halved = np.flatnonzero(train.widths != original.widths)
        assert len(halved) == 5
        rows = np.repeat(np.arange(len(train)), np.diff(train.first))
        own = np.isin(rows, halved)
        sides = (
            np.stack([train.widths, train.heights], 1)[rows] / np.stack([original.widths, original.heights], 1)[rows]
        )
        assert np.allclose(train.boxes, original.boxes * np.concatenate([sides, sides], 1))
        assert np.array_equal(train.boxes[~own], original.boxes[~own])
    elif name.startswith("training images in val"):
        assert len(train) == len(original) - 3
    elif name == "VOC from zero":
        assert train.boxes[:, :2].min() >= 0
    elif name in ("image files missing", "image files cut off", "image files of 0 bytes", "image files unreadable"):
        assert len(train) == len(original) - 5


def loss_of(records: Records) -> float:
    """Of one step of a small detector on four of the photos, the gradient included."""
    raw = collate([DetectionDataset(records)[row] for row in range(4)])
    model = tiny_model(("balloon",)).train()
    torch.manual_seed(1)
    total = torch.stack(list(model.losses(model.preprocess(raw.images, raw.targets)).values())).sum()
    total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    return float(total.detach())
