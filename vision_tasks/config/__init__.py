"""Every option there is. Names are imported when first used, so that `import vision_tasks.config` costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_tasks.config.base import Strict as Strict
    from vision_tasks.config.data import DataConfig as DataConfig
    from vision_tasks.config.data import Split as Split
    from vision_tasks.config.recipe import Config as Config
    from vision_tasks.config.recipe import RunConfig as RunConfig
    from vision_tasks.config.recipe import explain as explain
    from vision_tasks.config.recipe import load_config as load_config
    from vision_tasks.config.recipe import model_config_of as model_config_of
    from vision_tasks.config.recipe import to_yaml as to_yaml
    from vision_tasks.config.semantic import SemanticConfig as SemanticConfig
    from vision_tasks.config.training import OptimizerConfig as OptimizerConfig
    from vision_tasks.config.training import TrainConfig as TrainConfig

_HOME = {
    "Config": "recipe",
    "DataConfig": "data",
    "OptimizerConfig": "training",
    "RunConfig": "recipe",
    "SemanticConfig": "semantic",
    "Split": "data",
    "Strict": "base",
    "TrainConfig": "training",
    "explain": "recipe",
    "load_config": "recipe",
    "model_config_of": "recipe",
    "to_yaml": "recipe",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
