"""Reading other people's weight files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from vision_tasks.errors import VisionTasksError
from vision_tasks.weights import files


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_state_dict_is_found_wherever_people_keep_it(wrap: object, tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    torch.save(wrap(state), tmp_path / "w.pth")  # type: ignore[operator]
    found = files.read_state_dict(tmp_path / "w.pth")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize("legacy", [False, True])
def test_old_and_new_files(legacy: bool, tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert files.read_state_dict(str(tmp_path / "w.pth")).keys() == state.keys()


def test_tensors_come_to_the_cpu_and_the_home_folder_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pth")
    assert files.read_state_dict("~/w.pth")["w"].device.type == "cpu"


def test_nothing_of_use(tmp_path: Path) -> None:
    torch.save({"epoch": 3, 5: "x"}, tmp_path / "w.pth")
    with pytest.raises(VisionTasksError, match=r"w\.pth holds no tensors; its keys are \['5', 'epoch'\]"):
        files.read_state_dict(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(VisionTasksError, match=r"holds a list"):
        files.read_state_dict(tmp_path / "w.pth")


def test_a_text_file_is_no_weight_file(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("<html>404</html>")
    with pytest.raises(VisionTasksError, match=r"w\.pth"):
        files.read_state_dict(tmp_path / "w.pth")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc" * 1000)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 1000).hexdigest()


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(4, 5))


def test_what_fits_is_taken_and_the_rest_is_named() -> None:
    module = network()
    kept = module[2].weight.detach().clone()
    state = {k: v + 1 for k, v in network().state_dict().items()}
    wanted = state["0.weight"]
    del state["0.bias"], state["1.num_batches_tracked"]
    state |= {"2.weight": torch.zeros(7, 4), "fc.weight": torch.zeros(1), "neck.x": torch.zeros(1)}
    fit = files.load_fitting(module, state, "w.pth", ignore=("fc.",))
    assert fit.missing == ["0.bias"]
    assert fit.reshaped == ["2.weight"]
    assert fit.unexpected == ["neck.x"]
    assert "0.weight" in fit.loaded
    assert torch.equal(module[0].weight, wanted)
    assert torch.equal(module[2].weight, kept)


def test_a_file_of_another_architecture_changes_nothing() -> None:
    module = network()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(VisionTasksError, match=r"No weight in w\.pth fits.*'a\.b'.*'0\.bias'.*another architecture"):
        files.load_fitting(module, {"a.b": torch.zeros(1), "0.weight": torch.zeros(9)}, "w.pth")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_brief() -> None:
    assert files.brief(["a", "b"]) == "a, b"
    assert files.brief(list("abcdef")) == "a, b, c, d and 2 more"
