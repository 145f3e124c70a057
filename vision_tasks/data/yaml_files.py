"""YAML that came with data: no surprises, and no text that grows when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vision_tasks.data.regular_files import read_regular
from vision_tasks.errors import VisionTasksError

_LARGEST = 4 << 20  # 20,000 names of classes are one
_MOST_ALIASES = 16
"""Each may repeat what holds the one before, so that what is read grows with their product: with 16 to 300 times."""


class _FewAliases:
    """Counts aliases where nodes are put together, before anything is repeated."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            self.aliases += 1
            if self.aliases > _MOST_ALIASES:
                raise yaml.YAMLError(f"more than {_MOST_ALIASES} aliases (*name), which is refused")
        return super().compose_node(parent, index)  # type: ignore[misc]


class _TextLoader(_FewAliases, yaml.BaseLoader):
    pass


class _TypedLoader(_FewAliases, yaml.SafeLoader):
    pass


def read_yaml(path: Path, *, typed: bool = True) -> Any:
    """What a YAML file holds: mappings, lists, and numbers, dates, ... or, if not `typed`, texts alone.

    Raises:
        VisionTasksError: it is no YAML, too large, or full of aliases. OSError: it cannot be read.
    """
    try:
        text = read_regular(path, _LARGEST).decode("utf-8-sig", "strict" if typed else "replace")
        return yaml.load(text, Loader=_TypedLoader if typed else _TextLoader)  # type: ignore[arg-type]  # safe, both
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:
        # ValueError: the 99th of May, or a number of 5000 digits
        why = " ".join(str(error).split())[:200]
        raise VisionTasksError(f"{path}: no YAML ({why}). Correct it.") from error
