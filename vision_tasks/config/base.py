"""What all options have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Strict(BaseModel):
    """Unknown keys are errors, not silence."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


def as_text(value: Any) -> Any:
    """A folder called 2024 and a run called 3 are numbers to YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


FilePath = Annotated[Path, BeforeValidator(as_text)]
