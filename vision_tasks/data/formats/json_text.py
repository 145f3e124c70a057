"""Values as JSON text, whatever letters are in them."""

from __future__ import annotations

from typing import Any

import msgspec

from vision_tasks.categories import valid_text


def json_text(value: Any) -> bytes:
    """A value as JSON in UTF-8. Halves of letters, which JSON can say ("\\ud800") but UTF-8 cannot, become U+FFFD."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_mended(value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(inner) for inner in value]
    return value
