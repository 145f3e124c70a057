"""A recipe as YAML with the help of every option beside it."""

from __future__ import annotations

import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

WIDTH = 120


def explained(values: Mapping[str, Any], kind: type[BaseModel], sections: Mapping[str, type[BaseModel]]) -> str:
    """The values as YAML, a comment for each option: at its line's end if there is room, else above it.

    Args:
        values: as `kind` writes them. sections: kinds of top-level keys whose values are plain mappings there.
    """
    return "\n".join(_lines(values, kind, 0, sections)) + "\n"


def _lines(
    values: Mapping[str, Any], kind: type[BaseModel], indent: int, sections: Mapping[str, type[BaseModel]]
) -> Iterator[str]:
    for key, value in values.items():
        field = kind.model_fields.get(key)
        below = sections.get(key) or _section_of(field)
        is_section = isinstance(value, Mapping) and bool(value) and below is not None
        text = f"{key}:" if is_section else yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True,
                                                           width=WIDTH - indent).rstrip("\n")  # fmt: skip
        yield from _with_help(text, _help_of(field, below if is_section else None), indent)
        if is_section:
            assert below is not None
            yield from _lines(value, below, indent + 2, {})


def _with_help(text: str, words: str, indent: int) -> Iterator[str]:
    lines = textwrap.indent(text, " " * indent).split("\n")
    beside = f"{lines[0]:<30s}  # {words}"
    if not words:
        yield from lines
    elif len(lines) == 1 and len(beside) <= WIDTH:
        yield beside
    else:
        lead = " " * indent + "# "
        yield from textwrap.wrap(words, WIDTH, initial_indent=lead, subsequent_indent=lead)
        yield from lines


def _help_of(field: FieldInfo | None, section: type[BaseModel] | None) -> str:
    """What the option does, and the words that it takes where its help does not name them."""
    if field is None:
        return ""
    words = field.description or ((section.__doc__ or "").split("\n")[0] if section is not None else "")
    missing = [choice for choice in _choices(field.annotation) if choice not in words]
    return f"{words} ({', '.join(_choices(field.annotation))})".strip() if missing else words


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [str(choice) for choice in typing.get_args(annotation)]
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]


def _section_of(field: FieldInfo | None) -> type[BaseModel] | None:
    """The options below an option, if it may be one."""
    if field is None:
        return None
    kinds = (field.annotation, *typing.get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
