"""Recipes: what is accepted, what is refused and how, how files and overrides combine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from vision_tasks.config import Config, load_config, model_config_of, to_yaml
from vision_tasks.errors import VisionTasksError

RECIPES = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(source: Path | None, *overrides: str) -> str:
    with pytest.raises(VisionTasksError) as caught:
        load_config(source, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.epochs=3", "trian: there is no such option; did you mean 'train'?"),
        ("train.epoch=3", "train.epoch: there is no such option; did you mean 'epochs'?"),
        ("train.optimizer.rat=3", "train.optimizer.rat: there is no such option; did you mean 'rate'?"),
        ("data.batchsize=3", "data.batchsize: there is no such option; did you mean 'batch_size'?"),
        ("data.train.annotation=x", "data.train.annotation: there is no such option; did you mean 'annotations'?"),
        ("run.nam=x", "run.nam: there is no such option; did you mean 'name'?"),
        ("model.bakbone=x", "model.bakbone: there is no such option; did you mean 'backbone'?"),
        ("run.zzzzzzz=x", "run.zzzzzzz: there is no such option; there are: folder, name, samples."),
        ("model=faster_rcn", "Did you mean 'faster_rcnn'?"),
        ("train.epochs=many", "train.epochs: input should be a valid integer"),
        ("train.epochs=0", "train.epochs: input should be greater than or equal to 1, but it is 0."),
        ("train.epochs=", "train.epochs: input should be a valid integer, but it is None."),
        ("train.epochs=1.5", "train.epochs: input should be a valid integer"),
        ("train=3", "train: input should be a valid dictionary"),
        ("train.optimizer.name=adam", "train.optimizer.name: input should be 'sgd' or 'adamw', but it is 'adam'."),
        ("train.optimizer.rate=nan", "train.optimizer.rate: input should be greater than 0"),
        ("train.precision=8", "train.precision: input should be '32', 'bf16' or '16', but it is '8'."),
        ("train.devices={a: 1}", "train.devices: input should be a valid integer; or"),
        ("data.augment=[5]", "data.augment"),
        ("data.min_sizes=[0]", "data.min_sizes.0: input should be greater than or equal to 1"),
        ("train.loss_weights={a: -1}", "train.loss_weights.a: input should be greater than or equal to 0"),
        ("model.anchor_sizes=[a, b]", "model.anchor_sizes.0: input should be a valid number"),
        ("model.min_size=big", "model.min_size: input should be a valid integer"),
        ("run.name=a/b", "without slashes"),
        ("run.name=..", "without slashes"),
        ("data.train.images=x", "give annotations (a COCO JSON file), semantic, or both"),
        ("train.epochs", "not an option of the form key=value"),
        ("=3", "not an option of the form key=value"),
        ("train.epochs=[1", "is not valid YAML"),
        ("train.epochs.more=3", "train.epochs: input should be a valid integer"),
        ("model=[1]", "model: give a name or a mapping of options"),
        ("model=", "model: give a name"),
    ],
)
def test_mistakes_are_named_with_their_key_and_what_would_be_right(override: str, message: str) -> None:
    said = refused(None, override)
    assert message in said
    assert "str:" not in said


def test_a_value_that_has_nothing_below_says_so() -> None:
    assert "epochs is 3" in refused(None, "train.epochs=3", "train.epochs.more=1")


def test_all_mistakes_come_at_once_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "r.yaml", "trian: {}\ntrain: {epochs: x}\ndata: {batch_sice: 1}\n")
    said = refused(path)
    assert said.startswith(str(path))
    for key in ("trian", "train.epochs", "data.batch_sice"):
        assert f"\n  {key}:" in said


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["model=faster_rcnn", "data=my photos/set 1"],
            {"model.name": "faster_rcnn", "data.path": Path("my photos/set 1")},
        ),
        (["data=2024"], {"data.path": Path("2024")}),
        (["run.name=7", "run.folder=2024"], {"run.name": "7", "run.folder": Path("2024")}),
        (["train.precision=32"], {"train.precision": "32"}),
        (["train.precision=bf16"], {"train.precision": "bf16"}),
        (["train.optimizer.rate=1e-4"], {"train.optimizer.rate": 1e-4}),
        (["data=photos", "data.batch_size=7"], {"data.path": Path("photos"), "data.batch_size": 7}),
        (["data.batch_size=7", "data=photos"], {"data.path": Path("photos"), "data.batch_size": 7}),
        (["model.min_size=100", "model=faster_rcnn"], {"model.min_size": 100}),
        (["model=faster_rcnn", "model.min_size=100"], {"model.min_size": 100}),
        (["train.epochs=3", "train.epochs=4"], {"train.epochs": 4}),
        (["train.devices=2"], {"train.devices": 2}),
        (["train.devices=[0, 1]"], {"train.devices": [0, 1]}),
        (["train.devices=auto"], {"train.devices": "auto"}),
        (["data.augment=none"], {"data.augment": "none"}),
        (["data.path=a=b"], {"data.path": Path("a=b")}),
        (["train.patience=null"], {"train.patience": None}),
    ],
)
def test_overrides(overrides: list[str], expected: dict[str, Any]) -> None:
    config: Any = load_config(None, overrides)
    for key, value in expected.items():
        found = config
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert found == value, key


def test_extends_a_chain_from_other_folders(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path, "base.yaml", "data: photos\ntrain: {epochs: 9, optimizer: {rate: 0.5, schedule: multistep}}\n")
    write(tmp_path / "below", "middle.yaml", "extends: ../base.yaml\ntrain: {epochs: 10, seed: 4}\n")
    top = write(
        tmp_path, "top.yaml", "extends: below/middle.yaml\ntrain: {optimizer: {name: adamw}}\ndata: {workers: 0}"
    )
    config = load_config(top, ["train.seed=5"])
    assert (config.train.epochs, config.train.seed, config.data.workers) == (10, 5, 0)
    assert config.data.path == Path("photos")
    # Another optimizer is no reason to forget its rate and schedule.
    assert (config.train.optimizer.name, config.train.optimizer.rate) == ("adamw", 0.5)
    assert config.train.optimizer.schedule == "multistep"


def test_a_named_run_keeps_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "run: {name: one, folder: elsewhere, samples: 3}")
    run = load_config(write(tmp_path, "top.yaml", "extends: base.yaml\nrun: {name: two}")).run
    assert (run.name, run.folder, run.samples) == ("two", Path("elsewhere"), 3)


def test_options_of_one_model_do_not_reach_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vision_tasks.models.registry import MODELS

    monkeypatch.setitem(MODELS, "other", lambda categories, width=3: None)
    base = write(tmp_path, "base.yaml", "model: {name: faster_rcnn, min_size: 99}")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\nmodel: {name: other}")
    assert load_config(top).model == {"name": "other"}
    assert load_config(base, ["model=other"]).model == {"name": "other"}
    same = write(tmp_path, "same.yaml", "extends: base.yaml\nmodel: {hidden: 5}")
    assert load_config(same).model == {"name": "faster_rcnn", "min_size": 99, "hidden": 5}
    nameless = write(tmp_path, "nameless.yaml", "model: {min_size: 99}")
    assert load_config(nameless, ["model=faster_rcnn"]).model["min_size"] == 99


def test_a_circle_is_an_error_that_shows_it(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "extends: b.yaml")
    write(tmp_path, "b.yaml", "extends: a.yaml")
    assert "a.yaml -> " in refused(a)
    assert "extends itself" in refused(write(tmp_path, "c.yaml", "extends: c.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1\n- 2\n", "must hold keys and values, not a list"),
        ("just words", "must hold keys and values, not a str"),
        ("extends: nowhere.yaml", "There is no recipe"),
        ("extends: [a.yaml, b.yaml]", "extends must name one recipe"),
        ("!!python/object/apply:os.system ['echo']", "is not valid YAML"),
        ("5: x", "5"),
        ("model: [1]", "model: give a name"),
    ],
)
def test_files_that_are_no_recipes(text: str, message: str, tmp_path: Path) -> None:
    assert message in refused(write(tmp_path, "r.yaml", text))


def test_a_file_of_other_bytes_and_none_at_all(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not valid YAML" in refused(tmp_path / "r.yaml")
    assert "There is no recipe" in refused(tmp_path / "none.yaml")
    assert "There is no recipe" in refused(tmp_path)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "r.yaml", "# nothing yet\n")) == load_config()


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data=photos", "train.optimizer.rate=1e-5", "model.anchor_sizes=[8,16,32,64,128]", "run.name=7"],
        ["data.train.annotations=a.json", "data.train.images=b", "data.augment=[{HorizontalFlip: {p: 0.5}}, Blur]"],
        ["train.loss_weights={objects/rpn_box: 2.0}", "train.devices=[0]", "train.precision=16", "train.average=0.99"],
    ],
)
def test_a_resolved_recipe_reads_back_as_the_same(overrides: list[str], tmp_path: Path) -> None:
    config = load_config(None, overrides)
    text = to_yaml(config)
    again = load_config(write(tmp_path, "r.yaml", text))
    assert again == config
    assert to_yaml(again) == text
    told = to_yaml(config, explained=True)
    assert yaml.safe_load(told) == yaml.safe_load(text)
    assert max(map(len, told.splitlines())) <= 120
    assert set(yaml.safe_load(text)) == set(Config.model_fields)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_the_recipes_that_come_along_are_sound(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert load_config(write(tmp_path, "r.yaml", to_yaml(config))) == config


def leaves(model: type[BaseModel], place: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, field in model.model_fields.items():
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found += leaves(type(default), f"{place}{name}.")
        else:
            found.append((f"{place}{name}", field))
    return found


def test_every_option_has_a_default_and_the_defaults_are_valid() -> None:
    options = leaves(Config)
    assert len(options) > 30
    assert [name for name, field in options if field.is_required()] == []
    required = [n for n, f in model_config_of("faster_rcnn").model_fields.items() if f.is_required()]
    assert required == []
    assert Config.model_validate(load_config().model_dump()) == load_config()


def test_a_models_options_are_those_of_its_builder() -> None:
    from vision_tasks.models.registry import model_options

    assert set(model_config_of("faster_rcnn").model_fields) == {
        "name", "weights", "backbone_weights", *model_options("faster_rcnn"),
    }  # fmt: skip
    assert load_config(None, ["model.anchor_sizes=[1,2,3,4,5]"]).model["anchor_sizes"] == [1, 2, 3, 4, 5]


def test_every_option_is_printed_with_its_help() -> None:
    overrides = ["data.semantic={images: 'a/{stem}.*', masks: 'b/{stem}.png', categories: [sky, road]}", "data.path=x"]
    told = to_yaml(load_config(None, overrides), explained=True)
    above = ""
    for line in told.splitlines():
        assert "  # " in line or above.lstrip().startswith("# ") or line.lstrip().startswith(("#", "-")), line
        above = line
    assert "  schedule: cosine" in told.replace("    schedule", "  schedule")
    assert "# after warm-up (constant, multistep, cosine, polynomial)" in told
    assert "# pattern of the images, such as images/{split}/{stem}.* (any ending)" in told
