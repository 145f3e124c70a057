"""Every option there is: types, defaults and a line of help each. Config is data; nothing below `training` sees it."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from vision_tasks.errors import VisionTasksError


class Strict(BaseModel):
    """Unknown keys are errors, not silence."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


def _as_text(value: Any) -> Any:
    """A folder called 2024 and a run called 3 are numbers to YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


FilePath = Annotated[Path, BeforeValidator(_as_text)]


class Split(Strict):
    """One annotation file and the folder of its images."""

    annotations: Annotated[FilePath, Field(description="COCO JSON file")]
    images: Annotated[
        FilePath | None, Field(description="folder of the images; found by what it holds if left out")
    ] = None


_Side = Annotated[int, Field(ge=32, le=8192)]
_Factor = Annotated[float, Field(ge=0.01, le=100)]


class DataConfig(Strict):
    """What to read, and how batches are made of it."""

    path: Annotated[FilePath | None, Field(description="folder (or JSON file) in which train and val are found")] = None
    train: Annotated[Split | None, Field(description="training split, instead of path")] = None
    val: Annotated[Split | None, Field(description="validation split, instead of path")] = None
    batch_size: Annotated[int, Field(ge=1, description="images per step and process")] = 4
    val_batch_size: Annotated[int | None, Field(ge=1, description="images per evaluation step; as batch_size")] = None
    workers: Annotated[int | None, Field(ge=0, description="loader processes; None chooses, 0 decodes in place")] = None
    augment: Annotated[
        str | list[str | dict[str, dict[str, Any] | None]],
        Field(
            description='"default", "none", "strong", "yolox", "ssd", "darknet", or Albumentations transforms by name '
            "with their arguments"
        ),
    ] = "default"
    mosaic: Annotated[float, Field(ge=0, le=1, description="share of samples that are a mosaic of four images")] = 0.0
    mosaic_size: Annotated[
        _Side | tuple[_Side, _Side] | None,
        Field(description="side, or height and width, of a mosaic; None is the size the model resizes to"),
    ] = None
    mosaic_scale: Annotated[
        tuple[_Factor, _Factor], Field(description="smallest and largest factor by which a mosaic is scaled")
    ] = (0.1, 2.0)
    mixup: Annotated[float, Field(ge=0, le=1, description="share of samples into which another image is mixed")] = 0.0
    plain_epochs: Annotated[
        int, Field(ge=0, description="last epochs, without mosaic and mixup; YOLOX adds its L1 loss in them")
    ] = 0
    group_by_aspect_ratio: Annotated[bool, Field(description="upright and wide images in batches of their own")] = True
    min_sizes: Annotated[
        list[Annotated[int, Field(ge=1)]],
        Field(description="shorter sides to choose from per batch (multi-scale training); empty: the model's"),
    ] = []
    start_method: Annotated[
        Literal["fork", "spawn", "forkserver"] | None, Field(description="how workers start; None is Python's default")
    ] = None

    @field_validator("mosaic_scale")
    @classmethod
    def _smallest_first(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the smaller factor comes first")
        return value


class OptimizerConfig(Strict):
    """How weights move."""

    name: Literal["sgd", "adamw"] = "sgd"
    rate: Annotated[float, Field(gt=0, description="learning rate after warm-up")] = 0.005
    rate_for: Annotated[
        int | None,
        Field(ge=1, description="images per step that rate is meant for; the rate is scaled to the real number"),
    ] = None
    backbone_factor: Annotated[float, Field(ge=0, description="times the rate for the backbone")] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="of SGD")] = 0.9
    nesterov: Annotated[bool, Field(description="Nesterov's momentum, of SGD")] = False
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    decay_norms_and_biases: Annotated[bool, Field(description="decay those, too")] = False
    schedule: Annotated[Literal["constant", "multistep", "cosine"], Field(description="after warm-up")] = "cosine"
    milestones: Annotated[list[float], Field(description="epochs after which multistep multiplies the rate")] = [8, 11]
    gamma: Annotated[float, Field(gt=0, description="what multistep multiplies by")] = 0.1
    final: Annotated[float, Field(ge=0, le=1, description="share of the rate that cosine ends with")] = 0.0
    warmup_steps: Annotated[int, Field(ge=0, description="steps of linear rise; at most a tenth of all steps")] = 500


class TrainConfig(Strict):
    """How long, on what, and what to keep."""

    epochs: Annotated[int, Field(ge=1)] = 12
    max_steps: Annotated[int | None, Field(ge=1, description="end after this many steps, whatever epochs says")] = None
    optimizer: OptimizerConfig = OptimizerConfig()
    # 10 leaves a healthy run alone; without it a fine-tune at the default rate can explode in its first fifty steps.
    clip: Annotated[float | None, Field(gt=0, description="largest norm of the gradient; null does not clip")] = 10.0
    accumulate: Annotated[int, Field(ge=1, description="batches per step")] = 1
    precision: Annotated[
        Literal["32", "bf16", "16"], BeforeValidator(_as_text), Field(description="of the network's arithmetic")
    ] = "32"
    average: Annotated[
        float | None,
        Field(gt=0, lt=1, description="decay of averaged weights (EMA), which are then evaluated and kept"),
    ] = None
    loss_weights: Annotated[
        dict[str, Annotated[float, Field(ge=0)]], Field(description='factors by "head/loss"; 1 if not named')
    ] = {}
    evaluate_every: Annotated[int, Field(ge=1, description="epochs between evaluations")] = 1
    patience: Annotated[int | None, Field(ge=1, description="end after so many evaluations without a better AP")] = None
    seed: Annotated[int, Field(ge=0)] = 0
    deterministic: Annotated[bool, Field(description="only deterministic kernels, where there are any")] = False
    log_every: Annotated[int, Field(ge=1, description="steps between rows of metrics.csv")] = 10
    device: Annotated[str, Field(description='"auto", "cpu", "cuda" or "mps"')] = "auto"
    devices: Annotated[int | str | list[int], Field(description="how many (or which) devices; as in Lightning")] = 1
    nodes: Annotated[int, Field(ge=1)] = 1
    strategy: Annotated[str, Field(description="as in Lightning")] = "auto"


class RunConfig(Strict):
    """Where a run leaves its folder."""

    folder: Annotated[FilePath, Field(description="runs are folders in here")] = Path("runs")
    name: Annotated[
        str | None,
        BeforeValidator(_as_text),
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
        "name": (str, name),
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


def to_yaml(config: Config) -> str:
    """The resolved recipe; `load_config` reads it back."""
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
