"""A checkpoint is whole, comes back the same, executes nothing, and a bad file says what is wrong with it."""

from __future__ import annotations

import errno
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

import vision_tasks as vt
from tests.tiny_model import OPTIONS, tiny_model
from vision_tasks.models import checkpoint
from vision_tasks.models.preprocess import Preprocess
from vision_tasks.models.vision_model import VisionModel
from vision_tasks.structures import Categories, Prediction


def predict(model: VisionModel) -> Prediction:
    picture = torch.randint(0, 256, (3, 70, 90), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        return model.predict(model.preprocess([picture]))[0]


def same(one: Prediction, two: Prediction) -> bool:
    assert len(one) > 10, "the comparison needs boxes"
    return all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("boxes", "labels", "scores"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return vt.save(tiny_model(), tmp_path / "model.ckpt")


def test_predictions_come_back_exactly(tmp_path: Path) -> None:
    coco = [{"id": 40, "name": "sky", "isthing": 0, "color": [1, 2, 3]}, {"id": 7, "name": "Hündin"}]
    torch.manual_seed(0)
    model = vt.create_model("faster_rcnn", coco, **OPTIONS, anchor_sizes=(8, 16, 32, 64, 128), score_threshold=0.01)
    model.preprocess = Preprocess(48, 200, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    before = predict(model)
    path = vt.save(model.train(), tmp_path / "new folder" / "model.ckpt")
    back = vt.load(path)
    assert same(before, predict(back))
    assert not back.training
    assert back.preprocess == model.preprocess
    assert back.categories == Categories.of(coco)
    assert back.blueprint == model.blueprint
    again = vt.load(vt.save(back, tmp_path / "again.ckpt"))
    assert same(before, predict(again))


def test_a_checkpoint_holds_only_what_weights_only_reads(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    assert set(content) == {"vision_tasks", "state_dict"}
    assert content["vision_tasks"]["schema"] == checkpoint.SCHEMA
    assert content["vision_tasks"]["builder"] == "faster_rcnn"
    assert not list(saved.parent.glob(".*")), "a temporary file was left"


def test_options_of_numpy_do_not_make_a_file_that_nobody_can_read(tmp_path: Path) -> None:
    options = OPTIONS | {
        "min_size": np.int64(64),
        "score_threshold": np.float32(0.25),
        "anchor_sizes": np.arange(8, 13),
    }
    model = vt.create_model("faster_rcnn", ["a"], **options)
    assert vt.load(vt.save(model, tmp_path / "model.ckpt")).preprocess.min_size == 64


def test_averaged_weights_are_preferred(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    averaged = {k.replace("model.", "averaged.module.", 1): v + 1 for k, v in content["state_dict"].items()}
    both = saved.with_name("both.ckpt")
    torch.save(
        content | {"state_dict": content["state_dict"] | averaged | {"averaged.n_averaged": torch.tensor(3)}}, both
    )
    plain, mean = vt.load(saved), vt.load(both)
    for one, two in zip(plain.parameters(), mean.parameters(), strict=True):
        assert torch.equal(one + 1, two)


def test_a_model_assembled_by_hand_says_why_it_cannot_be_saved(tmp_path: Path) -> None:
    model = tiny_model()
    model.blueprint = None
    with pytest.raises(ValueError, match="create_model"):
        vt.save(model, tmp_path / "x.ckpt")


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("form", ["torch", "pickle", "nested"])
def test_a_file_that_wants_to_run_code_is_refused_and_not_run(form: str, tmp_path: Path, saved: Path) -> None:
    path, marker = tmp_path / "evil.ckpt", tmp_path / "it ran"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Malicious(marker)))
    elif form == "torch":
        torch.save(Malicious(marker), path)
    else:
        torch.save(torch.load(saved, weights_only=True) | {"extra": Malicious(marker)}, path)
    for read in (vt.load, lambda p: vt.create_model("faster_rcnn", ["a"], weights=p)):
        with pytest.raises(vt.VisionTasksError, match=r"evil\.ckpt was refused"):
            read(path)
    assert not marker.exists()


@pytest.mark.parametrize("part", [0, 1, 10, 1000, 0.5, 0.99])
def test_a_truncated_file(part: float, saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(data[: int(part if part >= 1 else part * len(data))])
    with pytest.raises(vt.VisionTasksError, match=r"cut\.ckpt"):
        vt.load(path)


def test_files_of_random_bytes_and_damaged_checkpoints(saved: Path, tmp_path: Path) -> None:
    draw = random.Random(0)
    whole = saved.read_bytes()
    legacy = tmp_path / "legacy.ckpt"
    torch.save({"a": torch.zeros(3), "b": [1, "x", None]}, legacy, _use_new_zipfile_serialization=False)
    files = [draw.randbytes(n) for n in (1, 10, 100, 5000)] + [b"PK\x03\x04" + draw.randbytes(500)]
    for _ in range(150):
        data = bytearray(legacy.read_bytes())
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        files.append(bytes(data))
    for _ in range(30):  # the directory at the end and the pickle at the start
        data = bytearray(whole)
        for _ in range(4):
            data[draw.choice([draw.randrange(2000), len(data) - 1 - draw.randrange(2000)])] = draw.randrange(256)
        files.append(bytes(data))
    for data in files:
        path = tmp_path / "random.ckpt"
        path.write_bytes(data)
        try:
            vt.load(path)  # a flipped bit may leave a readable file
        except vt.VisionTasksError as error:
            assert "random.ckpt" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2.*reads 1"),
        ({"schema": None}, "schema None"),
        ({"builder": "faster_rcn"}, "Did you mean 'faster_rcnn'"),
        ({"arguments": 5}, "does not hold what its description says"),
        ({"arguments": {"no_such": 1}}, "no_such"),
        ({"arguments": {"backbone": "nothing"}}, "nothing"),
        ({"categories": {}}, "does not hold"),
        ({"categories": {"objects": [{"name": "x"}]}}, "does not hold"),
        ({"categories": {"objects": [{"id": 1, "name": "x"}]}}, "does not hold.*size mismatch"),
        ({"preprocess": {"min_sice": 5}}, "min_sice"),
        ({"preprocess": None}, "does not hold"),
    ],
)
def test_another_description(change: dict[str, Any], message: str, saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["vision_tasks"] |= change
    torch.save(content, saved)
    with pytest.raises(vt.VisionTasksError, match=f"(?s)(model.ckpt|faster_rcnn).*{message}|{message}"):
        vt.load(saved)


@pytest.mark.parametrize("state", [None, {}, 3, {"model.x": torch.zeros(2)}, {5: torch.zeros(1)}])
def test_weights_that_do_not_belong(state: Any, saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save(content | {"state_dict": state}, saved)
    with pytest.raises(vt.VisionTasksError, match=r"model\.ckpt does not hold"):
        vt.load(saved)


def test_a_foreign_state_dict_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    with pytest.raises(
        vt.VisionTasksError, match=r"no checkpoint of vision_tasks.*create_model\(\.\.\., weights=path\)"
    ):
        vt.load(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(vt.VisionTasksError, match="holds a Tensor"):
        vt.load(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(vt.VisionTasksError, match="There is no weight file"):
            vt.load(path)


def fail_with(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("where", ["save", "replace", "mkstemp"])
def test_a_full_disk_leaves_the_earlier_file(where: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    if where == "save":

        def half(content: Any, file: Any) -> None:
            file.write(b"half")
            # torch's writer reports a full disk as a RuntimeError
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

        monkeypatch.setattr(torch, "save", half)
    elif where == "replace":
        monkeypatch.setattr(os, "replace", fail_with(errno.ENOSPC))
    else:
        monkeypatch.setattr(checkpoint.tempfile, "mkstemp", fail_with(errno.EROFS))
    with pytest.raises(vt.VisionTasksError, match=r"model\.ckpt cannot be written.*Make room or choose another folder"):
        vt.save(tiny_model(seed=1), saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["model.ckpt"]


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(vt.VisionTasksError, match="cannot be written"):
        vt.save(tiny_model(), tmp_path / "file" / "model.ckpt")
