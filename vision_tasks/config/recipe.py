"""A recipe: every option with its type, default and line of help, read from YAML and `key=value`."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model, model_validator

from vision_tasks.config.base import FilePath, Strict, as_text
from vision_tasks.config.data import DataConfig
from vision_tasks.config.training import TrainConfig
from vision_tasks.errors import VisionTasksError


class RunConfig(Strict):
    """Where a run leaves its folder."""

    folder: Annotated[FilePath, Field(description="runs are folders in here")] = Path("runs")
    name: Annotated[
        str | None,
        BeforeValidator(as_text),
        Field(description="of the run's folder; the model's name and a number if left out"),
    ] = None
    samples: Annotated[int, Field(ge=0, description="validation images drawn at the end")] = 8

    @model_validator(mode="after")
    def _name_is_a_name(self) -> RunConfig:
        if self.name is not None and (self.name in ("", ".", "..") or "/" in self.name or "\\" in self.name):
            raise ValueError("name is one folder's name, without slashes")
        return self


class Config(Strict):
    """A recipe. `model` is checked against the builder's own signature (`model_config_of`)."""

    model: Annotated[Any, Field(description="name and options of the model")] = {"name": "faster_rcnn"}
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    run: RunConfig = RunConfig()


def model_config_of(name: str) -> type[Strict]:
    """The pydantic model of a model's options, derived from its builder's signature."""
    from vision_tasks.models.registry import model_options

    fields: dict[str, Any] = {
        "name": (Annotated[str, Field(description=f"`vision-tasks models {name}` lists its options")], name),
        "weights": (Annotated[str | None, Field(description='"coco" or a state-dict file')], None),
        "backbone_weights": (Annotated[str | None, Field(description='"imagenet" or a file')], None),
    }
    for key, parameter in model_options(name).items():
        # Not given is not the same as the builder's default: pretrained weights change some of them.
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[key] = (typing.Optional[kind], None)  # noqa: UP045
    return create_model(f"{name} options", __base__=Strict, **fields)


def load_config(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe, follow its `extends:`, apply `key.sub=value` overrides, check everything.

    Args:
        source: a YAML file, or None to start from the defaults.
        overrides: values are YAML: `train.epochs=3`, `data=photos`, `model=faster_rcnn`, `data.min_sizes=[480,512]`.

    Raises:
        VisionTasksError: names the key, what is wrong with it, and the nearest valid key.
    """
    values: dict[str, Any] = {} if source is None else _read(Path(source))
    for override in overrides:
        _apply(values, override)
    values = _spelled_out(values)
    try:
        config = Config.model_validate(values)
        options = dict(config.model)
        name = options.get("name", "faster_rcnn")
        checked = model_config_of(str(name)).model_validate(options)
    except ValidationError as error:
        raise VisionTasksError(explain(error, source)) from error
    config.model = {"name": str(name)} | checked.model_dump(mode="json", exclude_none=True)
    return config


def to_yaml(config: Config, explained: bool = False) -> str:
    """The resolved recipe; `load_config` reads it back.

    Args:
        explained: with each option's help as a comment.
    """
    if explained:
        from vision_tasks.config import explained as words

        options = {"model": model_config_of(str(config.model["name"]))}
        return words.explained(config.model_dump(mode="json"), Config, options)
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def explain(error: ValidationError, source: str | Path | None = None) -> str:
    """Every mistake in one line: the key, what is wrong, the nearest valid key or the expected type."""
    lines: dict[str, str] = {}
    for item in error.errors():
        # Where several types are allowed, pydantic reports each, with its name at the end of the place.
        place = [str(part) for part in item["loc"] if not _TYPE_NAME.fullmatch(str(part))]
        key = ".".join(["model", *place] if error.title.endswith(" options") else place)
        if item["type"] == "extra_forbidden":
            known = _keys_at(place[:-1], error.title)
            close = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}."
            lines[key] = f"{key}: there is no such option; {hint}"
        elif item["type"] == "missing":
            lines[key] = f"{key}: must be given."
        elif key in lines:
            wanted, but, value = lines[key].rpartition(", but it is ")
            lines[key] = f"{wanted}; or {item['msg'][:1].lower()}{item['msg'][1:]}{but}{value}"
        else:
            lines[key] = f"{key}: {item['msg'][:1].lower()}{item['msg'][1:]}, but it is {item['input']!r}."
    return f"{source or 'The options'} cannot be used:\n  " + "\n  ".join(lines.values())


_TYPE_NAME = re.compile(r"str|int|float|bool|(list|dict|tuple|constrained|function)\b.*")


def _keys_at(place: Sequence[str], title: str) -> list[str]:
    """Keys allowed at a place in the recipe; of the model's options if those were being checked."""
    current: Any = Config
    if title.endswith(" options"):
        current = model_config_of(title.removesuffix(" options"))
    for key in place:
        field = getattr(current, "model_fields", {}).get(key)
        if field is None:
            return []
        kinds = [field.annotation, *typing.get_args(field.annotation)]
        current = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return list(getattr(current, "model_fields", {}))


def _spelled_out(values: dict[str, Any]) -> dict[str, Any]:
    """`model: NAME` and `data: PATH` are short for their name and path."""
    values = dict(values)
    if isinstance(values.get("model"), str):
        values["model"] = {"name": values["model"]}
    if isinstance(values.get("data"), (str, int)) and not isinstance(values["data"], bool):
        values["data"] = {"path": str(values["data"])}
    if "model" in values and not isinstance(values["model"], Mapping):
        raise VisionTasksError(f"model: give a name or a mapping of options, not {values['model']!r}.")
    return values


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise VisionTasksError(f"There is no recipe {path}. Give a YAML file, or only key=value options.")
    if path.resolve() in above:
        raise VisionTasksError(f"{path} extends itself: {' -> '.join(str(p) for p in (*above, path))}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VisionTasksError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise VisionTasksError(f"{path} must hold keys and values, not a {type(values).__name__}.")
    base = values.pop("extends", None)
    if base is None:
        return _spelled_out(values)
    if not isinstance(base, str):
        raise VisionTasksError(f"{path}: extends must name one recipe, not {base!r}.")
    return _merged_recipes(_read(path.parent / base, (*above, path.resolve())), _spelled_out(values))


def _merged_recipes(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Key by key; another model starts with a clean sheet of options."""
    names = {recipe["model"].get("name") for recipe in (base, top) if isinstance(recipe.get("model"), dict)} - {None}
    if len(names) > 1:
        base = {key: value for key, value in base.items() if key != "model"}
    merged: dict[str, Any] = _merged(base, top)
    return merged


def _merged(base: Any, top: Any) -> Any:
    """Mappings merge key by key; anything else is replaced."""
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return top
    return base | {k: _merged(base[k], v) if k in base else v for k, v in top.items()}


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise VisionTasksError(f"{override!r} is not an option of the form key=value, as in train.epochs=3.")
    try:
        value = yaml.safe_load(text) if text.strip() else None
    except yaml.YAMLError as error:
        raise VisionTasksError(f"{key}: the value {text!r} is not valid YAML: {error}") from error
    if isinstance(value, str) and re.fullmatch(
        r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value
    ):  # YAML 1.1 takes 1e-4 for a word
        value = float(value)
    *path, last = key.strip().split(".")
    current = values
    for part in path:
        below = current.setdefault(part, {})
        if isinstance(below, str):  # model=NAME came before model.option=...
            below = current[part] = {"name" if part == "model" else "path": below}
        if not isinstance(below, dict):
            raise VisionTasksError(f"{key}: {part} is {below!r}, which has nothing named {last!r}.")
        current = below
    if isinstance(value, str) and key.strip() in ("model", "data") and isinstance(current.get(last), dict):
        value = _merged_recipes({last: current[last]}, _spelled_out({last: value}))[last]
    current[last] = value
